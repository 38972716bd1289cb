"""Read a data set by row group, from any URI, in any process."""

import shlex
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hcmoco.data.sampler import Row, SourcePlan
from hcmoco.data.shards.manifest import File, Manifest, read_manifest
from hcmoco.data.shards.writer import group_offsets
from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, absolute, join


class RowGroups(Protocol):
    """What a plan deals from: a data set, or a subset of its rows."""

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the data set."""

    def read_group(
        self, group: int, columns: Sequence[str] | None = None, rows: Sequence[int] | None = None
    ) -> pa.Table:
        """Read one row group; see `Shards.read_group`."""


@dataclass(frozen=True)
class Shards:
    """A prepared data set, opened. Row groups are numbered over all its files.

    It is small to pickle; footers are cached per process.

    Attributes:
        uri: absolute folder or URI.
        manifest: its manifest.
    """

    uri: str
    manifest: Manifest

    @classmethod
    def open(cls, uri: str) -> "Shards":
        """Open the data set at `uri`.

        Raises:
            UserError: there is none, its manifest is not valid, or a file is missing or of another length.
        """
        uri = absolute(uri)
        folder = Folder(uri)
        manifest = read_manifest(folder)
        sizes = folder.sizes()
        for file in manifest.files:
            if sizes.get(file.name) != file.bytes:
                found = f"has {sizes[file.name]} bytes" if file.name in sizes else "is missing"
                raise UserError(
                    f"{join(uri, file.name)} {found}, the manifest says {file.bytes} bytes; "
                    "copy it again or prepare the data set again"
                )
        return cls(uri, manifest)

    def __len__(self) -> int:
        return self.manifest.rows

    def __getstate__(self):
        return {"uri": self.uri, "manifest": self.manifest}

    @cached_property
    def group_rows(self) -> tuple[int, ...]:
        """Return the number of rows of each row group."""
        return tuple(rows for file in self.manifest.files for rows in file.group_rows)

    @cached_property
    def _first_groups(self) -> list[int]:
        return [0, *accumulate(len(file.group_rows) for file in self.manifest.files)]

    def source_plan(self, name: str | None = None, weight: float = 1.0) -> SourcePlan:
        """Return this data set as a `Plan` takes it.

        Args:
            name: what the mixture calls it; None: the data set's own name.
            weight: share of the batch, relative to the other data sets; above 0.
        """
        return SourcePlan(
            name or self.manifest.dataset, self.manifest.rows, self.group_rows, weight, self.manifest.content
        )

    def read_group(
        self, group: int, columns: Sequence[str] | None = None, rows: Sequence[int] | None = None
    ) -> pa.Table:
        """Read one row group.

        Args:
            group: number of the row group.
            columns: names of columns; None: all.
            rows: numbers of rows in the group, in the wanted order; None: all.

        Raises:
            UserError: the bytes of the file are not those that were written (pages carry checksums); the message names
                it.
            IndexError: the group or a row does not exist.
        """
        if not 0 <= group < self._first_groups[-1]:
            raise IndexError(f"{self.uri} has row groups 0..{self._first_groups[-1] - 1}, not {group}")
        number = bisect_right(self._first_groups, group) - 1
        file = self.manifest.files[number]
        table = _read(self.uri, file, group - self._first_groups[number], None if columns is None else list(columns))
        return table if rows is None else table.take(pa.array(rows, pa.int64()))

    def read_column(self, name: str) -> pa.ChunkedArray:
        """Read one column of all rows, in their order.

        Raises:
            UserError: as `read_group`.
        """
        chunks = [_read(self.uri, file, None, [name]).column(name) for file in self.manifest.files]
        return pa.chunked_array([chunk for each in chunks for chunk in each.chunks], chunks[0].type)


def read_rows(sources: Sequence[RowGroups], rows: Sequence[Row], columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows that a plan names, in its order, as one table. Each row group is read once.

    Args:
        sources: the data sets, in the plan's order.
        rows: the rows.
        columns: names of columns; None: all.

    Returns:
        The table. `index` stays the row's number in its own data set.
    """
    places: dict[tuple[int, int], list[int]] = {}
    for position, row in enumerate(rows):
        places.setdefault((row.source, row.group), []).append(position)
    tables = [
        sources[source].read_group(group, columns, rows=[rows[position].row for position in positions])
        for (source, group), positions in places.items()
    ]
    order = np.argsort(np.concatenate([np.array(positions) for positions in places.values()]))
    return pa.concat_tables(tables, promote_options="default").take(pa.array(order))


def _read(uri: str, file: File, group: int | None, columns: list[str] | None) -> pa.Table:
    return Folder(uri).patiently(lambda: _read_once(uri, file, group, columns))


def _read_once(uri: str, file: File, group: int | None, columns: list[str] | None) -> pa.Table:
    try:
        metadata = _footer(uri, file.name, file.sha256)
        if group_offsets(metadata) != file.offsets:
            raise ValueError("its row groups are not where the manifest says")
        with Folder(uri).open(file.name) as source:
            stored = pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True, pre_buffer=True)
            if group is None:
                table = stored.read(columns=columns, use_threads=False)
            else:
                table = stored.read_row_group(group, columns=columns, use_threads=False)
        if len(table) != (sum(file.group_rows) if group is None else file.group_rows[group]):
            raise ValueError(f"{'it' if group is None else f'row group {group}'} has {len(table)} rows")
    except (OSError, ValueError, pa.ArrowException) as error:
        Folder(uri).raise_if_unreachable(error)
        raise UserError(
            f"{join(uri, file.name)} is not the file that was written ({one_line(error)}); "
            f"see `python pipelines/prepare.py verify {shlex.quote(uri)}`, then copy it again or prepare the data set "
            "again"
        ) from None
    return table


@lru_cache(maxsize=256)
def _footer(uri: str, name: str, sha256: str) -> pq.FileMetaData:
    """The footer of a file; its digest is part of the key, so that a data set that was prepared anew is not read with
    old offsets.
    """
    with Folder(uri).open(name) as source:
        return pq.read_metadata(source)
