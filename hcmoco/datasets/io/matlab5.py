"""Read real matrices of numbers, and cells of them, from a MATLAB v5 file, and nothing else of it.

SciPy's reader believes a damaged file's types and sizes, to the point of a segmentation fault (1.17). Here every size
is checked against the file. Format: MathWorks, MAT-File Format, "Level 5 MAT-Files".
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

MAX_BYTES = 1 << 26
"""Largest size of an element after decompression, unless the reader is told another."""

_MATRIX, _COMPRESSED, _CELLS = 14, 15, 1
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# The types of the classes double, single and the integers; 1 to 5 are cells, structures, objects, text and sparse
# matrices.
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_matrices(data: bytes, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Return the real numeric matrices of a file by name, [rows, columns], of their class's type.

    Other variables are ignored.

    Args:
        data: bytes of the file.
        max_bytes: largest size of a variable after decompression.

    Raises:
        ValueError: the file is damaged.
    """
    return dict(_variables(data, max_bytes, _matrix))


def read_cells(data: bytes, max_bytes: int = MAX_BYTES) -> dict[str, list[np.ndarray]]:
    """Return the cell arrays of a file by name, each the list of its matrices, column by column.

    A matrix is as of `read_matrices`. Cell arrays that hold anything else, and other variables, are ignored.

    Args, Raises: see `read_matrices`.
    """
    return dict(_variables(data, max_bytes, _cells))


_ValuesT = TypeVar("_ValuesT")


def _variables(
    data: bytes, max_bytes: int, read: Callable[[memoryview, str], tuple[str, _ValuesT] | None]
) -> Iterator[tuple[str, _ValuesT]]:
    """Names and values of the variables that `read` does not return None for."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < 136 or struct.unpack(f"{order}H", data[124:126])[0] != 0x0100:
        raise ValueError("is not a MATLAB v5 file")
    for element in _elements(memoryview(data)[128:], order):
        if element.kind == _COMPRESSED:
            element = next(_elements(_decompressed(element.data, max_bytes), order), element)
        if element.kind == _MATRIX and (named := read(element.data, order)):
            yield named


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements that follow each other in `data`."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start, short = position + 8, kind >> 16
        if short:  # at most four bytes, in the place of the size
            kind, size, start = kind & 0xFFFF, short, position + 4
            if size > 4:
                raise ValueError("is damaged: an element of the short form is too long")
        if start + size > len(data):
            raise ValueError("is damaged or cut off: an element is longer than the file")
        yield _Element(kind, data[start : start + size])
        end = start + size
        # Compressed elements alone are not filled up to a multiple of eight.
        position = position + 8 if short else end if kind == _COMPRESSED else end + -end % 8


def _decompressed(data: memoryview, max_bytes: int) -> memoryview:
    try:
        unpacked = zlib.decompressobj().decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from None
    if len(unpacked) > max_bytes:
        raise ValueError(f"holds a variable of more than {max_bytes} bytes")
    return memoryview(unpacked)


def _matrix(data: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """Name and values; None for a variable that is not a real numeric matrix of two dimensions."""
    parts = _elements(data, order)
    flags, shape, name = (next(parts, None) for _ in range(3))
    if flags is None or shape is None or name is None or len(flags.data) < 4:
        raise ValueError("is damaged: a variable has no name or no size")
    bits = struct.unpack_from(f"{order}I", flags.data)[0]
    if bits & 0xFF not in _CLASSES or bits & _COMPLEX or len(shape.data) != 8:
        return None
    rows, columns = struct.unpack(f"{order}ii", shape.data)
    values = next(parts, None)
    if values is None or values.kind not in _STORED:
        raise ValueError("is damaged: a variable has no values of a known type")
    stored = np.dtype(order + _STORED[values.kind])
    if min(rows, columns) < 0 or rows * columns * stored.itemsize != len(values.data):
        raise ValueError(f"is damaged: a variable of {rows} x {columns} has {len(values.data)} bytes of values")
    kept = np.frombuffer(values.data, stored).reshape(columns, rows).T
    with np.errstate(invalid="ignore"):  # of a damaged type
        # Integers are how doubles without fractions are stored, to save space.
        return bytes(name.data).decode(errors="backslashreplace"), kept.astype(_CLASSES[bits & 0xFF])


def _cells(data: memoryview, order: str) -> tuple[str, list[np.ndarray]] | None:
    """Name and matrices of a cell array; None for any other variable, or where a cell is no real numeric matrix."""
    parts = _elements(data, order)
    flags = next(parts, None)
    if flags is None or len(flags.data) < 4:
        raise ValueError("is damaged: a variable has no type")
    if struct.unpack_from(f"{order}I", flags.data)[0] & 0xFF != _CELLS:
        return None
    shape, name, *cells = parts
    sides = struct.unpack(f"{order}{len(shape.data) // 4}i", shape.data[: len(shape.data) // 4 * 4])
    if min(sides, default=-1) < 0 or math.prod(sides) != len(cells) or any(each.kind != _MATRIX for each in cells):
        raise ValueError(f"is damaged: a variable of {list(sides)} cells has {len(cells)}")
    matrices = [_matrix(each.data, order) for each in cells]
    found = [matrix[1] for matrix in matrices if matrix is not None]
    return (bytes(name.data).decode(errors="backslashreplace"), found) if len(found) == len(cells) else None
