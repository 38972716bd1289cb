"""COCO person keypoints: RGB and 17 joints, from `person_keypoints_*.json` and its folder of pictures.

An annotation of the category person is kept if it is not a crowd, has an area, a box that touches the picture and at
least one labeled joint in the picture; the others are skipped, whatever else of them is missing or malformed. Occluded
joints (v = 1) count as visible. Boxes are continuous with (0, 0) at the picture's corner; keypoints are indices of
pixels, so half a pixel is added. Sets with more joints are read if COCO's 17 are the first (Human-Art).
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeGuard

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, field_validator, model_validator

from hcmoco.config import Config
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.coco_format import CocoFile, ImageFolders, InvalidEntry, check_pictures, read_coco
from hcmoco.datasets.conventions import corners_for_sizes, inside
from hcmoco.datasets.io.files import below_source, read_rgb, split_of
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.keypoint_convention import Convention, exchanged_fault, value_fault
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.errors import UserError

_SAMPLE = 200  # people of whom it is looked at whether their joints are in pixels
JOINT_SET = COCO_17.name
UNIT = "people"
_MOST_NUMBERS = 3 * 512  # of one person's joints; the largest set in this form, COCO-WholeBody, has 133 joints


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
    area: FiniteFloat | None = None
    keypoints: Annotated[list[FiniteFloat], Field(min_length=51, max_length=_MOST_NUMBERS)]

    @field_validator("keypoints")
    @classmethod
    def _three_each(cls, values: list[float]) -> list[float]:
        if len(values) % 3:
            raise ValueError(f"there are {len(values)} numbers, not three for each joint")
        return values


class _Excluded(BaseModel):
    """What is needed of an annotation that a rule excludes."""

    id: int | None = None


class _Person(NamedTuple):
    """What is kept of an annotation; of one that a rule excludes, its id and the rule."""

    id: int | None
    excluded: str = ""
    image: int = 0
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    joints: np.ndarray = np.empty((0, 3))


def _person(values: Any) -> _Person:
    if isinstance(values, dict) and (rule := _rule_against(values)):
        return _Person(_Excluded.model_validate(values).id, rule)
    each = _Annotation.model_validate(values)
    return _Person(each.id, "", each.image_id, each.bbox, np.array(each.keypoints).reshape(-1, 3))


def _rule_against(values: dict) -> str:
    """Why a person is left out, "" if no rule excludes it. Asked before the form of anything else is."""
    if values.get("iscrowd") == 1:
        return "it is a crowd, not one person"
    area, box, keypoints = (values.get(name) for name in ("area", "bbox", "keypoints"))
    if not keypoints or (isinstance(keypoints, list) and not any(_is_number(v) and v != 0 for v in keypoints[2::3])):
        return "no joint of the person is labeled"
    if _is_number(area) and area <= 0:
        return "the person has no area"
    return "the person has no box" if box is None or box == [] else ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        UserError: the file is missing or not COCO's, its boxes are of another form, or the folder of pictures is
            missing.
    """
    path, content = _read(config)
    _check_boxes(content, path)
    folders = ImageFolders(config.source, config.images)
    found: list[CocoItem | Rejected | Skipped] = []
    seen: set[int | None] = {None}
    for each in content.people:
        if isinstance(each, InvalidEntry):
            found.append(Rejected(f"coco/{each.id}", each.reason))
            continue
        item = _item(config, each, content, folders, path)
        if each.id in seen and not each.excluded:
            item = Rejected(f"coco/{each.id}", "an earlier annotation has the same id")
        seen.add(each.id)
        found.append(item)
    # After the rules, so that a file in another convention is refused as a whole, and single people one by one.
    people = [each.joints for each in found if isinstance(each, CocoItem)]
    if fault := value_fault(people[:_SAMPLE], Convention()):
        raise UserError(f"COCO annotation file {path}: {fault}, which `prepare.py keypoints --format coco` has")
    return [_checked(each) for each in found]


def _checked(item: CocoItem | Rejected | Skipped) -> CocoItem | Rejected | Skipped:
    """The item, or Rejected if its joints alone are in another convention."""
    if not isinstance(item, CocoItem):
        return item
    fault = value_fault([item.joints], Convention())
    return Rejected(item.id, f"{fault.what}; COCO's are pixels") if fault else item


def _item(
    config: CocoConfig, person: _Person, content: CocoFile, folders: ImageFolders, path: Path
) -> CocoItem | Rejected | Skipped:
    id = "coco/without id" if person.id is None else f"coco/{person.id}"
    if person.excluded:
        return Skipped(id, person.excluded)
    picture = content.pictures.get(person.image)
    if picture is None:
        return Rejected(id, f"its image {person.image} is not in the file's list, or malformed there")
    left, top, width, height = person.box
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, picture.width), min(top + height, picture.height)
    if x1 <= x0 or y1 <= y0:
        return Skipped(id, "the person's box has no area in the picture")
    if len(person.joints) not in (len(COCO_17), content.num_joints):
        return Rejected(id, f"it has {len(person.joints)} joints, the category person lists {content.num_joints}")
    given = person.joints[: len(COCO_17)]
    if not np.isin(given[:, 2], (0, 1, 2)).all():
        other = given[~np.isin(given[:, 2], (0, 1, 2)), 2][0]
        return Rejected(
            id, f"a joint has the flag v = {other:g}, which must be 0, 1 or 2; if it is a confidence, the file holds "
            "results, which `prepare.py keypoints --format coco-results` reads"
        )  # fmt: skip
    joints = np.column_stack([given[:, :2] + 0.5, given[:, 2] > 0])
    if fault := exchanged_fault(joints, Convention(), (picture.width, picture.height)):
        return Rejected(id, f"{fault.what}; in COCO's file x comes first")
    if not inside(joints[joints[:, 2] > 0, :2], picture.width, picture.height).any():
        return Skipped(id, "no labeled joint of the person lies in the picture")
    half_x, half_y = (x1 - x0) / 2 * config.padding, (y1 - y0) / 2 * config.padding
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    folder = str(folders.of(picture.name, path))
    return CocoItem(id, folder, picture.name, picture.width, picture.height, box, joints, config.split, config.size)


def _check_boxes(content: CocoFile[_Person], path: Path) -> None:
    """Raise UserError if the file's boxes are most probably x0, y0, x1, y1."""
    boxes, sizes, joints = [], [], []
    for each in content.people:
        if isinstance(each, InvalidEntry) or each.excluded or each.image not in content.pictures:
            continue
        picture = content.pictures[each.image]
        boxes.append(each.box)
        sizes.append((picture.width, picture.height))
        joints.append(each.joints[each.joints[:, 2] > 0, :2])
    if corners_for_sizes(boxes, sizes, joints):
        raise UserError(
            f"COCO annotation file {path}: many boxes reach far beyond their pictures, and none if bbox is x0, y0, x1, "
            "y1; COCO's is left, top, width, height: convert them first"
        )


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
