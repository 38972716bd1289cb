"""COCO person keypoints: RGB and 17 joints, from `person_keypoints_*.json` and its folder of pictures.

Kept are annotations of the category person that are no crowd, have an area, a box that touches the picture and at least one labelled
joint; occluded joints (v = 1) count as visible. Boxes are continuous with (0, 0) at the picture's corner; keypoints are indices of
pixels, so half a pixel is added.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from hcmoco.config import Config
from hcmoco.datasets.files import first_fault, read_json, read_rgb
from hcmoco.datasets.records import Rejected, checked, crop_person
from hcmoco.errors import UserError
from hcmoco.schema import Person
from hcmoco.skeletons import COCO_17

JOINT_SET = COCO_17.name


class CocoConfig(Config):
    """Where COCO is and how it is cropped."""

    annotations: str = Field(description="the JSON file, for example coco/annotations/person_keypoints_train2014.json")
    images: str = Field(description="folder of the pictures, for example coco/images/train2014")
    split: str = "train"
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    padding: float = Field(1.0, gt=0, le=4, description="published: 1.25; the annotated box grows by this factor around its centre")


@dataclass(frozen=True)
class CocoItem:
    """One annotated person, its picture not read yet; `joints` have pixel centres at +0.5 and visibility 0 or 1."""

    id: str
    images: str
    image: str
    width: int
    height: int
    box: tuple[float, float, float, float]
    joints: tuple[tuple[float, float, float], ...]
    split: str
    size: int


class _Image(BaseModel):
    id: int
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class _Annotation(BaseModel):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    area: FiniteFloat
    iscrowd: int = 0
    keypoints: Annotated[list[FiniteFloat], Field(min_length=51, max_length=51)]


def items(config: CocoConfig) -> list[CocoItem | Rejected]:
    """The persons that the filters keep, in the file's order; a malformed or repeated annotation as Rejected.

    Ids are `coco/<annotation id>`. Raises UserError for a file that is missing or not COCO's.
    """
    content = read_json(config.annotations, "COCO annotation file")
    where = f"COCO annotation file {config.annotations}"
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise UserError(f"{where} has no list {', '.join(missing)}; give a person_keypoints_*.json file")
    people = [each.get("id") for each in content["categories"] if isinstance(each, dict) and each.get("name") == "person"]
    if not people:
        raise UserError(f"{where} has no category person; give a person_keypoints_*.json file")
    images: dict[int, _Image] = {}
    for values in content["images"]:
        try:
            image = _Image.model_validate(values)
        except ValidationError:
            continue
        images[image.id] = image
    found: list[CocoItem | Rejected] = []
    seen: set[int] = set()
    for position, values in enumerate(content["annotations"]):
        if isinstance(values, dict) and _is_other(values, people):
            continue
        try:
            annotation = _Annotation.model_validate(values)
        except ValidationError as error:
            key = values.get("id") if isinstance(values, dict) and isinstance(values.get("id"), int) else f"entry {position}"
            found.append(Rejected(f"coco/{key}", first_fault(error)))
            continue
        item = _item(config, annotation, images)
        if item is not None and annotation.id in seen:
            item = Rejected(f"coco/{annotation.id}", "an earlier annotation has the same id")
        seen.add(annotation.id)
        if item is not None:
            found.append(item)
    return found


def _is_other(values: dict, people: list) -> bool:
    """Whether an annotation is a crowd or of another category; those need not have keypoints."""
    return values.get("iscrowd") == 1 or ("category_id" in values and values["category_id"] not in people)


def _item(config: CocoConfig, annotation: _Annotation, images: dict[int, _Image]) -> CocoItem | Rejected | None:
    """The item, None where a filter drops it."""
    id = f"coco/{annotation.id}"
    image = images.get(annotation.image_id)
    if image is None:
        return Rejected(id, f"its image {annotation.image_id} is not in the file's list, or malformed there")
    triples = np.array(annotation.keypoints).reshape(-1, 3)
    left, top, width, height = annotation.bbox
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height)
    if annotation.area <= 0 or x1 <= x0 or y1 <= y0 or not (triples[:, 2] >= 1).any():
        return None
    half_x, half_y = (x1 - x0) / 2 * config.padding, (y1 - y0) / 2 * config.padding
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    joints = tuple((float(jx) + 0.5, float(jy) + 0.5, float(v >= 1)) for jx, jy, v in triples)
    box = (x - half_x, y - half_y, x + half_x, y + half_y)
    return CocoItem(id, config.images, image.file_name, image.width, image.height, box, joints, config.split, config.size)


def read(item: CocoItem | Rejected) -> Person | Rejected:
    """The record of one person; Rejected with the reason where its picture is missing, broken or of another size than annotated."""
    if isinstance(item, Rejected):
        return item

    def make() -> Person:
        return crop_person(
            id=item.id,
            dataset="coco",
            split=item.split,
            box=np.array(item.box),
            size=item.size,
            rgb=read_rgb(item.images, item.image, (item.width, item.height)),
            keypoints=np.array(item.joints),
        )

    return checked(item.id, len(COCO_17), make)


def persons(config: CocoConfig) -> Iterator[Person | Rejected]:
    """Every person of the data set, in the annotation file's order."""
    return map(read, items(config))
