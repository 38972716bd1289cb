"""The calibration files of iai_kinect2, the bridge between Kinect v2 and ROS: both cameras and where they are.

`kinect2_calibration` writes them with OpenCV's FileStorage (storeCalibration of
kinect2_calibration/src/kinect2_calibration.cpp, github.com/code-iai/iai_kinect2; examples in kinect2_bridge/data/):

    calib_color.yaml    cameraMatrix 3x3 row by row, distortionCoefficients in OpenCV's order; of 1920 x 1080 pictures
    calib_ir.yaml       the same of the infrared camera, which is the depth camera; 512 x 424
    calib_pose.yaml     rotation 3x3, translation 3x1: cv::stereoCalibrate from infrared to color, meters
    calib_depth.yaml    depthShift: millimeters that are added to what the device measures

The pictures are those that the bridge publishes (kinect2_bridge/src/kinect2_bridge.cpp). It turns libfreenect2's mirror
images around (processColor, processIrDepth): so its pictures and these files are unmirrored.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hcmoco import yaml_core
from hcmoco.config import build
from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.camera_file import CameraConfig, DepthToColor
from hcmoco.datasets.cameras.mirrored import side_fault
from hcmoco.errors import UserError, one_line

COLOR_FILE, DEPTH_CAMERA_FILE, POSE_FILE, SHIFT_FILE = (
    "calib_color.yaml",
    "calib_ir.yaml",
    "calib_pose.yaml",
    "calib_depth.yaml",
)
FILES = (COLOR_FILE, DEPTH_CAMERA_FILE, POSE_FILE, SHIFT_FILE)
HD, QUARTER_HD, SD = (1920, 1080), (960, 540), (512, 424)
"""Width and height of the bridge's topics hd, qhd and sd."""

_MATRIX_TAG = "!!opencv-matrix"
_MOST_COEFFICIENTS = 8  # OpenCV writes 12 or 14, of which those of a thin prism and a tilted sensor are mostly 0
_LARGEST_SHIFT_MM, _SMALLEST_SHIFT_MM = 300.0, 0.3  # the largest in meters is the smallest in millimeters


@dataclass(frozen=True)
class Pose:
    """Where the depth camera is, as the color camera sees it.

    Attributes:
        rotation: 9 numbers, row by row.
        translation_mm: a point p of the depth camera is rotation p + translation for the color camera.
    """

    rotation: tuple[float, ...]
    translation_mm: tuple[float, float, float]


def color_camera(folder: Path, size: tuple[int, int], *, rectified: bool) -> Camera:
    """Read the camera of the topics hd and qhd.

    Args:
        folder: with the files.
        size: width and height of the pictures, HD or QUARTER_HD.
        rectified: of the topics image_color_rect, from which the bridge has removed the distortion; else image_color.

    Raises:
        UserError: the file is missing, or its numbers cannot be right.
    """
    shrink = HD[0] / size[0]
    # image_color of qhd is the large picture made smaller; that of image_color_rect has cx / 2 and cy / 2.
    center = 0.0 if rectified else 0.5
    return _camera(folder / COLOR_FILE, HD, size, shrink, center, rectified=rectified)


def depth_camera(folder: Path) -> Camera:
    """Read the camera of the topic sd/image_depth, of 512 x 424 pixels; raise UserError as `color_camera`."""
    return _camera(folder / DEPTH_CAMERA_FILE, SD, SD, 1.0, 0.0, rectified=False)


def pose(folder: Path) -> Pose:
    """Read where the depth camera is.

    Raises:
        UserError: the file is missing, the rotation is none, or the cameras are not where those of an unmirrored
            Kinect v2 are, see `mirrored.side_fault`.
    """
    path = folder / POSE_FILE
    values = _document(path)
    rotation = _matrix(path, values, "rotation", (3, 3))
    translation = _matrix(path, values, "translation", (3, 1)).ravel()
    if fault := side_fault(1000 * float(translation[0])):
        raise UserError(f"{path}: translation {translation.tolist()}: {fault}")
    given = {"rotation": tuple(map(tuple, rotation.tolist())), "translation_m": tuple(translation.tolist())}
    placed = build(DepthToColor, given, str(path))
    return Pose(tuple(rotation.ravel().tolist()), placed.millimeters)


