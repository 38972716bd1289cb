"""The pinhole camera of a record: metres in its frame to pixels of the stored image and back.

x is to the right, y down, z forward; `camera_4` is fx, fy, cx, cy in pixels. A leading ... is any shape.
"""

import numpy as np


def project(xyz: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    """float64 [..., 3], metres -> [..., 2], x, y in pixels. The caller sees to z > 0."""
    focal, center = np.split(np.asarray(camera_4, np.float64), 2)
    xyz = np.asarray(xyz, np.float64)
    return xyz[..., :2] / xyz[..., 2:] * focal + center


def unproject(xy: np.ndarray, z: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    """float64 [..., 2], pixels, and [...], metres along the optical axis -> [..., 3], metres."""
    focal, center = np.split(np.asarray(camera_4, np.float64), 2)
    z = np.asarray(z, np.float64)[..., None]
    return np.concatenate([(np.asarray(xy, np.float64) - center) / focal * z, z], -1)
