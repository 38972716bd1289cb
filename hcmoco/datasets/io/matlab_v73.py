"""Read cell arrays from MATLAB's v7.3 files.

They are HDF5 files in which a cell array is a data set of references, one to the array of each cell. MATLAB stores
columns first, so what it calls rows x columns is columns x rows here, and is transposed when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hcmoco.datasets.io.hdf5 import LIBRARY_ERRORS, array, open_hdf5, read_array
from hcmoco.errors import one_line


class Cells:
    """A vector of cells of an open file. A cell is read on access."""

    def __init__(self, file: Any, references: np.ndarray):
        self._file = file
        self._references = references

    def __len__(self) -> int:
        return len(self._references)

    def matrix(self, number: int, max_bytes: int) -> np.ndarray:
        """Return the numeric matrix in cell `number`, counted from 0, as [rows, columns].

        Raises:
            ValueError: the cell holds another type or more than `max_bytes` bytes, or its reference is invalid.
        """
        reference = self._references[number]
        try:
            name = self._file[reference].name if reference else None
        except (ValueError, *LIBRARY_ERRORS):
            name = None
        if name is None:
            raise ValueError(f"cell {number} refers to nothing in the file")
        try:
            return read_array(self._file, name, (None, None), "fiub", max_bytes).T
        except ValueError as error:
            raise ValueError(f"cell {number}: {error}") from None
        except LIBRARY_ERRORS as error:
            raise ValueError(f"cell {number} cannot be read: {one_line(error)}") from None


@contextmanager
def open_cells(folder: str, name: str, variable: str, max_cells: int) -> Iterator[Cells]:
    """Open the cell vector `variable` of the v7.3 file `name` in `folder`, as a context manager.

    Raises:
        ValueError: as `hdf5.open_hdf5`; or there is no such vector, or it has more than `max_cells` cells.
    """
    with open_hdf5(folder, name) as file:
        found = array(file, variable, (None, None), "R")
        if min(found.shape) > 1 or found.size > max_cells:
            raise ValueError(
                f"{variable!r} has {found.shape[1]} x {found.shape[0]} cells; a row of at most {max_cells} is read"
            )
        yield Cells(file, found[()].ravel())
