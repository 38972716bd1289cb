"""Your own pictures: a folder with a JSON Lines file, one person per line.

`people.jsonl`, each line a JSON object (wrapped here); paths are relative to the folder and stay inside it:

    {"id": "anna-0001", "rgb": "rgb/0001.jpg", "depth": "depth/0001.png", "depth_unit": "mm",
     "camera": [365.5, 365.5, 256.3, 208.5], "keypoints": [[251.0, 88.5, 2], [0, 0, 0], ...],
     "joint_set": "coco-17", "box": [180, 60, 330, 400], "subject": "anna"}

- rgb: JPEG, PNG, WebP, TIFF or BMP of 8 bits per channel; EXIF orientation is ignored.
- depth: 16-bit PNG or TIFF, floating-point TIFF, EXR, NPY, or MAT with the variable depth; one channel, 0 or NaN = no
  reading. It has the size of the RGB picture and is registered to it, or `camera.json` tells how to register it. A line
  has rgb, depth or both. Readings beyond 20 m become none.
- depth_unit: length of the number 1: mm, m, cm, um or e.g. 0.25mm (RealSense L515), 0.2mm (5000 units are a meter).
  Default: that of --depth-unit, else of `camera.json`, else mm for whole numbers and m for floating point.
- camera: fx, fy, cx, cy in pixels, counted from the picture's upper left corner as keypoints are (add 0.5 to the cx and
  cy of OpenCV and camera SDKs). Default: that of `camera.json`.
- keypoints: one [x, y, v] per joint, in pixels from the picture's upper left corner, so that the first pixel's center
  is (0.5, 0.5); v is 0 for absent, 1 or 2 for annotated.
- joint_set: the set that the keypoints belong to; it must be the data set's.
- parts: 8-bit PNG, grayscale or palette; 0 background, 1..24 the parts of Human3.6M, 255 ignore.
- mask: in the formats of rgb, above 0 on the person (JPEG and WebP: at least half white); depth outside it is dropped.
- box: x0, y0, x1, y1 of the person in pixels. Default: the extent of the mask, else of the visible keypoints (wider by
  a tenth of its longer side all around), else of the depth readings, else the whole picture.
- id: unique in the file; default: the path of rgb, else of depth.
- subject: who the person is.
- split: default: the data set's.

Left is the person's own left in an unmirrored picture.

`camera.json` in the folder, which may be missing, has the unit of all depth pictures and the cameras:

    {"model": "RealSense D435", "depth_unit": "mm",
     "color": {"width": 640, "height": 480, "fx": 617.2, "fy": 617.4, "cx": 321.8, "cy": 239.6},
     "depth": {"width": 848, "height": 480, "fx": 422.1, "fy": 422.1, "cx": 424.3, "cy": 240.2},
     "depth_to_color": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "translation_mm": [14.8, 0.1, 0.2]}}

docs/data/recordings.md tells what each key means. With depth_to_color, depth pictures beside RGB are registered to it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, field_validator

from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec, decode_labels
from hcmoco.data.depth_units import millimeters, unit_name, unit_of_scale
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.cameras.camera_file import RecordedBy, read_camera_file
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.files import read_inside, read_rgb
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.io.pictures import decode_mask
from hcmoco.datasets.person_crop import checked
from hcmoco.datasets.recorded_person import make_person
from hcmoco.errors import UserError

_Positive = Annotated[FiniteFloat, Field(gt=0)]
PICTURES = (
    ("rgb", "RGB", ("JPEG", "PNG", "WebP", "TIFF", "big-endian TIFF", "BMP")),
    ("depth", "depth", ("PNG", "TIFF", "big-endian TIFF", "EXR", "NPY", "MATLAB 5", "MATLAB 7.3", "HDF5")),
    ("parts", "parts", ("PNG",)),
    ("mask", "mask", ("JPEG", "PNG", "WebP", "TIFF", "big-endian TIFF", "BMP")),
)


class FolderConfig(Config):
    """A folder of your own pictures."""

    path: str = Field(description="the folder")
    file: str = Field("people.jsonl", description="the JSON Lines file in it")
    name: str = Field("folder", min_length=1, description="what ids, reports and manifests call the data set")
    joint_set: str = "coco-17"
    split: str = Field("train", min_length=1)
    depth_unit: str = Field(
        "", description="length of the number 1 in depth pictures, e.g. mm, m, 0.25mm (default: of camera.json)"
    )
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")

    @field_validator("joint_set")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return joint_set(name).name
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("depth_unit")
    @classmethod
    def _known_unit(cls, unit: str) -> str:
        if unit:
            millimeters(unit)
        return unit


class PersonLine(Config):
    """One line of the file; the module's docstring says what each key means."""

    id: str | None = None
    rgb: str | None = None
    depth: str | None = None
    depth_unit: str | None = None
    camera: tuple[_Positive, _Positive, FiniteFloat, FiniteFloat] | None = None
    keypoints: tuple[tuple[FiniteFloat, FiniteFloat, Annotated[float, Field(ge=0, le=2)]], ...] | None = None
    joint_set: str | None = None
    parts: str | None = None
    mask: str | None = None
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    subject: str = ""
    split: str | None = None

    @field_validator("depth_unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None:
            millimeters(unit)
        return unit


@dataclass(frozen=True)
class FolderItem:
    """One person of the file, whose pictures are not read yet."""

    id: str
    line: PersonLine
    config: FolderConfig
    recorded_by: RecordedBy | None = None


def items(config: FolderConfig) -> list[FolderItem | Rejected]:
    """List the persons of the file, in its order.

    A line that cannot be used, or repeats an id, is Rejected. Empty lines are ignored.

    Args:
        config: where the folder is.

    Returns:
        The persons, with ids `<name>/<id>`.

    Raises:
        UserError: the file is missing, not text, or has no line; or `camera.json` is wrong.
    """
    recorded_by = read_camera_file(config.path)
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
        item = _item(config, f"{config.file} line {number}", text, recorded_by)
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
    for what, label, formats in PICTURES:
        named = [name for line in lines if (name := getattr(line, what)) is not None]
        if named or what == "rgb":
            found.check_files(f"{label} pictures", config.path, named, *formats)
    return found


def _item(config: FolderConfig, where: str, text: str, recorded_by: RecordedBy | None) -> FolderItem | Rejected:
    fallback_id = f"{config.name}/{where}"
    try:
        values = json.loads(text)
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
    return joints_fault(line, config.joint_set)


def joints_fault(line: PersonLine, wanted: str) -> str | None:
    """Return why the joints of a line cannot be of the joint set `wanted`; None if they are."""
    if line.joint_set is not None and line.joint_set != wanted:
        return f"joint_set is {line.joint_set!r}, the data set is read as {wanted!r}; a data set has one joint set"
    if line.keypoints is not None and len(line.keypoints) != len(joint_set(wanted)):
        return f"there are {len(line.keypoints)} keypoints, {wanted} has {len(joint_set(wanted))}"
    return None


def read(item: FolderItem | Rejected) -> Person | Rejected:
    """Return the record of one person.

    It is Rejected if a file is missing, damaged, outside the folder or of the wrong kind.
    """
    if isinstance(item, Rejected):
        return item

    def make() -> Person:
        line, folder = item.line, item.config.path
        stored = None if line.depth is None else read_depth_file(folder, line.depth, _raw_size(item))
        return make_person(
            item,
            rgb=None if line.rgb is None else read_rgb(folder, line.rgb),
            stored=stored,
            parts=None if line.parts is None else decode_labels(read_inside(folder, line.parts)),
            mask=None if line.mask is None else decode_mask(read_inside(folder, line.mask)),
        )

    return checked(item.id, len(joint_set(item.config.joint_set)), make, item.config.depth_codec)


def _raw_size(item: FolderItem) -> tuple[int, int] | None:
    camera = item.recorded_by.depth if item.recorded_by else None
    return (camera.width, camera.height) if camera else None


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
