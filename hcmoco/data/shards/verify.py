"""Check a prepared data set against its manifest, byte for byte."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hcmoco.data.schema import Person, Scene
from hcmoco.data.shards.manifest import REJECTED, File, Manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import group_offsets
from hcmoco.data.validation import check_person, check_scene
from hcmoco.errors import one_line
from hcmoco.rng import make_rng
from hcmoco.storage import Folder, join

_OTHER_BYTES = (
    "its bytes are not those that were written (SHA-256 differs); copy it again or prepare the data set again"
)


def verify(uri: str, *, sample: int = 8, progress: Callable[[int], None] | None = None) -> list[str]:
    """Check the data set at `uri`.

    Checked are each file's length, SHA-256, schema, row groups and their offsets, that `index` counts 0..N-1 over the
    files, that no id comes twice, and that `sample` rows of each file decode as records; of the list of rejected
    records its SHA-256 and its number of lines.

    Args:
        uri: folder of the data set.
        sample: rows of each file that are decoded.
        progress: called with the number of files of rows done.

    Returns:
        One line for each bad file; empty if every promise of the manifest holds.

    Raises:
        UserError: the manifest itself is missing or not valid, or a file is missing or of another length.
        StorageError: the store does not answer.
    """
    shards = Shards.open(uri)
    problems: list[str] = []
    ids: set[str] = set()
    first_index = 0
    for number, file in enumerate(shards.manifest.files):
        try:
            _check_file(shards.manifest, Folder(uri), file, first_index, sample, ids)
        except (OSError, ValueError, pa.ArrowException) as error:
            Folder(uri).raise_if_unreachable(error)
            problems.append(f"{join(uri, file.name)}: {one_line(error)}")
        first_index += file.rows
        if progress:
            progress(number + 1)
    try:
        _check_rejected(shards.manifest, Folder(uri))
    except (OSError, ValueError) as error:
        problems.append(f"{join(uri, REJECTED)}: {one_line(error)}")
    return problems


def _check_rejected(manifest: Manifest, folder: Folder) -> None:
    """Raise OSError or ValueError if the list of rejected records is not the one that was written."""
    listed = manifest.rejected_file
    if listed is None:
        return
    if not folder.exists(listed.name):
        raise ValueError("it is missing; copy it again or prepare the data set again")
    if folder.sha256(listed.name) != listed.sha256:
        raise ValueError(_OTHER_BYTES)
    if (lines := folder.read(listed.name).count(b"\n")) != manifest.rejected:
        raise ValueError(f"it has {lines} lines, the manifest counts {manifest.rejected} rejected records")


def _check_file(manifest: Manifest, folder: Folder, file: File, first_index: int, sample: int, ids: set[str]) -> None:
    """Raise ValueError with the first fault. Adds the file's ids to `ids`."""
    if folder.sha256(file.name) != file.sha256:
        raise ValueError(_OTHER_BYTES)
    with folder.open(file.name) as source:
        stored = pq.ParquetFile(source, page_checksum_verification=True)
        if not stored.schema_arrow.equals(manifest.schema):
            raise ValueError(
                f"its columns are not those of {manifest.kind} records with the joint set {manifest.joints!r}"
            )
        sizes = tuple(stored.metadata.row_group(g).num_rows for g in range(stored.metadata.num_row_groups))
        if sizes != file.group_rows or group_offsets(stored.metadata) != file.offsets:
            raise ValueError("its row groups are not those of the manifest")
        keys = stored.read(columns=["id", "index"])
        if not np.array_equal(keys["index"].to_numpy(), np.arange(first_index, first_index + file.rows)):
            raise ValueError(f"its index column does not count from {first_index} to {first_index + file.rows - 1}")
        for id in keys["id"].to_pylist():
            if id in ids:
                raise ValueError(f"the id {id!r} comes twice in the data set")
            ids.add(id)
        for row in _sample(stored, file, sample):
            reasons = _check_record(manifest, row)
            if reasons:
                raise ValueError(f"record {row['id']!r}: {'; '.join(reasons)}")


def _sample(stored: pq.ParquetFile, file: File, count: int) -> Iterator[dict]:
    """`count` rows of a file, the same ones each time, from as few row groups as hold them."""
    if not count:
        return
    rng = make_rng(0, "verify", file.rows)
    for g in sorted(rng.permutation(len(file.group_rows))[: max(1, count // 4)].tolist()):
        table = stored.read_row_group(g)
        yield from table.take(pa.array(rng.permutation(len(table))[:4])).to_pylist()


def _check_record(manifest: Manifest, row: dict) -> list[str]:
    if manifest.kind == "person":
        lengths = {field.name: int(field.metadata[b"length"]) for field in manifest.schema if field.metadata}
        wrong = [name for name, length in lengths.items() if row[name] is not None and len(row[name]) != length]
        if wrong:
            return [f"{name} has {len(row[name])} numbers instead of {lengths[name]}" for name in wrong]
        return check_person(Person.from_row(row), manifest.joint_count, manifest.depth_codec)
    try:
        scene = Scene.from_row(row)
    except ValueError:
        return ["the surface points of an instance are not rows of 5 numbers"]
    return check_scene(scene)
