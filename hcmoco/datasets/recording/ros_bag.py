"""ROS bags: which topics of one are color and depth, its cameras, and its pictures in pairs.

Bags of ROS 1 (.bag, RealSense's SDK writes them, too), and of ROS 2 (.mcap, .db3, or the folder with metadata.yaml).
The package rosbags reads them; message definitions are those that the bag holds.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcmoco.data.depth_units import unit_name
from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.camera_file import DepthToColor, RecordedBy
from hcmoco.datasets.cameras.registration import Rig
from hcmoco.datasets.recording import ros_messages
from hcmoco.datasets.recording.pairing import side_by_side
from hcmoco.errors import UserError, one_line

SUFFIXES = (".bag", ".mcap", ".db3")
METADATA = "metadata.yaml"
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO, _TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
_TRANSFORM = "geometry_msgs/msg/Transform"
_TRANSPORTS = ("/compressedDepth", "/compressed")
_SDK = "/image/data"  # RealSense's SDK: /device_0/sensor_1/Color_0/image/data
_ALIGNED = ("aligned_depth_to_color", "depth_registered", "depth_to_rgb")
_INFRARED = ("infra", "/ir/", "_ir")


@dataclass(frozen=True)
class Topic:
    """A topic of pictures.

    Attributes:
        name: of the topic.
        frame: id of the coordinate frame of its pictures.
        count: number of its messages.
        camera: of its camera_info; None if there is none.
    """

    name: str
    frame: str
    count: int
    camera: Camera | None


@dataclass(frozen=True)
class Streams:
    """What is read of a bag; None for a modality that it lacks or that is not asked for."""

    color: Topic | None
    depth: Topic | None
    recorded_by: RecordedBy


@contextmanager
def open_bag(folder: str, name: str) -> Iterator[Any]:
    """Open a bag, as a context manager that yields rosbags' reader.

    Raises:
        ValueError: the bag is damaged, or holds messages without their definitions.
        UserError: the package rosbags is not installed.
    """
    try:
        from rosbags.highlevel import AnyReader
    except ImportError:
        raise UserError(
            f"{Path(folder) / name} is a ROS bag; install the package that reads it: pip install 'rosbags>=0.11'"
        ) from None
    try:
        reader = AnyReader([Path(folder) / name])
        reader.open()
    except Exception as error:
        raise ValueError(f"the bag {name!r} cannot be opened: {type(error).__name__}: {one_line(error)}") from None
    try:
        yield reader
    except (ValueError, UserError, GeneratorExit):
        raise
    except Exception as error:  # of the library, on what is damaged
        raise ValueError(f"the bag {name!r} is damaged: {type(error).__name__}: {one_line(error)}") from None
    finally:
        reader.close()


def streams(reader: Any, use: str, color_topic: str, depth_topic: str) -> Streams:
    """Choose the topics that are read.

    Args:
        reader: of `open_bag`.
        use: both, rgb or depth.
        color_topic, depth_topic: names of the topics, "" where the bag decides.

    Raises:
        ValueError: the bag has no such topic, or several; or nothing says how depth lies on color.
    """
    pictures = {each.topic: each for each in reader.connections if each.msgtype in _IMAGES and each.msgcount}
    first: dict[str, Any] = {}
    kinds: dict[str, list[str]] = {"color": [], "depth": []}
    for name, connection in pictures.items():
        message = _first(reader, [connection])
        try:
            depth = ros_messages.is_depth(message)
        except ValueError as error:
            if name in (color_topic, depth_topic):
                raise ValueError(f"{name}: {error}") from None
            continue
        first[name] = message
        kinds["depth" if depth else "color"].append(name)
    chosen = {
        "color": "" if use == "depth" else _choose("color", kinds["color"], color_topic, first),
        "depth": "" if use == "rgb" else _choose("depth", kinds["depth"], depth_topic, first),
    }
    if not any(chosen.values()):
        wanted = {"both": "color and no depth", "rgb": "color", "depth": "depth"}[use]
        raise ValueError(f"the bag has no {wanted} topic; it has {', '.join(sorted(pictures)) or 'no pictures'}")
    found = {
        kind: Topic(name, first[name].header.frame_id, pictures[name].msgcount, _camera(reader, name)) if name else None
        for kind, name in chosen.items()
    }
    return Streams(found["color"], found["depth"], _recorded_by(reader, found["color"], found["depth"]))


def _first(reader: Any, connections: list[Any]) -> Any:
    for connection, _, raw in itertools.islice(reader.messages(connections=connections), 1):
        return reader.deserialize(raw, connection.msgtype)
    return None


def _choose(kind: str, names: list[str], wanted: str, first: dict[str, Any]) -> str:
    """The topic of a kind; "" if there is none."""
    if wanted:
        if wanted not in names:
            raise ValueError(f"the bag has no {kind} topic {wanted!r}; it has {', '.join(sorted(names)) or 'none'}")
        return wanted
    names = [name for name in names if not (_base(name) != name and _base(name) in names)]  # of both, the raw one
    if kind == "color":
        seen = [name for name in names if not any(each in name.lower() for each in _INFRARED)]
        names = [name for name in seen if not ros_messages.is_gray(first[name])] or seen
    else:
        names = [name for name in names if any(each in name for each in _ALIGNED)] or names
    if len(names) > 1:
        raise ValueError(
            f"the bag has several {kind} topics, {', '.join(sorted(names))}; say which with --{kind}-topic"
        )
    return names[0] if names else ""


def _base(name: str) -> str:
    return next((name.removesuffix(each) for each in _TRANSPORTS if name.endswith(each)), name)


def _camera(reader: Any, name: str) -> Camera | None:
    base = _base(name)
    place = base.removesuffix(_SDK) + "/info" if base.endswith(_SDK) else base.rpartition("/")[0]
    infos = [each for each in reader.connections if each.msgtype == _INFO and each.topic == f"{place}/camera_info"]
    message = _first(reader, infos) if infos else None
    return None if message is None else ros_messages.camera_of(message)


def _recorded_by(reader: Any, color: Topic | None, depth: Topic | None) -> RecordedBy:
    by = RecordedBy(
        "the bag",
        "",
        _depth_unit(reader, depth) if depth else "",
        color.camera if color else None,
        depth.camera if depth else None,
    )
    if color is None or depth is None:
        return by
    if any(each in depth.name for each in _ALIGNED) or (depth.frame and depth.frame == color.frame):
        return RecordedBy(by.file, by.model, by.depth_unit, by.color, by.depth, None, True)
    placed = _placed_by_sdk(reader, depth.name, color.name) or _placed_by_tf(reader, depth.frame, color.frame)
    if placed is None or color.camera is None or depth.camera is None:
        return by
    rotation = tuple(float(each) for row in placed.rotation for each in row)
    rig = Rig(depth.camera, color.camera, rotation, placed.millimeters)
    return RecordedBy(by.file, by.model, by.depth_unit, by.color, by.depth, rig, False)


def _placed_by_tf(reader: Any, depth_frame: str, color_frame: str) -> DepthToColor | None:
    if not (depth_frame and color_frame):
        return None  # the SDK's pictures name none: two without a name are not one and the same
    statics = [each for each in reader.connections if each.msgtype == _TF and each.topic.endswith("tf_static")]
    messages = [reader.deserialize(raw, each.msgtype) for each, _, raw in reader.messages(statics)] if statics else []
    transforms = [transform for message in messages for transform in message.transforms]
    return ros_messages.depth_to_color(transforms, depth_frame, color_frame)


def _placed_by_sdk(reader: Any, depth: str, color: str) -> DepthToColor | None:
    """What RealSense's SDK writes beside its streams: STREAM/tf/NUMBER, a transform from the stream of this number."""
    if not (depth.endswith(_SDK) and color.endswith(_SDK)):
        return None
    found: dict[str, dict[str, Any]] = {}
    for each in reader.connections:
        stream, _, number = each.topic.rpartition("/tf/")
        if each.msgtype == _TRANSFORM and stream in (depth.removesuffix(_SDK), color.removesuffix(_SDK)):
            found.setdefault(number, {})[stream] = each
    both = next((each for each in found.values() if len(each) == 2), None)
    if both is None:
        return None
    to_depth, to_color = (_first(reader, [both[name.removesuffix(_SDK)]]) for name in (depth, color))
    if to_depth is None or to_color is None:
        return None
    return ros_messages.depth_to_color_of_sdk(to_depth, to_color)


