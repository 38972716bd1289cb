"""Writing a data set: parts in any order and by any process, then one manifest.

Nothing here shuffles what it is given but `write_shards`: whoever deals records to parts does so in an order drawn from the seed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from hcmoco.config import Config
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
    """What one part adds to the manifest. `file` is None where no record of the part was usable."""

    number: int
    first_index: int
    file: File | None
    splits: dict[str, int]
    modalities: dict[str, int]
    rejected: tuple[RejectedRecord, ...] = ()
    left_out: dict[str, int] = Field(default_factory=dict)
    lost: int = Field(0, description="items of several records, such as videos, that gave none because they are broken")

    @property
    def rows(self) -> int:
        return self.file.rows if self.file else 0


def group_sizes(rows: int, largest: int = GROUP_ROWS) -> list[int]:
    """Row counts of the row groups of a part: as few groups as fit, all within one row of each other, so 16..32 from 16 rows on."""
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
    left_out: Mapping[str, int] | None = None,
    lost: int = 0,
) -> Part:
    """Writes `part-<number>.parquet` from records in their final order; rows are indexed from `first_index`.

    Records are of the kind that `about` says; a dict is a row without `index`. `rejected` are (id, reason) pairs that will be counted
    and listed, `left_out` counts of records that are not wanted, by reason, `lost` see `Part`.
    """
    rows = [
        {**each, "index": index} if isinstance(each, dict) else each.to_row(index)
        for index, each in enumerate(records, start=first_index)
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
        left_out=dict(left_out or {}),
        lost=lost,
    )


def renumber(folder: Folder, part: Part, about: About, first_index: int) -> Part:
    """The same part with its rows indexed from `first_index`, rewritten where that is another number.

    What a part's first row is called is known only when it is known how many records of the parts before it were usable.
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
    """One row group per table. Encoded pixels do not compress and never repeat, so neither is tried; pages carry checksums."""
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
    """First byte of each row group, and the first byte after the last."""
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    columns = [[group.column(c) for c in range(group.num_columns)] for group in groups]
    starts = [min(column.data_page_offset for column in each) for each in columns]
    end = max(column.data_page_offset + column.total_compressed_size for column in columns[-1]) if columns else 0
    return (*starts, end)


def finish(folder: Folder, about: About, parts: Sequence[Part], studies: Mapping[str, dict] | None = None) -> Manifest:
    """Writes the list of broken records, the card and the manifest over `parts` (in order, indexed without gaps) and what was measured.

    ValueError where the parts' indices do not follow each other.
    """
    first_index = 0
    for part in parts:
        if part.first_index != first_index:
            raise ValueError(
                f"part {part.number} begins at index {part.first_index}, the rows before it end at {first_index}"
            )
        first_index += part.rows
    if not first_index:
        raise UserError(f"{folder.uri}: no usable record; look at the reasons above, and at where its files are")
    rejected = [record for part in parts for record in part.rejected]
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
        left_out=dict(sum((Counter(part.left_out) for part in parts), Counter()).most_common()),
        studies=dict(studies or {}),
        files=tuple(part.file for part in parts if part.file),
    )
    folder.write(CARD, card(manifest).encode())
    write_manifest(folder, manifest)
    return manifest


def _write_rejected(folder: Folder, rejected: Sequence[RejectedRecord]) -> RejectedFile | None:
    """Writes every broken record, in the order of the parts, as one line each."""
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
    """A whole data set from records that fit in memory, shuffled by `seed`. UserError where the folder already has one."""
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
