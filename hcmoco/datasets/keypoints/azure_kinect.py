"""Azure Kinect body tracking, as the samples' offline_processor writes it: 32 joints in 3D.

The file is `{"joint_names": [...], "frames": [{"frame_id": 0, "timestamp_usec": ..., "num_bodies": 1, "bodies":
[{"body_id": 1, "joint_positions": [[x, y, z], ... 32], "joint_orientations": [...]}]}]}`, positions in millimeters in
the depth camera's frame (x right, y down, z away). It has no confidences and no 2D joints, so it needs a calibration:

    {"camera": [fx, fy, cx, cy], "distortion": [k1, k2, p1, p2, k3, k4, k5, k6], "rotation": [9 numbers, row by row],
     "translation": [x, y, z]}

The camera is that of the pictures, in pixels. Distortion as OpenCV orders it, which is not the SDK's order; default
none. Rotation and translation (millimeters) take a point from the depth camera to the pictures' camera; default: the
pictures are the depth camera's own.

Sources: https://github.com/microsoft/Azure-Kinect-Samples/tree/master/body-tracking-samples/offline_processor
(main.cpp, predict_joints); https://learn.microsoft.com/en-us/azure/kinect-dk/body-joints.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from hcmoco.config import Config, build
from hcmoco.data.joint_set import JointSet
from hcmoco.data.tool_joints import AZURE_KINECT_32
from hcmoco.datasets.io.files import read_json
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson
from hcmoco.errors import UserError

WHAT = "Azure Kinect"
_Positive = Annotated[FiniteFloat, Field(gt=0)]


class Calibration(Config):
    """Where the depth camera's points are in the pictures; the module's docstring says how."""

    camera: tuple[_Positive, _Positive, FiniteFloat, FiniteFloat]
    distortion: tuple[FiniteFloat, ...] = ()
    rotation: tuple[FiniteFloat, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    translation: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = (0, 0, 0)

    @field_validator("distortion")
    @classmethod
    def _known_model(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) not in (0, 4, 5, 8):
            raise ValueError("must be 4, 5 or 8 numbers in OpenCV's order: k1, k2, p1, p2, k3, k4, k5, k6")
        return values

    @field_validator("rotation")
    @classmethod
    def _rotates(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        matrix = np.array(values).reshape(3, 3) if len(values) == 9 else np.zeros((3, 3))
        if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3) or np.linalg.det(matrix) < 0:
            raise ValueError("must be the 9 numbers of a rotation matrix, row by row")
        return values

    @field_validator("translation")
    @classmethod
    def _in_millimeters(cls, values: tuple[float, float, float]) -> tuple[float, float, float]:
        length = float(np.linalg.norm(values))
        if 0 < length < 1:
            raise ValueError(
                f"is {length:.3g} mm long, and cameras are centimeters apart; if these are meters, multiply by 1000"
            )
        return values

    def project(self, points_J3: np.ndarray) -> np.ndarray:
        """Return where points in millimeters are in the picture, float64 [J, 2] pixels; NaN behind the camera."""
        fx, fy, cx, cy = self.camera
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], float)
        moved_J3 = points_J3 @ np.array(self.rotation).reshape(3, 3).T + self.translation
        distortion = np.array(self.distortion or (0.0,) * 4)
        ahead_J = moved_J3[:, 2] > 0
        safe_J3 = np.where(ahead_J[:, None], moved_J3, (0.0, 0.0, 1.0))
        xy_J2 = cv2.projectPoints(safe_J3, np.zeros(3), np.zeros(3), matrix, distortion)[0].reshape(-1, 2)
        return np.where(ahead_J[:, None], xy_J2, np.nan)


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    return isinstance(content, dict) and isinstance(content.get("frames"), list) and "joint_names" in content


def count(path: Path) -> int | None:
    """Return the number of joints, which the format decides."""
    return len(AZURE_KINECT_32)


def read(
    path: Path, joints: JointSet, calibration: Path | None, names: list[str], first_frame: int | None
) -> Iterator[Entry]:
    """Yield the people of the file.

    Args:
        path: the file.
        joints: AZURE_KINECT_32.
        calibration: the JSON file with the calibration.
        names: of the pictures; the last number in a name is that of its frame.
        first_frame: number of the picture of frame 0; None: 0, if the pictures begin there.

    Raises:
        UserError: the file is another, or nothing says where its joints are in the pictures, or which picture is which.
    """
    content = read_json(path, f"{WHAT} file")
    if not is_content(content):
        raise UserError(f"--keypoints {path} has no frames and joint_names, as offline_processor writes; give its file")
    listed = [str(name).removeprefix("K4ABT_JOINT_").replace("NAVEL", "NAVAL") for name in content["joint_names"]]
    if listed != list(joints.labels):
        raise UserError(f"--keypoints {path} lists other joint_names, or in another order, than Azure Kinect's 32")
    if calibration is None:
        raise UserError(
            f"--keypoints {path} has joints in millimeters around the depth camera, and no 2D joints; give "
            "--calibration with the camera of the pictures, as `prepare.py keypoints --help` shows"
        )
    camera = build(Calibration, _object(calibration), f"calibration {calibration}")
    picture_of = _numbered(names, content["frames"], first_frame)
    for position, frame in enumerate(content["frames"]):
        where = f"frame {frame.get('frame_id', position)}" if isinstance(frame, dict) else f"frame at {position}"
        bodies = frame.get("bodies") if isinstance(frame, dict) else None
        if not isinstance(bodies, list) or not isinstance(frame.get("frame_id"), int):
            yield NoPerson(where, "it has no frame_id or no list of bodies")
            continue
        picture = picture_of.get(frame["frame_id"])
        if picture is None:
            yield NoPerson(where, "its picture does not exist" if bodies else "the tool found nobody", bool(bodies))
            continue
        if not bodies:
            yield NoPerson(picture, "the tool found nobody in the picture", broken=False, picture=picture)
        for number, body in enumerate(bodies):
            try:
                points = np.array(body["joint_positions"], float)
                if points.shape != (len(joints), 3) or not np.isfinite(points).all():
                    raise ValueError
            except (KeyError, TypeError, ValueError):
                reason = "its joint_positions are not 32 points of x, y and z"
                yield NoPerson(f"{where} body {number}", reason, picture=picture)
                continue
            if 0 < np.abs(points).max() < 20:
                reason = "its joints are within 2 cm: they are meters, not millimeters"
                yield NoPerson(f"{where} body {number}", reason, picture=picture)
                continue
            xy = camera.project(points)
            yield ToolPerson(picture, np.column_stack([xy, np.isfinite(xy).all(1)]), f"{where} body {number}")


def _object(path: Path) -> dict:
    values = read_json(path, "calibration")
    if not isinstance(values, dict):
        raise UserError(f"calibration {path} must be a JSON object, it is {type(values).__name__}")
    return values


def _numbered(names: list[str], frames: list, first: int | None) -> dict[int, str]:
    """The picture of each frame_id."""
    by_number: dict[int, str] = {}
    for name in names:
        digits = re.findall(r"\d+", Path(name).stem)
        if not digits:
            raise UserError(f"the picture {name} has no number that says which frame it is; number the pictures")
        if int(digits[-1]) in by_number:
            raise UserError(f"the pictures {by_number[int(digits[-1])]} and {name} have the same number; rename one")
        by_number[int(digits[-1])] = name
    ids = [each["frame_id"] for each in frames if isinstance(each, dict) and isinstance(each.get("frame_id"), int)]
    if first is None and ids and min(by_number) != min(ids):
        raise UserError(
            f"the pictures count from {min(by_number)} and the frames from {min(ids)}; say which picture is that of "
            f"frame 0: probably --first-frame {min(by_number) - min(ids)}"
        )
    return {number - (first or 0): name for number, name in by_number.items()}
