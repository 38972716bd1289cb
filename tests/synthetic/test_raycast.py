"""Rays against triangles: closed forms, brute force in float64, and the two ray casters against each other."""

import sys
import tracemalloc
import warnings

import numpy as np
import pytest

from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.synthetic.render import bvh, embree, raycast
from hcmoco.synthetic.render.raycast import RAYCASTERS, VARIABLE, Mesh

needs_embree = pytest.mark.skipif(bool(embree.why_not()), reason="embreex is not installed")
both = pytest.mark.parametrize("caster", [pytest.param("embree", marks=needs_embree), "numpy"])
CORNERS = np.float32([[0, 2, 0], [1, 2, 0], [0, 2, 1]])
FACES = np.int32([[0, 1, 2]])
SCENES = ("soup", "shared corners", "walls and crumbs", "flat", "few")


def scene(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces around the origin, about 2 across."""
    rng = make_rng(seed, f"scene/{kind}")
    count = 3 if kind == "few" else 300
    if kind == "shared corners":
        return rng.normal(size=(150, 3)).astype(np.float32), rng.integers(0, 150, (count, 3)).astype(np.int32)
    size = np.full(count, 3 if kind == "few" else 0.1)
    if kind == "walls and crumbs":
        size[: count // 10] = 3
    corners = rng.normal(size=(count, 1, 3)) + size[:, None, None] * rng.normal(size=(count, 3, 3))
    if kind == "flat":  # boxes without thickness
        corners[:, :, 2] = rng.integers(-1, 2, (count, 1))
    return corners.reshape(-1, 3).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def rays_around(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions of any length; a third of the directions' components are zero."""
    rng = make_rng(seed, "rays")
    directions = rng.normal(size=(count, 3)) * np.exp(rng.normal(size=(count, 1)))
    directions[rng.random((count, 3)) < 1 / 3] = 0
    directions[~directions.any(axis=1)] = (0, 0, -1)
    return rng.normal(size=(count, 3)).astype(np.float32), directions.astype(np.float32)


def brute_force(vertices, faces, origins, directions) -> tuple[np.ndarray, np.ndarray]:
    """float64 [N, F]: depth of each ray in each face's plane, and how far inside the face that is.

    By Cramer's rule. The second is the smallest barycentric weight, negative outside.
    """
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    origins, directions = origins.astype(np.float64)[:, None], directions.astype(np.float64)[:, None]
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = ((a - origins) * normal).sum(-1) / (directions * normal).sum(-1)
        points = origins + depth[..., None] * directions
        area = (normal * normal).sum(-1)
        corners = ((b, c), (c, a), (a, b))
        weights = [(np.cross(p - points, q - points) * normal).sum(-1) / area for p, q in corners]
    inside = np.nan_to_num(np.min(weights, axis=0), nan=-1, posinf=-1, neginf=-1)
    return np.nan_to_num(depth, nan=-1, posinf=-1, neginf=-1), np.where(np.isfinite(depth), inside, -1)


@both
def test_hits_are_those_of_the_plane(caster):
    rays = np.float32(
        [[0.1, 1, 0.2], [0.2, 1, 0.05], [0.4, 1, 0.4], [0, -1, 0]]
    )  # the plane y = 2 is met at twice each direction
    hits = Mesh(CORNERS, FACES, caster).hits(np.zeros(3), rays)
    np.testing.assert_array_equal(hits.face, [0, 0, -1, -1])
    np.testing.assert_allclose(hits.depth[:2], 2, rtol=1e-6)
    np.testing.assert_array_equal(hits.depth[2:], np.float32(1e37))
    np.testing.assert_allclose(hits.weights[:2] @ CORNERS, 2 * rays[:2], atol=1e-6)
    np.testing.assert_allclose(hits.normal[:2], [[0, -1, 0]] * 2, atol=1e-6)
    assert {name: (value.dtype, value.shape) for name, value in vars(hits).items()} == {
        "face": (np.int32, (4,)),
        "depth": (np.float32, (4,)),
        "weights": (np.float32, (4, 3)),
        "normal": (np.float32, (4, 3)),
    }


@both
def test_normal_is_on_the_side_that_is_hit_whichever_way_the_face_turns(caster):
    for faces in (FACES, FACES[:, ::-1]):
        mesh = Mesh(CORNERS, faces, caster)
        hits = mesh.hits(np.float32([[0.2, 0, 0.2], [0.2, 4, 0.2]]), np.float32([[0, 1, 0], [0, -1, 0]]))
        np.testing.assert_allclose(hits.normal, [[0, -1, 0], [0, 1, 0]], atol=1e-6)


@both
def test_limit_is_in_lengths_of_the_direction(caster):
    mesh, rays = Mesh(CORNERS, FACES, caster), np.float32([[0.1, 1, 0.2]] * 3)
    np.testing.assert_array_equal(mesh.blocked(np.zeros(3), rays, np.float32([1.9, 2.1, 1e37])), [False, True, True])
    np.testing.assert_allclose(mesh.depth(np.zeros(3), rays), 2, rtol=1e-6)
    assert not mesh.blocked(np.zeros(3), rays, 1.9).any()


@both
@pytest.mark.parametrize("kind", SCENES)
def test_hits_are_those_of_brute_force(caster, kind):
    """A ray within rounding of an edge, or of two faces at one depth, may name another face, but of that depth."""
    for seed in range(3):
        mesh, (origins, directions) = scene(kind, seed), rays_around(600, seed)
        depths, inside = brute_force(*mesh, origins, directions)
        surely = np.where((inside > 1e-5) & (depths > 1e-5), depths, np.inf)
        perhaps = np.where((inside > -1e-5) & (depths > -1e-5), depths, np.inf)
        nearest, tolerance = surely.min(axis=1), 1e-4 * surely.min(axis=1) + 1e-5 / np.linalg.norm(directions, axis=1)
        hits = Mesh(*mesh, caster).hits(origins, directions)
        hit, found = hits.face >= 0, hits.depth
        assert hit[np.isfinite(nearest)].all()
        assert np.isinf(perhaps.min(axis=1))[~hit].all()
        assert (found <= nearest + tolerance)[hit].all()
        some = np.isfinite(nearest)
        assert (found[some] >= perhaps.min(axis=1)[some] - tolerance[some]).all()
        clear = some & ((perhaps <= (nearest + tolerance)[:, None]).sum(axis=1) == 1)
        assert clear.sum() > 10
        np.testing.assert_array_equal(hits.face[clear], surely.argmin(axis=1)[clear])
        found = found[hit]
        corners = mesh[0][mesh[1][hits.face[hit]]].astype(np.float64)
        points = origins[hit] + found[:, None].astype(np.float64) * directions[hit]
        np.testing.assert_allclose(np.einsum("nk,nki->ni", hits.weights[hit], corners), points, atol=1e-4)
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        np.testing.assert_allclose(np.abs((across * hits.normal[hit]).sum(1)), 1, atol=1e-4)
        assert ((hits.normal[hit] * directions[hit]).sum(1) <= 1e-6).all()


@needs_embree
@pytest.mark.parametrize("kind", SCENES)
def test_numpy_gives_what_embree_gives(kind):
    for seed in range(3, 6):
        mesh, (origins, directions) = scene(kind, seed), rays_around(3000, seed)
        other, own = (Mesh(*mesh, caster) for caster in ("embree", "numpy"))
        expected, hits = other.hits(origins, directions), own.hits(origins, directions)
        same = hits.face == expected.face
        if kind != "flat":  # whose faces lie in one plane, so that many are met at one depth
            assert same.mean() > 0.999  # measured: all
        hit = same & (hits.face >= 0)
        # A ray along a face meets it at a depth that is as uncertain as the angle is small.
        cosine = np.abs((hits.normal * directions).sum(1)) / np.linalg.norm(directions, axis=1)
        off = np.abs(hits.depth - expected.depth)[hit] * np.linalg.norm(directions, axis=1)[hit] * cosine[hit]
        assert off.max() < 1e-5
        steep = hit & (cosine > 0.1)
        np.testing.assert_allclose(hits.weights[steep], expected.weights[steep], atol=2e-4)
        np.testing.assert_allclose(hits.normal[hit], expected.normal[hit], atol=1e-4)
        np.testing.assert_array_equal(own.depth(origins, directions), hits.depth)
        limits = (np.where(hits.face >= 0, hits.depth, 1) * make_rng(seed, "limits").uniform(0.5, 1.5, 3000)).astype(
            np.float32
        )
        for limit in (limits, 1e37):
            agree = own.blocked(origins, directions, limit) == other.blocked(origins, directions, limit)
            assert agree[same].all()


@needs_embree
def test_a_miss_is_the_same_in_both():
    expected, hits = (Mesh(CORNERS, FACES, each).hits(np.zeros(3), np.float32([[0, -1, 0]])) for each in RAYCASTERS)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(hits, name), value, err_msg=name)


