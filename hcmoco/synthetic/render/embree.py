"""Cast rays with Embree: the only module that needs the package `embreex`."""

import platform
from functools import cache
from typing import Any

import numpy as np

from hcmoco.errors import UserError
from hcmoco.synthetic.render.hits import Hits, unit_normals


@cache
def _embree() -> tuple[Any, Any, Any]:
    """(device, scene class, mesh class), once per process."""
    from embreex import rtcore, rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    return rtcore.EmbreeDevice(), rtcore_scene.EmbreeScene, TriangleMesh


def why_not() -> str:
    """Return why Embree cannot be used in this process, "" if it can."""
    try:
        _embree()
    except ImportError as error:
        return f"the package embreex does not import on {platform.system()} {platform.machine()} ({error})"
    return ""


class EmbreeCaster:
    """A mesh in Embree. Raises UserError where Embree cannot be used."""

    def __init__(self, vertices_V3: np.ndarray, faces_F3: np.ndarray):
        if reason := why_not():
            raise UserError(f"{reason}, and the program asks for it; start it with HCMOCO_RAYCASTER=numpy")
        device, scene, mesh = _embree()
        self._scene = scene(device)
        mesh(self._scene, vertices_V3, faces_F3)

    def hits(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """See Caster."""
        found = self._scene.run(origins_N3, directions_N3, output=1)
        u, v = found["u"], found["v"]
        normal = unit_normals(found["Ng"], directions_N3)
        return Hits(found["primID"], found["tfar"], np.stack([1 - u - v, u, v], axis=1), normal)

    def depth(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """See Caster."""
        return self._scene.run(origins_N3, directions_N3, query="DISTANCE")

    def blocked(self, origins_N3: np.ndarray, directions_N3: np.ndarray, limits_N: np.ndarray) -> np.ndarray:
        """See Caster."""
        return self._scene.run(origins_N3, directions_N3, dists=limits_N, query="OCCLUDED") >= 0
