"""COCO-DensePose: whole pictures with everybody's box, and for some their points on the surface and their masks.

Read are `densepose_coco_2014_*.json` (detectron2 calls them `densepose_*2014.json`), COCO's own form with dp_x, dp_y, dp_I, dp_U, dp_V
and dp_masks for the annotated people. Training is on train and valminusminival together, evaluation on minival, as published.

Points are shares of the box, 0..255: x = left + dp_x * width / 255 in pixels whose centres are at +0.5, since that is where the published
evaluator reads predictions (detectron2's training divides by 256, up to 0.4 % of the box less). A mask is the union of a person's masks
of parts over its box, again the evaluator's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, field_validator, model_validator

from hcmoco.config import Config
from hcmoco.data.codecs import decode_rgb, encode_labels, encode_rgb, read_header
from hcmoco.data.schema import Instance, Scene
from hcmoco.data.validation import check_scene
from hcmoco.datasets.coco_format import Broken, CocoFile, Folders, Picture, look_for, read_coco
from hcmoco.datasets.densepose_format import annotated_mask, annotated_points
from hcmoco.datasets.io.files import below_source, read_inside
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.person_crop import Rejected, Skipped
from hcmoco.errors import UserError

UNIT = "images"
DATASET = "densepose-coco"
FILES = {"train": ("train", "valminusminival"), "test": ("minival",)}
"""Which published annotation files a split is made of."""

_NOBODY = "nobody is annotated in it"
_EDGE = 1.0  # pixels, by which rounding may put a box, and a point on its edge, beyond the picture
_ROUNDING = 1e-4  # likewise for U and V


class DensePoseCocoConfig(Config):
    """Where COCO-DensePose is and what of it is stored."""

    source: str = Field(".", description="folder of the download; the other paths are relative to it")
    split: Literal["train", "test"] = Field("train", description="train, or test: minival")
    annotations: tuple[str, ...] = Field(
        (),
        description="the JSON files; if left out, annotations/densepose_coco_2014_*.json or annotations/densepose_*2014.json: train and "
        "valminusminival, or minival",
    )
    images: str = Field(
        "",
        description="folder of the pictures; if left out, images/train2014 or train2014 (and val2014), as pictures are named",
    )
    size: int = Field(640, ge=32, le=4096, description="largest side of a picture, pixels; larger ones are set aside")
    masks: Literal["auto", "annotated", "all"] = Field(
        "auto",
        description="annotated: masks of people with DensePose annotation only, as published training sees; all: COCO's of the others and "
        "of crowds, too, as the published evaluator sees; auto: annotated for train, all for test",
    )

    @field_validator("annotations", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def files(self) -> list[Path]:
        """The annotation files."""
        return [below_source(self.source, each) for each in self.annotations] or [
            self._published(part) for part in FILES[self.split]
        ]

    def _published(self, part: str) -> Path:
        names = (f"densepose_coco_2014_{part}.json", f"densepose_{part}2014.json")
        usual = [below_source(self.source, folder) / name for folder in ("annotations", ".") for name in names]
        return next((each for each in usual if each.is_file()), usual[0])


class _Labels(NamedTuple):
    """What is kept of a person's annotation. `box` is left, top, width, height; masks stay compressed, as JSON."""

    id: int
    image: int
    box: tuple[float, float, float, float]
    crowd: bool
    points: np.ndarray | None
    parts: str | None
    outline: str | None


@dataclass(frozen=True, eq=False)
class SceneItem:
    """One picture, not read yet, and its people."""

    id: str
    folder: str
    picture: Picture
    people: tuple[_Labels, ...]
    split: str


_Share = Annotated[FiniteFloat, Field(ge=0, le=256)]


class _Annotation(BaseModel):
    id: int
    image_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0
    segmentation: Any = None
    dp_x: list[_Share] | None = None
    dp_y: list[_Share] | None = None
    dp_I: list[Annotated[FiniteFloat, Field(ge=1, le=24)]] | None = None
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
        return self


