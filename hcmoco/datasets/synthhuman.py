"""SynthHuman: RGB, depth and mask of rendered people, exact in every pixel; no joints.

Layout: "Data Format" in README.md of github.com/microsoft/DAViD. A sample has a number of 7 digits:

    rgb_0000000.png       RGB
    alpha_0000000.png     how much of a pixel is the person, 8 bits; from 128 on it is (visualize_data.py there)
    depth_0000000.exr     distance along the optical axis, centimeters
    cam_0000000.txt       fx 0 cx / 0 fy cy / 0 0 1, pixels
    normal_0000000.exr    not read

The first 98,040 samples show faces, the next 99,976 whole bodies, the last 99,992 upper bodies. The archives unpack
into one folder, or each into a folder of its own: both are read, at any depth. Depth off the person is dropped.

The page does not say where the first pixel's center is. A principal point at (width - 1) / 2, (height - 1) / 2 is taken
for one that counts from that center, any other for one that counts from the picture's corner.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hcmoco.config import Config, build
from hcmoco.data.codecs import DepthCodec
from hcmoco.data.depth_masking import MASKED
from hcmoco.data.depth_units import FURTHEST_MM, in_millimeters, rounded
from hcmoco.data.schema import Person
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.cameras.camera_file import CameraConfig
from hcmoco.datasets.conventions import check_mask
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.files import read_inside, read_rgb
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.io.pictures import decode_mask
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.datasets.person_files import find_box
from hcmoco.datasets.recorded_person import check_depth_in_box
from hcmoco.errors import UserError

Subset = Literal["face", "full-body", "upper-body"]
_FIRST: tuple[tuple[int, Subset], ...] = ((0, "face"), (98040, "full-body"), (98040 + 99976, "upper-body"))
_FILES = {"rgb": "png", "alpha": "png", "depth": "exr", "cam": "txt"}
_NAME = re.compile(r"(rgb|alpha|depth|cam)_(\d{7})\.(png|exr|txt)")
_PERSON_FROM = 128
_OTHER_SUBSET = "the sample is of another subset than --subset"


class SynthHumanConfig(Config):
    """Where SynthHuman is and what of it is read."""

    source: str = Field(".", description="folder with the unpacked archives, or with their folders")
    subset: Literal["all", "face", "full-body", "upper-body"] = Field(
        "all", description="all, or the samples of one kind of picture: face, full-body or upper-body"
    )
    split: str = Field("train", min_length=1, description="written into the rows; the data set has no splits")
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")


@dataclass(frozen=True)
class SynthHumanItem:
    """One sample, whose files are not read yet.

    Attributes:
        id: `synthhuman/<number, 7 digits>`.
        folder: with its files.
        number: of the sample.
        split, size, depth_codec: as in the config.
    """

    id: str
    folder: str
    number: int
    split: str
    size: int
    depth_codec: DepthCodec

    def name(self, kind: str) -> str:
        """Return the name of the sample's file: rgb, alpha, depth or cam."""
        return f"{kind}_{self.number:07d}.{_FILES[kind]}"


def subset_of(number: int) -> Subset:
    """Return what the sample `number` shows."""
    return next(name for first, name in reversed(_FIRST) if number >= first)


def items(config: SynthHumanConfig) -> list[SynthHumanItem | Rejected | Skipped]:
    """List the samples by their numbers; a number that two folders have is Rejected, one of another subset Skipped.

    Raises:
        UserError: the folder is missing or holds no sample.
    """
    root = Path(config.source)
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give the folder with SynthHuman's unpacked archives")
    found: dict[int, list[Path]] = {}
    for folder, below, names in os.walk(root):
        below.sort()
        for number in {int(match[2]) for name in names if (match := _NAME.fullmatch(name))}:
            found.setdefault(number, []).append(Path(folder))
    if not found:
        raise UserError(
            f"{root} holds no sample of SynthHuman; expected are rgb_0000000.png, alpha_0000000.png, "
            "depth_0000000.exr and cam_0000000.txt there, or in folders below: unpack its archives"
        )
    return [_item(config, number, found[number]) for number in sorted(found)]


