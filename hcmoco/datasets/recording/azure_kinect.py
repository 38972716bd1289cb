"""The Matroska files of Azure Kinect's recorder: color, depth, and the cameras' calibration.

Layout: learn.microsoft.com/previous-versions/azure/kinect-dk/record-file-format. A track's title, or its tag
K4A_DEPTH_TRACK and so on, says what it is; depth is rawvideo b16g, 16-bit big-endian millimeters; the attachment
calibration.json has the cameras. What its numbers mean: src/calibration/calibration.c and
src/transformation/mode_specific_calibration.c of github.com/microsoft/Azure-Kinect-Sensor-SDK. Parameters are cx, cy,
fx, fy in shares of the sensor, counted from its corner, then k1..k6, codx, cody, p2, p1; a mode is a cut of the scaled
sensor. `Rt` takes the depth camera's points to the camera; meters.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.camera_file import CameraConfig, DepthToColor, RecordedBy
from hcmoco.datasets.cameras.registration import Rig
from hcmoco.datasets.io.streams import Frame, decoded, frames
from hcmoco.datasets.recording.pairing import side_by_side

_COLOR, _DEPTH = "CALIBRATION_CameraLocationPV0", "CALIBRATION_CameraLocationD0"
_MODEL = "CALIBRATION_LensDistortionModelBrownConrady"
# Size of the pictures -> size of the scaled sensor, and where the pictures begin in it, pixels.
_COLOR_MODES = {
    (1280, 720): ((1280, 960), (0, 120)),
    (1920, 1080): ((1920, 1440), (0, 180)),
    (2560, 1440): ((2560, 1920), (0, 240)),
    (2048, 1536): ((2048, 1536), (0, 0)),
    (3840, 2160): ((3840, 2880), (0, 360)),
    (4096, 3072): ((4096, 3072), (0, 0)),
}
_DEPTH_MODES = {
    (320, 288): ((512, 512), (96, 90)),
    (640, 576): ((1024, 1024), (192, 180)),
    (512, 512): ((512, 512), (0, 0)),
    (1024, 1024): ((1024, 1024), (0, 0)),
}


@dataclass(frozen=True)
class Streams:
    """The streams of a recording, PyAV's; None where it has none."""

    color: Any
    depth: Any


def streams(container: Any) -> Streams | None:
    """Return the streams of a recording of Azure Kinect; None if the file is any other video."""
    found: dict[str, Any] = {}
    for stream in container.streams.video:
        title = stream.metadata.get("title", "").upper()
        for kind in ("COLOR", "DEPTH"):
            if title == kind or f"K4A_{kind}_TRACK" in stream.metadata:
                found[kind] = stream
    if "DEPTH" not in found:
        return None
    return Streams(found.get("COLOR"), found["DEPTH"])


def recorded_by(container: Any, of: Streams, name: str) -> RecordedBy:
    """Return the cameras of a recording.

    Raises:
        ValueError: there are color and depth, and no calibration that tells how they belong together.
    """
    data = next((each.data for each in container.streams.attachments if each.name == "calibration.json"), None)
    if data is None:
        raise ValueError(f"{name!r} has no attachment calibration.json; record it with k4arecorder")
    try:
        cameras = {
            each["Location"]: each
            for each in json.loads(bytes(data).decode().rstrip("\0"))["CalibrationInformation"]["Cameras"]
        }
        depth = _camera(cameras[_DEPTH], (of.depth.width, of.depth.height), _DEPTH_MODES)
        if of.color is None:
            return RecordedBy("calibration.json", "Azure Kinect", "mm", None, depth)
        color = _camera(cameras[_COLOR], (of.color.width, of.color.height), _COLOR_MODES)
        rt = cameras[_COLOR]["Rt"]
        placed = DepthToColor(
            rotation=tuple(tuple(rt["Rotation"][3 * row : 3 * row + 3]) for row in range(3)),
            translation_m=tuple(rt["Translation"]),
        )
    except (KeyError, TypeError, ValueError, ValidationError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"calibration.json in {name!r} cannot be used: {type(error).__name__}: {reason}") from None
    rotation = tuple(float(each) for row in placed.rotation for each in row)
    rig = Rig(depth, color, rotation, placed.millimeters)
    return RecordedBy("calibration.json", "Azure Kinect", "mm", color, depth, rig, False)


def _camera(values: dict, size: tuple[int, int], modes: dict) -> Camera:
    intrinsics = values["Intrinsics"]
    if intrinsics["ModelType"] != _MODEL:
        raise ValueError(f"the lens model {intrinsics['ModelType']} is not supported")
    if size not in modes:
        raise ValueError(f"{size[0]} x {size[1]} pixels are no mode of Azure Kinect")
    if 4 * values["SensorHeight"] != 3 * values["SensorWidth"] and values["SensorHeight"] != values["SensorWidth"]:
        raise ValueError("the sensor is neither 4:3 nor square; calibrations of early devices are not read")
    (width, height), (left, top) = modes[size]
    cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, codx, cody, p2, p1 = intrinsics["ModelParameters"][:14]
    if codx or cody:
        raise ValueError("the lens has a center of distortion of its own, which is not supported")
    return CameraConfig(
        width=size[0],
        height=size[1],
        fx=fx * width,
        fy=fy * height,
        cx=cx * width - left,
        cy=cy * height - top,
        pixel_center=0.5,
        distortion_model="brown-conrady",
        distortion=(k1, k2, p1, p2, k3, k4, k5, k6),
    ).camera()


def pairs(container: Any, of: Streams) -> Iterator[tuple[Frame | None, Frame | None]]:
    """Yield color and depth of each moment, in order; None for one that is missing.

    Both streams are read side by side in the order of the file, so that no more than a moment of one is kept.
    """
    if of.color is None:
        yield from ((None, frame) for frame in frames(container, of.depth))
        return
    both = decoded(container, [of.color, of.depth])
    yield from side_by_side((index == of.color.index, frame.seconds or 0, frame) for index, frame in both)


def depth_picture(frame: Frame) -> np.ndarray:
    """Return uint16 [H, W], the numbers of a depth frame.

    Raises:
        ValueError: the stream is not of 16-bit gray.
    """
    if not frame.picture.format.name.startswith("gray16"):
        raise ValueError(f"depth is stored as {frame.picture.format.name}; 16-bit gray is read")
    return frame.picture.to_ndarray(format="gray16le")
