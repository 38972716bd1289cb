"""Write a data set: parts in any order and by any process, then one manifest.

Only `write_shards` shuffles. Callers of `write_part` deal records to parts in an order drawn from the seed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from hcmoco.config import Config
from hcmoco.data.depth_masking import counted, row_shows_background
from hcmoco.data.schema import SCHEMA_VERSION, Person, Scene
from hcmoco.data.shards.dataset_card import CARD, card
from hcmoco.data.shards.manifest import (  # fmt: skip
    EXAMPLES,
    MANIFEST,
    REJECTED,
    About,
    File,
    Manifest,
    RejectedFile,
    RejectedRecord,
    reason_kind,
    write_manifest,
)
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.storage import Folder, HashingSink

GROUP_ROWS = 32
PART_ROWS = 1024
_MODALITIES = {
    "person": ("rgb", "depth", "keypoints", "joints3d", "parts", "iuv", "dp_points", "mask"),
    "scene": ("rgb", "instances"),
}
Records = Sequence[Person | Scene] | Sequence[dict]


class Part(Config):
    """What one part adds to the manifest. `file` is None if no record of the part was valid."""

    renamed: ClassVar = {"left_out": "skipped", "lost": "rejected_items"}

    number: int
    first_index: int
    file: File | None
    splits: dict[str, int]
    modalities: dict[str, int]
    rejected: tuple[RejectedRecord, ...] = ()
    skipped: dict[str, int] = Field(default_factory=dict)
    rejected_items: int = Field(
        0, description="items of several records, such as videos, all of whose records are rejected"
    )
    unmasked: int | None = Field(
        None, description="rows whose depth shows the background; none where the reader knows it beforehand"
    )

    @property
    def rows(self) -> int:
        """Return the number of rows of the part."""
        return self.file.rows if self.file else 0


def group_sizes(rows: int, largest: int = GROUP_ROWS) -> list[int]:
    """Return the row counts of the row groups of a part.

    There are as few groups as possible, all within one row of each other: 16..32 rows from 16 rows on.
    """
    groups = -(-rows // largest)
    return [rows // groups + (g < rows % groups) for g in range(groups)] if rows else []


def write_part(
    folder: Folder,
    number: int,
    about: About,
    records: Records,
    *,
    first_index: int,
    rejected: Iterable = (),
    skipped: Mapping[str, int] | None = None,
    rejected_items: int = 0,
) -> Part:
    """Write `part-<number>.parquet` from records in their final order.

    Args:
        folder: of the data set.
        number: of the part.
        about: what is known of the data set.
        records: of the kind that `about` says; a dict is a row without `index`.
        first_index: index of the first row.
        rejected: (id, reason) of the invalid records, which are counted and listed.
        skipped: number of records that a rule excludes, by reason.
        rejected_items: see `Part`.

    Returns:
        What `finish` needs.
    """
    rows = [
        {**record, "index": index} if isinstance(record, dict) else record.to_row(index)
        for index, record in enumerate(records, start=first_index)
    ]
    sizes, schema = group_sizes(len(rows)), about.schema
    starts = [sum(sizes[:g]) for g in range(len(sizes))]
    groups = (
        pa.Table.from_pylist(rows[start : start + size], schema=schema)
        for start, size in zip(starts, sizes, strict=True)
    )
    return Part(
        number=number,
        first_index=first_index,
        file=_write_file(folder, f"part-{number:05d}.parquet", schema, groups) if rows else None,
        splits=dict(Counter(row["split"] for row in rows)),
        modalities={name: sum(row.get(name) is not None for row in rows) for name in _MODALITIES[about.kind]},
        rejected=tuple(RejectedRecord(id=id, reason=reason) for id, reason in rejected),
        skipped=dict(skipped or {}),
        rejected_items=rejected_items,
        unmasked=sum(row_shows_background(row, about.depth_codec) for row in rows) if _is_looked_at(about) else None,
    )


def _is_looked_at(about: About) -> bool:
    """Whether only the rows tell if depth is masked."""
    return about.kind == "person" and not about.depth_masking


def renumber(folder: Folder, part: Part, about: About, first_index: int) -> Part:
    """Index a part's rows from `first_index`; the file is rewritten if the number changes.

    The index of a part's first row is known only once all parts before it are written, since some records are rejected.
    """
    if part.file is None or part.first_index == first_index:
        return part.model_copy(update={"first_index": first_index})
    column = about.schema.get_field_index("index")
    with folder.open(part.file.name) as source:
        stored = pq.ParquetFile(source, page_checksum_verification=True)
        starts = [first_index + sum(part.file.group_rows[:g]) for g in range(len(part.file.group_rows))]

        def numbered() -> Iterable[pa.Table]:
            for g, start in enumerate(starts):
                table = stored.read_row_group(g)
                yield table.set_column(
                    column, about.schema.field(column), pa.array(range(start, start + len(table)), pa.int64())
                )

        file = _write_file(folder, part.file.name, about.schema, numbered())
    return part.model_copy(update={"first_index": first_index, "file": file})


def _write_file(folder: Folder, name: str, schema: pa.Schema, groups: Iterable[pa.Table]) -> File:
    """Write one row group per table, with checksums of the pages.

    Encoded pixels neither compress nor repeat, so neither is tried.
    """
    with folder.replacing(name) as file:
        sink = HashingSink(file)
        with pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="NONE",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            data_page_size=1 << 30,
        ) as writer:
            for table in groups:
                writer.write_table(table, row_group_size=len(table))
    with folder.open(name) as written:
        metadata = pq.read_metadata(written)
    sizes = tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
    return File(name=name, bytes=sink.bytes, sha256=sink.sha256, group_rows=sizes, offsets=group_offsets(metadata))


def group_offsets(metadata: pq.FileMetaData) -> tuple[int, ...]:
    """Return the first byte of each row group, and the first byte after the last."""
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    columns = [[group.column(c) for c in range(group.num_columns)] for group in groups]
    starts = [min(column.data_page_offset for column in group) for group in columns]
    end = max(column.data_page_offset + column.total_compressed_size for column in columns[-1]) if columns else 0
    return (*starts, end)


def finish(
    folder: Folder, about: About, parts: Sequence[Part], calibrations: Mapping[str, dict] | None = None
) -> Manifest:
    """Write the list of rejected records, the card and the manifest.

    Args:
        folder: of the data set.
        about: what is known of the data set.
        parts: in order, indexed without gaps.
        calibrations: what was measured on the source, by name.

    Raises:
        ValueError: the indices of the parts do not follow each other.
        UserError: no record is valid.
    """
    first_index = 0
    for part in parts:
        if part.first_index != first_index:
            raise ValueError(
                f"part {part.number} begins at index {part.first_index}, the rows before it end at {first_index}"
            )
        first_index += part.rows
    if not first_index:
        why = Counter({reason: count for part in parts for reason, count in part.skipped.items()})
        why.update(reason_kind(record.reason) for part in parts for record in part.rejected)
        told = "; ".join(f"{count:,} x {reason}" for reason, count in why.most_common(3))
        raise UserError(f"{folder.uri}: no usable record{f' ({told})' if told else ''}; look at where its files are")
    rejected = [record for part in parts for record in part.rejected]
    unmasked = [part.unmasked for part in parts if part.rows]
    if _is_looked_at(about) and None not in unmasked:
        with_depth = sum(part.modalities.get("depth", 0) for part in parts)
        masking = counted(with_depth, sum(each or 0 for each in unmasked))
        about = about.model_copy(update={"depth_masking": masking})
    manifest = Manifest(
        **about.model_dump(),
        schema_version=SCHEMA_VERSION,
        rows=first_index,
        splits=dict(sorted(sum((Counter(part.splits) for part in parts), Counter()).items())),
        modalities={name: sum(part.modalities.get(name, 0) for part in parts) for name in _MODALITIES[about.kind]},
        rejected=len(rejected),
        reasons=dict(Counter(reason_kind(record.reason) for record in rejected).most_common(EXAMPLES)),
        rejected_examples=tuple(rejected[:EXAMPLES]),
        rejected_file=_write_rejected(folder, rejected),
        skipped=dict(sum((Counter(part.skipped) for part in parts), Counter()).most_common()),
        calibrations=dict(calibrations or {}),
        files=tuple(part.file for part in parts if part.file),
    )
    folder.write(CARD, card(manifest).encode())
    write_manifest(folder, manifest)
    return manifest


def _write_rejected(folder: Folder, rejected: Sequence[RejectedRecord]) -> RejectedFile | None:
    """Write every rejected record, in the order of the parts, as one line each."""
    if not rejected:
        folder.delete(REJECTED)  # of a run before this one
        return None
    with folder.replacing(REJECTED) as file:
        sink = HashingSink(file)
        for record in rejected:
            sink.write(json.dumps({"id": record.id, "reason": record.reason}).encode() + b"\n")
    return RejectedFile(bytes=sink.bytes, sha256=sink.sha256)


def write_shards(
    uri: str,
    records: Records,
    about: About,
    *,
    seed: int = 0,
    rejected: Iterable = (),
    part_rows: int = PART_ROWS,
) -> Manifest:
    """Write a whole data set from records that fit in memory.

    Args:
        uri: folder or URI.
        records: in any order.
        about: what is known of the data set.
        seed: keys the shuffling.
        rejected: (id, reason) of the invalid records.
        part_rows: rows of a file.

    Raises:
        UserError: the folder already has a data set, or no record is valid.
    """
    folder = Folder(uri)
    if folder.exists(MANIFEST):
        raise UserError(f"{uri} already holds a prepared data set; choose another folder or delete it")
    order = make_rng(seed, "write").permutation(len(records))
    shuffled = [records[k] for k in order]
    starts = range(0, len(shuffled), part_rows)
    parts = [
        write_part(
            folder,
            k,
            about,
            shuffled[start : start + part_rows],
            first_index=start,
            rejected=rejected if k == 0 else (),
        )
        for k, start in enumerate(starts)
    ]
    return finish(folder, about, parts)
