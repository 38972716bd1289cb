"""Read HDF5 files that may be damaged or not what they claim to be.

The library follows links to other files, maps one data set onto others, loads filters by number and allocates what a
header asks for. Measurements need none of that. So everything is checked before values are read: only plain arrays of
the file itself, with filters that come with the library, are accepted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.datasets.io.files import path_inside
from hcmoco.errors import one_line

MAX_FILE = 1 << 40
MAX_CHUNK = 1 << 28
"""Bytes of a chunk before compression; the library holds one in memory at a time."""

# DEFLATE, shuffle, Fletcher-32 and LZF, by their registered numbers.
_FILTERS = {1, 2, 3, 32000}
# What h5py raises for damage, besides ValueError.
LIBRARY_ERRORS = (OSError, RuntimeError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, SystemError)


@contextmanager
def open_hdf5(folder: str | Path, name: str) -> Iterator[Any]:
    """Open the HDF5 file `name` of `folder` for reading, as a context manager that yields an h5py.File.

    Raises:
        ValueError: as `files.path_inside`; the file is not HDF5; or the library finds damage inside the block.
    """
    import h5py

    path = path_inside(folder, name, MAX_FILE)
    try:
        # Without a lock, which network disks often refuse; without a cache, so that of chunks that are not compressed
        # only what is asked for is read.
        with h5py.File(path, "r", locking=False, rdcc_nbytes=0) as file:
            yield file
    except LIBRARY_ERRORS as error:
        raise ValueError(f"{name!r} cannot be read as HDF5: {one_line(error)}") from None


def array(file: Any, name: str, shape: Sequence[int | None], kinds: str = "fiub") -> Any:
    """Return the data set `name` of an open file after checking it. Its values are not read yet.

    Args:
        file: an open h5py.File.
        name: of the data set.
        shape: sizes that it must have; None allows any.
        kinds: NumPy kinds of its type, e.g. "f" for floating point; "S" is a text of fixed length, "R" a reference to
            another object of the file. Values of variable length are not supported: a damaged heap of them makes the
            library (2.0) run forever.

    Raises:
        ValueError: it does not exist, is elsewhere (a link, an external or a virtual data set), or has another shape,
            type or storage.
    """
    import h5py

    link = file.get(name, getlink=True)
    if link is None:
        raise ValueError(f"there is no data set {name!r}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link to somewhere else")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name!r} is not a data set")
    if (
        found.shape is None
        or len(found.shape) != len(shape)
        or any(w not in (None, h) for w, h in zip(shape, found.shape, strict=True))
    ):
        wanted = ["N" if size is None else size for size in shape]
        raise ValueError(f"{name!r} has the shape {list(found.shape or ())}, needed is {_listed(wanted)}")
    kind = "R" if h5py.check_ref_dtype(found.dtype) is h5py.Reference else found.dtype.kind
    if kind not in kinds:
        raise ValueError(f"{name!r} has values of type {found.dtype}")
    if found.dtype.itemsize > 64:
        raise ValueError(f"{name!r} has values of {found.dtype.itemsize} bytes each")
    if found.is_virtual or found.external:
        raise ValueError(f"the values of {name!r} lie in another file")
    plan = found.id.get_create_plist()
    filters = {plan.get_filter(each)[0] for each in range(plan.get_nfilters())}
    if not filters <= _FILTERS:
        raise ValueError(
            f"{name!r} is stored with the filter number {min(filters - _FILTERS)}; h5repack can store it with GZIP"
        )
    if found.chunks and int(np.prod(found.chunks, dtype=np.float64)) * found.dtype.itemsize > MAX_CHUNK:
        raise ValueError(
            f"{name!r} is stored in chunks of {_listed(found.chunks)}, too large to hold; "
            "h5repack can make them smaller"
        )
    return found


def read_array(
    file: Any, name: str, shape: Sequence[int | None], kinds: str = "fiub", max_bytes: int = 1 << 28
) -> np.ndarray:
    """Return all values of a data set that `array` accepts; raise ValueError for more than `max_bytes` bytes."""
    found = array(file, name, shape, kinds)
    size = int(np.prod(found.shape, dtype=np.float64)) * found.dtype.itemsize
    if size > max_bytes:
        raise ValueError(f"{name!r} holds {size} bytes, at most {max_bytes} are read")
    return found[()]


def rows(found: Any, start: int, stop: int) -> np.ndarray:
    """Return rows `start` to `stop` of a data set that `array` accepted; raise ValueError if they are damaged."""
    try:
        return found[start:stop]
    except LIBRARY_ERRORS as error:
        raise ValueError(f"rows {start} to {stop} cannot be read: {one_line(error)}") from None


def _listed(sizes: Sequence) -> str:
    return " x ".join(map(str, sizes))
