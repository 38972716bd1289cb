"""`camera.json`: the unit of a folder's depth pictures and the cameras that recorded it.

    {"model": "RealSense D435",
     "depth_unit": "mm",
     "registered": false,
     "color": {"width": 640, "height": 480, "fx": 617.2, "fy": 617.4, "cx": 321.8, "cy": 239.6,
               "distortion_model": "none", "distortion": []},
     "depth": {"width": 848, "height": 480, "fx": 422.1, "fy": 422.1, "cx": 424.3, "cy": 240.2},
     "depth_to_color": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "translation_mm": [14.8, 0.1, 0.2]}}

Every key may be missing.

- model: what the camera is called; for people.
- depth_unit: length of the number 1 in depth pictures, see `hcmoco.data.depth_units`. Default: mm for whole numbers, m
  for floating point.
- registered: depth pictures show what the color camera sees, pixel by pixel. Then `depth` and `depth_to_color` are not
  needed. Default: false if there is `depth_to_color`, else pictures of one size are taken for registered.
- color, depth: fx, fy, cx, cy in pixels, of the pictures' size `width` x `height`. The center of the first pixel is at
  0, 0, as in OpenCV, RealSense, Azure Kinect and ROS; `"pixel_center": 0.5` says that it is at 0.5, 0.5.
- distortion_model: none, brown-conrady (OpenCV's, and Azure Kinect's with 8 numbers), modified-brown-conrady
  (RealSense's "Modified" and "Inverse Brown Conrady"). distortion: k1, k2, p1, p2, k3, k4, k5, k6, of which 4, 5 or 8
  are given, in this order: Azure Kinect's SDK lists them in another one.
- depth_to_color: a point p of the depth camera is rotation p + translation for the color camera; rotation row by row
  (RealSense's SDK gives it column by column), translation in `translation_mm` or `translation_m`.

`intrinsic.json` and `camera_intrinsic.json` of Open3D are read in its place: width, height, and `intrinsic_matrix` with
9 numbers, column by column. Open3D's recorders write registered pictures in millimeters
(www.open3d.org/docs, "Capture your own dataset" and "RealSense with Open3D"; PinholeCameraIntrinsic.cpp writes the
matrix as Eigen stores it).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, FiniteFloat, StrictBool, field_validator, model_validator

from hcmoco import unique_keys
from hcmoco.config import Config, build
from hcmoco.data.containers import MAX_SIDE
from hcmoco.data.depth_units import DepthUnit, unit_of_scale
from hcmoco.datasets.cameras.camera import Camera, DistortionModel
from hcmoco.datasets.cameras.mirrored import KINECT_V2_COLOR, KINECT_V2_DEPTH, side_fault
from hcmoco.datasets.cameras.registration import Rig
from hcmoco.errors import UserError

CAMERA_FILE = "camera.json"
OPEN3D_FILES = ("intrinsic.json", "camera_intrinsic.json")
_Positive = Annotated[FiniteFloat, Field(gt=0)]
_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
_Three = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_ROTATION_ERROR = 1e-3
_FURTHEST_APART_M = 1.0
_NEAREST_APART_MM = 0.5  # of two lenses; that of meters taken for millimeters is 1


class CameraConfig(Config):
    """One camera of `camera.json`."""

    width: _Side
    height: _Side
    fx: _Positive
    fy: _Positive
    cx: FiniteFloat
    cy: FiniteFloat
    pixel_center: float = 0.0
    distortion_model: DistortionModel = "none"
    distortion: tuple[FiniteFloat, ...] = ()

    @field_validator("pixel_center")
    @classmethod
    def _known_center(cls, center: float) -> float:
        if center not in (0, 0.5):
            raise ValueError("must be 0 (OpenCV, camera SDKs) or 0.5, where the center of the first pixel is")
        return center

    @field_validator("distortion")
    @classmethod
    def _count(cls, distortion: tuple[float, ...]) -> tuple[float, ...]:
        if len(distortion) not in (0, 4, 5, 8):
            raise ValueError(f"must be 4, 5 or 8 numbers k1, k2, p1, p2, k3, k4, k5, k6; it has {len(distortion)}")
        return distortion

    @model_validator(mode="after")
    def _plausible(self) -> "CameraConfig":
        if any(self.distortion) and self.distortion_model == "none":
            raise ValueError(
                "distortion is given and distortion_model is none: write brown-conrady (OpenCV, Azure Kinect) or "
                "modified-brown-conrady (RealSense)"
            )
        if not (0.1 < self.fx / self.width < 10 and 0.1 < self.fy / self.height < 10):
            raise ValueError(
                f"fx {self.fx:g} and fy {self.fy:g} cannot be of a {self.width} x {self.height} picture; give pixels"
            )
        if not (0 <= self.cx <= self.width and 0 <= self.cy <= self.height):
            raise ValueError(
                f"cx {self.cx:g} and cy {self.cy:g} lie outside the {self.width} x {self.height} picture; give pixels"
            )
        return self

    def camera(self) -> Camera:
        """Return the camera, in the coordinates of calibrations."""
        off = self.pixel_center
        return Camera(
            self.width,
            self.height,
            self.fx,
            self.fy,
            self.cx - off,
            self.cy - off,
            self.distortion_model,
            self.distortion,
        )


class DepthToColor(Config):
    """Where the depth camera is, as the color camera sees it."""

    other_unit: ClassVar = "its numbers are probably millimeters, and meters are read"
    """What is probably wrong with a translation in meters that is too large."""

    rotation: tuple[_Three, _Three, _Three] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    translation_mm: _Three | None = None
    translation_m: _Three | None = None

    @field_validator("rotation")
    @classmethod
    def _is_rotation(cls, rotation: tuple[_Three, _Three, _Three]) -> tuple[_Three, _Three, _Three]:
        matrix = np.array(rotation)
        if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ROTATION_ERROR or np.linalg.det(matrix) < 0:
            raise ValueError("must be a rotation: three rows of length 1 at right angles, without a mirror image")
        return rotation

    @model_validator(mode="after")
    def _one_translation(self) -> "DepthToColor":
        if (self.translation_mm is None) == (self.translation_m is None):
            raise ValueError("give one of translation_mm (Azure Kinect's SDK) and translation_m (RealSense's SDK, ROS)")
        apart = float(np.linalg.norm(self.millimeters)) / 1000
        if apart > _FURTHEST_APART_M:
            meant = f"; {self.other_unit}" if self.translation_m is not None else ""
            raise ValueError(
                f"the cameras would be {apart:.3g} m apart, at most {_FURTHEST_APART_M:g} m are taken{meant}"
            )
        return self

    @property
    def millimeters(self) -> tuple[float, float, float]:
        """The translation in millimeters."""
        if self.translation_mm is not None:
            return self.translation_mm
        x, y, z = self.translation_m or (0.0, 0.0, 0.0)
        return 1000 * x, 1000 * y, 1000 * z


class _Placed(DepthToColor):
    """`depth_to_color` of `camera.json`, whose keys name the unit."""

    other_unit: ClassVar = "translation_mm was probably meant"

    @model_validator(mode="after")
    def _not_meters(self) -> "_Placed":
        apart = float(np.linalg.norm(self.millimeters))
        if self.translation_mm is not None and 0 < apart < _NEAREST_APART_MM:
            raise ValueError(f"the cameras would be {apart:.3g} mm apart; translation_m was probably meant")
        return self


class CameraFile(Config):
    """The content of `camera.json`; the module's docstring says what each key means."""

    model: str = ""
    depth_unit: DepthUnit | None = None
    registered: StrictBool | None = None
    color: CameraConfig | None = None
    depth: CameraConfig | None = None
    depth_to_color: _Placed | None = None

    @model_validator(mode="after")
    def _together(self) -> "CameraFile":
        if self.registered and self.depth_to_color is not None:
            raise ValueError("depth_to_color is for pictures that are not registered; drop it, or registered")
        if self.depth_to_color is not None and self.color is None:
            raise ValueError("depth_to_color needs both cameras; color is missing")
        return self


