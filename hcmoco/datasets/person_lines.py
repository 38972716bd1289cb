"""One line of `people.jsonl`: what people say of a person in their own pictures, and why it cannot be taken.

folder.py says what each key means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, FiniteFloat, ValidationInfo, field_validator

from hcmoco import unique_keys
from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec
from hcmoco.data.depth_units import DepthUnit, DepthUnitOrDefault, millimeters, unit_name, unit_of_scale
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP, LABEL_MAPS, label_map
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.joints_3d import JointUnit
from hcmoco.datasets.keypoint_convention import (
    Convention,
    KeypointOptions,
    exchanged_in_box_fault,
    picture_fault,
    value_fault,
)
from hcmoco.datasets.segmentation import Segmenter, SegmentOptions
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError

_Positive = Annotated[FiniteFloat, Field(gt=0)]


class FolderConfig(KeypointOptions, DetectOptions, SegmentOptions):
    """A folder of your own pictures."""

    first_defaults: ClassVar = {"orientation": "stored", "label_map": "human3.6m"}

    path: str = Field(description="the folder")
    file: str = Field("people.jsonl", description="the JSON Lines file in it")
    name: str = Field("folder", min_length=1, description="what ids, reports and manifests call the data set")
    joint_set: str = "coco-17"
    split: str = Field("train", min_length=1)
    depth_unit: DepthUnitOrDefault = Field(
        "", description="length of the number 1 in depth pictures, e.g. mm, m, 0.25mm (default: of camera.json)"
    )
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")
    orientation: Literal["upright", "stored"] = Field(
        "upright",
        description="upright (each file turned by the orientation that it declares, as people see it) or stored "
        "(orientation is ignored)",
    )
    label_map: str = Field(
        "",
        description=f"whose numbers the pictures of parts hold: {', '.join(LABEL_MAPS)}; needed if a line has parts",
    )

    joint_set_3d: str = Field("", description="joint set of 3D joints, e.g. kinect-25; needed if a line has joints3d")
    joint_unit_3d: JointUnit | Literal[""] = Field(
        "", description="length of the number 1 in 3D joints: mm, cm or m; needed if a line has joints3d"
    )

    @field_validator("label_map")
    @classmethod
    def _known_map(cls, name: str) -> str:
        try:
            return label_map(name).name if name else ""
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("joint_set", "joint_set_3d")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if not name and info.field_name == "joint_set_3d":
            return ""
        try:
            return joint_set(name).name
        except UserError as error:
            raise ValueError(str(error)) from None

    @property
    def stored_label_map(self) -> str:
        """Return the name of the label map whose numbers records hold."""
        return label_map(self.label_map or DEFAULT_LABEL_MAP).stored_as

    @property
    def upright(self) -> bool:
        """Return whether files are turned by the orientation that they declare."""
        return self.orientation == "upright"

    @property
    def convention(self) -> Convention:
        """Return how the keypoints of the lines are written."""
        return Convention.of(self, normalized=False, offset=0.0)


class PersonLine(Config):
    """One line of the file."""

    id: str | None = None
    rgb: str | None = None
    depth: str | None = None
    depth_unit: DepthUnit | None = None
    camera: tuple[_Positive, _Positive, FiniteFloat, FiniteFloat] | None = None
    keypoints: tuple[tuple[FiniteFloat, FiniteFloat, Annotated[FiniteFloat, Field(ge=0)]], ...] | None = None
    joint_set: str | None = None
    joints3d: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None, ...] | None = None
    parts: str | None = None
    mask: str | None = None
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    subject: str = ""
    split: str | None = None


class DetectedLine(PersonLine):
    """A line whose keypoints a detector found: x, y in pixels of the picture as it is read, and a confidence."""


@dataclass(frozen=True)
class FolderItem:
    """One person, whose pictures are not read yet.

    Attributes:
        id: of the record.
        line: what is said of the person.
        config: of the reader.
        recorded_by: the cameras, if they are known.
        segmenter: finds the person in depth, where --segment asks for it and the line has no mask of its own.
    """

    id: str
    line: PersonLine
    config: FolderConfig
    recorded_by: RecordedBy | None = None
    segmenter: Segmenter | None = None


def parse_line(config: FolderConfig, where: str, text: str, recorded_by: RecordedBy | None) -> FolderItem | Rejected:
    """Return the person of one line of text, or Rejected; `where` names the line."""
    fallback_id = f"{config.name}/{where}"
    try:
        values = unique_keys.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(fallback_id, f"{where} is not valid JSON: {error}")
    if not isinstance(values, dict):
        return Rejected(fallback_id, f"{where} must be a JSON object, it is {type(values).__name__}")
    if told := _old_scale(values):
        return Rejected(fallback_id, f"{where}: {told}")
    try:
        line = build(PersonLine, values, where)
    except UserError as error:
        return Rejected(fallback_id, str(error))
    key = line.id if line.id is not None else line.rgb or line.depth
    reason = _line_fault(line, config)
    if reason:
        return Rejected(f"{config.name}/{key}" if key else fallback_id, f"{where}: {reason}")
    return FolderItem(f"{config.name}/{key}", line, config, recorded_by)


def check_named(config: FolderConfig, lines: Iterable[PersonLine], path: Path) -> None:
    """Raise UserError if lines of the file `path` have numbers, and no option says what they mean.

    These are parts without their label map, and 3D joints without their joint set and unit.
    """
    lines = list(lines)
    if not config.label_map and any(line.parts for line in lines):
        raise UserError(
            f"{path} has parts, whose numbers mean other parts in other label maps; say whose they are with "
            f"--label-map: {', '.join(LABEL_MAPS)}"
        )
    if any(line.joints3d for line in lines) and not (config.joint_set_3d and config.joint_unit_3d):
        raise UserError(
            f"{path} has 3D joints; say which they are and what their numbers mean, for example "
            "--joint-set-3d kinect-25 --joint-unit-3d mm"
        )


def joints_fault(line: PersonLine, config: FolderConfig) -> str | None:
    """Return why the joints of a line cannot be what they are read as, whatever the picture; None if they can."""
    wanted = config.joint_set
    if line.joint_set is not None and line.joint_set != wanted:
        return f"joint_set is {line.joint_set!r}, the data set is read as {wanted!r}; a data set has one joint set"
    in_space = config.joint_set_3d
    if in_space and line.joints3d is not None and len(line.joints3d) != len(joint_set(in_space)):
        return f"there are {len(line.joints3d)} joints3d, {in_space} has {len(joint_set(in_space))}"
    if line.keypoints is None:
        return None
    if len(line.keypoints) != len(joint_set(wanted)):
        return f"there are {len(line.keypoints)} keypoints, {wanted} has {len(joint_set(wanted))}"
    joints_J3 = np.array(line.keypoints, np.float64)
    if config.min_confidence is None:
        other = next((k for k, value in enumerate(joints_J3[:, 2]) if value not in (0, 1, 2)), None)
        if other is not None:
            return (
                f"keypoints.{other}.2 = {joints_J3[other, 2]:g} is neither 0, 1 nor 2; if it is a confidence, give "
                "--min-confidence, such as 0.3"
            )
    fault = value_fault([_unflagged(joints_J3, config)], config.convention)
    return str(fault) if fault else None


def place_keypoints(line: PersonLine, config: FolderConfig, picture: tuple[int, int]) -> np.ndarray | None:
    """Return the line's joints in pixels of its picture: float64 [J, 3], visibility 0 or 1; None without joints.

    Args:
        line: which has passed `joints_fault`.
        config: how its joints are written.
        picture: its width and height.

    Raises:
        ValueError: they cannot be of this picture.
    """
    if line.keypoints is None:
        return None
    if isinstance(line, DetectedLine):
        return Convention(min_confidence=config.min_confidence or 0.0).placed(np.array(line.keypoints), picture)
    joints_J3 = _unflagged(np.array(line.keypoints, np.float64), config)
    if fault := picture_fault(joints_J3, config.convention, picture):
        raise ValueError(str(fault))
    if line.box is not None and (fault := exchanged_in_box_fault(joints_J3, config.convention, picture, line.box)):
        raise ValueError(str(fault))
    return config.convention.placed(joints_J3, picture)


def _unflagged(joints_J3: np.ndarray, config: FolderConfig) -> np.ndarray:
    """x, y and confidence: that of an annotated joint is 1, unless the file has confidences."""
    if config.min_confidence is not None and not (config.detect and np.isin(joints_J3[:, 2], (0, 1, 2)).all()):
        return joints_J3  # beside a detector, whose threshold it is too, lines may still have 0, 1 and 2
    return np.column_stack([joints_J3[:, :2], (joints_J3[:, 2] > 0) * (config.full_confidence or 1.0)])


def _old_scale(values: dict) -> str:
    """What a line of version 0.1 must have instead of its `depth_scale`, millimeters per unit; "" without one."""
    if "depth_scale" not in values:
        return ""
    scale = values["depth_scale"]
    try:
        unit = unit_of_scale(scale) if scale < 0.01 else unit_name(scale)
        millimeters(unit)
    except (TypeError, ValueError, OverflowError):
        unit = "mm"
    return f'depth_scale is now depth_unit, which names its unit: write "depth_unit": "{unit}" in its place'


def _line_fault(line: PersonLine, config: FolderConfig) -> str | None:
    if line.rgb is None and line.depth is None:
        return "neither rgb nor depth is given; a person needs one of them"
    if line.id is not None and not line.id.strip():
        return "the id is empty; omit it or make it unique"
    if line.id is not None and any(ord(character) < 32 for character in line.id):
        return f"the id {line.id!r} has control characters; omit it or give another"
    return joints_fault(line, config)