def _item(config: SynthHumanConfig, number: int, folders: list[Path]) -> SynthHumanItem | Rejected | Skipped:
    id = f"synthhuman/{number:07d}"
    if config.subset not in ("all", subset_of(number)):
        return Skipped(id, _OTHER_SUBSET)
    if len(folders) > 1:
        return Rejected(id, f"both {folders[0]} and {folders[1]} have the sample; keep one")
    return SynthHumanItem(id, str(folders[0]), number, config.split, config.size, config.depth_codec)


def inventory(config: SynthHumanConfig) -> Inventory:
    """Check the files of all samples."""
    found = Inventory()
    samples = items(config)
    found.counts["samples"] = len(samples)
    found.faults += [Fault(config.source, each.reason) for each in samples if isinstance(each, Rejected)]
    root = Path(config.source)
    formats = {"rgb": ("PNG",), "alpha": ("PNG",), "depth": ("EXR",), "cam": ()}
    for kind, allowed in formats.items():
        names = [
            (Path(each.folder) / each.name(kind)).relative_to(root).as_posix()
            for each in samples
            if isinstance(each, SynthHumanItem)
        ]
        found.check_files(f"{kind} files", root, names, *allowed)
    if skipped := sum(isinstance(each, Skipped) for each in samples):
        found.notes.append(f"{skipped:,} samples skipped: {_OTHER_SUBSET}")
    return found


def read(item: SynthHumanItem | Rejected | Skipped) -> Person | Rejected | Skipped:
    """Return the record of a sample; Rejected if a file is missing, damaged or of another convention."""
    if isinstance(item, Rejected | Skipped):
        return item
    return checked(item.id, 0, lambda: _person(item), item.depth_codec)


def _person(item: SynthHumanItem) -> Person:
    rgb = read_rgb(item.folder, item.name("rgb"))
    height, width = rgb.shape[:2]
    alpha = decode_mask(read_inside(item.folder, item.name("alpha")))
    if 0 < (most := int(alpha.max())) < _PERSON_FROM:
        raise ValueError(
            f"{item.name('alpha')!r} has no number above {most}; SynthHuman's alpha goes from 0 to 255, and from "
            f"{_PERSON_FROM} on is the person: unpack the archive again, or multiply it by {255 // most}"
        )
    mask = np.where(alpha >= _PERSON_FROM, np.uint8(255), np.uint8(0))
    check_mask(mask)
    depth = in_millimeters(read_depth_file(item.folder, item.name("depth")), "cm")
    PersonImages(rgb=rgb, depth=depth, mask=mask).width_height  # noqa: B018  raises where they differ in size
    depth = np.where(mask > 0, depth, 0.0)
    camera = _camera(item, width, height)
    box = find_box(mask, None, depth, rgb)
    fix = "look at the files, since SynthHuman's are in cm and these seem to be in {unit}"
    check_depth_in_box(depth, "cm", fix, box, camera, shown=True, whole=True)
    person = Person(item.id, "synthhuman", item.split, item.size, camera=np.array(camera), box=box)
    images = PersonImages(rgb=rgb, depth=rounded(depth, FURTHEST_MM), mask=mask)
    return crop_person(person, images, item.depth_codec)


def _camera(item: SynthHumanItem, width: int, height: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy, counted from the picture's corner. ValueError: the file is no such matrix."""
    name = item.name("cam")
    try:
        rows = [line.split() for line in read_inside(item.folder, name).decode("ascii").splitlines() if line.strip()]
        (fx, skew, cx), (a, fy, cy), (b, c, one) = ([float(each) for each in row] for row in rows)
    except ValueError as error:
        reason = f": {error}" if "exist" in str(error) else ""
        raise ValueError(f"{name!r} must hold fx 0 cx, 0 fy cy and 0 0 1 in three lines{reason}") from None
    if (skew, a, b, c, one) != (0, 0, 0, 0, 1):
        raise ValueError(f"{name!r} must hold fx 0 cx, 0 fy cy and 0 0 1; it has other numbers beside them")
    from_center = abs(cx - (width - 1) / 2) < 1e-3 and abs(cy - (height - 1) / 2) < 1e-3
    numbers = {"width": width, "height": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    try:
        given = build(CameraConfig, {**numbers, "pixel_center": 0.0 if from_center else 0.5}, name)
    except UserError as error:
        raise ValueError(str(error)) from None
    return given.camera().record_camera


READER = DatasetReader(
    SynthHumanConfig,
    items,
    read,
    inventory,
    unit="samples",
    depth_codec=lambda config: config.depth_codec,
    depth_masking=MASKED,
)