@dataclass(frozen=True)
class RecordedBy:
    """What is known of the cameras of a folder.

    Attributes:
        file: name of the file that says so, "" without one.
        model: what the camera is called.
        depth_unit: of depth pictures, "" if it is not said.
        color, depth: the cameras, where they are known.
        rig: for pictures that must be registered; None: they are, or it is not known.
        registered: what the file says; None: nothing.
        depth_shift_mm: added to each reading, millimeters.
    """

    file: str = ""
    model: str = ""
    depth_unit: str = ""
    color: Camera | None = None
    depth: Camera | None = None
    rig: Rig | None = None
    registered: bool | None = None
    depth_shift_mm: float = 0.0


def read_camera_file(folder: str | Path, depth_camera: Camera | None = None) -> RecordedBy | None:
    """Read `camera.json`, or Open3D's file, of a folder; None if there is neither.

    Args:
        folder: the folder.
        depth_camera: as other files beside the depth pictures name it; used if `camera.json` has none.

    Raises:
        UserError: the file is not JSON, or a value in it cannot be right.
    """
    path = Path(folder) / CAMERA_FILE
    if path.is_file():
        values = _object(path)
        if isinstance(scale := values.get("depth_scale"), int | float) and scale > 0:
            raise UserError(
                f"{path}: depth_scale {scale:g} is not read, since programs mean different things by it; "
                f'write "depth_unit": "{unit_of_scale(scale)}" in its place'
            )
        given = build(CameraFile, values, str(path))
        color = given.color.camera() if given.color else None
        depth = given.depth.camera() if given.depth else depth_camera
        rig = None
        if given.depth_to_color is not None and depth is None:
            raise UserError(f"{path}: depth_to_color needs both cameras; depth is missing")
        if given.depth_to_color is not None and color is not None and depth is not None:
            of_kinect = (depth.width, depth.height) == KINECT_V2_DEPTH and (
                color.width,
                color.height,
            ) in KINECT_V2_COLOR
            if of_kinect and (fault := side_fault(given.depth_to_color.millimeters[0])):
                raise UserError(f"{path}: depth_to_color of a Kinect v2: {fault}")
            rotation = tuple(float(each) for row in given.depth_to_color.rotation for each in row)
            rig = Rig(depth, color, rotation, given.depth_to_color.millimeters)
        registered = False if rig and given.registered is None else given.registered
        return RecordedBy(path.name, given.model, given.depth_unit or "", color, depth, rig, registered)
    for name in OPEN3D_FILES:
        if (Path(folder) / name).is_file():
            return _open3d(Path(folder) / name)
    return RecordedBy(depth=depth_camera) if depth_camera else None


def _object(path: Path) -> dict:
    try:
        values = unique_keys.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); write it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a JSON object, it is {type(values).__name__}")
    return values


def _open3d(path: Path) -> RecordedBy:
    values = _object(path)
    matrix = values.get("intrinsic_matrix")
    try:
        fx, a, b, skew, fy, c, cx, cy, one = (float(each) for each in matrix)  # type: ignore[union-attr]
        width, height = int(values["width"]), int(values["height"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} must have width, height and intrinsic_matrix with 9 numbers, column by column, as Open3D writes it"
        ) from None
    if (a, b, skew, c, one) != (0, 0, 0, 0, 1):
        by_row = "; it is written row by row" if (a, skew, cx, cy, one) == (0, 0, 0, 0, 1) else ""
        raise UserError(f"{path}: intrinsic_matrix must be fx, 0, 0, 0, fy, 0, cx, cy, 1, column by column{by_row}")
    scale = values.get("depth_scale")
    unit = unit_of_scale(scale) if isinstance(scale, int | float) and scale > 0 else ""
    config = build(CameraConfig, {"width": width, "height": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy}, str(path))
    return RecordedBy(path.name, "", unit, config.camera(), None, None, True)
