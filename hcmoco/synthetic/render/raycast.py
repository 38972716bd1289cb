"""Cast rays against triangle meshes, with Embree where it is, else in NumPy.

Embree comes with the package `embreex`, which exists for Linux and Windows on x86-64 and for macOS 13 or newer on Apple
silicon. NumPy gives the same hits to rounding, more slowly.

Shape legend: N rays, V vertices, F triangles.
"""

import os
import sys
from collections.abc import Callable
from functools import cache

import numpy as np

from hcmoco.errors import UserError
from hcmoco.synthetic.render.bvh import BVHCaster
from hcmoco.synthetic.render.embree import EmbreeCaster, why_not
from hcmoco.synthetic.render.hits import Caster, Hits
from hcmoco.synthetic.vectors import by_vector

__all__ = ["RAYCASTERS", "VARIABLE", "Hits", "Mesh", "raycaster"]

RAYCASTERS: dict[str, Callable[[np.ndarray, np.ndarray], Caster]] = {"embree": EmbreeCaster, "numpy": BVHCaster}
VARIABLE = "HCMOCO_RAYCASTER"
_SLOWER = "about 6 times slower than with Embree"  # a person of 128 px, as measured: docs/measurements.md


@cache
def raycaster() -> str:
    """Return the key of RAYCASTERS that is used where none is named: HCMOCO_RAYCASTER, else embree, else numpy.

    It is chosen once per process. That it is numpy because Embree is not there is one line on stderr.

    Raises:
        UserError: HCMOCO_RAYCASTER names no ray caster, or one that is not there.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named and named not in RAYCASTERS:
        raise UserError(f"{VARIABLE} is {named!r}; it must be {' or '.join(RAYCASTERS)}, or unset")
    missing = why_not() if named != "numpy" else ""
    if named == "embree" and missing:
        raise UserError(f"{VARIABLE} asks for embree, but {missing}; set it to numpy or unset it")
    if missing:
        print(f"{missing}: people are rendered in NumPy, {_SLOWER}", file=sys.stderr, flush=True)
        return "numpy"
    return named or "embree"


class Mesh:
    """Triangles to cast rays against. Directions need not have unit length.

    A ray hits what lies in front of its origin. Rays pass no edge or corner that triangles share.
    """

    def __init__(self, vertices_V3: np.ndarray, faces_F3: np.ndarray, caster: str | None = None):
        """Take the triangles.

        Args:
            vertices_V3: float32 [V, 3].
            faces_F3: int32 [F, 3], numbers of vertices.
            caster: key of RAYCASTERS; None: `raycaster()`.

        Raises:
            UserError: the caster is not there.
        """
        vertices, faces = by_vector(vertices_V3), np.ascontiguousarray(faces_F3, np.int32)
        self._caster = RAYCASTERS[caster or raycaster()](vertices, faces)

    def hits(self, origin: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """Return the first hits of rays from `origin`, [3] or [N, 3], along `directions_N3`."""
        return self._caster.hits(*_rays(origin, directions_N3))

    def depth(self, origin: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """Return the depth of the first hits, float32 [N], as Hits.depth."""
        return self._caster.depth(*_rays(origin, directions_N3))

    def blocked(self, origin: np.ndarray, directions_N3: np.ndarray, limit: float | np.ndarray = 1e37) -> np.ndarray:
        """Return whether anything lies on the ray before `limit`, bool [N].

        Args:
            origin: float [3] or [N, 3].
            directions_N3: float [N, 3].
            limit: a number or float32 [N], in lengths of the direction.
        """
        limits = np.array(np.broadcast_to(limit, len(directions_N3)), np.float32)
        return self._caster.blocked(*_rays(origin, directions_N3), limits)


def _rays(origin: np.ndarray, directions_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    directions, origins = by_vector(directions_N3), np.asarray(origin, np.float32)
    return by_vector(np.broadcast_to(origins, directions.shape)), directions
