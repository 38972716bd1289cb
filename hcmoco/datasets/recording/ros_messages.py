"""What ROS messages hold: pictures, cameras, and where frames lie to each other.

Sources: sensor_msgs/Image, CompressedImage, CameraInfo and image_encodings (github.com/ros2/common_interfaces); REP 118
(ros.org/reps/rep-0118.html): depth is 16UC1 in millimeters or 32FC1 in meters; REP 104: camera_info; the 12 bytes
before a compressed depth picture, and the size before RVL: compression_common.h and codec.cpp of
compressed_depth_image_transport (github.com/ros-perception/image_transport_plugins); tf2_msgs/TFMessage: a transform
takes points of the child's frame to the parent's.
"""

import struct
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

from hcmoco.datasets.cameras.camera import Camera, DistortionModel
from hcmoco.datasets.cameras.camera_file import CameraConfig, DepthToColor
from hcmoco.datasets.io.pictures import decode_picture
from hcmoco.datasets.io.rvl import decode_rvl
from hcmoco.datasets.recording import realsense

_COLOR: dict[str, tuple[int, int | None]] = {  # channels, conversion to RGB
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
}
_DEPTH = {"16uc1": "u2", "mono16": "u2", "32fc1": "f4"}
_DEPTH_HEADER = struct.Struct("<i2f")
_RVL_SIZE = struct.Struct("<2I")  # width and height, before what Wilson's paper has
_MODELS: dict[str, tuple[DistortionModel, int]] = {  # what it is called here, numbers
    "plumb_bob": ("brown-conrady", 5),
    "rational_polynomial": ("brown-conrady", 8),
    **{name.lower(): (model, 5) for name, model in realsense.MODELS.items() if model != "none"},
}


def is_depth(message: Any) -> bool:
    """Return whether an image message, raw or compressed, is depth.

    Raises:
        ValueError: its encoding is not read.
    """
    if hasattr(message, "encoding"):
        encoding = message.encoding.lower()
        if encoding in _DEPTH or encoding in _COLOR:
            return encoding in _DEPTH
        raise ValueError(f"the encoding {message.encoding!r} is not read; known are {', '.join((*_COLOR, *_DEPTH))}")
    return "compresseddepth" in message.format.lower() or message.format.lower().startswith(tuple(_DEPTH))


def is_gray(message: Any) -> bool:
    """Return whether a picture has one channel of light, as infrared has."""
    name = message.encoding if hasattr(message, "encoding") else message.format.partition(";")[0]
    return name.lower() == "mono8"


def color_picture(message: Any) -> np.ndarray:
    """Return uint8 [H, W, 3], RGB, of an image message. ValueError: its data do not fit what it declares."""
    if not hasattr(message, "encoding"):
        return decode_picture(bytes(message.data), upright=False)
    channels, to_rgb = _COLOR[message.encoding.lower()]
    pixels = _rows(message, channels)
    shape = (message.height, message.width) if channels == 1 else (message.height, message.width, channels)
    picture = np.ascontiguousarray(pixels).reshape(shape)
    return picture if to_rgb is None else cv2.cvtColor(picture, to_rgb)


def depth_picture(message: Any) -> np.ndarray:
    """Return [H, W], uint16 (millimeters in ROS) or float32 (meters), of an image message.

    Raises:
        ValueError: its data do not fit what it declares, or are compressed in a way that is not read.
    """
    if hasattr(message, "encoding"):
        kind = np.dtype(_DEPTH[message.encoding.lower()]).newbyteorder(">" if message.is_bigendian else "<")
        rows = np.ascontiguousarray(_rows(message, kind.itemsize))
        return rows.view(kind).astype(kind.newbyteorder("="))
    data, told = bytes(message.data), message.format.lower()
    if "compresseddepth" not in told:
        return _png(data)
    if len(data) <= _DEPTH_HEADER.size:
        raise ValueError("the compressed depth picture is empty")
    _, a, b = _DEPTH_HEADER.unpack_from(data)
    packed = data[_DEPTH_HEADER.size :]
    stored = _rvl(packed) if told.rpartition("compresseddepth")[2].strip() == "rvl" else _png(packed)
    if not told.startswith("32fc1"):
        return stored
    # Inverse depth: a / (number - b) meters; 0 is no reading.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(stored > 0, a / (stored.astype(np.float64) - b), 0).astype(np.float32)


