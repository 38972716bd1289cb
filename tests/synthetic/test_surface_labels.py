"""Parts and charts of the body's surface, sampled as pixels see it: at points inside triangles, not at vertices."""

from dataclasses import dataclass

import numpy as np
import pytest

from hcmoco.data.body_parts import FLIP, LEFT_RIGHT_PAIRS, PART_NAMES, RAW_IDS, part
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.mesh import BODY, EYE, HAIR, SKIRT, load_asset
from hcmoco.synthetic.body.surface_labels import CHART_FLIP, limb_position, mirror_iuv, surface_labels


@dataclass
class Points:
    place: np.ndarray
    parts: np.ndarray
    iuv: np.ndarray
    groups: np.ndarray


def labeled(asset, faces: np.ndarray, weights: np.ndarray) -> Points:
    def interpolate(corner_values):
        return np.einsum("nk,nkc->nc", weights, corner_values)

    corners = asset.faces[faces]
    place, groups = interpolate(asset.template[corners]), interpolate(asset.label_groups[corners])
    return Points(place, *surface_labels(asset, place, groups, interpolate(asset.island_uv[faces])), groups)


def sampled(asset, kind: int, count: int) -> Points:
    """Points spread evenly over the surface."""
    rng = make_rng(0, "surface", kind)
    faces = np.flatnonzero(asset.face_kind == kind)
    a, b, c = np.moveaxis(asset.template[asset.faces[faces]].astype(np.float64), 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return labeled(
        asset, rng.choice(faces, count, p=area / area.sum()), rng.dirichlet([1, 1, 1], count).astype(np.float32)
    )


def nearest(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    found = [
        ((chunk[:, None].astype(np.float32) - points[None].astype(np.float32)) ** 2).sum(2).argmin(1)
        for chunk in np.array_split(queries, max(len(queries) // 500, 1))
    ]
    return np.concatenate(found)


@pytest.fixture(scope="module")
def asset():
    return load_asset()


@pytest.fixture(scope="module")
def body(asset) -> Points:
    return sampled(asset, BODY, 12000)


@pytest.fixture(scope="module")
def corners(asset) -> Points:
    """Each body face's three corners, as that face labels them."""
    faces = np.flatnonzero(asset.face_kind == BODY)
    return labeled(asset, np.repeat(faces, 3), np.tile(np.eye(3, dtype=np.float32), (len(faces), 1)))


def test_chart_coordinates_lead_back_to_the_place(body, corners):
    """Pixel -> (chart, U, V) -> nearest vertex of that chart.

    A wrap or a mirrored half shows as tens of millimeters in its chart.
    """
    distances = []
    for chart in range(1, 25):
        own, known = body.iuv[:, 0] == chart, corners.iuv[:, 0] == chart
        back = corners.place[known][nearest(body.iuv[own, 1:], corners.iuv[known, 1:])]
        distance = np.linalg.norm(back - body.place[own], axis=1)
        assert distance.mean() < 0.022, chart
        distances.append(distance)
    distances = np.concatenate(distances)
    assert distances.mean() < 0.016
    assert np.percentile(distances, 99) < 0.06


def test_charts_are_continuous_inside(body):
    """Neighboring points of one chart have neighboring coordinates, except across the cuts of hands and feet."""
    rows = make_rng(0, "rows").choice(len(body.place), 1500, replace=False)
    others = np.delete(np.arange(len(body.place)), rows)
    partner = others[nearest(body.place[rows], body.place[others])]
    close = np.linalg.norm(body.place[rows] - body.place[partner], axis=1) < 0.01
    same = (body.iuv[rows, 0] == body.iuv[partner, 0]) & ~np.isin(body.iuv[rows, 0], (3, 4, 5, 6))
    jump = np.abs(body.iuv[rows, 1:] - body.iuv[partner, 1:]).max(1)[close & same]
    assert len(jump) > 500
    assert np.percentile(jump, 99) < 0.2


def test_every_part_and_chart_occurs(body):
    shares = np.bincount(body.parts, minlength=25) / len(body.parts)
    assert shares[0] == 0
    assert (shares[1:] > 0.005).all(), dict(zip(PART_NAMES, shares.round(4), strict=True))
    assert (np.bincount(body.iuv[:, 0].astype(int), minlength=25)[1:] > 0.005 * len(body.parts)).all()
    assert ((body.iuv[:, 1:] >= 0) & (body.iuv[:, 1:] <= 1)).all()
    for chart in range(1, 25):
        assert (np.ptp(body.iuv[body.iuv[:, 0] == chart, 1:], axis=0) > 0.8).all(), chart


def test_a_mirror_image_exchanges_left_and_right(body):
    partner = nearest(body.place * [-1, 1, 1], body.place)
    close = np.linalg.norm(body.place * [-1, 1, 1] - body.place[partner], axis=1) < 0.006
    assert close.mean() > 0.4
    assert (FLIP[body.parts] == body.parts[partner])[close].mean() > 0.97
    expected, mirrored = mirror_iuv(body.iuv), body.iuv[partner]
    same_chart = close & (expected[:, 0] == mirrored[:, 0])
    assert same_chart[close].mean() > 0.97
    for chart in range(1, 25):
        off = np.abs(expected - mirrored)[same_chart & (mirrored[:, 0] == chart), 1:]
        assert np.median(off) < 0.02, (
            chart
        )  # not the mean: across the cuts of hands and feet neighbors have far coordinates


@pytest.mark.parametrize("turned", [0.0, 0.9, 2.0, np.pi])
def test_a_flipped_picture_has_the_labels_of_the_mirrored_body(asset, turned):
    """The body at rest is its own mirror image: one side, flipped, looks like the other side."""
    from hcmoco.synthetic.render.camera import Camera
    from hcmoco.synthetic.render.raycast import Mesh

    size = 200
    faces = np.flatnonzero(asset.face_kind == BODY)
    mesh = Mesh(asset.template, asset.faces[faces])

    def seen(angle: float) -> np.ndarray:
        eye = np.array([4 * np.sin(angle), -4 * np.cos(angle), 0.3])
        middle = asset.template[asset.vertex_kind == BODY].mean(0) * (0, 0, 1)
        camera = Camera.look_at(eye, middle, 0.0, 2.0 * size).zoomed(-size / 2, -size / 2, 1)
        hits = mesh.hits(camera.position, camera.rays(slice(0, size), slice(0, size)))
        on = hits.face >= 0
        image = np.zeros((size * size, 3), np.float32)
        image[on] = labeled(asset, faces[hits.face[on]], hits.weights[on]).iuv
        return image.reshape(size, size, 3)

    flipped, other = mirror_iuv(seen(turned)[:, ::-1]), seen(-turned)
    both = (flipped[..., 0] > 0) & (other[..., 0] > 0)
    assert both.sum() > 0.97 * (other[..., 0] > 0).sum() > 3000
    same = both & (flipped[..., 0] == other[..., 0])
    assert same.sum() > 0.95 * both.sum()
    off = np.abs(flipped - other)[same][:, 1:]
    assert off.mean(0).max() < 0.015
    assert np.percentile(off, 95) < 0.05


def test_mirroring_twice_changes_nothing_and_bytes_mirror_like_numbers(body):
    np.testing.assert_allclose(mirror_iuv(mirror_iuv(body.iuv)), body.iuv, atol=1e-6)
    coded = np.rint(body.iuv * (1, 255, 255)).astype(np.uint8)
    assert mirror_iuv(coded).dtype == np.uint8
    np.testing.assert_allclose(mirror_iuv(coded), mirror_iuv(body.iuv) * (1, 255, 255), atol=0.51)
    np.testing.assert_array_equal(mirror_iuv(np.zeros((2, 2, 3), np.uint8)), 0)  # background stays background
    np.testing.assert_array_equal(CHART_FLIP[CHART_FLIP], np.arange(25))


def test_left_is_the_persons_left(body):
    """The body faces -Y, so its left is at +X."""
    for name, number in ((name, part(name)) for name in PART_NAMES if name.startswith(("left", "right"))):
        side = 1 if name.startswith("left") else -1
        assert (side * body.place[body.parts == number, 0] > -0.02).all(), name
    for back, front in ((1, 2), (7, 9), (8, 10), (11, 13), (12, 14)):
        assert body.place[body.iuv[:, 0] == back, 1].mean() > body.place[body.iuv[:, 0] == front, 1].mean() + 0.03
    for right, left in (
        (3, 4),
        (6, 5),
        (7, 8),
        (9, 10),
        (11, 12),
        (13, 14),
        (16, 15),
        (18, 17),
        (20, 19),
        (22, 21),
        (23, 24),
    ):
        assert body.place[body.iuv[:, 0] == right, 0].mean() < 0 < body.place[body.iuv[:, 0] == left, 0].mean()


@pytest.mark.parametrize(
    "parts", [("hip", "thigh", "knee", "calf", "foot"), ("shoulder", "arm", "elbow", "forearm", "hand")]
)
def test_parts_follow_each_other_along_a_limb(asset, body, parts):
    for side in ("left", "right"):
        group, position = limb_position(asset, body.place, body.groups)
        on_limb = group >= 2
        means = [position[on_limb & (body.parts == part(f"{side} {name}"))].mean() for name in parts]
        assert means == sorted(means)
        assert means[0] < 0.25
        assert means[-1] > 1.9


def test_hair_and_eyes_are_head_and_a_skirt_is_what_it_covers(asset):
    for kind in (EYE, HAIR):
        points = sampled(asset, kind, 500)
        assert (points.parts == part("head")).all()
        assert np.isin(points.iuv[:, 0], (23, 24)).all()
    points = sampled(asset, SKIRT, 2000)
    allowed = [
        "lower spine",
        "crotch",
        *(f"{side} {name}" for side in ("left", "right") for name in ("hip", "thigh", "knee", "calf")),
    ]
    assert set(np.unique(points.parts)) == {part(name) for name in allowed}
    thighs = np.isin(points.parts, (part("left thigh"), part("right thigh"))) & (np.abs(points.place[:, 0]) > 0.05)
    assert ((points.parts[thighs] == part("left thigh")) == (points.place[thighs, 0] > 0)).all()


def test_part_names_pair_up():
    assert len(PART_NAMES) == len(RAW_IDS) == 25
    assert LEFT_RIGHT_PAIRS == (
        (1, 4),
        (2, 5),
        (3, 6),
        (7, 10),
        (8, 11),
        (9, 12),
        (14, 16),
        (15, 17),
        (21, 23),
        (22, 24),
    )
    assert (FLIP[FLIP] == np.arange(25)).all()
    assert (CHART_FLIP[CHART_FLIP] == np.arange(25)).all()