def _person(values: Any, *, outlines: bool) -> _Labels:
    """`outlines`: whether the masks of people without DensePose annotation are wanted."""
    each = _Annotation.model_validate(values)
    points = annotated_points({"bbox": each.bbox, **vars(each)}) if each.dp_x else None
    parts = None if each.dp_masks is None else json.dumps(each.dp_masks)
    wanted = parts is None and each.segmentation and (outlines or points is not None)
    return _Labels(
        each.id,
        each.image_id,
        each.bbox,
        each.iscrowd == 1,
        points,
        parts,
        json.dumps(each.segmentation) if wanted else None,
    )


def _read(path: Path, config: DensePoseCocoConfig) -> CocoFile[_Labels]:
    outlines = config.masks == "all" or (config.masks == "auto" and config.split != "train")
    return read_coco(path, "DensePose annotation file", lambda values: _person(values, outlines=outlines))


def items(config: DensePoseCocoConfig) -> list[SceneItem | Rejected | Skipped]:
    """The pictures of the annotation files in their order; those without people as Skipped; a picture of which an annotation cannot be
    used, or that comes twice, as Rejected: it would teach that somebody is background.

    Ids are `densepose-coco/<image id>`. Raises UserError for a file that is missing or not COCO's, and for a missing folder of pictures.
    """
    folders = Folders(config.source, config.images)
    found: list[SceneItem | Rejected | Skipped] = []
    seen: set[int] = set()
    for path in config.files:
        content = _read(path, config)
        found += [Rejected(f"{DATASET}/{path.name} {each.id}", each.reason) for each in content.broken]
        people, faults = _by_picture(content, path)
        found += [Rejected(f"{DATASET}/{id}", reason) for id, reason in faults.items() if id not in content.pictures]
        for picture in content.pictures.values():
            id = f"{DATASET}/{picture.id}"
            if picture.id in seen:
                found.append(Rejected(id, f"another annotation file than {path.name!r} has the same picture"))
            elif picture.id in faults:
                found.append(Rejected(id, faults[picture.id]))
            elif picture.id not in people:
                found.append(Skipped(id, _NOBODY))
            elif max(picture.width, picture.height) > config.size:
                found.append(
                    Rejected(
                        id,
                        f"the picture is {picture.width} x {picture.height}; for sides above {config.size} raise --size",
                    )
                )
            else:
                folder = str(folders.of(picture.name, path))
                found.append(SceneItem(id, folder, picture, tuple(people[picture.id]), config.split))
            seen.add(picture.id)
    if not any(isinstance(each, SceneItem) for each in found):
        raise UserError(
            f"no picture with people is in {', '.join(map(str, config.files))}; give DensePose's annotation files"
        )
    return found


def _by_picture(content: CocoFile[_Labels], path: Path) -> tuple[dict[int, list[_Labels]], dict[int | str, str]]:
    """The people of each picture, those without an area left out, and for pictures, or annotations that name none, what is wrong."""
    people: dict[int, list[_Labels]] = {}
    faults: dict[int | str, str] = {}
    seen: set[int] = set()
    for each in content.people:
        if isinstance(each, Broken):
            key: int | str = f"{path.name} annotation {each.id}" if each.picture is None else each.picture
            faults.setdefault(key, f"annotation '{each.id}': {each.reason}")
        elif each.image not in content.pictures:
            faults.setdefault(
                each.image, f"annotation '{each.id}' is of a picture that is not in the file's list, or malformed there"
            )
        elif each.id in seen:
            faults.setdefault(each.image, f"annotation '{each.id}': an earlier annotation has the same id")
        elif min(each.box[2:]) > 0:
            people.setdefault(each.image, []).append(each)
        elif each.points is not None:
            faults.setdefault(each.image, f"annotation '{each.id}': it has points and a box without area")
        if isinstance(each, _Labels):
            seen.add(each.id)
    return people, faults


