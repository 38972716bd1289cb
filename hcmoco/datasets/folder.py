"""Your own pictures: a folder with a JSON Lines file, one person per line.

`people.jsonl`, each line a JSON object (wrapped here); paths are relative to the folder and stay inside it:

    {"id": "anna-0001", "rgb": "rgb/0001.jpg", "depth": "depth/0001.png", "depth_scale": 1.0,
     "camera": [365.5, 365.5, 256.3, 208.5], "keypoints": [[251.0, 88.5, 2], [0, 0, 0], ...],
     "joint_set": "coco-17", "box": [180, 60, 330, 400], "subject": "anna"}

- rgb: JPEG or PNG; EXIF orientation is ignored.
- depth: 16-bit PNG of one channel, registered to the RGB picture and of its size, 0 = no reading. A line has rgb,
  depth or both.
- depth_scale: millimeters per stored unit; default 1 (Kinect, RealSense); 0.2 if 5000 units are a meter.
- camera: fx, fy, cx, cy in pixels.
- keypoints: one [x, y, v] per joint, in pixels from the picture's upper left corner, so that the first pixel's center
  is (0.5, 0.5); v is 0 for absent, 1 or 2 for annotated.
- joint_set: the set that the keypoints belong to; it must be the data set's.
- parts: 8-bit PNG, grayscale or palette; 0 background, 1..24 the parts of Human3.6M, 255 ignore.
- mask: 8-bit PNG, above 0 on the person; depth outside it is dropped.
- box: x0, y0, x1, y1 of the person in pixels. Default: the extent of the mask, else of the visible keypoints (wider by
  a tenth of its longer side all around), else of the depth readings, else the whole picture.
- id: unique in the file; default: the path of rgb, else of depth.
- subject: who the person is.
- split: default: the data set's.

Left is the person's own left in an unmirrored picture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from hcmoco import unique_keys
from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec, decode_depth, decode_labels
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.data.transforms import extent
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.io.files import read_inside, read_rgb
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.errors import UserError

_Positive = Annotated[FiniteFloat, Field(gt=0)]
_KEYPOINT_MARGIN = 0.1


class FolderConfig(Config):
    """A folder of your own pictures."""

    path: str = Field(description="the folder")
    file: str = Field("people.jsonl", description="the JSON Lines file in it")
    name: str = Field("folder", min_length=1, description="what ids, reports and manifests call the data set")
    joint_set: str = "coco-17"
    split: str = Field("train", min_length=1)
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")

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
    keypoints: tuple[tuple[FiniteFloat, FiniteFloat, Annotated[float, Field(ge=0, le=2)]], ...] | None = None
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
        UserError: the file is missing, not text, or has no line.
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
        values = unique_keys.loads(text)
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
    return None


def read(item: FolderItem | Rejected) -> Person | Rejected:
    """Return the record of one person.

    It is Rejected if a file is missing, damaged, outside the folder or of the wrong kind.
    """
    if isinstance(item, Rejected):
        return item

    def make() -> Person:
        line, folder = item.line, item.config.path
        rgb = None if line.rgb is None else read_rgb(folder, line.rgb)
        parts = None if line.parts is None else decode_labels(read_inside(folder, line.parts))
        mask = (
            None
            if line.mask is None
            else np.where(decode_labels(read_inside(folder, line.mask)) > 0, np.uint8(255), np.uint8(0))
        )
        depth = None if line.depth is None else _depth(folder, line.depth, line.depth_scale)
        if depth is not None and mask is not None and depth.shape == mask.shape:
            depth = np.where(mask > 0, depth, np.uint16(0))
        keypoints = None if line.keypoints is None else np.array(line.keypoints)
        box = find_box(mask, keypoints, depth, rgb) if line.box is None else np.array(line.box)
        person = Person(
            id=item.id,
            dataset=item.config.name,
            split=line.split or item.config.split,
            size=item.config.size,
            subject=line.subject,
            camera=None if line.camera is None else np.array(line.camera),
            box=box,
            keypoints=keypoints,
        )
        images = PersonImages(rgb=rgb, depth=depth, parts=parts, mask=mask)
        return crop_person(person, images, item.config.depth_codec)

    return checked(item.id, len(joint_set(item.config.joint_set)), make, item.config.depth_codec)


def _depth(folder: str, name: str, scale: float) -> np.ndarray:
    """uint16 [H, W], millimeters, from a 16-bit PNG whose unit is `scale` millimeters; readings are cut to 65.5 m."""
    stored = decode_depth(read_inside(folder, name), "png16")
    return stored if scale == 1 else np.minimum(np.rint(stored * scale), np.iinfo(np.uint16).max).astype(np.uint16)


def find_box(
    mask: np.ndarray | None, keypoints: np.ndarray | None, depth: np.ndarray | None, rgb: np.ndarray | None
) -> np.ndarray:
    """Find the box of a person for whom no box is given.

    Args:
        mask: uint8 [H, W], above 0 on the person.
        keypoints: float [J, 3], x, y, visibility.
        depth: uint16 [H, W], millimeters, 0 = no reading.
        rgb: uint8 [H, W, 3].

    Returns:
        float [4], x0, y0, x1, y1, from the first argument that shows a person, else the whole picture.
    """
    if mask is not None and (box := extent(mask)) is not None:
        return box
    visible = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2))
    if len(visible) and np.ptp(visible, axis=0).max() > 0:
        low, high = visible.min(0), visible.max(0)
        margin = _KEYPOINT_MARGIN * (high - low).max()
        return np.concatenate([low - margin, high + margin])
    if depth is not None and (box := extent(depth)) is not None:
        return box
    height, width = next(image for image in (rgb, depth, mask) if image is not None).shape[:2]
    return np.array([0.0, 0.0, width, height])


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