def _depth_unit(reader: Any, depth: Topic) -> str:
    """The unit that RealSense's SDK writes beside its pictures; "": ROS's own, millimeters or meters by the type."""
    if not depth.name.endswith(_SDK):
        return ""
    sensor = "/".join(depth.name.split("/")[:3])
    options = [each for each in reader.connections if each.topic == f"{sensor}/option/Depth_Units/value"]
    message = _first(reader, options) if options else None
    return unit_name(1000 * float(message.data)) if message is not None and message.data > 0 else ""


def pairs(reader: Any, of: Streams) -> Iterator[tuple[Any, Any]]:
    """Yield the messages of color and depth of each moment, in order, paired within 20 ms; None for a missing one."""
    topics = {each.name for each in (of.color, of.depth) if each}
    wanted = [each for each in reader.connections if each.topic in topics and each.msgtype in _IMAGES]

    def pictures() -> Iterator[tuple[bool, float, Any]]:
        for connection, nanoseconds, raw in reader.messages(connections=wanted):
            message = reader.deserialize(raw, connection.msgtype)
            stamp = message.header.stamp
            taken = stamp.sec + 1e-9 * stamp.nanosec
            yield of.color is not None and connection.topic == of.color.name, taken or 1e-9 * nanoseconds, message

    if of.color is not None and of.depth is not None:
        yield from side_by_side(pictures())
    else:
        yield from ((each, None) if is_color else (None, each) for is_color, _, each in pictures())
