"""Two crops of one picture: which cell of the one shows what a cell of the other shows.

A place goes from the first crop's pixels to the source picture and from there to the second crop's pixels, through the
two affines. Coordinates are as in hcmoco/data/transforms.py: x, y in pixels, a pixel's center at +0.5.

Shapes: S side of a crop, G = (S / 4)² cells of its stride-4 map, row by row; 23 a 2 x 3 matrix.
"""

import numpy as np

from hcmoco.data.schema import MAP_STRIDE


def between(first_23: np.ndarray, second_23: np.ndarray) -> np.ndarray:
    """Return float64 [2, 3]: the affine from pixels of the first crop to pixels of the second.

    Args:
        first_23, second_23: source picture to crop, as `Augmentation.matrix_23`.
    """
    return np.asarray(second_23, np.float64) @ np.linalg.inv(np.vstack([first_23, [0, 0, 1]]))


def cell_centers(size: int) -> np.ndarray:
    """Return float64 [G, 2]: x, y of the cells' middles, pixels of a crop of `size`."""
    at = MAP_STRIDE * (np.arange(size // MAP_STRIDE) + 0.5)
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def matched_cells(first_23: np.ndarray, second_23: np.ndarray, size: int) -> np.ndarray:
    """Return int64 [G]: for each cell of the first crop, the cell of the second one in which its middle lies.

    -1 where the middle lies outside the second crop. Two cells of the first may have one partner, since a cell of the
    second crop may show more of the picture.

    Args:
        first_23, second_23: source picture to crop.
        size: S, of both crops.
    """
    across_23 = between(first_23, second_23)
    places_G2 = cell_centers(size) @ across_23[:, :2].T + across_23[:, 2]
    column_G, row_G = np.floor(places_G2 / MAP_STRIDE).astype(np.int64).T
    inside_G = (places_G2 >= 0).all(1) & (places_G2 < size).all(1)
    return np.where(inside_G, row_G * (size // MAP_STRIDE) + column_G, -1)
