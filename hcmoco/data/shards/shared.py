"""Rows that two prepared data sets have in common: people who are trained on and tested on."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hcmoco.data.shards.reader import Shards

_MOST_ROWS, _MOST_FILES = 1_000_000, 256  # so that a run that starts does not read for minutes
_COMPARED = 8


def count_shared(one: Shards, other: Shards) -> int:
    """Return how many rows of `other` are rows of `one`, too: of the same id, but for the data set's name, and picture.

    Pictures are compared of a few of the rows that have the same id, since a manifest holds no digests of rows. So a
    picture that was prepared again in another size, or under another id, is not found. 0 for very large data sets,
    which are not looked through.
    """
    sizes = [(each.manifest.rows, len(each.manifest.files)) for each in (one, other)]
    if one.manifest.kind != other.manifest.kind or any(n > _MOST_ROWS or m > _MOST_FILES for n, m in sizes):
        return 0
    names, wanted = (_names(each) for each in (one, other))
    places = pc.index_in(wanted, value_set=names).to_numpy(zero_copy_only=False)
    shared = np.flatnonzero(~np.isnan(places.astype(np.float64)))
    if not len(shared):
        return 0
    looked_at = shared[:: -(-len(shared) // _COMPARED)]
    same = [_picture(one, int(places[row])) == _picture(other, int(row)) for row in looked_at]
    return round(len(shared) * float(np.mean(same)))


def _names(shards: Shards) -> pa.Array:
    """The rows' ids without the data set's name."""
    ids = shards.read_column("id").combine_chunks()
    return pc.replace_substring_regex(ids, "^[^/]*/", "")


def _picture(shards: Shards, row: int) -> Any:
    """What of a row tells it from all others: its pictures; its keypoints where it has none."""
    firsts = np.cumsum([0, *shards.group_rows])
    group = int(np.searchsorted(firsts, row, "right")) - 1
    columns = ["rgb"] if shards.manifest.kind == "scene" else ["rgb", "depth", "keypoints"]
    (found,) = shards.read_group(group, columns, [row - int(firsts[group])]).to_pylist()
    keypoints = found.pop("keypoints", None)
    return found if any(found.values()) else keypoints
