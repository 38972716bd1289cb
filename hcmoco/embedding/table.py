"""The folder of embeddings: Parquet files, and a manifest that says what their numbers mean.

<folder>/
  part-00000.parquet   people in the order of their source
  ...
  people.jsonl         the lines that were read; only of a folder of pictures
  rejected.jsonl       {"id": ..., "reason": ...} of each person that could not be read; only if there are any
  features.png         dense embeddings of the first people in color; only of pictures
  manifest.json        written last: a folder without it is not finished

Shapes: D embedding, J joints, h, w positions of the finest map.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, JsonValue

from hcmoco.config import Config, build
from hcmoco.data.schema import MODALITIES
from hcmoco.data.shards.manifest import read_json
from hcmoco.embedding.encode import Collected
from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, HashingSink, absolute, join

MANIFEST, REJECTED, FEATURES, LINES = "manifest.json", "rejected.jsonl", "features.png", "people.jsonl"
FORMAT, FORMAT_VERSION = "hcmoco-embeddings", 1
_PART_BYTES, _GROUP_BYTES = 128 << 20, 8 << 20
_PART_ROWS = (256, 16384)
_PARTS = 64  # that a data set has at least, where each is then of 256 people or more


class File(Config):
    """One Parquet file."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Pictures(Config):
    """How a folder of pictures was read."""

    config: dict[str, JsonValue] = Field(description="of the reader; see hcmoco/datasets/person_lines.py")
    whole: bool = Field(description="pictures without a box show the person in the middle")


