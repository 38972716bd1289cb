"""What a ray caster returns and takes. Shape legend: N rays, V vertices, F triangles."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hcmoco.synthetic.vectors import dot, length

NO_HIT = np.float32(1e37)
"""Depth of a ray that hits nothing."""


@dataclass(frozen=True)
class Hits:
    """First hits of N rays.

    Attributes:
        face: int32 [N], -1 where the ray hits nothing. On an edge that faces share it may be either of them.
        depth: float32 [N], the ray's parameter at the hit, in lengths of its direction; 1e37 where it hits nothing.
        weights: float32 [N, 3], barycentric weights of the face's corners.
        normal: float32 [N, 3], the face's unit normal on the side that the ray hits.
    """

    face: np.ndarray
    depth: np.ndarray
    weights: np.ndarray
    normal: np.ndarray


class Caster(Protocol):
    """Casts rays against one mesh: float32 origins [N, 3] and directions [N, 3]. See raycast.Mesh."""

    def hits(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """Return the first hits."""

    def depth(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """Return the depth of the first hits, float32 [N]."""

    def blocked(self, origins_N3: np.ndarray, directions_N3: np.ndarray, limits_N: np.ndarray) -> np.ndarray:
        """Return whether anything lies on the rays before their limits, bool [N]."""


def unit_normals(normals_N3: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
    """Return normals scaled to unit length and turned against the rays, by coordinate; a zero normal stays zero."""
    normals = normals_N3.T * (np.float32(1) / (length(normals_N3) + np.float32(1e-12)))
    normals *= np.where(dot(normals.T, directions_N3) > 0, np.float32(-1), np.float32(1))
    return normals.T
