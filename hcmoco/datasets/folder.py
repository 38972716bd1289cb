"""Your own pictures: a folder with a JSON Lines file, one person per line.

`people.jsonl`, each line a JSON object (wrapped here); paths are relative to the folder and stay inside it:

    {"id": "anna-0001", "rgb": "rgb/0001.jpg", "depth": "depth/0001.png", "depth_scale": 1.0,
     "camera": [365.5, 365.5, 256.3, 208.5], "keypoints": [[251.0, 88.5, 2], [0, 0, 0], ...],
     "joint_set": "coco-17", "box": [180, 60, 330, 400], "subject": "anna"}

- rgb: JPEG or PNG.
- depth: 16-bit PNG of one channel, registered to the RGB picture and of its size, 0 = no reading. A line has rgb,
  depth or both.
- depth_scale: millimeters per stored unit; default 1 (Kinect, RealSense); 0.2 if 5000 units are a meter.
- camera: fx, fy, cx, cy in pixels.
- keypoints: one [x, y, v] per joint, in pixels from the picture's upper left corner, so that the first pixel's center
  is (0.5, 0.5); v is 0 for absent, 1 or 2 for annotated. A joint outside the picture counts as absent. With
  --min-confidence v is a confidence instead. For the files that pose estimators write, see `prepare.py keypoints`.
- joint_set: the set that the keypoints belong to; it must be the data set's.
- parts: 8-bit PNG, grayscale or palette, of the numbers that `--label-map` names; 255 ignore.
- mask: 8-bit PNG, above 0 on the person; depth outside it is dropped.
- box: x0, y0, x1, y1 of the person in pixels. Default: the extent of the mask, else of the labeled parts, else of the
  visible keypoints (wider by a tenth of its longer side all around), else of the depth readings, else the whole
  picture.
- id: unique in the file; default: the path of rgb, else of depth.
- subject: who the person is.
- split: default: the data set's.

Left is the person's own left in an unmirrored picture.

Pictures are upright, as people see them: each file (rgb, depth, parts, mask) is turned by the orientation that it
declares itself (EXIF), and all numbers are of the upright picture. `--orientation stored` takes the pixels of all files
as they are stored, for numbers from a program that ignores orientation, as PIL's Image.open does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from hcmoco.config import Config, build
from hcmoco.data.body_parts import PART_NAMES
from hcmoco.data.codecs import DepthCodec
from hcmoco.data.label_maps import LABEL_MAPS, label_map
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.conventions import check_box, check_on_mask
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.keypoint_convention import Convention, KeypointOptions, picture_fault, value_fault
from hcmoco.datasets.person_crop import checked, crop_person
from hcmoco.datasets.person_files import find_box, read_depth, read_person_files
from hcmoco.errors import UserError

_Positive = Annotated[FiniteFloat, Field(gt=0)]


class FolderConfig(KeypointOptions):
    """A folder of your own pictures."""

    path: str = Field(description="the folder")
    file: str = Field("people.jsonl", description="the JSON Lines file in it")
    name: str = Field("folder", min_length=1, description="what ids, reports and manifests call the data set")
    joint_set: str = "coco-17"
    split: str = Field("train", min_length=1)
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

    @field_validator("label_map")
    @classmethod
    def _known_map(cls, name: str) -> str:
        try:
            return label_map(name).name if name else ""
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("joint_set")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return joint_set(name).name
        except UserError as error:
            raise ValueError(str(error)) from None


class PersonLine(Config):
    """One line of the file; the module's docstring says what each key means."""

    id: str | None = None
    rgb: str | None = None
    depth: str | None = None
    depth_scale: _Positive = 1.0
    camera: tuple[_Positive, _Positive, FiniteFloat, FiniteFloat] | None = None
    keypoints: tuple[tuple[FiniteFloat, FiniteFloat, Annotated[FiniteFloat, Field(ge=0)]], ...] | None = None
    joint_set: str | None = None
    parts: str | None = None
    mask: str | None = None
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    subject: str = ""
    split: str | None = None


