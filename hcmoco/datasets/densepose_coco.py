"""COCO-DensePose: whole pictures with the boxes of all people, and for some their surface points and masks.

The reader reads `densepose_coco_2014_*.json` (detectron2 calls them `densepose_*2014.json`). Training is on train and
valminusminival together, evaluation on minival, as published.

Points are shares of the box, 0..255: x = left + dp_x * width / 255 in pixels whose centers are at +0.5. That is where
the published evaluator reads predictions. (detectron2's training divides by 256, up to 0.4 % of the box less.) The mask
of a person is the union of its masks of parts over its box, as the evaluator has it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from hcmoco.config import Config
from hcmoco.data.codecs import decode_rgb, encode_labels, encode_rgb
from hcmoco.data.containers import read_header
from hcmoco.data.schema import Instance, Scene
from hcmoco.data.validation import check_scene
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.coco_format import ImageFolders, Picture, check_pictures
from hcmoco.datasets.densepose_annotations import PersonLabels, group_by_picture, read_annotations
from hcmoco.datasets.densepose_format import annotated_mask
from hcmoco.datasets.io.files import below_source, read_inside
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.errors import UserError

UNIT = "images"
DATASET = "densepose-coco"
FILES = {"train": ("train", "valminusminival"), "test": ("minival",)}
"""Which published annotation files a split is made of."""

_NO_PERSON = "no person is annotated in it"
_EDGE = 1.0  # pixels that rounding may put a point on the edge of a box beyond the picture
_ROUNDING = 1e-4  # likewise for U and V


class DensePoseCocoConfig(Config):
    """Where COCO-DensePose is and what of it is stored."""

    source: str = Field(".", description="folder of the download; the other paths are relative to it")
    split: Literal["train", "test"] = Field("train", description="train, or test: minival")
    annotations: tuple[str, ...] = Field(
        (),
        description="the JSON files; default: annotations/densepose_coco_2014_*.json or "
        "annotations/densepose_*2014.json, of train and valminusminival, or of minival",
    )
    images: str = Field(
        "",
        description="folder of the pictures; default: images/train2014 or train2014 (and val2014), by their names",
    )
    size: int = Field(640, ge=32, le=4096, description="largest side of a picture, pixels; larger ones are rejected")
    masks: Literal["auto", "annotated", "all"] = Field(
        "auto",
        description="annotated: masks of people with DensePose annotation only, as published training sees; all: "
        "COCO's of the others and of crowds, too, as the published evaluator sees; auto: annotated for train, all for "
        "test",
    )

    @field_validator("annotations", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def files(self) -> list[Path]:
        """Return the annotation files."""
        return [below_source(self.source, each) for each in self.annotations] or [
            self._published(part) for part in FILES[self.split]
        ]

    @property
    def outlines(self) -> bool:
        """Whether COCO's masks of people without DensePose annotation are stored."""
        return self.masks == "all" or (self.masks == "auto" and self.split != "train")

    def _published(self, part: str) -> Path:
        names = (f"densepose_coco_2014_{part}.json", f"densepose_{part}2014.json")
        usual = [below_source(self.source, folder) / name for folder in ("annotations", ".") for name in names]
        return next((each for each in usual if each.is_file()), usual[0])


@dataclass(frozen=True, eq=False)
class SceneItem:
    """One picture, which is not read yet, and its people."""

    id: str
    folder: str
    picture: Picture
    people: tuple[PersonLabels, ...]
    split: str


