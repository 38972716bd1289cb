"""Cell arrays in MATLAB's v7.3 files: HDF5 in which a cell array is a data set of references, one to the array of each cell.

MATLAB stores columns first, so what it calls rows x columns is columns x rows here, and is transposed back when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hcmoco.datasets.io.hdf5 import LIBRARY_ERRORS, array, line_of, open_hdf5, whole


class Cells:
    """A vector of cells of an open file; each is read when it is asked for."""

    def __init__(self, file: Any, references: np.ndarray):
        self._file = file
        self._references = references

    def __len__(self) -> int:
        return len(self._references)

    def matrix(self, number: int, most: int) -> np.ndarray:
        """[rows, columns] of the numeric matrix in cell `number`, counted from 0.

        Raises ValueError where the cell holds something else, where its reference leads nowhere, and for more than `most` bytes.
        """
        reference = self._references[number]
        try:
            name = self._file[reference].name if reference else None
        except (ValueError, *LIBRARY_ERRORS):
            name = None
        if name is None:
            raise ValueError(f"cell {number} refers to nothing in the file")
        try:
            return whole(self._file, name, (None, None), "fiub", most).T
        except ValueError as error:
            raise ValueError(f"cell {number}: {error}") from None
        except LIBRARY_ERRORS as error:
            raise ValueError(f"cell {number} cannot be read: {line_of(error)}") from None


@contextmanager
def open_cells(folder: str, name: str, variable: str, most: int) -> Iterator[Cells]:
    """The cell vector `variable` of the v7.3 file `name` in `folder`.

    Raises ValueError as `hdf5.open_hdf5` does, where there is no such vector, and where it has more than `most` cells.
    """
    with open_hdf5(folder, name) as file:
        found = array(file, variable, (None, None), "R")
        if min(found.shape) > 1 or found.size > most:
            raise ValueError(
                f"{variable!r} has {found.shape[1]} x {found.shape[0]} cells; a row of at most {most} is read"
            )
        yield Cells(file, found[()].ravel())