@dataclass(frozen=True)
class FolderItem:
    """One person of the file, whose pictures are not read yet."""

    id: str
    line: PersonLine
    config: FolderConfig


def items(config: FolderConfig) -> list[FolderItem | Rejected]:
    """List the persons of the file, in its order.

    A line that cannot be used, or repeats an id, is Rejected. Empty lines are ignored.

    Args:
        config: where the folder is.

    Returns:
        The persons, with ids `<name>/<id>`.

    Raises:
        UserError: the file is missing, not text, or has no line; or lines have parts and no label map is named.
    """
    path = Path(config.path) / config.file
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; write one JSON object per person into it, as `prepare.py folder --help` shows"
        )
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    found: list[FolderItem | Rejected] = []
    seen: set[str] = set()
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        item = _item(config, f"{config.file} line {number}", text)
        if isinstance(item, FolderItem):
            if item.id in seen:
                item = Rejected(item.id, f"{config.file} line {number}: an earlier line has the same id")
            seen.add(item.id)
        found.append(item)
    if not found:
        raise UserError(
            f"{path} has no line; write one JSON object per person into it, as `prepare.py folder --help` shows"
        )
    if not config.label_map and any(isinstance(each, FolderItem) and each.line.parts for each in found):
        raise UserError(
            f"{path} has parts, whose numbers mean other parts in other label maps; say whose they are with "
            f"--label-map: {', '.join(LABEL_MAPS)}"
        )
    if config.label_map and label_map(config.label_map).parts != PART_NAMES:
        raise UserError(
            f"label map {config.label_map!r} has other parts than human3.6m's 25, which the tasks learn; "
            "leave parts out"
        )
    return found


def inventory(config: FolderConfig) -> Inventory:
    """Check the pictures that the file names."""
    found = Inventory()
    wanted = items(config)
    lines = [each.line for each in wanted if isinstance(each, FolderItem)]
    rejected = [each for each in wanted if isinstance(each, Rejected)]
    found.counts["lines"] = len(wanted)
    found.faults += [Fault(str(Path(config.path) / config.file), each.reason) for each in rejected]
    found.check_files("RGB pictures", config.path, [line.rgb for line in lines if line.rgb is not None], "JPEG", "PNG")
    for what in ("depth", "parts", "mask"):
        named = [name for line in lines if (name := getattr(line, what)) is not None]
        if named:
            found.check_files(f"{what} pictures", config.path, named, "PNG")
    return found


def _item(config: FolderConfig, where: str, text: str) -> FolderItem | Rejected:
    fallback_id = f"{config.name}/{where}"
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(fallback_id, f"{where} is not valid JSON: {error}")
    if not isinstance(values, dict):
        return Rejected(fallback_id, f"{where} must be a JSON object, it is {type(values).__name__}")
    try:
        line = build(PersonLine, values, where)
    except UserError as error:
        return Rejected(fallback_id, str(error))
    key = line.id if line.id is not None else line.rgb or line.depth
    reason = _line_fault(line, config)
    if reason:
        return Rejected(f"{config.name}/{key}" if key else fallback_id, f"{where}: {reason}")
    return FolderItem(f"{config.name}/{key}", line, config)


def _line_fault(line: PersonLine, config: FolderConfig) -> str | None:
    if line.rgb is None and line.depth is None:
        return "neither rgb nor depth is given; a person needs one of them"
    if line.id is not None and not line.id.strip():
        return "the id is empty; omit it or make it unique"
    if line.id is not None and any(ord(character) < 32 for character in line.id):
        return f"the id {line.id!r} has control characters; omit it or give another"
    if line.joint_set is not None and line.joint_set != config.joint_set:
        return (
            f"joint_set is {line.joint_set!r}, the data set is read as {config.joint_set!r}; "
            "a data set has one joint set"
        )
    if line.keypoints is not None and len(line.keypoints) != len(joint_set(config.joint_set)):
        return f"there are {len(line.keypoints)} keypoints, {config.joint_set} has {len(joint_set(config.joint_set))}"
    return _keypoints_fault(line, config)