def items(config: DensePoseCocoConfig) -> list[SceneItem | Rejected | Skipped]:
    """List the pictures of the annotation files, in the order of the files.

    A picture without people is Skipped. A picture with an annotation that cannot be used, or that occurs twice, is
    Rejected: training would take a person in it for background.

    Args:
        config: where the download is and what of it is stored.

    Returns:
        The pictures, with ids `densepose-coco/<image id>`.

    Raises:
        UserError: a file is missing or not COCO's, the folder of pictures is missing, or no picture has people.
    """
    folders = ImageFolders(config.source, config.images)
    found: list[SceneItem | Rejected | Skipped] = []
    seen: set[int] = set()
    for path in config.files:
        content = read_annotations(path, outlines=config.outlines)
        people, faults = group_by_picture(content, path)
        for entry in content.invalid:
            id = f"{DATASET}/{path.name} {entry.id}"
            unneeded = entry.picture is not None and entry.picture not in {*people, *faults}
            found.append(Skipped(id, _NO_PERSON) if unneeded else Rejected(id, entry.reason))
        found += [Rejected(f"{DATASET}/{id}", reason) for id, reason in faults.items() if id not in content.pictures]
        for picture in content.pictures.values():
            id = f"{DATASET}/{picture.id}"
            if picture.id in seen:
                found.append(Rejected(id, f"another annotation file than {path.name!r} has the same picture"))
            elif picture.id in faults:
                found.append(Rejected(id, faults[picture.id]))
            elif picture.id not in people:
                found.append(Skipped(id, _NO_PERSON))
            elif max(picture.width, picture.height) > config.size:
                found.append(
                    Rejected(
                        id,
                        f"the picture is {picture.width} x {picture.height}; "
                        f"for sides above {config.size} raise --size",
                    )
                )
            else:
                folder = str(folders.of(picture.name, path))
                found.append(SceneItem(id, folder, picture, tuple(people[picture.id]), config.split))
            seen.add(picture.id)
    if not any(isinstance(each, SceneItem) for each in found):
        if broken := next((each for each in found if isinstance(each, Rejected)), None):
            raise UserError(
                f"no picture with people can be used; the first that is rejected: {broken.id}: {broken.reason}"
            )
        raise UserError(
            f"no picture with people is in {', '.join(map(str, config.files))}; give DensePose's annotation files"
        )
    return found


def inventory(config: DensePoseCocoConfig) -> Inventory:
    """Check the annotation files, and the pictures with people that they name."""
    found = Inventory()
    found.counts["annotation files"] = len(config.files)
    found.faults += [Fault(str(path), "does not exist") for path in config.files if not path.is_file()]
    if found.faults:
        return found
    scenes = items(config)
    wanted = [each for each in scenes if isinstance(each, SceneItem)]
    everybody = [person for each in wanted for person in each.people]
    check_pictures(found, ((Path(each.folder), each.picture.name) for each in wanted))
    found.counts["people"] = sum(not each.crowd for each in everybody)
    found.counts["people with points"] = sum(each.points is not None for each in everybody)
    found.faults += [Fault(each.id, each.reason) for each in scenes if isinstance(each, Rejected)]
    if skipped := sum(isinstance(outcome, Skipped) for outcome in scenes):
        found.notes.append(f"{skipped:,} of the pictures skipped: {_NO_PERSON}")
    return found


def read(item: SceneItem | Rejected | Skipped) -> Scene | Rejected | Skipped:
    """Return the record of one picture, or Rejected if its file or an annotation is invalid.

    The file is stored as it is if it is RGB, else it is encoded again.
    """
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


def _instance(labels: PersonLabels, width: int, height: int) -> Instance:
    left, top, box_width, box_height = labels.box
    if box_width > 2 * width or box_height > 2 * height:
        raise ValueError(f"the box of {box_width:g} x {box_height:g} is larger than the picture")
    annotation = {"bbox": labels.box}
    if labels.parts is not None:
        annotation["dp_masks"] = json.loads(labels.parts)
    elif labels.outline is not None:
        annotation["segmentation"] = json.loads(labels.outline)
    mask = annotated_mask(annotation, height, width)
    if mask is not None and not mask.any():  # of a person of a few pixels, or an outline of two corners
        mask = None
    return Instance(
        box=np.array([left, top, left + box_width, top + box_height], np.float32),
        mask=None if mask is None else encode_labels(np.where(mask, np.uint8(255), np.uint8(0))),
        dp_points=None if labels.points is None else _settled(labels, width, height),
        crowd=labels.crowd,
    )


def _settled(labels: PersonLabels, width: int, height: int) -> np.ndarray:
    """The points; those that rounding put beyond the picture, or beyond 0..1, are moved back to the edge.

    Shares go up to 256 where a tool divides by 256, and are 1/255 of the box beyond it here.
    """
    assert labels.points is not None
    points = labels.points.copy()
    for columns, high, slack in (
        (slice(0, 1), width, _EDGE + labels.box[2] / 255),
        (slice(1, 2), height, _EDGE + labels.box[3] / 255),
        (slice(3, 5), 1, _ROUNDING),
    ):
        values = points[:, columns]
        near = (values >= -slack) & (values <= high + slack)
        points[:, columns] = np.where(near, values.clip(0, high), values)
    return points


READER = DatasetReader(DensePoseCocoConfig, items, read, inventory, unit=UNIT)
