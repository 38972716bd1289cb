"""ROS bags of the two cameras of recording_files.py: the messages that camera drivers publish, in every container."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.registration import Rig
from tests.helpers import recording_files
from tests.helpers.rgbd_scene import turned

RIG = replace(recording_files.RIG, color=replace(recording_files.COLOR, model="brown-conrady"))
SDK_RIG = recording_files.RIG
COLOR, DEPTH = "/camera/color/image_raw", "/camera/depth/image_rect_raw"
COLOR_FRAME, DEPTH_FRAME, LINK = "camera_color_optical_frame", "camera_depth_optical_frame", "camera_link"
RATE, LATE_NS = 30, 4_000_000  # a second, and how much later depth is than color


@dataclass(frozen=True)
class Message:
    """A message: topic, type, nanoseconds at which it was recorded, content."""

    topic: str
    type: str
    at: int
    content: Any


def typestore(ros1: bool) -> Any:
    """The messages of a distribution."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    if "tf2_msgs/msg/TFMessage" not in store.types:
        store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
    return store


class Messages:
    """Messages of ROS 1 or 2, whose fields differ in name."""

    def __init__(self, ros1: bool = False):
        self.ros1 = ros1
        self.store = typestore(ros1)

    def of(self, name: str, *values: Any) -> Any:
        """A message of a type, by its fields' values."""
        return self.store.types[name](*values)

    def header(self, at: int, frame: str) -> Any:
        stamp = self.of("builtin_interfaces/msg/Time", at // 10**9, at % 10**9)
        return self.of("std_msgs/msg/Header", *((0,) if self.ros1 else ()), stamp, frame)

    def image(self, topic: str, at: int, frame: str, encoding: str, picture: np.ndarray, padding: int = 0) -> Message:
        """A raw picture; each row is followed by `padding` bytes."""
        rows = np.ascontiguousarray(picture).view(np.uint8).reshape(len(picture), -1)
        data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
        size, big = picture.shape[:2], int(picture.dtype.byteorder == ">")
        content = (self.header(at, frame), *size, encoding, big, data.shape[1], data.ravel())
        return Message(topic, "sensor_msgs/msg/Image", at, self.of("sensor_msgs/msg/Image", *content))

    def compressed(self, topic: str, at: int, frame: str, told: str, data: bytes) -> Message:
        name = "sensor_msgs/msg/CompressedImage"
        return Message(topic, name, at, self.of(name, self.header(at, frame), told, np.frombuffer(data, np.uint8)))

    def info(self, topic: str, at: int, frame: str, camera: Camera, model: str = "") -> Message:
        k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1.0])
        d, r = np.array(camera.distortion or [0.0] * 5), np.eye(3).ravel()
        p = np.column_stack([k.reshape(3, 3), np.zeros(3)]).ravel()
        roi = self.of("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        values = (self.header(at, frame), camera.height, camera.width, model or "plumb_bob", d, k, r, p, 0, 0, roi)
        return Message(topic, "sensor_msgs/msg/CameraInfo", at, self.of("sensor_msgs/msg/CameraInfo", *values))

    def transform(self, matrix: np.ndarray) -> Any:
        """A geometry_msgs/Transform of a matrix [4, 4]."""
        move = self.of("geometry_msgs/msg/Vector3", *matrix[:3, 3].tolist())
        turn = self.of("geometry_msgs/msg/Quaternion", *Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist())
        return self.of("geometry_msgs/msg/Transform", move, turn)

    def static(self, at: int, placed: dict[tuple[str, str], np.ndarray]) -> Message:
        """/tf_static; of each (parent, child) the [4, 4] that takes points of the child to the parent, meters."""
        transforms = []
        for (parent, child), matrix in placed.items():
            stamped = (self.header(at, parent), child, self.transform(matrix))
            transforms.append(self.of("geometry_msgs/msg/TransformStamped", *stamped))
        return Message("/tf_static", "tf2_msgs/msg/TFMessage", at, self.of("tf2_msgs/msg/TFMessage", transforms))


def rig_transforms(rig: Rig = RIG) -> dict[tuple[str, str], np.ndarray]:
    """Where the cameras are on a link that is neither of them."""
    to_color, on_link = np.eye(4), np.eye(4)
    to_color[:3, :3] = np.array(rig.rotation).reshape(3, 3)
    to_color[:3, 3] = np.array(rig.translation_mm) / 1000
    on_link[:3, :3], on_link[:3, 3] = turned(-90, 3, -90), (0.01, -0.02, 0.03)
    return {(LINK, DEPTH_FRAME): on_link, (LINK, COLOR_FRAME): on_link @ np.linalg.inv(to_color)}


def recorded(count: int = 3, *, ros1: bool = False, statics: bool = True, lost: tuple[int, ...] = ()) -> list[Message]:
    """What a driver publishes: pictures of both cameras, their camera_info and /tf_static.

    Args:
        count: of frames; frame n has the brightness 100 + n.
        ros1: messages of ROS 1.
        statics: with /tf_static.
        lost: frames whose depth picture is missing.
    """
    make = Messages(ros1)
    found = [make.static(10**9, rig_transforms())] if statics else []
    for number in range(count):
        at = 10**9 + number * 10**9 // RATE
        seen = recording_files.frame(RIG, 100 + number)
        found.append(make.image(COLOR, at, COLOR_FRAME, "rgb8", seen.rgb, padding=6))
        found.append(make.info("/camera/color/camera_info", at, COLOR_FRAME, RIG.color))
        if number not in lost:
            found.append(make.image(DEPTH, at + LATE_NS, DEPTH_FRAME, "16UC1", seen.depth))
            found.append(make.info("/camera/depth/camera_info", at + LATE_NS, DEPTH_FRAME, RIG.depth))
    return found


def write_ros1(path: Path, messages: list[Message]) -> None:
    """A .bag file."""
    store = typestore(ros1=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer1(path) as writer:
        _write(writer, store, messages, store.serialize_ros1)


def write_ros2(path: Path, messages: list[Message], storage: str = "mcap") -> None:
    """A folder with metadata.yaml and one file, of storage mcap or sqlite3."""
    store = typestore(ros1=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer2(path, version=9, storage_plugin=plugin) as writer:
        _write(writer, store, messages, store.serialize_cdr)


def _write(writer: Any, store: Any, messages: list[Message], serialize: Callable) -> None:
    topics: dict[str, Any] = {}
    for each in messages:
        if each.topic not in topics:
            topics[each.topic] = writer.add_connection(each.topic, each.type, typestore=store)
        writer.write(topics[each.topic], each.at, serialize(each.content, each.type))


def compressed_depth(depth: np.ndarray, a: float = 0.0, b: float = 0.0) -> bytes:
    """What compressed_depth_image_transport sends: 12 bytes, and a PNG."""
    return struct.pack("<i2f", 0, a, b) + cv2.imencode(".png", depth)[1].tobytes()


def rvl(depth: np.ndarray) -> bytes:
    """Compress a picture as Wilson's paper describes it, number by number."""
    nibbles: list[int] = []

    def put(number: int) -> None:
        while True:
            nibbles.append(number % 8 + (8 if number >= 8 else 0))
            number //= 8
            if not number:
                return

    numbers, at, before = depth.ravel().tolist(), 0, 0
    while at < len(numbers):
        start = at
        while at < len(numbers) and numbers[at] == 0:
            at += 1
        put(at - start)
        start = at
        while at < len(numbers) and numbers[at] != 0:
            at += 1
        put(at - start)
        for number in numbers[start:at]:
            put(2 * (number - before) if number >= before else 2 * (before - number) - 1)
            before = number
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{each:x}" for each in nibbles[k : k + 8]), 16) for k in range(0, len(nibbles), 8)]
    return struct.pack(f"<{len(words)}I", *words)


def compressed_rvl(depth: np.ndarray, a: float = 0.0, b: float = 0.0) -> bytes:
    """What compressed_depth_image_transport sends as RVL: 12 bytes, width and height, and the runs."""
    return struct.pack("<i2f2I", 0, a, b, depth.shape[1], depth.shape[0]) + rvl(depth)


SDK_COLOR, SDK_DEPTH = "/device_0/sensor_1/Color_0", "/device_0/sensor_0/Depth_0"


def recorded_by_sdk(count: int = 2, *, ros1: bool = False, cameras: bool = True, extrinsics: bool = True) -> list:
    """What RealSense's SDK records: streams without frames of coordinates, whose cameras and places are beside them.

    Args:
        count: of frames.
        ros1: messages of ROS 1.
        cameras: with camera_info.
        extrinsics: with transforms from stream 0, which is neither depth nor color here.
    """
    make = Messages(ros1)
    reference = np.eye(4)
    reference[:3, :3], reference[:3, 3] = turned(1, -2, 3), (0.02, 0.01, -0.03)
    to_color = np.eye(4)
    to_color[:3, :3] = np.array(RIG.rotation).reshape(3, 3)
    to_color[:3, 3] = np.array(RIG.translation_mm) / 1000
    found = []
    for stream, camera, model, matrix in (
        (SDK_DEPTH, RIG.depth, "None", reference),
        (SDK_COLOR, RIG.color, "Inverse Brown Conrady", to_color @ reference),
    ):
        if cameras:
            found.append(make.info(f"{stream}/info/camera_info", 1, "", camera, model))
        if extrinsics:
            found.append(Message(f"{stream}/tf/0", "geometry_msgs/msg/Transform", 1, make.transform(matrix)))
    for number in range(count):
        at = 10**9 + number * 10**9 // RATE
        seen = recording_files.frame(SDK_RIG, 100 + number)
        found.append(make.image(f"{SDK_COLOR}/image/data", at, "", "rgb8", seen.rgb))
        found.append(make.image(f"{SDK_DEPTH}/image/data", at + LATE_NS, "", "mono16", seen.depth))
    return found
