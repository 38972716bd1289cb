"""The people of a folder of pictures, read as `prepare.py folder` reads them: into the same records."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hcmoco.data.schema import MODALITIES, Modality, Person
from hcmoco.datasets import folder
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.cameras.camera_file import read_camera_file
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person, middle_box
from hcmoco.datasets.person_lines import FolderConfig, FolderItem
from hcmoco.inference.images import read_rgb

_PICTURES = 8  # that are read together


@dataclass(frozen=True)
class PicturedPeople:
    """The people of a folder of pictures.

    Attributes:
        config: how the folder is read; see hcmoco/datasets/folder.py.
        items: a person each, or why a line cannot be used.
        whole: RGB pictures without a box show the person in the middle: the picture, made square, is the crop.
    """

    config: FolderConfig
    items: Sequence[FolderItem | Rejected]
    whole: bool = False

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def joints(self) -> str:
        return self.config.joint_set

    @property
    def depth_codec(self) -> str:
        return self.config.depth_codec

    @property
    def depth_masking(self) -> str:
        return ""  # the pictures tell it

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        lines = [item.line for item in self.items if isinstance(item, FolderItem)]
        return tuple(name for name in MODALITIES if any(getattr(line, name) is not None for line in lines))

    @cached_property
    def content(self) -> str:
        """A digest of the lines, and of the size and time of change of each file that they name."""
        digest = hashlib.sha256()
        for item in self.items:
            text: list[Any] = [item.id]
            if isinstance(item, FolderItem):
                files = [getattr(item.line, name) for name in ("rgb", "depth", "mask")]
                text += [item.line.model_dump(), [_state(self.config.path, name) for name in files if name]]
            digest.update(json.dumps(text).encode() + b"\n")
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.items)

    def chunks(self, first: int, stop: int) -> list[tuple[int, int]]:
        return [(start, min(start + _PICTURES, stop)) for start in range(first, stop, _PICTURES)]

    def read(self, first: int, stop: int, *, shown: bool = False) -> list[dict[str, Any] | Rejected]:
        found: list[dict[str, Any] | Rejected] = []
        for number in range(first, stop):
            person = self._person(self.items[number])
            if isinstance(person, Rejected):
                found.append(person)
                continue
            row = person.to_row(number)
            line = self.items[number].line  # type: ignore[union-attr]
            found.append({**row, "dataset": line.rgb or line.depth})
        return found

    def to_lines(self) -> bytes:
        """Return the people as JSON Lines, one each, from which `from_lines` has them again."""
        lines = [
            {"id": item.id, "line": item.line.model_dump(exclude_defaults=True)}
            if isinstance(item, FolderItem)
            else {"id": item.id, "reason": item.reason}
            for item in self.items
        ]
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    @classmethod
    def from_lines(cls, config: FolderConfig, data: bytes, *, whole: bool) -> "PicturedPeople":
        """Return people that `to_lines` wrote."""
        recorded_by = read_camera_file(config.path)
        items: list[FolderItem | Rejected] = []
        for text in data.decode().splitlines():
            line = json.loads(text)
            if "reason" in line:
                items.append(Rejected(line["id"], line["reason"]))
            else:
                items.append(FolderItem(line["id"], folder.PersonLine(**line["line"]), config, recorded_by))
        return cls(config, tuple(items), whole)

    def _person(self, item: FolderItem | Rejected) -> Person | Rejected:
        if isinstance(item, FolderItem) and self.whole and item.line.box is None and item.line.depth is None:
            return checked(item.id, 0, lambda: _in_the_middle(item))
        return folder.read(item)


def _in_the_middle(item: FolderItem) -> Person:
    """The record of a person who fills a picture as they fill a crop."""
    rgb = read_rgb(Path(item.config.path, item.line.rgb or ""))
    given = Person(item.id, item.config.name, item.config.split, item.config.size, box=middle_box(*rgb.shape[1::-1]))
    return crop_person(given, PersonImages(rgb=rgb))


def _state(root: str, name: str) -> tuple[int, int]:
    """Size and time of change of a file; zeros where it is missing, which the reader tells."""
    try:
        found = os.stat(Path(root, name))
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def pictures_with_boxes(
    config: FolderConfig,
    names: Sequence[str],
    modality: Modality,
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]] | None,
    box: tuple[float, float, float, float] | str | None,
) -> PicturedPeople:
    """Return the people on pictures without a JSON Lines file.

    Args:
        config: of the folder.
        names: paths of the pictures in it.
        modality: what they are, "rgb" or "depth".
        boxes: of the people by picture, x0, y0, x1, y1 in pixels.
        box: the same on every picture; "picture": the person fills it; None: not known.
    """
    items: list[FolderItem | Rejected] = []
    for name in names:
        line = folder.PersonLine(**{modality: name})
        item = FolderItem(f"{config.name}/{name}", line, config)
        if boxes is None:
            items.append(item if box in (None, "picture") else _boxed(item, box))
        elif name not in boxes:
            items.append(Rejected(item.id, "the file of boxes has none for it"))
        else:
            one, *more = (_boxed(item, each) for each in boxes[name])
            items += [one, *(replace(each, id=f"{each.id}#{number}") for number, each in enumerate(more, start=2))]
    return PicturedPeople(config, tuple(items), whole=box is None and boxes is None)


def _boxed(item: FolderItem, box: Any) -> FolderItem:
    return replace(item, line=item.line.model_copy(update={"box": tuple(box)}))


def lines_of(config: FolderConfig) -> PicturedPeople:
    """Return the people of a folder with a JSON Lines file. Raises UserError as `folder.items` does."""
    return PicturedPeople(config, tuple(folder.items(config)))
