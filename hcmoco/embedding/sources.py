"""The people that are embedded: rows of a prepared data set, or pictures in a folder. Both give the same records.

A source goes to the processes that embed, so it is small to pickle.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Protocol

from hcmoco.data.depth_masking import masking_of
from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.data.shards.reader import Shards
from hcmoco.datasets.base import Rejected
from hcmoco.errors import UserError
from hcmoco.finetuning.row_mask import RowMask

_SHOWN = ("parts", "mask")  # what tells the person from the background in a picture of features


class People(Protocol):
    """People to embed, in a fixed order."""

    @property
    def name(self) -> str:
        """Return the name of the data set, for lines of progress."""

    @property
    def joints(self) -> str:
        """Return the name of the joint set of keypoints; "" where there are none."""

    @property
    def depth_codec(self) -> str:
        """Return the codec of stored depth."""

    @property
    def depth_masking(self) -> str:
        """Return what is known of depth beforehand, see `hcmoco.data.depth_masking`."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Return what at least one of them may have."""

    @property
    def content(self) -> str:
        """Return a digest of what is read: other people, or other files, have another one."""

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
        return list(pairwise(edges)) if stop > first else []

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
            f"{given} holds {shards.manifest.kind}s, and a person is embedded at a time; give a data set of persons, "
            "or the pictures themselves with --boxes"
        )
