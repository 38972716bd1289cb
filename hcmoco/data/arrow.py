"""Arrow columns over memory that exists already."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def binary_column(data: Any, count: int) -> pa.Array:
    """Return `count` equally long binary values over the memory of `data`, without copying it.

    Args:
        data: an object with the buffer protocol (array, Buffer), contiguous; `count` divides its bytes.
        count: number of values, 1 or more.
    """
    buffer = pa.py_buffer(data)
    offsets = np.arange(count + 1, dtype=np.int64) * (buffer.size // count)
    return pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(offsets), buffer])


def joined(arrays: Sequence[np.ndarray]) -> pa.Array:
    """Return the bytes of each array as a binary value. They are copied once, into one buffer.

    Args:
        arrays: of one type; their shapes may differ.
    """
    offsets = np.cumsum([0, *(array.nbytes for array in arrays)], dtype=np.int64)
    buffer = pa.py_buffer(np.concatenate([array.ravel() for array in arrays]))
    return pa.Array.from_buffers(pa.large_binary(), len(arrays), [None, pa.py_buffer(offsets), buffer])
