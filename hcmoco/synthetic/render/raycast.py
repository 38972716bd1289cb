"""Cast rays against triangle meshes, with Embree.

This is the only module that needs the package `embreex`, and it imports it only when something is rendered.
Shape legend: N rays, V vertices, F triangles.
"""

import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hcmoco.errors import UserError


@cache
def _embree() -> tuple[Any, Any, Any]:
    """(device, scene class, mesh class), once per process."""
    try:
        from embreex import rtcore, rtcore_scene
        from embreex.mesh_construction import TriangleMesh
    except ImportError as error:
        raise UserError(
            f"people cannot be rendered on {platform.system()} {platform.machine()}: "
            f"the package embreex does not import ({error}); it exists for Linux and Windows on x86-64 and for macOS "
            "13 or newer (`pip install embreex`); elsewhere use your own photographs: "
            "`python pipelines/prepare.py folder`"
        ) from None
    return rtcore.EmbreeDevice(), rtcore_scene.EmbreeScene, TriangleMesh


@dataclass(frozen=True)
class Hits:
    """First hits of N rays.

    Attributes:
        face: int32 [N], -1 where the ray hits nothing.
        depth: float32 [N], the ray's parameter at the hit, in lengths of its direction; 1e37 where it hits nothing.
        weights: float32 [N, 3], barycentric weights of the face's corners.
        normal: float32 [N, 3], the face's unit normal on the side that the ray hits.
    """

    face: np.ndarray
    depth: np.ndarray
    weights: np.ndarray
    normal: np.ndarray


class Mesh:
    """Triangles to cast rays against. Directions need not have unit length."""

    def __init__(self, vertices_V3: np.ndarray, faces_F3: np.ndarray):
        device, scene, mesh = _embree()
        self._scene = scene(device)
        mesh(self._scene, np.ascontiguousarray(vertices_V3, np.float32), np.ascontiguousarray(faces_F3, np.int32))

    def hits(self, origin: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """Return the first hits of rays from `origin`, [3] or [N, 3], along `directions_N3`."""
        found = self._scene.run(*_rays(origin, directions_N3), output=1)
        u, v, normal = found["u"], found["v"], found["Ng"]
        normal *= (np.float32(1) / (np.sqrt(np.einsum("ni,ni->n", normal, normal)) + np.float32(1e-12)))[:, None]
        normal[np.einsum("ni,ni->n", normal, directions_N3) > 0] *= -1
        return Hits(found["primID"], found["tfar"], np.stack([1 - u - v, u, v], axis=1), normal)

    def depth(self, origin: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """Return the depth of the first hits, float32 [N], as Hits.depth."""
        return self._scene.run(*_rays(origin, directions_N3), query="DISTANCE")

    def blocked(self, origin: np.ndarray, directions_N3: np.ndarray, limit: float | np.ndarray = 1e37) -> np.ndarray:
        """Return whether anything lies on the ray before `limit`, bool [N].

        Args:
            origin: float [3] or [N, 3].
            directions_N3: float [N, 3].
            limit: a number or float32 [N], in lengths of the direction.
        """
        limits = np.array(np.broadcast_to(limit, len(directions_N3)), np.float32)
        return self._scene.run(*_rays(origin, directions_N3), dists=limits, query="OCCLUDED") >= 0


def _rays(origin: np.ndarray, directions_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    directions = np.ascontiguousarray(directions_N3, np.float32)
    return np.ascontiguousarray(np.broadcast_to(np.asarray(origin, np.float32), directions.shape)), directions
