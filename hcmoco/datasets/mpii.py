"""MPII human pose from the JSON that HRNet's code base made popular: RGB and 16 joints.

The file is a list of persons, each `{"image": name, "center": [x, y], "scale": s, "joints": 16 x [x, y], "joints_vis":
16 x 0/1}`. `scale` is the person's height / 200 pixels. Coordinates count from 1, as in the MATLAB original. As in all
readers of this file, the center moves down by 15 * scale and the square of 200 * scale grows by a quarter, so that no
limb is cut. Who has no annotated center is skipped, whatever else is missing. Pixels are those that a file stores:
orientation is ignored, as by these readers.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from hcmoco.config import Config
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import MPII_16
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.io.files import below_source, first_fault, read_json, read_rgb, split_of
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.keypoint_convention import Convention, picture_fault
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.errors import UserError

JOINT_SET = MPII_16.name
UNIT = "people"


class MpiiConfig(Config):
    """Where MPII is and how it is cropped."""

    source: str = Field(".", description="folder of the download; the other paths are relative to it")
    annotations: str = Field("annot/train.json", description="the JSON file")
    images: str = Field("images", description="folder of the pictures")
    split: str = Field(
        "train",
        min_length=1,
        description="written into the rows; not given: train, val or test, by the JSON's name",
    )
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    padding: float = Field(
        1.0, gt=0, le=4, description="published: 1.25; side of the person's box, in units of 200 * scale pixels"
    )

    @model_validator(mode="before")
    @classmethod
    def _split_of_file(cls, values: Any) -> Any:
        annotations = values.get("annotations") if isinstance(values, dict) else None
        return {"split": split_of(annotations), **values} if isinstance(annotations, str) else values


@dataclass(frozen=True, eq=False)
class MpiiItem:
    """One annotated person, whose picture is not read yet.

    Attributes:
        id: `mpii/<image>/<number of the person in that image>`.
        images: folder of the picture.
        image: its name.
        box: x0, y0, x1, y1, pixels.
        joints: float64 [16, 3], x, y (a pixel's center is at +0.5) and visibility 0 or 1.
        split, size: as in the config.
    """

    id: str
    images: str
    image: str
    box: tuple[float, float, float, float]
    joints: np.ndarray
    split: str
    size: int


class _Entry(BaseModel):
    image: str
    center: tuple[FiniteFloat, FiniteFloat]
    scale: Annotated[FiniteFloat, Field(gt=0)]
    joints: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(min_length=16, max_length=16)]
    joints_vis: Annotated[list[Literal[0, 1]], Field(min_length=16, max_length=16)]


def items(config: MpiiConfig) -> list[MpiiItem | Rejected | Skipped]:
    """List the persons of the annotation file, in its order.

    A person whose center is not annotated is Skipped. An entry that cannot be used, or repeats an earlier one, is
    Rejected.

    Args:
        config: where the download is.

    Returns:
        The persons, with ids `mpii/<image>/<number of the person in that image>`.

    Raises:
        UserError: the file is missing or not a list, or the folder of pictures is missing.
    """
    path, images = below_source(config.source, config.annotations), below_source(config.source, config.images)
    entries = read_json(path, "MPII annotation file")
    if not isinstance(entries, list):
        raise UserError(
            f"MPII annotation file {path} must be a list of persons in HRNet's layout; convert the .mat file first"
        )
    if not images.is_dir():
        raise UserError(f"the folder of MPII's pictures {images} does not exist; unpack them there, or give --images")
    found: list[MpiiItem | Rejected | Skipped] = []
    in_image: dict[str, int] = {}
    seen: set[tuple] = set()
    for position, values in enumerate(entries):
        item = _item(config, str(images), position, values, in_image)
        if isinstance(item, MpiiItem):
            key = (item.image, item.box, item.joints.tobytes())
            if key in seen:
                item = Rejected(item.id, "the entry repeats an earlier one")
            seen.add(key)
        found.append(item)
    return found


def _item(
    config: MpiiConfig, images: str, position: int, values: object, in_image: dict[str, int]
) -> MpiiItem | Rejected | Skipped:
    if isinstance(values, dict) and _has_no_center(values.get("center", ())):
        return Skipped(f"mpii/entry {position}", "the person's center is not annotated")
    try:
        entry = _Entry.model_validate(values)
    except ValidationError as error:
        return Rejected(f"mpii/entry {position}", first_fault(error))
    number = in_image[entry.image] = in_image.get(entry.image, -1) + 1
    id = f"mpii/{entry.image}/{number}"
    # From counting at 1 to pixel centers at +0.5.
    x, y = entry.center[0] - 0.5, entry.center[1] + 15 * entry.scale - 0.5
    half = 100 * entry.scale * config.padding
    joints = np.column_stack([np.array(entry.joints) - 0.5, np.array(entry.joints_vis) > 0])
    return MpiiItem(
        id, images, entry.image, (x - half, y - half, x + half, y + half), joints, config.split, config.size
    )


def _has_no_center(center: object) -> bool:
    """Whether the field says that there is no center: null, [] or -1, -1, which the published files have."""
    return center is None or center == [] or (isinstance(center, list) and center[0] == -1)


def inventory(config: MpiiConfig) -> Inventory:
    """Check the pictures of the people in the annotation file."""
    found = Inventory()
    path, images = below_source(config.source, config.annotations), below_source(config.source, config.images)
    missing = [
        Fault(str(each), "does not exist")
        for each, there in ((path, path.is_file()), (images, images.is_dir()))
        if not there
    ]
    if missing:
        found.counts["annotation file and folder of pictures"] = 2
        found.faults += missing
        return found
    people = items(config)
    found.counts[UNIT] = sum(not isinstance(each, Skipped) for each in people)
    found.check_files("pictures", images, [each.image for each in people if isinstance(each, MpiiItem)], "JPEG", "PNG")
    found.faults += [Fault(str(path), f"{each.id}: {each.reason}") for each in people if isinstance(each, Rejected)]
    for reason, count in Counter(each.reason for each in people if isinstance(each, Skipped)).items():
        found.notes.append(f"{count:,} of the people skipped: {reason}")
    return found


def read(item: MpiiItem | Rejected | Skipped) -> Person | Rejected | Skipped:
    """Return the record of one person.

    It is Rejected if its picture is missing, damaged or outside the folder, or if no joint lies in it.
    """
    if isinstance(item, Rejected | Skipped):
        return item

    def make() -> Person:
        person = Person(item.id, "mpii", item.split, item.size, box=np.array(item.box), keypoints=item.joints)
        rgb = read_rgb(item.images, item.image)
        if fault := picture_fault(item.joints, Convention(), rgb.shape[1::-1]):
            raise ValueError(f"{fault.what}; in MPII's file x comes first, and pixels are those of this picture")
        return crop_person(person, PersonImages(rgb=rgb))

    return checked(item.id, len(MPII_16), make)


READER = DatasetReader(MpiiConfig, items, read, inventory, unit=UNIT, joint_set=JOINT_SET)
