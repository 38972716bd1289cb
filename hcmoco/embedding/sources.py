"""The people that are embedded: rows of a prepared data set, or pictures in a folder. Both give the same records.

A source goes to the processes that embed, so it is small to pickle.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hcmoco.data.depth_masking import masking_of
from hcmoco.data.schema import MODALITIES, Modality, Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.transforms import CROP_MARGIN
from hcmoco.datasets import folder
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.datasets.person_lines import FolderConfig, FolderItem
from hcmoco.errors import UserError
from hcmoco.finetuning.row_mask import RowMask
from hcmoco.inference.images import read_rgb

_SHOWN = ("parts", "mask")  # what tells the person from the background in a picture of features
_PICTURES = 8  # that are read together


class People(Protocol):
    """People to embed, in a fixed order.

    Attributes:
        name: of the data set, for lines of progress.
        joints: name of the joint set of keypoints; "" where there are none.
        depth_codec: codec of stored depth.
        depth_masking: see `hcmoco.data.depth_masking`.
        modalities: what at least one of them may have.
        content: digest of what is read: other people, or other files, have another one.
        unit: what they are counted in, in the plural.
    """

    name: str
    joints: str
    depth_codec: str
    depth_masking: str
    modalities: tuple[Modality, ...]
    content: str
    unit: str

    def __len__(self) -> int: ...

    def chunks(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Return the pieces, as (first, stop), in which these people are best read."""

    def read(self, first: int, stop: int, *, shown: bool = False) -> list[dict[str, Any] | Rejected]:
        """Read people.

        Args:
            first, stop: their numbers.
            shown: read what tells them from the background, too.

        Returns:
            One each, in order: a row as of `Person.to_row`, or why there is none.

        Raises:
            UserError: a file of a prepared data set is not what was written.
        """


@dataclass(frozen=True)
class PreparedPeople:
    """The rows of a prepared data set of persons.

    Attributes:
        shards: the data set.
        mask: removes the background from depth; None: depth is taken as it is.
    """

    shards: Shards
    mask: RowMask | None = None

    unit = "people"

    @property
    def name(self) -> str:
        return self.shards.manifest.dataset

    @property
    def joints(self) -> str:
        return self.shards.manifest.joints

    @property
    def depth_codec(self) -> str:
        return self.shards.manifest.depth_codec

    @property
    def depth_masking(self) -> str:
        return "masked" if self.mask else masking_of(self.shards.manifest)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(name for name in MODALITIES if self.shards.manifest.modalities.get(name))

    @property
    def content(self) -> str:
        return self.shards.manifest.content

    def __len__(self) -> int:
        return len(self.shards)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.shards.group_rows)]

    def chunks(self, first: int, stop: int) -> list[tuple[int, int]]:
        inside = self._starts[bisect_right(self._starts, first) : bisect_right(self._starts, stop - 1)]
        edges = [first, *inside, stop]
        return list(zip(edges, edges[1:], strict=False)) if stop > first else []

    def read(self, first: int, stop: int, *, shown: bool = False) -> list[dict[str, Any] | Rejected]:
        columns = ["id", "index", "dataset", "subject", "size", "rgb", "depth", "box", "keypoints"]
        columns += _SHOWN if shown else ()
        columns += [name for name in (self.mask.columns if self.mask else ()) if name not in columns]
        found: list[dict[str, Any] | Rejected] = []
        for start, end in self.chunks(first, stop):
            group = bisect_right(self._starts, start) - 1
            table = self.shards.read_group(group, columns)
            rows = table.slice(start - self._starts[group], end - start).to_pylist()
            found += [self.mask.apply(row) for row in rows] if self.mask else rows
        return found


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

    unit = "people"

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

    def _person(self, item: FolderItem | Rejected) -> Person | Rejected:
        if isinstance(item, FolderItem) and self.whole and item.line.box is None and item.line.depth is None:
            return checked(item.id, 0, lambda: _in_the_middle(item))
        return folder.read(item)


def _in_the_middle(item: FolderItem) -> Person:
    """The record of a person who fills a picture as they fill a crop."""
    rgb = read_rgb(Path(item.config.path, item.line.rgb or ""))
    given = Person(item.id, item.config.name, item.config.split, item.config.size, box=middle_box(*rgb.shape[1::-1]))
    return crop_person(given, PersonImages(rgb=rgb))


def middle_box(width: int, height: int) -> np.ndarray:
    """Return the box, float [4], whose stored square is a whole picture of that size, padded to a square."""
    half = max(width, height) / CROP_MARGIN / 2
    return np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])


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


def first_rows(people: People, count: int, wanted: Sequence[Modality], *, among: int = 512) -> Iterator[dict[str, Any]]:
    """Yield the rows of the first people that have all of some modalities, at most `count` of the first `among`."""
    for first, stop in people.chunks(0, min(among, len(people))):
        for row in people.read(first, stop, shown=True):
            if not isinstance(row, Rejected) and all(row[name] is not None for name in wanted):
                yield row
                if not (count := count - 1):
                    return


def check_persons(shards: Shards, given: str) -> None:
    """Raise UserError for a data set of scenes."""
    if shards.manifest.kind != "person":
        raise UserError(
            f"{given} holds {shards.manifest.kind}s, and a person is embedded at a time; give a data set of persons, or "
            "the pictures themselves with --boxes"
        )
