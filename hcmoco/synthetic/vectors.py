"""Many small vectors at once. Each sum has one order, so it gives the same bits however the vectors are stored.

NumPy's loops run along an array's contiguous axis. Over [N, 3] in C order they end after three numbers, and starting
them costs several times as much as the arithmetic. So points, rays and colors are stored by coordinate: as [N, 3] views
of [3, N].
Shape legend: N vectors.
"""

import numpy as np


def by_coordinate(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return vectors [N, 3] from their coordinates [N], stored by coordinate."""
    return np.array([x, y, z]).T


def by_vector(vectors_N3: np.ndarray) -> np.ndarray:
    """Return the vectors float32 [N, 3] in C order, copied by coordinate where they are stored so."""
    if vectors_N3.flags.c_contiguous and vectors_N3.dtype == np.float32:
        return vectors_N3
    result = np.empty(vectors_N3.shape, np.float32)
    for axis in range(3):
        result[:, axis] = vectors_N3[:, axis]
    return result


def rows(vectors_N3: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return `vectors_N3[which]` for int `which`, stored by coordinate if the vectors are."""
    return vectors_N3.T.take(which, axis=1).T


def cross(a_N3: np.ndarray, b_N3: np.ndarray) -> np.ndarray:
    """Return the cross products [N, 3], or [3] of two vectors [3]. np.cross costs 20 times as much for two vectors."""
    (ax, ay, az), (bx, by, bz) = a_N3.T, b_N3.T
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]).T


def dot(a_N3: np.ndarray, b_N3: np.ndarray) -> np.ndarray:
    """Return the dot products [N]."""
    (ax, ay, az), (bx, by, bz) = a_N3.T, b_N3.T
    return ax * bx + ay * by + az * bz


def norm(vector: np.ndarray) -> np.floating:
    """Return the length of one vector [K], as np.linalg.norm does in four times the time."""
    vector = vector.ravel()  # contiguous, or BLAS would add in another order
    return np.sqrt(vector.dot(vector))


def length(vectors_N3: np.ndarray) -> np.ndarray:
    """Return the lengths [N]."""
    return np.sqrt(dot(vectors_N3, vectors_N3))
