"""COCO person keypoints: RGB and 17 joints, from `person_keypoints_*.json` and its folder of pictures.

An annotation of the category person is kept if it is not a crowd, has an area, a box that touches the picture and at
least one labeled joint; the others are skipped. Occluded joints (v = 1) count as visible. Boxes are continuous with
(0, 0) at the picture's corner; keypoints are indices of pixels, so half a pixel is added.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from hcmoco.config import Config
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.coco_format import CocoFile, ImageFolders, InvalidEntry, check_pictures, read_coco
from hcmoco.datasets.io.files import below_source, read_rgb, split_of
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person

JOINT_SET = COCO_17.name
UNIT = "people"


class CocoConfig(Config):
    """Where COCO is and how it is cropped."""

    source: str = Field(".", description="folder of the download; the other paths are relative to it")
    annotations: str = Field("annotations/person_keypoints_train2014.json", description="the JSON file")
    images: str = Field(
        "",
        description="folder of the pictures; default: images/train2014 or train2014, the release being the one in the "
        "JSON file's name",
    )
    split: str = Field(
        "train",
        min_length=1,
        description="written into the rows; not given: train, val or test, by the JSON's name",
    )
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    padding: float = Field(
        1.0, gt=0, le=4, description="published: 1.25; the annotated box grows by this factor around its center"
    )

    @model_validator(mode="before")
    @classmethod
    def _split_of_file(cls, values: Any) -> Any:
        annotations = values.get("annotations") if isinstance(values, dict) else None
        return {"split": split_of(annotations), **values} if isinstance(annotations, str) else values


@dataclass(frozen=True, eq=False)
class CocoItem:
    """One annotated person, whose picture is not read yet.

    Attributes:
        id: `coco/<annotation id>`.
        images: folder of the picture.
        image: its name.
        width, height: of the picture, pixels.
        box: x0, y0, x1, y1, pixels.
        joints: float64 [17, 3], x, y (a pixel's center is at +0.5) and visibility 0 or 1.
        split, size: as in the config.
    """

    id: str
    images: str
    image: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    joints: np.ndarray
    split: str
    size: int


class _Annotation(BaseModel):
    id: int
    image_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    area: FiniteFloat
    iscrowd: int = 0
    keypoints: Annotated[list[FiniteFloat], Field(min_length=51, max_length=51)]


class _Crowd(BaseModel):
    """Crowds need not have keypoints."""

    id: int


class _Person(NamedTuple):
    """What is kept of an annotation; a crowd keeps its id alone."""

    id: int
    image: int = 0
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    area: float = 0
    joints: np.ndarray | None = None


def _person(values: Any) -> _Person:
    if isinstance(values, dict) and values.get("iscrowd") == 1:
        return _Person(_Crowd.model_validate(values).id)
    each = _Annotation.model_validate(values)
    return _Person(each.id, each.image_id, each.bbox, each.area, np.array(each.keypoints).reshape(-1, 3))


def _read(config: CocoConfig) -> tuple[Path, CocoFile[_Person]]:
    path = below_source(config.source, config.annotations)
    return path, read_coco(path, "COCO annotation file", _person)


def items(config: CocoConfig) -> list[CocoItem | Rejected | Skipped]:
    """List the people of the annotation file, in its order.

    Those that a rule excludes are Skipped; malformed or repeated annotations are Rejected.

    Args:
        config: where the download is.

    Returns:
        The people, with ids `coco/<annotation id>`.

    Raises:
        UserError: the file is missing or not COCO's, or the folder of pictures is missing.
    """
    path, content = _read(config)
    folders = ImageFolders(config.source, config.images)
    found: list[CocoItem | Rejected | Skipped] = []
    seen: set[int] = set()
    for each in content.people:
        if isinstance(each, InvalidEntry):
            found.append(Rejected(f"coco/{each.id}", each.reason))
            continue
        item = _item(config, each, content, folders, path)
        if each.id in seen:
            item = Rejected(f"coco/{each.id}", "an earlier annotation has the same id")
        seen.add(each.id)
        found.append(item)
    return found


def _item(
    config: CocoConfig, person: _Person, content: CocoFile, folders: ImageFolders, path: Path
) -> CocoItem | Rejected | Skipped:
    id = f"coco/{person.id}"
    if person.joints is None:
        return Skipped(id, "it is a crowd, not one person")
    picture = content.pictures.get(person.image)
    if picture is None:
        return Rejected(id, f"its image {person.image} is not in the file's list, or malformed there")
    left, top, width, height = person.box
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, picture.width), min(top + height, picture.height)
    labeled = person.joints[:, 2] >= 1
    if person.area <= 0:
        return Skipped(id, "the person has no area")
    if x1 <= x0 or y1 <= y0:
        return Skipped(id, "the person's box has no area in the picture")
    if not labeled.any():
        return Skipped(id, "no joint of the person is labeled")
    half_x, half_y = (x1 - x0) / 2 * config.padding, (y1 - y0) / 2 * config.padding
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    joints = np.column_stack([person.joints[:, :2] + 0.5, labeled])
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    folder = str(folders.of(picture.name, path))
    return CocoItem(id, folder, picture.name, picture.width, picture.height, box, joints, config.split, config.size)


def inventory(config: CocoConfig) -> Inventory:
    """Check the pictures of the people that are kept, and count the others."""
    found = Inventory()
    path = below_source(config.source, config.annotations)
    if not path.is_file():
        found.counts["annotation files"] = 1
        found.faults.append(Fault(str(path), "does not exist"))
        return found
    people = items(config)
    found.counts[UNIT] = sum(isinstance(each, CocoItem) for each in people)
    check_pictures(found, ((Path(each.images), each.image) for each in people if isinstance(each, CocoItem)))
    found.faults += [Fault(str(path), f"{each.id}: {each.reason}") for each in people if isinstance(each, Rejected)]
    for reason, count in Counter(each.reason for each in people if isinstance(each, Skipped)).items():
        found.notes.append(f"{count:,} of the people skipped: {reason}")
    return found


def read(item: CocoItem | Rejected | Skipped) -> Person | Rejected | Skipped:
    """Return the record of one person.

    It is Rejected if its picture is missing, damaged or of another size than annotated.
    """
    if isinstance(item, Rejected | Skipped):
        return item

    def make() -> Person:
        person = Person(item.id, "coco", item.split, item.size, box=np.array(item.box), keypoints=item.joints)
        rgb = read_rgb(item.images, item.image, (item.width, item.height))
        return crop_person(person, PersonImages(rgb=rgb))

    return checked(item.id, len(COCO_17), make)


READER = DatasetReader(CocoConfig, items, read, inventory, unit=UNIT, joint_set=JOINT_SET)