def depth_shift_mm(folder: Path) -> float | None:
    """Read what is added to each reading of sd/image_depth, millimeters; None without calib_depth.yaml.

    Raises:
        UserError: the file has no such number, or one that cannot be millimeters.
    """
    path = folder / SHIFT_FILE
    if not path.is_file():
        return None
    shift = _document(path).get("depthShift")
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not abs(shift) <= _LARGEST_SHIFT_MM:
        raise UserError(
            f"{path}: depthShift is {shift!r}; a number of millimeters from -{_LARGEST_SHIFT_MM:g} to "
            f"{_LARGEST_SHIFT_MM:g} is read, as kinect2_calibration writes it"
        )
    if 0 < abs(shift) < _SMALLEST_SHIFT_MM:
        raise UserError(
            f"{path}: depthShift is {shift!r}, which is nothing in millimeters and was probably meant in meters; write "
            f"{1000 * shift:g} in its place, as kinect2_calibration does, or 0"
        )
    return float(shift)


def _camera(
    path: Path, measured: tuple[int, int], size: tuple[int, int], shrink: float, center: float, *, rectified: bool
) -> Camera:
    values = _document(path)
    matrix = _matrix(path, values, "cameraMatrix", (3, 3))
    (fx, skew, cx), (a, fy, cy), last = matrix.tolist()
    if (skew, a, *last) != (0, 0, 0, 0, 1):
        raise UserError(f"{path}: cameraMatrix must be fx, 0, cx, 0, fy, cy, 0, 0, 1, row by row, as OpenCV writes it")
    numbers = {"width": measured[0], "height": measured[1], "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    build(CameraConfig, numbers, str(path))  # as measured, so that a refusal shows the file's own numbers
    if not all(0.4 < middle / side < 0.6 for middle, side in zip((cx, cy), measured, strict=True)):
        raise UserError(
            f"{path}: cx {cx:g} and cy {cy:g} are far from the middle of {measured[0]} x {measured[1]} pixels, which "
            "iai_kinect2 calibrates at; give the file that kinect2_calibration wrote, for pictures of any size"
        )
    distortion = _distortion(path, values)
    given = {
        "width": size[0],
        "height": size[1],
        "fx": fx / shrink,
        "fy": fy / shrink,
        "cx": (cx + center) / shrink - center,
        "cy": (cy + center) / shrink - center,
    }
    if any(distortion) and not rectified:
        given |= {"distortion_model": "brown-conrady", "distortion": distortion}
    return build(CameraConfig, given, str(path)).camera()


def _distortion(path: Path, values: dict) -> tuple[float, ...]:
    found = _matrix(path, values, "distortionCoefficients", None).ravel().tolist()
    if any(found[_MOST_COEFFICIENTS:]):
        raise UserError(
            f"{path}: distortionCoefficients has {len(found)} numbers, of a lens with a thin prism or a tilted sensor; "
            "4, 5 or 8 are read: calibrate again without these models"
        )
    return tuple(found[:_MOST_COEFFICIENTS])


def _document(path: Path) -> dict:
    """What an OpenCV FileStorage file in YAML holds; its first line %YAML:1.0 is no directive of YAML."""
    if not path.is_file():
        raise UserError(f"{path} is missing; copy all of {', '.join(FILES)} of your device from kinect2_bridge/data/")
    try:
        text = path.read_text(encoding="utf-8")
        body = text.partition("\n")[2] if text.startswith("%YAML") else text
        values = yaml_core.load(body.replace(_MATRIX_TAG, ""))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no YAML file of OpenCV ({one_line(error)}); write it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is no YAML file of OpenCV: it holds no names; write it again")
    return yaml_core.plain(values)


def _matrix(path: Path, values: dict, name: str, shape: tuple[int, int] | None) -> np.ndarray:
    """float64 [rows, cols]."""
    entry = values.get(name)
    try:
        rows, columns = entry["rows"], entry["cols"]  # type: ignore[index]
        found = np.array(entry["data"], np.float64).reshape(rows, columns)  # type: ignore[index]
        if (shape is not None and found.shape != shape) or not np.isfinite(found).all():
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        size = f"{shape[0]} x {shape[1]} " if shape else ""
        raise UserError(
            f"{path}: {name} must be a matrix of {size}numbers with rows, cols and data, as OpenCV writes it"
        ) from None
    return found