def ball(rings: int = 12, sectors: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh around the origin, with points that float32 does not hold exactly."""
    polar, around = np.pi * np.arange(1, rings) / rings, 2 * np.pi * np.arange(sectors) / sectors
    ring = np.stack([np.outer(np.sin(polar), np.cos(around)), np.outer(np.sin(polar), np.sin(around))], -1)
    middle = np.concatenate([ring, np.broadcast_to(np.cos(polar)[:, None, None], (rings - 1, sectors, 1))], -1)
    points = np.concatenate([middle.reshape(-1, 3), [[0, 0, 1], [0, 0, -1]]])
    k = np.arange(sectors)
    after, top, bottom, last = (k + 1) % sectors, len(points) - 2, len(points) - 1, (rings - 2) * sectors
    faces = [
        np.stack([k, after, np.full(sectors, top)], 1),
        np.stack([last + after, last + k, np.full(sectors, bottom)], 1),
    ]
    for first in sectors * np.arange(rings - 2):
        faces += [np.stack([first + k, first + sectors + k, first + after], 1)]
        faces += [np.stack([first + after, first + sectors + k, first + sectors + after], 1)]
    return (0.7 * points).astype(np.float32), np.concatenate(faces).astype(np.int32)


@both
def test_no_ray_slips_through_an_edge_or_a_corner(caster):
    vertices, faces = ball()
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    rng = make_rng(0, "edges")
    share = rng.uniform(size=(40, len(edges), 1))
    on_edges = (share * vertices[edges[:, 0]] + (1 - share) * vertices[edges[:, 1]]).reshape(-1, 3)
    targets = np.concatenate([vertices, on_edges]).astype(np.float32)
    mesh = Mesh(vertices, faces, caster)
    for origin in (np.zeros(3, np.float32), rng.uniform(-0.3, 0.3, (len(targets), 3)).astype(np.float32)):
        directions = targets - origin
        hits = mesh.hits(origin, directions)
        assert (hits.face >= 0).all()
        np.testing.assert_allclose(hits.depth, 1, atol=1e-5)
        assert mesh.blocked(origin, directions, 1.001).all()
        # The face has the edge that is aimed at, or, within rounding of a corner, shares that corner.
        of_edge = np.tile(edges, (40, 1))
        named = faces[hits.face[len(vertices) :]]
        assert (named[:, :, None] == of_edge[:, None]).any(axis=(1, 2)).all()


@both
def test_rays_along_the_axes_through_a_grids_corners_and_edges(caster):
    side = np.arange(9, dtype=np.float32)
    x, y = np.meshgrid(side, side, indexing="ij")
    k = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    faces = np.concatenate([np.stack([k, k + 1, k + 10], 1), np.stack([k, k + 10, k + 9], 1)]).astype(np.int32)
    inner = np.stack(np.meshgrid(np.arange(0.5, 8, 0.5), np.arange(0.5, 8, 0.5)), -1).reshape(-1, 2)
    for axis in range(3):
        others = [each for each in range(3) if each != axis]
        vertices, origins, direction = np.zeros((81, 3), np.float32), np.zeros((len(inner), 3)), np.zeros(3)
        vertices[:, others] = np.stack([x.ravel(), y.ravel()], 1)
        origins[:, others], origins[:, axis], direction[axis] = inner, 4, -2
        hits = Mesh(vertices, faces, caster).hits(origins, np.tile(direction, (len(inner), 1)))
        assert (hits.face >= 0).all()
        np.testing.assert_allclose(hits.depth, 2, atol=1e-6)


@both
def test_a_face_without_area_is_not_hit_and_hides_nothing(caster):
    vertices = np.float32([[0, 1, 0], [1, 1, 0], [2, 1, 0], [0.2, 1, 0.2], *CORNERS])
    faces = np.int32([[0, 0, 0], [0, 1, 1], [0, 1, 2], [3, 3, 0], [4, 5, 6]])
    rays = np.float32([[0.1, 1, 0], [0.1, 1, 0.1], [0.2, 1, 0.2]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = Mesh(vertices, faces, caster).hits(np.zeros(3), rays)
    np.testing.assert_array_equal(hits.face, 4)
    np.testing.assert_allclose(hits.depth, 2, rtol=1e-6)
    along = Mesh(vertices[:3], FACES, caster).blocked(np.float32([-1, 1, 0]), np.float32([[1, 0, 0]]))
    assert not along.any()


@both
def test_a_ray_in_the_plane_of_a_face_passes_it(caster):
    mesh = Mesh(CORNERS, FACES, caster)
    assert not mesh.blocked(np.float32([-1, 2, 0.25]), np.float32([[1, 0, 0], [1, 0, 0.1]])).any()


def test_what_lies_behind_or_at_no_distance_is_not_hit():
    mesh = Mesh(CORNERS, FACES, "numpy")
    origins = np.float32([[0.2, 3, 0.2], [0.2, 2, 0.2]])
    assert not mesh.blocked(origins, np.float32([[0, 1, 0]] * 2)).any()
    np.testing.assert_array_equal(mesh.hits(np.zeros(3), np.zeros((1, 3))).face, -1)  # no direction


def test_a_mesh_without_faces_is_not_hit():
    mesh = Mesh(np.zeros((0, 3)), np.zeros((0, 3)), "numpy")
    hits = mesh.hits(np.zeros(3), np.float32([[0, 1, 0]]))
    np.testing.assert_array_equal(hits.face, -1)
    assert not mesh.blocked(np.zeros(3), np.float32([[0, 1, 0]])).any()
    assert Mesh(CORNERS, FACES, "numpy").hits(np.zeros(3), np.zeros((0, 3))).weights.shape == (0, 3)


def test_hits_do_not_depend_on_the_order_of_faces_and_rays_or_on_how_many_are_looked_at(monkeypatch):
    (vertices, faces), (origins, directions) = scene("walls and crumbs"), rays_around(500)
    faces = np.concatenate([faces, faces[:40]])  # equally near: the lower number counts
    expected = Mesh(vertices, faces, "numpy").hits(origins, directions)
    assert (expected.face < len(faces) - 40).all()
    monkeypatch.setattr(bvh, "_PAIRS", 17)
    turned = make_rng(0, "order").permutation(500)
    hits = Mesh(vertices, faces, "numpy").hits(origins[turned], directions[turned])
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(hits, name), value[turned], err_msg=name)
    shuffled = make_rng(1, "order").permutation(len(faces) - 40)
    hits = Mesh(vertices, faces[shuffled], "numpy").hits(origins, directions)
    np.testing.assert_array_equal(hits.depth, expected.depth)
    np.testing.assert_array_equal(hits.face >= 0, expected.face >= 0)


def test_memory_does_not_grow_with_the_pairs_of_rays_and_faces():
    rng = make_rng(0, "large faces")
    corners = rng.normal(size=(256, 3, 3)).astype(np.float32)  # every box overlaps most others
    mesh = Mesh(corners.reshape(-1, 3), np.arange(768).reshape(-1, 3), "numpy")
    origins, directions = rays_around(20_000)
    tracemalloc.start()
    try:
        mesh.hits(origins, directions)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # all corners of all pairs are 370 MB


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not chosen yet, without a choice of the person who runs the tests."""
    monkeypatch.delenv(VARIABLE, raising=False)
    for function in (raycast.raycaster, embree._embree):
        function.cache_clear()
    yield monkeypatch
    for function in (raycast.raycaster, embree._embree):
        function.cache_clear()


@needs_embree
def test_embree_is_chosen_where_it_is(fresh, capfd):
    assert raycast.raycaster() == "embree"
    fresh.setenv(VARIABLE, "numpy")
    assert raycast.raycaster() == "embree"  # once per process
    raycast.raycaster.cache_clear()
    assert raycast.raycaster() == "numpy"
    assert capfd.readouterr() == ("", "")  # as asked for


def test_without_embree_numpy_is_chosen_and_said_once(fresh, capfd):
    fresh.setitem(sys.modules, "embreex", None)
    for _ in range(2):
        assert Mesh(CORNERS, FACES).depth(np.zeros(3), np.float32([[0.1, 1, 0.2]])) == pytest.approx(2)
    assert raycast.raycaster() == "numpy"
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "embreex does not import" in err
    assert "times slower" in err


def test_a_choice_that_is_not_there_is_one_line_with_a_way_out(fresh):
    fresh.setitem(sys.modules, "embreex", None)
    for asked, call in (
        ("embree", raycast.raycaster),
        ("", lambda: Mesh(CORNERS, FACES, "embree")),
    ):
        fresh.setenv(VARIABLE, asked)
        with pytest.raises(UserError, match=r"embreex does not import .*numpy") as caught:
            call()
        assert "\n" not in str(caught.value)
    fresh.setenv(VARIABLE, "optix")
    with pytest.raises(UserError, match=r"'optix'; it must be embree or numpy, or unset"):
        raycast.raycaster()
