"""Binary columns over existing memory."""

import numpy as np
import pyarrow as pa
import pytest

from hcmoco.data.arrow import binary_column


@pytest.mark.parametrize("shape", [(3, 4), (1, 7, 2), (2, 0)])
def test_values_are_the_entries_along_the_first_axis(shape):
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    column = binary_column(array, len(array))
    column.validate(full=True)
    assert column.to_pylist() == [entry.tobytes() for entry in array]


def test_memory_is_shared_and_not_copied():
    array = np.zeros((4, 1024), np.uint8)
    column = binary_column(array, 4)
    array[2] = 9
    assert column[2].as_py() == bytes([9]) * 1024


def test_a_buffer_is_one_value():
    column = binary_column(pa.py_buffer(b"an item"), 1)
    assert column.to_pylist() == [b"an item"]
