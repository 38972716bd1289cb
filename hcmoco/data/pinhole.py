"""The pinhole camera of a record: meters in its frame to pixels of the stored image and back.

x is to the right, y down, z forward; `camera_4` is fx, fy, cx, cy in pixels. A leading ... is any shape.
"""

import numpy as np


def project(xyz: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    """Project points [..., 3], meters, to float64 [..., 2], x, y in pixels. z must be above 0."""
    focal, center = np.split(np.asarray(camera_4, np.float64), 2)
    xyz = np.asarray(xyz, np.float64)
    return xyz[..., :2] / xyz[..., 2:] * focal + center


def unproject(xy: np.ndarray, z: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    """Return float64 [..., 3], meters, of pixels [..., 2] and of meters along the optical axis [...]."""
    focal, center = np.split(np.asarray(camera_4, np.float64), 2)
    z = np.asarray(z, np.float64)[..., None]
    return np.concatenate([(np.asarray(xy, np.float64) - center) / focal * z, z], -1)
