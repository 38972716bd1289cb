"""Cast rays in NumPy, with a bounding volume hierarchy through which many rays go together.

The hierarchy halves the triangles at the median of their centers, along the axis that gives the smallest boxes, until a
leaf has a few. Three halvings make a level, so a node has eight children. Rays and nodes are looked at in pairs, a
bounded number at once, so memory grows with the rays and with the triangles but not with their pairs. The result does
not depend on the hierarchy: it is the nearest hit, and among equally near ones the face with the lowest number.

Shape legend: N rays, V vertices, F triangles, P pairs of a ray and a node, L leaves, T triangles of a leaf.
"""

from collections.abc import Iterator

import numpy as np

from hcmoco.synthetic.render.hits import NO_HIT, Hits, unit_normals
from hcmoco.synthetic.render.watertight import ShearedRays, intersect, sheared

_CHILDREN = 8  # of a node; a power of 2
_LEAST_IN_LEAF = 4  # triangles; fewer than twice as many
_PAIRS = 4096  # that are looked at together: their numbers fit a processor's cache
_SLACK = np.float32(1 + 1e-6)  # more than the rounding of a box's entry and exit
_SMALLEST = np.float32(1e-18)  # of a direction's component in the test of boxes, whose reciprocal is then finite


class BVHCaster:
    """A mesh in a bounding volume hierarchy."""

    def __init__(self, vertices_V3: np.ndarray, faces_F3: np.ndarray):
        corners = vertices_V3[faces_F3]  # [F, 3, 3]
        order_LT = _median_splits(corners.min(axis=1).T, corners.max(axis=1).T)
        in_leaves = corners[order_LT]  # [L, T, 3, 3]
        self._levels = _boxes(in_leaves.min(axis=(1, 2)), in_leaves.max(axis=(1, 2))) if len(faces_F3) else []
        self._face_TL = np.ascontiguousarray(order_LT.T, np.int32)
        # By corner, coordinate, triangle of the leaf, leaf.
        self._corners = np.ascontiguousarray(in_leaves.transpose(2, 3, 1, 0), np.float64)
        self._edges = corners[:, 1:].astype(np.float64) - corners[:, :1]

    def hits(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> Hits:
        """See Caster."""
        face, depth, weights = self._nearest(origins_N3, directions_N3)
        normal = np.zeros((len(face), 3), np.float32)
        hit = np.flatnonzero(face >= 0)
        across = np.cross(*self._edges[face[hit]].transpose(1, 0, 2))
        normal[hit] = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
        return Hits(face, depth, weights, unit_normals(normal, directions_N3))

    def depth(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
        """See Caster."""
        return self._nearest(origins_N3, directions_N3)[1]

    def blocked(self, origins_N3: np.ndarray, directions_N3: np.ndarray, limits_N: np.ndarray) -> np.ndarray:
        """See Caster."""
        blocked = np.zeros(len(directions_N3), bool)
        for group in sheared(origins_N3, directions_N3):
            limits = limits_N[group.rays]
            reach, found = limits.copy(), np.zeros(len(limits), bool)
            for rays, leaves in self._reached(group, directions_N3, reach):
                _, pair, depth, _ = intersect(group, rays, self._leaf_corners(group, leaves))
                met = rays[pair[depth <= limits[rays[pair]]]]
                found[met] = True
                reach[met] = -1  # looked at no more
            blocked[group.rays] = found
        return blocked

    def _nearest(self, origins_N3: np.ndarray, directions_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faces int32 [N], depth float32 [N] and weights float32 [N, 3] of the first hits."""
        count = len(directions_N3)
        all_faces, all_depths = np.full(count, -1, np.int32), np.full(count, NO_HIT)
        all_weights = np.zeros((count, 3), np.float32)
        all_weights[:, 0] = 1  # what Embree returns where there is no hit
        for group in sheared(origins_N3, directions_N3):
            size = len(group.rays)
            best, face = np.full(size, float(NO_HIT)), np.full(size, -1, np.int32)
            weights, reach = np.tile([[1.0], [0.0], [0.0]], size), np.full(size, NO_HIT)
            for rays, leaves in self._reached(group, directions_N3, reach):
                triangle, pair, depth, found = intersect(group, rays, self._leaf_corners(group, leaves))
                ray, of = rays[pair], self._face_TL[triangle, leaves[pair]]
                order = np.lexsort((of, depth, ray))
                order = order[np.diff(ray[order], prepend=-1) > 0]  # the first of each ray
                ray, of, depth, found = ray[order], of[order], depth[order], found[:, order]
                better = (depth < best[ray]) | ((depth == best[ray]) & (of < face[ray]))
                ray = ray[better]
                best[ray], face[ray], weights[:, ray] = depth[better], of[better], found[:, better]
                reach[ray] = best[ray]
            all_faces[group.rays], all_depths[group.rays], all_weights[group.rays] = face, best, weights.T
        return all_faces, all_depths, all_weights

    def _leaf_corners(self, group: ShearedRays, leaves_P: np.ndarray) -> np.ndarray:
        return self._corners[:, group.axes][..., leaves_P]

    def _reached(
        self, group: ShearedRays, directions_N3: np.ndarray, reach_N: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield pairs of a ray of the group and a leaf whose box the ray crosses before its reach.

        The caller may shorten `reach_N` (float32, a number for each ray of the group) between two of them.
        """
        if not self._levels:
            return
        directions = directions_N3[group.rays].T
        inverse = np.float32(1) / np.where(
            np.abs(directions) < _SMALLEST, np.copysign(_SMALLEST, directions), directions
        )
        origin = np.empty_like(inverse)
        origin[list(group.axes)] = group.origin
        stack = _pieces(0, np.arange(len(group.rays)), np.zeros(len(group.rays), int))
        while stack:
            level, rays, nodes = stack.pop()
            if level == len(self._levels):
                yield rays, nodes
                continue
            planes = self._levels[level][..., nodes]  # [lowest and highest, coordinate, child, P]
            planes -= origin[:, None, rays]
            planes *= inverse[:, None, rays]
            near_x, near_y, near_z = np.minimum(planes[0], planes[1])
            far_x, far_y, far_z = np.maximum(planes[0], planes[1])
            enter = np.maximum(np.maximum(near_x, near_y), near_z)
            leave = np.minimum(np.minimum(far_x, far_y), np.minimum(far_z, reach_N[rays]))
            leave *= _SLACK
            child, pair = np.nonzero((enter <= leave) & (leave >= 0))
            stack += _pieces(level + 1, rays[pair], nodes[pair] * _CHILDREN + child)


def _pieces(level: int, rays_P: np.ndarray, nodes_P: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    return [
        (level, rays_P[start : start + _PAIRS], nodes_P[start : start + _PAIRS])
        for start in range(0, len(rays_P), _PAIRS)
    ]


def _median_splits(lowest_3F: np.ndarray, highest_3F: np.ndarray) -> np.ndarray:
    """Deal triangles, of which the boxes are given, to leaves.

    Returns:
        The triangles of each leaf, int [L, T]; L is a power of 2. To fill the leaves the last triangle is repeated.
    """
    count = lowest_3F.shape[1]
    if not count:
        return np.zeros((0, 1), np.int64)
    halvings = max(0, (count // _LEAST_IN_LEAF).bit_length() - 1)
    in_leaf = -(-count // (1 << halvings))
    centers_3F = (lowest_3F + highest_3F) / 2
    order = np.minimum(np.arange(in_leaf << halvings), count - 1)[None]
    for _ in range(halvings):
        half = order.shape[1] // 2
        by_axis = np.stack(  # [axis, node, triangle]
            [np.take_along_axis(order, np.argpartition(along[order], half, axis=1), axis=1) for along in centers_3F]
        )
        halves = by_axis.reshape(3, -1, 2, half)
        x, y, z = (high[halves].max(-1) - low[halves].min(-1) for low, high in zip(lowest_3F, highest_3F, strict=True))
        # A ray crosses a box with a probability in proportion to its surface.
        surface = (x * y + y * z + z * x).sum(axis=-1)
        order = by_axis[surface.argmin(axis=0), np.arange(len(order))].reshape(-1, half)
    return order


def _boxes(lowest_L3: np.ndarray, highest_L3: np.ndarray) -> list[np.ndarray]:
    """Return the boxes of all levels, the root's children first: float32 [2, 3, child, node] of lowest and highest."""
    levels = []
    bounds = np.stack([lowest_L3, highest_L3])  # [2, L, 3]
    while True:
        missing = -bounds.shape[1] % _CHILDREN
        # A box at infinity is never crossed. Only the root lacks children, and its own box is not used.
        bounds = np.pad(bounds, ((0, 0), (0, missing), (0, 0)), constant_values=np.inf)
        bounds = bounds.reshape(2, -1, _CHILDREN, 3)
        levels.append(np.ascontiguousarray(bounds.transpose(0, 3, 2, 1)))
        bounds = np.stack([bounds[0].min(axis=1), bounds[1].max(axis=1)])
        if bounds.shape[1] == 1:
            return levels[::-1]