def _keypoints_fault(line: PersonLine, config: FolderConfig) -> str | None:
    """Why the numbers cannot be what they are read as, whatever the picture."""
    if line.keypoints is None:
        return None
    joints_J3 = np.array(line.keypoints, np.float64)
    if config.min_confidence is None:
        other = next((k for k, value in enumerate(joints_J3[:, 2]) if value not in (0, 1, 2)), None)
        if other is not None:
            return (
                f"keypoints.{other}.2 = {joints_J3[other, 2]:g} is neither 0, 1 nor 2; if it is a confidence, give "
                "--min-confidence, such as 0.3"
            )
    fault = value_fault([_unflagged(joints_J3, config)], _convention(config))
    return str(fault) if fault else None


def _unflagged(joints_J3: np.ndarray, config: FolderConfig) -> np.ndarray:
    """x, y and confidence: that of an annotated joint is 1, unless the file has confidences."""
    if config.min_confidence is not None:
        return joints_J3
    return np.column_stack([joints_J3[:, :2], (joints_J3[:, 2] > 0) * (config.full_confidence or 1.0)])


def _convention(config: FolderConfig) -> Convention:
    return Convention.of(config, normalized=False, offset=0.0)


def read(item: FolderItem | Rejected) -> Person | Rejected:
    """Return the record of one person.

    It is Rejected if a file is missing, damaged, outside the folder or of the wrong kind.
    """
    if isinstance(item, Rejected):
        return item

    def make() -> Person:
        line, config = item.line, item.config
        upright = config.orientation == "upright"
        images = read_person_files(
            {name: (config.path, getattr(line, name)) for name in ("rgb", "depth", "parts", "mask")},
            lambda data: read_depth(data, line.depth_scale, upright=upright),
            upright=upright,
        )
        if images.parts is not None:
            images = replace(images, parts=_parts(images.parts, config.label_map))
        keypoints = None if line.keypoints is None else _placed(line.keypoints, config, images.width_height)
        seen = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2))
        if images.mask is not None:
            check_on_mask(seen, images.mask)
        if line.box is None:
            box = find_box(images.mask, keypoints, images.depth, images.rgb, images.parts)
        else:
            box = np.array(line.box)
            check_box(box, *images.width_height, seen)
        person = Person(
            id=item.id,
            dataset=config.name,
            split=line.split or config.split,
            size=config.size,
            subject=line.subject,
            camera=None if line.camera is None else np.array(line.camera),
            box=box,
            keypoints=keypoints,
        )
        return crop_person(person, images, config.depth_codec)

    return checked(item.id, len(joint_set(item.config.joint_set)), make, item.config.depth_codec)


def _placed(keypoints: Sequence, config: FolderConfig, picture: tuple[int, int]) -> np.ndarray:
    """float64 [J, 3] in pixels of the picture. Raises ValueError if they cannot be of this picture."""
    joints_J3, convention = _unflagged(np.array(keypoints, np.float64), config), _convention(config)
    if fault := picture_fault(joints_J3, convention, picture):
        raise ValueError(str(fault))
    return convention.placed(joints_J3, picture)


def _parts(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels as records have them; ValueError, which begins as other faults of parts do."""
    try:
        return label_map(name).read(labels)
    except ValueError as error:
        raise ValueError(f"parts: {error}") from None


READER = DatasetReader(
    FolderConfig,
    items,
    read,
    inventory,
    root="path",
    name=lambda config: config.name,
    joint_set=lambda config: config.joint_set,
    depth_codec=lambda config: config.depth_codec,
)
