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

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec, decode_labels
from hcmoco.data.depth_units import (
    FURTHEST_MM,
    check_distance,
    default_unit,
    in_millimeters,
    millimeters,
    rounded,
    unit_name,
    unit_of_scale,
)
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.data.transforms import extent
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.cameras.camera_file import CAMERA_FILE, RecordedBy, read_camera_file
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.files import read_inside, read_rgb
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.io.pictures import decode_mask
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.errors import UserError

_Positive = Annotated[FiniteFloat, Field(gt=0)]
_KEYPOINT_MARGIN = 0.1
_PICTURES = (
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
    for what, label, formats in _PICTURES:
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
        mask = None if line.mask is None else decode_mask(read_inside(folder, line.mask))
        depth, unit = (None, "") if line.depth is None else _depth(item, rgb)
        if depth is not None and mask is not None and depth.shape == mask.shape:
            depth = np.where(mask > 0, depth, np.uint16(0))
        keypoints = None if line.keypoints is None else np.array(line.keypoints)
        camera = _camera(item, rgb)
        box = find_box(mask, keypoints, depth, rgb) if line.box is None else np.array(line.box)
        if depth is not None:
            _check_distance(item, depth, unit, box, camera, shown=mask is not None or keypoints is not None)
        person = Person(
            id=item.id,
            dataset=item.config.name,
            split=line.split or item.config.split,
            size=item.config.size,
            subject=line.subject,
            camera=None if camera is None else np.array(camera),
            box=box,
            keypoints=keypoints,
        )
        depth = None if depth is None else rounded(depth, FURTHEST_MM)
        return crop_person(person, PersonImages(rgb=rgb, depth=depth, parts=parts, mask=mask), item.config.depth_codec)

    return checked(item.id, len(joint_set(item.config.joint_set)), make, item.config.depth_codec)


def _depth(item: FolderItem, rgb: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Depth [H, W] in millimeters, registered to `rgb` where there is one, and the unit of the file."""
    line, recorded_by = item.line, item.recorded_by or RecordedBy()
    assert line.depth is not None
    stored = read_depth_file(item.config.path, line.depth)
    unit = line.depth_unit or item.config.depth_unit or recorded_by.depth_unit or default_unit(stored)
    depth = in_millimeters(stored, unit)
    if rgb is None:
        return depth, unit
    if recorded_by.rig is not None:
        return register_depth(depth, recorded_by.rig), unit
    if recorded_by.registered is False:
        raise ValueError(
            f"{recorded_by.file} says that depth is not registered to RGB; give color, depth and depth_to_color in it"
        )
    if depth.shape != rgb.shape[:2]:
        raise ValueError(
            f"the pictures differ in size: rgb {rgb.shape[1]} x {rgb.shape[0]}, depth {depth.shape[1]} x "
            f"{depth.shape[0]}; register depth to RGB, or give the cameras in {CAMERA_FILE}"
        )
    return depth, unit


def _camera(item: FolderItem, rgb: np.ndarray | None) -> tuple[float, ...] | None:
    """fx, fy, cx, cy of the picture that the record is cut from; None if they are not known."""
    if item.line.camera is not None:
        return item.line.camera
    by = item.recorded_by or RecordedBy()
    camera = by.color if rgb is not None or (by.depth is None and by.registered) else by.depth
    if camera is None:
        return None
    if rgb is not None and (camera.width, camera.height) != rgb.shape[1::-1]:
        raise ValueError(
            f"the picture is {rgb.shape[1]} x {rgb.shape[0]} pixels, its camera in {by.file} "
            f"{camera.width} x {camera.height}; give the camera of the pictures' own size"
        )
    return camera.record_camera


def _check_distance(
    item: FolderItem, depth: np.ndarray, unit: str, box: np.ndarray, camera: tuple[float, ...] | None, *, shown: bool
) -> None:
    """Refuse a person at an impossible distance; `shown`: a mask or joints tell how large the person is."""
    x0, y0, x1, y1 = np.clip(np.nan_to_num(box), 0, 1 << 15).astype(int)
    inside = depth[y0 : y1 + 1, x0 : x1 + 1]
    if not (inside > 0).any():
        return  # a box that is wrong, or a record without depth, has its own reason
    where = 'write "depth_unit": "{unit}" in its line' if item.line.depth_unit else "give --depth-unit {unit}"
    person = float(max(box[2] - box[0], box[3] - box[1])) if shown or item.line.box is not None else None
    focal = None if camera is None else float(max(camera[:2]))
    check_distance(inside, unit, where, size_px=person, focal_px=focal)


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