def _png(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint16 or picture.ndim != 2:
        raise ValueError("the compressed depth picture is no PNG of 16 bits")
    return picture


def _rvl(data: bytes) -> np.ndarray:
    if len(data) <= _RVL_SIZE.size:
        raise ValueError("the compressed depth picture is empty")
    width, height = _RVL_SIZE.unpack_from(data)
    return decode_rvl(data[_RVL_SIZE.size :], width, height)


def _rows(message: Any, pixel_bytes: int) -> np.ndarray:
    """uint8 [H, W * pixel_bytes]: the rows without what pads them."""
    width, needed = message.width * pixel_bytes, message.step * message.height
    if message.step < width or len(message.data) < needed or not needed:
        raise ValueError(
            f"the picture of {message.width} x {message.height} pixels has {len(message.data)} bytes, "
            f"{max(needed, width * message.height)} are needed"
        )
    return np.asarray(message.data, np.uint8)[:needed].reshape(message.height, message.step)[:, :width]


def camera_of(info: Any) -> Camera | None:
    """Return the camera of a CameraInfo message; None if it is not calibrated.

    Raises:
        ValueError: its numbers cannot be right, or its lens model is not read.
    """
    k, d = (np.asarray(getattr(info, name, getattr(info, name.upper(), ()))).ravel().tolist() for name in ("k", "d"))
    if not k or not k[0]:
        return None
    model = info.distortion_model.lower()
    if any(d) and model not in _MODELS:
        raise ValueError(f"the lens model {info.distortion_model!r} of camera_info is none of {', '.join(_MODELS)}")
    values = {"width": info.width, "height": info.height, "fx": k[0], "fy": k[4], "cx": k[2], "cy": k[5]}
    if any(d):
        values |= {"distortion_model": _MODELS[model][0], "distortion": tuple(d[: _MODELS[model][1]])}
    try:
        return CameraConfig(**values).camera()
    except ValidationError as error:
        raise ValueError(f"camera_info: {error.errors()[0]['msg']}") from None


def depth_to_color_of_sdk(to_depth: Any, to_color: Any) -> DepthToColor:
    """Return where the depth camera is as the color camera sees it, of a bag that RealSense's SDK recorded.

    Args:
        to_depth, to_color: geometry_msgs/Transform messages that take points of one and the same stream to the stream
            of depth and to that of color (`write_extrinsics` of src/media/ros/ros_writer.cpp and `get_extrinsics` of
            src/device.cpp, github.com/IntelRealSense/librealsense).

    Raises:
        ValueError: as `depth_to_color`.
    """
    return _placed(_matrix(to_color) @ np.linalg.inv(_matrix(to_depth)), "tf of RealSense's SDK")


def depth_to_color(transforms: Iterable[Any], depth_frame: str, color_frame: str) -> DepthToColor | None:
    """Return where the depth camera is as the color camera sees it; None if the transforms do not connect the two.

    Args:
        transforms: geometry_msgs/TransformStamped messages of /tf_static.
        depth_frame, color_frame: frame ids of the two pictures.

    Raises:
        ValueError: a rotation is none, or the cameras are more than a meter apart.
    """
    parents: dict[str, tuple[str, np.ndarray]] = {}
    for each in transforms:
        parents[each.child_frame_id.lstrip("/")] = each.header.frame_id.lstrip("/"), _matrix(each.transform)

    def to_root(frame: str) -> tuple[str, np.ndarray]:
        matrix, seen = np.eye(4), set()
        while frame in parents and frame not in seen:
            seen.add(frame)
            frame, step = parents[frame]
            matrix = step @ matrix
        return frame, matrix

    (depth_root, from_depth), (color_root, from_color) = (
        to_root(depth_frame.lstrip("/")),
        to_root(color_frame.lstrip("/")),
    )
    if depth_root != color_root:
        return None
    return _placed(np.linalg.inv(from_color) @ from_depth, "/tf_static")


def _matrix(transform: Any) -> np.ndarray:
    """float64 [4, 4] of a geometry_msgs/Transform."""
    at, turn = transform.translation, transform.rotation
    matrix = np.eye(4)
    matrix[:3, :3] = _rotation(turn.x, turn.y, turn.z, turn.w)
    matrix[:3, 3] = at.x, at.y, at.z
    return matrix


def _placed(found: np.ndarray, where: str) -> DepthToColor:
    try:
        return DepthToColor(
            rotation=tuple(map(tuple, found[:3, :3].tolist())), translation_m=tuple(found[:3, 3].tolist())
        )
    except ValidationError as error:
        raise ValueError(f"{where}: {error.errors()[0]['msg']}") from None


def _rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    """float64 [3, 3] of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
