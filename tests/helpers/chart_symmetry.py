"""Files of the form of UV_symmetry_transforms.mat."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

NAME = "UV_symmetry_transforms.mat"
_GRID = np.arange(256) / 255


def write_symmetry(folder: Path, symmetry: Callable[[int, np.ndarray, np.ndarray], tuple], **options) -> Path:
    """Write the table of `symmetry(chart, u, v)`, which returns the mirror image's U and V."""
    v, u = np.meshgrid(_GRID, _GRID, indexing="ij")
    cells = np.empty((2, 1, 24), object)
    for chart in range(1, 25):
        cells[0, 0, chart - 1], cells[1, 0, chart - 1] = symmetry(chart, u, v)
    savemat(folder / NAME, {"U_transforms": cells[0], "V_transforms": cells[1]}, **options)
    return folder / NAME


def people_symmetry(chart: int, u: np.ndarray, v: np.ndarray) -> tuple:
    """The mirror image on the charts of the synthetic people."""
    return (1 - u if chart <= 2 else u), v
