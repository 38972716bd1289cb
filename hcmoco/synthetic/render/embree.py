"""Cast rays with Embree: the only module that needs the package `embreex`."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from hcmoco.errors import UserError
from hcmoco.synthetic.render.hits import Hits, unit_normals
from hcmoco.synthetic.vectors import by_coordinate


@cache
def _embree() -> tuple[Any, Any, Any]:
    """(device, scene class, mesh class), once per process."""
    from embreex import rtcore, rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    with _one_core():
        return rtcore.EmbreeDevice(), rtcore_scene.EmbreeScene, TriangleMesh


@contextmanager
def _one_core() -> Iterator[None]:
    """Have Embree take one thread: it takes as many as its first caller may use cores.

    For meshes this small more threads cost CPU time, and where many people are made there is a process for each core.
    """
    if not hasattr(os, "sched_setaffinity"):  # Linux has it
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def why_not() -> str:
    """Return why Embree cannot be used in this process, "" if it can."""
    try:
        _embree()
    except ImportError as error:
        return f"the package embreex does not import on {platform.system()} {platform.machine()} ({error})"
    return ""


_MOST_CONSTANT = 8
_CONSTANT: dict[int, tuple[np.ndarray, np.ndarray]] = {}
"""By its id, a read-only array of faces, and the same as tuples: the few meshes that all bodies have."""


def _tuples(faces_F3: np.ndarray) -> np.ndarray:
    """The faces as an array [F] of tuples of three numbers; those of a read-only array are kept."""
    if id(faces_F3) in _CONSTANT:
        return _CONSTANT[id(faces_F3)][1]
    faces = np.fromiter(zip(*faces_F3.T.tolist(), strict=True), object, len(faces_F3))
    if not faces_F3.flags.writeable and len(_CONSTANT) < _MOST_CONSTANT:
        _CONSTANT[id(faces_F3)] = faces_F3, faces
    return faces


class EmbreeCaster:
    """A mesh in Embree. Raises UserError where Embree cannot be used."""

    def __init__(self, vertices_V3: np.ndarray, faces_F3: np.ndarray):
        if reason := why_not():
            raise UserError(f"{reason}, and the program asks for it; start it with HCMOCO_RAYCASTER=numpy")
        device, scene, mesh = _embree()
        self._scene = scene(device)
        # embreex reads number by number through Python. Python's own numbers take it a third of the time of NumPy's.
        mesh(self._scene, vertices_V3.astype(object), _tuples(faces_F3))

    def hits(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """See Caster."""
        found = self._scene.run(origins_N3, directions_N3, output=1)
        u, v = found["u"], found["v"]
        normal = unit_normals(found["Ng"], directions_N3)
        return Hits(found["primID"], found["tfar"], by_coordinate(1 - u - v, u, v), normal)

    def depth(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """See Caster."""
        return self._scene.run(origins_N3, directions_N3, query="DISTANCE")

    def blocked(self, origins_N3: np.ndarray, directions_N3: np.ndarray, limits_N: np.ndarray) -> np.ndarray:
        """See Caster."""
        return self._scene.run(origins_N3, directions_N3, dists=limits_N, query="OCCLUDED") >= 0
