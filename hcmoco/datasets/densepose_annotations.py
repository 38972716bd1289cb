"""Read COCO-DensePose's annotation files: which people are in which picture, and what is annotated of each.

The files are `densepose_coco_2014_*.json`: COCO's own form, with dp_x, dp_y, dp_I, dp_U, dp_V and dp_masks for the
people that have DensePose annotation.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from hcmoco.data.body_parts import NUM_CHARTS
from hcmoco.datasets.coco_format import CocoFile, InvalidEntry, read_coco
from hcmoco.datasets.densepose_format import annotated_points


class PersonLabels(NamedTuple):
    """What is kept of a person's annotation. Masks stay compressed, as JSON.

    Attributes:
        id: of the annotation.
        image: id of its picture.
        box: left, top, width, height in pixels.
        crowd: whether it is a group of people.
        points: float32 [N, 5], x, y in pixels, I, U, V; None without DensePose annotation.
        parts: JSON of the masks of body parts.
        outline: JSON of COCO's segmentation, if it is needed.
    """

    id: int
    image: int
    box: tuple[float, float, float, float]
    crowd: bool
    points: np.ndarray | None
    parts: str | None
    outline: str | None


_ENOUGH_PLACES = 10  # of a few points all may be in a corner
_Share = Annotated[FiniteFloat, Field(ge=0, le=256)]


class _Annotation(BaseModel):
    id: int
    image_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    iscrowd: Annotated[int, Field(ge=0, le=1)] | None = 0
    segmentation: Any = None
    dp_x: list[_Share] | None = None
    dp_y: list[_Share] | None = None
    dp_I: list[Annotated[FiniteFloat, Field(ge=1, le=NUM_CHARTS)]] | None = None
    dp_U: list[FiniteFloat] | None = None
    dp_V: list[FiniteFloat] | None = None
    dp_masks: list[Any] | None = None

    @model_validator(mode="after")
    def _of_one_length(self) -> "_Annotation":
        lengths = {
            name: None if (value := getattr(self, name)) is None else len(value)
            for name in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(
                "its points are not of one number: " + ", ".join(f"{n or 'no'} {name}" for name, n in lengths.items())
            )
        places = [*(self.dp_x or ()), *(self.dp_y or ())]
        if len(places) >= _ENOUGH_PLACES and max(places) <= 1:
            raise ValueError(
                "dp_x and dp_y count 0 to 255 across the box, and none of these is above 1, as shares of it are; "
                "multiply them by 255"
            )
        return self


def _person(values: Any, *, outlines: bool) -> PersonLabels:
    if isinstance(values, dict) and values.get("bbox") == []:
        values = {**values, "bbox": None}
    entry = _Annotation.model_validate(values)
    box = entry.bbox or (0, 0, 0, 0)
    points = annotated_points({**vars(entry), "bbox": box}) if entry.dp_x else None
    # Fourteen empty masks say that no part was masked.
    parts = json.dumps(entry.dp_masks) if any(entry.dp_masks or ()) else None
    wanted = parts is None and entry.segmentation and (outlines or points is not None)
    return PersonLabels(
        entry.id,
        entry.image_id,
        box,
        entry.iscrowd == 1,
        points,
        parts,
        json.dumps(entry.segmentation) if wanted else None,
    )


def read_annotations(path: Path, *, outlines: bool) -> CocoFile[PersonLabels]:
    """Read one annotation file.

    Args:
        path: the JSON file.
        outlines: also keep COCO's masks of people without DensePose annotation.

    Raises:
        UserError: the file is missing or is not in COCO's form.
    """
    return read_coco(path, "DensePose annotation file", lambda values: _person(values, outlines=outlines))


def group_by_picture(
    content: CocoFile[PersonLabels], path: Path
) -> tuple[dict[int, list[PersonLabels]], dict[int | str, str]]:
    """Group the people of one annotation file by picture.

    A person without a box, or whose box has no area, is skipped, unless it has points: then its picture is invalid. So
    is a picture with any annotation that cannot be used, since training would take that person for background.

    Args:
        content: what `read_annotations` returned.
        path: the file, for the names of annotations without a picture.

    Returns:
        The people by the id of their picture; and what is wrong, by the id of the picture, or by the name of an
        annotation that has none.
    """
    people: dict[int, list[PersonLabels]] = {}
    faults: dict[int | str, str] = {}
    seen: set[int] = set()
    for person in content.people:
        if isinstance(person, InvalidEntry):
            key: int | str = f"{path.name} annotation {person.id}" if person.picture is None else person.picture
            faults.setdefault(key, f"annotation '{person.id}': {person.reason}")
        elif person.image not in content.pictures:
            faults.setdefault(
                person.image,
                f"annotation '{person.id}' is of a picture that is not in the file's list, or malformed there",
            )
        elif person.id in seen:
            faults.setdefault(person.image, f"annotation '{person.id}': an earlier annotation has the same id")
        elif min(person.box[2:]) > 0:
            people.setdefault(person.image, []).append(person)
        elif person.points is not None:
            faults.setdefault(person.image, f"annotation '{person.id}': it has points and a box without area")
        if isinstance(person, PersonLabels):
            seen.add(person.id)
    return people, faults