class Manifest(Config):
    """What a folder of embeddings holds, and what its columns mean."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    hcmoco: str = Field(description="version of the program")
    request: dict[str, JsonValue] = Field(description="what decides the content: weights, data, options")
    weights: dict[str, JsonValue] = Field(description="name as it was given, and digest")
    data: dict[str, JsonValue] = Field(description="where the people are from, and what is read of it")
    pictures: Pictures | None = Field(None, description="how pictures were read; none of prepared people")
    embedding_size: int = Field(description="D; all embeddings have unit length, or are zero where there is nothing")
    image_size: int = Field(description="side of the crops, pixels")
    joint_set: str
    joints: tuple[str, ...] = Field(description="the J joints, in order")
    shapes: dict[str, tuple[int, ...]] = Field(description="shape of each column of embeddings, in C order")
    rows: int
    modalities: dict[str, int] = Field(description="people that have each modality")
    rejected: int
    warning: str = Field("", description="why the embeddings may mean little")
    files: tuple[File, ...]


def schema(columns: Mapping[str, tuple[int, ...]], joints: int | None) -> pa.Schema:
    """Return the Arrow schema of the files.

    Embeddings are fixed-size lists of float16 in C order, never null: what a person does not have is zero, and `has_*`
    says so. (Arrow C++ up to 25 cannot read a null fixed-size list from Parquet, apache/arrow#35692.)

    Args:
        columns: shapes of the embeddings.
        joints: J, for the column `joints_visible`; None: there is none.
    """
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("id", "source", "subject")]
    fields += [pa.field("index", pa.int64(), nullable=False)]
    fields += [pa.field(f"has_{name}", pa.bool_(), nullable=False) for name in MODALITIES]
    if joints is not None:
        fields.append(pa.field("joints_visible", _fixed(pa.bool_(), joints), nullable=False))
    for name, shape in columns.items():
        kind = _fixed(pa.float16(), int(np.prod(shape)))
        fields.append(pa.field(name, kind, nullable=False, metadata={"shape": json.dumps(list(shape))}))
    return pa.schema(fields)


def _fixed(kind: pa.DataType, length: int) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False), length)


def part_rows(rows: int, columns: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many people a file has: a power of two that follows from the data and the columns alone."""
    least, most = _PART_ROWS
    fitting = max(1, min(most, _PART_BYTES // _row_bytes(columns)))
    wanted = max(least, rows // _PARTS)
    return min(1 << (fitting.bit_length() - 1), 1 << max(0, (wanted - 1).bit_length()))


def _row_bytes(columns: Mapping[str, tuple[int, ...]]) -> int:
    return max(1, sum(2 * int(np.prod(shape)) for shape in columns.values()))


def to_table(found: Collected, columns: Mapping[str, tuple[int, ...]]) -> pa.Table:
    """Return the people of a part as a table of `schema`."""
    count = len(found.crops)
    visible = found.kinds.joints
    joints = next((shape[0] for name, shape in columns.items() if name.endswith("_joints")), 0) if visible else None
    wanted = schema(columns, joints)
    present = found.arrays["present"]
    values: dict[str, Any] = {
        name: [getattr(crop, name) for crop in found.crops] for name in ("id", "source", "subject", "index")
    }
    values |= {f"has_{name}": present[:count, k] for k, name in enumerate(MODALITIES)}
    arrays = []
    for each in wanted:
        if each.name in values:
            arrays.append(pa.array(values[each.name], each.type))
            continue
        length = each.type.list_size
        kind = bool if pa.types.is_boolean(each.type.value_type) else np.float16
        array = found.arrays.get(each.name)
        flat = np.zeros(count * length, kind) if array is None else array[:count].reshape(-1)
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), type=each.type))
    return pa.Table.from_arrays(arrays, schema=wanted)


def write_part(folder: Folder, name: str, table: pa.Table, columns: Mapping[str, tuple[int, ...]]) -> File:
    """Write the people of a part. Embeddings neither compress nor repeat, so neither is tried."""
    group = max(16, _GROUP_BYTES // _row_bytes(columns))
    with folder.replacing(name) as file:
        sink = HashingSink(file)
        with pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            table.schema,
            compression="NONE",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            writer.write_table(table, row_group_size=group)
    return File(name=name, rows=len(table), bytes=sink.bytes, sha256=sink.sha256)


@dataclass(frozen=True)
class EmbeddingSet:
    """A finished folder of embeddings, opened.

    Attributes:
        uri: absolute folder or URI.
        manifest: its manifest.
    """

    uri: str
    manifest: Manifest

    @classmethod
    def open(cls, uri: str) -> "EmbeddingSet":
        """Open the embeddings at `uri`.

        Raises:
            UserError: there are none, they are not finished, or a file is missing or of another length.
        """
        folder = Folder(absolute(uri))
        manifest = read_manifest(folder)
        sizes = folder.sizes()
        for file in manifest.files:
            if sizes.get(file.name) != file.bytes:
                raise UserError(
                    f"{join(uri, file.name)} is missing or not of the {file.bytes} bytes that the manifest says; copy "
                    "it again or embed again"
                )
        return cls(folder.uri, manifest)

    def __len__(self) -> int:
        return self.manifest.rows

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of all people in order, a row group at a time.

        Raises:
            UserError: a file is damaged.
        """
        folder = Folder(self.uri)
        for file in self.manifest.files:
            try:
                with folder.open(file.name) as source:
                    stored = pq.ParquetFile(source, page_checksum_verification=True)
                    for group in range(stored.num_row_groups):
                        yield stored.read_row_group(group, columns=list(columns))
            except (OSError, ValueError, pa.ArrowException) as error:
                folder.raise_if_unreachable(error)
                raise UserError(
                    f"{join(self.uri, file.name)} is damaged ({one_line(error)}); copy it again or embed again"
                ) from None


def to_numpy(column: pa.ChunkedArray | pa.Array, shape: Sequence[int]) -> np.ndarray:
    """Return a column of fixed-size lists as an array [rows, *shape], of the type that is stored."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no rows
        return np.zeros((0, *shape), np.float16)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), *shape)


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a folder of embeddings.

    Raises:
        UserError: there is none, or it is of something else.
    """
    where = join(folder.uri, MANIFEST)
    missing = (
        f"{folder.uri} holds no finished embeddings (it has no {MANIFEST}); write them with "
        "`python pipelines/embed.py WEIGHTS DATA --out OUT`, or run an interrupted command again"
    )
    values = read_json(folder, MANIFEST, missing, "embed again")
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{where} is not of embeddings; give the --out of an earlier `python pipelines/embed.py`")
    if values.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{where} has format version {values.get('format_version')}, this hcmoco reads {FORMAT_VERSION}; "
            "embed again"
        )
    return build(Manifest, values, where)


def holds_embeddings(folder: Folder) -> bool:
    """Return whether the manifest of a folder is one of embeddings."""
    try:
        values = json.loads(folder.read(MANIFEST))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT
