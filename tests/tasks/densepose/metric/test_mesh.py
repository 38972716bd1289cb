"""Shortest paths on meshes where the distances are known."""

import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra

from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric import mesh


def sphere(divisions: int) -> tuple[np.ndarray, np.ndarray]:
    """An octahedron, its triangles divided, pushed onto the unit sphere."""
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    for _ in range(divisions):
        vertices, faces, _ = mesh.split_long_edges(
            vertices, faces, np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1).max() * 0.8
        )
        vertices = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    return vertices, faces


def tube(around: int, along: int, height: float) -> tuple[np.ndarray, np.ndarray]:
    """An open cylinder of radius 1: vertex (row, column) is row * around + column."""
    angle = 2 * np.pi * np.arange(around) / around
    level = np.linspace(0, height, along)
    vertices = np.stack(
        [np.tile(np.cos(angle), along), np.tile(np.sin(angle), along), np.repeat(level, around)], axis=1
    )
    row, column = (each.ravel() for each in np.meshgrid(np.arange(along - 1), np.arange(around), indexing="ij"))
    a, b = row * around + column, row * around + (column + 1) % around
    return vertices, np.concatenate([np.stack([a, b, b + around], 1), np.stack([a, b + around, a + around], 1)])


def area(vertices, faces):
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def test_distances_on_a_sphere_are_great_circles():
    vertices, faces = sphere(5)
    assert 2000 < len(vertices) < 3000
    rows = np.arange(0, len(vertices), 97)
    found = dijkstra(mesh.surface_graph(vertices, faces), indices=rows)
    true = np.arccos(np.clip(vertices[rows] @ vertices.T, -1, 1))
    ratio = found[true > 0.1] / true[true > 0.1]
    # the flat triangles lie inside the sphere, so a little too short is right
    assert ratio.min() > 0.99
    assert ratio.max() < 1.04
    assert abs(ratio.mean() - 1) < 0.012


def test_distances_on_a_cylinder_are_those_of_its_unrolled_plane():
    around, along, height = 48, 25, 3.0
    vertices, faces = tube(around, along, height)
    sources = np.array([0, 12 * around + 5])
    found = dijkstra(mesh.surface_graph(vertices, faces), indices=sources).reshape(2, along, around)
    for source, distance in zip(sources, found, strict=True):
        turn = np.abs(np.arange(around) - source % around)
        sideways = np.minimum(turn, around - turn) * 2 * np.sin(np.pi / around)
        up = np.linspace(0, height, along)[:, None] - height * (source // around) / (along - 1)
        true = np.hypot(sideways, up)
        ratio = distance[true > 0] / true[true > 0]
        assert ratio.min() > 1 - 1e-9
        assert ratio.max() < 1.03
        assert ratio.mean() < 1.01


def test_longer_strips_never_lengthen_a_way():
    vertices, faces = sphere(5)
    previous = None
    for strip in (1, 2, 4, 6):
        found = dijkstra(mesh.surface_graph(vertices, faces, strip), indices=[0, 7])
        assert previous is None or (found <= previous + 1e-12).all()
        previous = found
    on_edges = dijkstra(mesh.surface_graph(vertices, faces, 1), indices=[0, 7])
    assert (previous / np.maximum(on_edges, 1e-9)).mean() < 0.98


def test_on_a_flat_grid_lines_are_straight_and_never_shorter_than_the_air():
    rng = make_rng(0, "grid")
    side = 9
    x, y = (each.ravel() for each in np.meshgrid(np.arange(side), np.arange(side)))
    vertices = np.stack([x, y, np.zeros(side * side)], axis=1) + np.pad(
        rng.uniform(-0.25, 0.25, (side * side, 2)), ((0, 0), (0, 1))
    )
    a = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + side + 1], 1), np.stack([a, a + side + 1, a + side], 1)])
    graph = mesh.surface_graph(vertices, faces).tocoo()
    assert graph.nnz > 2 * 3 * side * side
    np.testing.assert_allclose(graph.data, np.linalg.norm(vertices[graph.row] - vertices[graph.col], axis=1), rtol=1e-9)


def test_split_edges_keep_the_surface():
    vertices, faces = tube(6, 3, 4.0)
    small, pieces, places = mesh.split_long_edges(vertices, faces, 0.3)
    edges = small[pieces] - small[np.roll(pieces, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).max() <= 0.3
    assert area(small, pieces) == pytest.approx(area(vertices, faces))
    np.testing.assert_array_equal(small[: len(vertices)], vertices)
    old, weights = places[:, :, 0].astype(int), places[:, :, 1:]
    np.testing.assert_allclose(np.einsum("fck,fckx->fcx", weights, vertices[faces[old]]), small[pieces], atol=1e-12)
    # every inner edge still has a triangle on either side, and they face the same way
    ends = np.stack([pieces, np.roll(pieces, -1, axis=1)], axis=2).reshape(-1, 2)
    assert len(np.unique(ends, axis=0)) == len(ends)
    assert (mesh._opposite_corners(pieces) < 0).sum() == (np.isin(small[ends][:, :, 2], (0, 4)).all(1)).sum()


def test_references_spread_by_scale():
    vertices, _ = tube(40, 40, 6.0)
    fine = vertices[:, 2] > 3
    chosen = mesh.farthest_points(vertices, np.where(fine, 0.5, 1.0), 150)
    assert len(np.unique(chosen)) == 150
    assert 2 < fine[chosen].sum() / (~fine[chosen]).sum() < 6
    nearest = np.linalg.norm(vertices[:, None] - vertices[chosen], axis=2).min(1)
    assert nearest[fine].max() < nearest[~fine].max() < 0.9


def test_distances_between_references_are_a_metric():
    vertices, faces = sphere(4)
    graph = mesh.surface_graph(vertices, faces)
    chosen = mesh.farthest_points(vertices, np.ones(len(vertices)), 120)
    found = mesh.all_distances(graph, chosen).astype(float)
    assert (np.diag(found) == 0).all()
    np.testing.assert_array_equal(found, found.T)
    around = (found[:, :, None] + found[None, :, :]).min(1)
    assert (found <= around * 1.002).all()
    nearest = mesh.nearest_references(graph, chosen)
    np.testing.assert_array_equal(nearest[chosen], np.arange(120))
    full = dijkstra(graph, indices=chosen)
    np.testing.assert_allclose(full[nearest, np.arange(len(vertices))], full.min(0))


def test_surfaces_that_are_none_are_refused():
    vertices, faces = tube(6, 3, 1.0)
    with pytest.raises(ValueError, match="face different ways"):
        mesh.surface_graph(vertices, np.concatenate([faces, faces[:1]]))
    two = np.concatenate([vertices, vertices + 5]), np.concatenate([faces, faces + len(vertices)])
    with pytest.raises(ValueError, match="in pieces"):
        mesh.all_distances(mesh.surface_graph(*two), np.array([0, 30]))
