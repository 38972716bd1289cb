"""Shortest paths on a triangle mesh; before that, split long edges and choose reference points.

The paths are those of a graph whose edges are straight lines across a few triangles laid flat. So no distance is too
short, the distances are a metric (symmetric, zero on the diagonal, triangle inequality), and with strips of four
triangles they are about 0.5 % too long. Shapes: V vertices, F triangles, E undirected edges, S sources, R reference
points.
"""

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra

_STRIP = 4
_SOURCES = 256  # rows of distances held in double precision at a time


def split_long_edges(
    vertices_V3: np.ndarray, faces_F3: np.ndarray, longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halve edges that are longer than `longest` until none is left; the surface stays the same.

    Args:
        vertices_V3: meters.
        faces_F3: numbers of vertices.
        longest: meters.
    Returns:
        Vertices float64 [V', 3], of which the first V are the old ones; faces int64 [F', 3]; and the places of the
        corners of the new faces, float64 [F', 3, 4]: number of the old face, and the three weights of its corners.
    """
    vertices, faces = np.asarray(vertices_V3, np.float64), np.asarray(faces_F3, np.int64)
    places = np.concatenate(
        [
            np.broadcast_to(np.arange(len(faces))[:, None, None], (len(faces), 3, 1)),
            np.broadcast_to(np.eye(3), (len(faces), 3, 3)),
        ],
        axis=2,
    )
    while True:
        ends = np.sort(
            np.stack([faces, np.roll(faces, -1, axis=1)], axis=2), axis=2
        )  # [F, 3, 2], edge k from corner k to k + 1
        edges, number = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
        number = number.reshape(-1, 3)
        length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        # Only the longest edge of a triangle asks to be halved, so that triangles do not get thin.
        worst = length[number].argmax(1)
        row = np.flatnonzero(length[number[np.arange(len(faces)), worst]] > longest)
        if not len(row):
            return vertices, faces, places
        halved = np.unique(number[row, worst[row]])
        of_edge = np.full(len(edges), -1)
        of_edge[halved] = len(vertices) + np.arange(len(halved))
        vertices = np.concatenate([vertices, vertices[edges[halved]].mean(1)])
        faces, places = _bisect(faces, places, number, length, of_edge)


def _bisect(faces: np.ndarray, places: np.ndarray, number: np.ndarray, length: np.ndarray, of_edge: np.ndarray):
    """Split each face at its halved edges, the longest first."""
    middle_F3 = of_edge[number]
    cut_F3 = np.where(middle_F3 >= 0, length[number], -1.0)
    split = np.flatnonzero((middle_F3 >= 0).any(1))
    keep = np.flatnonzero((middle_F3 < 0).all(1))
    done_faces, done_places = [faces[keep]], [places[keep]]
    while len(split):
        edge = cut_F3[split].argmax(1)
        turn = (edge[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(faces[split], turn, axis=1).T
        turned = np.take_along_axis(places[split], turn[:, :, None], axis=1)
        cuts, middles = (
            np.take_along_axis(cut_F3[split], turn, axis=1),
            np.take_along_axis(middle_F3[split], turn, axis=1),
        )
        m, m_place = middles[:, 0], turned[:, :2].mean(1)
        no_cut, no_middle = np.full(len(split), -1.0), np.full(len(split), -1)
        # halves a m c and m b c; edges b c and c a may be halved too
        faces = np.concatenate([np.stack([a, m, c], 1), np.stack([m, b, c], 1)])
        places = np.concatenate(
            [np.stack([turned[:, 0], m_place, turned[:, 2]], 1), np.stack([m_place, turned[:, 1], turned[:, 2]], 1)]
        )
        cut_F3 = np.concatenate([np.stack([no_cut, no_cut, cuts[:, 2]], 1), np.stack([no_cut, cuts[:, 1], no_cut], 1)])
        middle_F3 = np.concatenate(
            [np.stack([no_middle, no_middle, middles[:, 2]], 1), np.stack([no_middle, middles[:, 1], no_middle], 1)]
        )
        whole = (middle_F3 < 0).all(1)
        done_faces.append(faces[whole])
        done_places.append(places[whole])
        split = np.flatnonzero(~whole)
    return np.concatenate(done_faces), np.concatenate(done_places)


def surface_graph(vertices_V3: np.ndarray, faces_F3: np.ndarray, strip: int = _STRIP) -> csr_matrix:
    """Return the lengths of straight lines between vertices across at most `strip` triangles: symmetric, [V, V].

    From each corner of each triangle the surface is laid flat, triangle after triangle, across the opposite edge. A
    line counts if it crosses all edges of its strip. Edges of the mesh are lines too. The mesh may have borders.

    Raises:
        ValueError: an edge belongs to more than two triangles, or triangles face different ways.
    """
    vertices, faces = np.asarray(vertices_V3, np.float64), np.asarray(faces_F3, np.int64)
    across = _opposite_corners(faces)
    a, b, source = (np.concatenate([faces[:, (k + shift) % 3] for k in range(3)]) for shift in (1, 2, 0))
    half = np.concatenate([np.arange(len(faces)) * 3 + (k + 1) % 3 for k in range(3)])

    def side(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.norm(vertices[x] - vertices[y], axis=1)

    starts, ends, lengths = [source], [a], [side(source, a)]
    # The source is at the origin. a, b: the ends of the edge that is crossed, a on the right seen from the source; low,
    # high: the directions through which all edges so far can be seen.
    flat_a = np.stack([side(source, a), np.zeros(len(a))], 1)
    flat_b = _third_corner(np.zeros_like(flat_a), flat_a, side(source, b), side(a, b))
    low, high = flat_a, flat_b
    for _ in range(strip - 1):
        alive = across[half] >= 0
        source, a, b, half, flat_a, flat_b, low, high = (
            array[alive] for array in (source, a, b, half, flat_a, flat_b, low, high)
        )
        twin = across[half]
        apex = faces.reshape(-1)[twin // 3 * 3 + (twin + 2) % 3]
        flat = _third_corner(flat_b, flat_a, side(b, apex), side(a, apex))
        seen = (_cross(low, flat) >= 0) & (_cross(flat, high) >= 0)
        starts.append(source[seen])
        ends.append(apex[seen])
        lengths.append(np.linalg.norm(flat[seen], axis=1))
        # twin runs from b to a; the edges after it run from a to the apex and from the apex to b
        right, left = twin // 3 * 3 + (twin + 1) % 3, twin // 3 * 3 + (twin + 2) % 3
        over_right, over_left = _cross(low, flat) > 0, _cross(flat, high) > 0
        narrower_high = np.where((_cross(flat, high) > 0)[:, None], flat, high)
        narrower_low = np.where((_cross(low, flat) > 0)[:, None], flat, low)
        first = (source, a, apex, right, flat_a, flat, low, narrower_high)
        second = (source, apex, b, left, flat, flat_b, narrower_low, high)
        source, a, b, half, flat_a, flat_b, low, high = (
            np.concatenate([x[over_right], y[over_left]]) for x, y in zip(first, second, strict=True)
        )
    return _symmetric(np.concatenate(starts), np.concatenate(ends), np.concatenate(lengths), len(vertices))


def _cross(a_N2: np.ndarray, b_N2: np.ndarray) -> np.ndarray:
    return a_N2[:, 0] * b_N2[:, 1] - a_N2[:, 1] * b_N2[:, 0]


def _third_corner(p_N2: np.ndarray, q_N2: np.ndarray, from_p_N: np.ndarray, from_q_N: np.ndarray) -> np.ndarray:
    """The corner at these distances from p and q, on the left of the line from p to q."""
    way = q_N2 - p_N2
    length = np.maximum(np.linalg.norm(way, axis=1), 1e-12)
    along = (from_p_N**2 - from_q_N**2 + length**2) / (2 * length)
    up = np.sqrt(np.maximum(from_p_N**2 - along**2, 0))
    unit = way / length[:, None]
    return p_N2 + along[:, None] * unit + up[:, None] * np.stack([-unit[:, 1], unit[:, 0]], 1)


def _opposite_corners(faces: np.ndarray) -> np.ndarray:
    """int64 [3F]: for half-edge 3f + k (corner k to k + 1 of face f) that of the neighboring face; -1 at a border."""
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    count = faces.max() + 1
    key, twin_key = start * count + end, end * count + start
    order = np.argsort(key, kind="stable")
    if (np.diff(key[order]) == 0).any():
        raise ValueError("the mesh has an edge of more than two triangles, or triangles that face different ways")
    place = np.minimum(np.searchsorted(key[order], twin_key), len(key) - 1)
    return np.where(key[order][place] == twin_key, order[place], -1)


def _symmetric(a: np.ndarray, b: np.ndarray, length: np.ndarray, count: int) -> csr_matrix:
    """The shortest line of each pair, in both directions; `coo_matrix` would add duplicates up."""
    key = np.minimum(a, b) * count + np.maximum(a, b)
    order = np.lexsort((length, key))
    key, length = key[order], np.maximum(length[order], 1e-9)
    first = np.concatenate([[True], np.diff(key) > 0])
    low, high = np.divmod(key[first], count)
    weight = np.concatenate([length[first]] * 2)
    return coo_matrix((weight, (np.concatenate([low, high]), np.concatenate([high, low]))), (count, count)).tocsr()


def farthest_points(vertices_V3: np.ndarray, scale_V: np.ndarray, count: int) -> np.ndarray:
    """Choose vertices one by one, each the farthest from those chosen, in units of its own scale: int64 [count]."""
    points = np.ascontiguousarray(vertices_V3, np.float32)
    weight = (1 / np.asarray(scale_V, np.float32)) ** 2
    nearest = np.full(len(points), np.inf, np.float32)
    chosen = np.zeros(min(count, len(points)), np.int64)
    for row in range(len(chosen)):
        chosen[row] = int((nearest * weight).argmax()) if row else 0
        nearest = np.minimum(nearest, ((points - points[chosen[row]]) ** 2).sum(1))
    return chosen


def all_distances(graph: csr_matrix, references_R: np.ndarray) -> np.ndarray:
    """Return float16 [R, R]: lengths of the shortest paths. Raises ValueError if the surface is in pieces."""
    found = np.empty((len(references_R), len(references_R)), np.float16)
    for start in range(0, len(references_R), _SOURCES):
        rows = dijkstra(graph, indices=references_R[start : start + _SOURCES])[:, references_R]
        if not np.isfinite(rows).all():
            raise ValueError("the surface is in pieces: some points cannot be reached from others")
        found[start : start + _SOURCES] = rows
    return found


def nearest_references(graph: csr_matrix, references_R: np.ndarray) -> np.ndarray:
    """Return int64 [V]: number of the reference point nearest to each vertex."""
    _, _, source = dijkstra(graph, indices=references_R, min_only=True, return_predecessors=True)
    number = np.full(graph.shape[0], -1)
    number[references_R] = np.arange(len(references_R))
    return number[source]
