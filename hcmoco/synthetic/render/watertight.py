"""The watertight test of rays against triangles (Woop, Benthin and Wald, JCGT 2013), for many pairs at once.

Each ray has a shear that makes it the z axis. A corner is sheared alike in all triangles that share it. The sign of an
edge function is never wrong but may be zero, which counts as inside. So no ray passes between triangles that share an
edge or a corner. A triangle whose projection has no area is not hit.

All is float64, of float32 input. Shape legend: N rays, T triangles of a leaf, M pairs of a ray and a leaf, K hits.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ShearedRays:
    """Rays whose direction is longest along one and the same axis.

    Attributes:
        rays: int [N], their numbers among all rays.
        axes: numbers of two axes and, last, of the longest.
        origin: float64 [3, N], in the order of `axes`.
        shear: float64 [3, N]: the direction's first two components over its third, and 1 over its third.
    """

    rays: np.ndarray
    axes: tuple[int, int, int]
    origin: np.ndarray
    shear: np.ndarray


def sheared(origins_N3: np.ndarray, directions_N3: np.ndarray) -> list[ShearedRays]:
    """Return the rays by the longest axis of their direction; a ray without a direction is in no group."""
    longest = np.abs(directions_N3).argmax(axis=1)
    there = directions_N3.any(axis=1)
    groups = []
    for z in range(3):
        rays = np.flatnonzero((longest == z) & there)
        if len(rays):
            axes = ((z + 1) % 3, (z + 2) % 3, z)
            x, y, along = directions_N3[rays][:, axes].astype(np.float64).T
            origin = origins_N3[rays][:, axes].astype(np.float64).T
            groups.append(
                ShearedRays(rays, axes, np.ascontiguousarray(origin), np.stack([x / along, y / along, 1 / along]))
            )
    return groups


def intersect(
    group: ShearedRays, rays_M: np.ndarray, corners_33TM: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Intersect rays with triangles.

    Args:
        group: the rays.
        rays_M: int [M], numbers of rays in the group.
        corners_33TM: float64 [3, 3, T, M], for each ray T triangles: corner, coordinate in the order of the group's
            axes. Is overwritten.

    Returns:
        For each of K hits in front of the origin: the number of the triangle 0..T-1 and of the pair 0..M-1, the ray's
        parameter float64 [K], and the barycentric weights of the corners float64 [3, K].
    """
    origin, (shear_x, shear_y, shear_z) = group.origin[:, rays_M], group.shear[:, rays_M]
    corners_33TM -= origin[:, None]
    corners_33TM[:, 0] -= shear_x * corners_33TM[:, 2]
    corners_33TM[:, 1] -= shear_y * corners_33TM[:, 2]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners_33TM
    # Products are written so that an edge gives the same two in both of its triangles.
    u, v, w = cx * by, ax * cy, bx * ay
    u -= cy * bx
    v -= ay * cx
    w -= by * ax
    least, most = np.minimum(u, v), np.maximum(u, v)
    np.minimum(least, w, out=least)
    np.maximum(most, w, out=most)
    triangle, pair = np.nonzero((least >= 0) | (most <= 0))
    at = (triangle, pair)
    weights = np.stack([u[at], v[at], w[at]])
    area = weights.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights /= area
        depth = (weights[0] * az[at] + weights[1] * bz[at] + weights[2] * cz[at]) * shear_z[pair]
    hit = (area != 0) & (depth > 0)
    return triangle[hit], pair[hit], depth[hit], weights[:, hit]