def inventory(config: DensePoseCocoConfig) -> Inventory:
    """The annotation files, and the pictures with people that they name."""
    found = Inventory()
    found.counts["annotation files"] = len(config.files)
    found.faults += [Fault(str(path), "does not exist") for path in config.files if not path.is_file()]
    if found.faults:
        return found
    scenes = items(config)
    wanted = [each for each in scenes if isinstance(each, SceneItem)]
    everybody = [person for each in wanted for person in each.people]
    look_for(found, ((Path(each.folder), each.picture.name) for each in wanted))
    found.counts["people"] = sum(not each.crowd for each in everybody)
    found.counts["people with points"] = sum(each.points is not None for each in everybody)
    found.faults += [Fault(each.id, each.reason) for each in scenes if isinstance(each, Rejected)]
    if left := sum(isinstance(each, Skipped) for each in scenes):
        found.notes.append(f"{left:,} of the pictures left out: {_NOBODY}")
    return found


def read(item: SceneItem | Rejected | Skipped) -> Scene | Rejected | Skipped:
    """The record of one picture, its file stored as it is if that is RGB; Rejected where the file or an annotation is broken."""
    if isinstance(item, Rejected | Skipped):
        return item
    try:
        scene = _scene(item)
    except ValueError as error:
        return Rejected(item.id, str(error))
    except RecursionError:
        return Rejected(item.id, "a mask is nested too deeply")
    reasons = check_scene(scene)
    return Rejected(item.id, "; ".join(reasons)) if reasons else scene


def _scene(item: SceneItem) -> Scene:
    _, name, width, height = item.picture
    data = read_inside(item.folder, name)
    header = read_header(data)
    if (header.width, header.height) != (width, height):
        raise ValueError(f"{name!r} is {header.width} x {header.height}, the annotation says {width} x {height}")
    if header.channels != 3 or header.bits != 8:
        data = encode_rgb(decode_rgb(data))
    instances = []
    for labels in item.people:
        try:
            instances.append(_instance(labels, width, height))
        except ValueError as error:
            raise ValueError(f"annotation '{labels.id}': {error}") from None
    return Scene(item.id, DATASET, item.split, data, width, height, instances)


def _instance(labels: _Labels, width: int, height: int) -> Instance:
    left, top, box_width, box_height = labels.box
    if box_width > 2 * width or box_height > 2 * height:
        raise ValueError(f"the box of {box_width:g} x {box_height:g} is larger than the picture")
    annotation = {"bbox": labels.box}
    if labels.parts is not None:
        annotation["dp_masks"] = json.loads(labels.parts)
    elif labels.outline is not None:
        annotation["segmentation"] = json.loads(labels.outline)
    mask = annotated_mask(annotation, height, width)
    if mask is not None and not mask.any():
        if labels.points is not None:
            raise ValueError("there are points and its mask is empty")
        mask = None
    return Instance(
        box=np.array([left, top, left + box_width, top + box_height], np.float32),
        mask=None if mask is None else encode_labels(np.where(mask, np.uint8(255), np.uint8(0))),
        dp_points=None if labels.points is None else _settled(labels.points, width, height),
        crowd=labels.crowd,
    )


def _settled(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """The points with what rounding put beyond the picture, or beyond 0..1, back on the edge; more than that is left for the check."""
    points = points.copy()
    for columns, high, slack in (
        (slice(0, 1), width, _EDGE),
        (slice(1, 2), height, _EDGE),
        (slice(3, 5), 1, _ROUNDING),
    ):
        values = points[:, columns]
        near = (values >= -slack) & (values <= high + slack)
        points[:, columns] = np.where(near, values.clip(0, high), values)
    return points


def scenes(config: DensePoseCocoConfig) -> Iterator[Scene | Rejected | Skipped]:
    """Every picture of the data set, in the annotation files' order."""
    return map(read, items(config))
