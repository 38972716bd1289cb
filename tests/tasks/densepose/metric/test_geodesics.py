"""Places named by chart and coordinates, and the surface of the synthetic people."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic.body.mesh import BODY, load_asset
from hcmoco.synthetic.body.surface_labels import CHART_FLIP
from hcmoco.synthetic.config import ScenesConfig
from hcmoco.synthetic.multi_person import render_scene
from hcmoco.synthetic.render.rasterize import box_around
from hcmoco.tasks.densepose.metric import mesh
from hcmoco.tasks.densepose.metric.geodesics import COARSE_PARTS, Geodesics, chart_scales, full_matrix, lower_triangle
from hcmoco.tasks.densepose.metric.metric import DensePoseMetric
from hcmoco.tasks.densepose.metric.people_surface import body_faces, compute, corner_labels, people_geodesics
from tests.helpers.evaluation_scenes import Rows


@pytest.fixture(scope="module")
def body() -> Geodesics:
    """The people's surface with fewer reference points than usual."""
    arrays = compute(load_asset(), references=700)
    return Geodesics("people", arrays["iuv"], arrays["reference"], full_matrix(arrays["distances"]))


@pytest.fixture(scope="module")
def places() -> tuple[np.ndarray, np.ndarray]:
    """Random points of the body: meters [N, 3], and I, U, V [N, 3]."""
    asset = load_asset()
    faces, islands = body_faces(asset)
    corners = asset.template[faces].astype(float)
    size = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    rng = make_rng(0, "places")
    face = rng.choice(len(faces), 1500, p=size / size.sum())
    weights = rng.dirichlet((1, 1, 1), (len(face), 1)).repeat(3, 1)
    iuv = corner_labels(
        asset, faces, islands, np.concatenate([np.broadcast_to(face[:, None, None], (len(face), 3, 1)), weights], 2)
    )
    return np.einsum("nk,nkc->nc", weights[:, 0], corners[face]), iuv.reshape(-1, 3, 3)[:, 0]


def test_a_surface_finds_its_places(surface):
    iuv = np.array([[3, 0.2, 0.5], [3, 0.204, 0.1], [24, 1, 0], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(surface.vertices(iuv), [2 * 101 + 20, 2 * 101 + 20, 23 * 101 + 100, -1])
    np.testing.assert_allclose(
        surface.between(iuv, np.array([[3, 0.5, 0.5], [0, 0, 0], [1, 0, 0], [0, 0, 0]])), [0.3, np.inf, 0.8, np.inf]
    )
    with pytest.raises(ValueError, match=r"chart 2\.5 is none of 1\.\.24"):
        surface.vertices(np.array([[2.5, 0, 0]]))
    with pytest.raises(ValueError, match="not finite"):
        surface.vertices(np.array([[2, np.nan, 0]]))
    with pytest.raises(ValueError, match="no place in chart 24"):
        Geodesics("part", surface.iuv[: 23 * 101], surface.reference, surface.pairs)


def test_scales_are_those_of_the_protocol():
    np.testing.assert_array_equal(chart_scales()[[1, 2, 3, 4, 5, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 24]], np.repeat(
        [0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150], 2))  # fmt: skip
    assert (chart_scales(0.255)[1:] == 0.255).all()
    # the constant of the first publication: 30 cm off is a similarity of one half
    assert np.exp(-(0.3**2) / (2 * 0.255**2)) == pytest.approx(0.5, abs=0.001)


def test_a_packed_triangle_is_read_as_the_square():
    rng = make_rng(0, "square")
    square = np.tril(rng.random((40, 40)), -1)
    square += square.T
    a, b = rng.integers(0, 40, (2, 300))
    np.testing.assert_array_equal(lower_triangle(square[np.tril_indices(40, -1)])(a, b), square[a, b])


def test_the_body_is_a_metric(body):
    points = body.iuv[make_rng(0, "rows").choice(len(body.iuv), 150, replace=False)]
    a, b = (each.ravel() for each in np.meshgrid(np.arange(150), np.arange(150), indexing="ij"))
    distance = body.between(points[a], points[b]).reshape(150, 150)
    assert (np.diag(distance) == 0).all()
    np.testing.assert_array_equal(distance, distance.T)
    assert (distance <= (distance[:, :, None] + distance[None]).min(1) * 1.002).all()
    assert 1.7 < distance.max() < 2.4


def test_the_body_is_found_at_the_place_that_is_named(body, places):
    """Never nearer than through the air, and of two neighbors hardly farther: less what the reference points are
    apart."""
    place, iuv = places
    near = np.linalg.norm(place[:, None] - place[None], axis=2)
    a, b = np.nonzero(np.triu(near < 0.03, 1) & (iuv[:, None, 0] == iuv[None, :, 0]))
    assert len(a) > 300
    assert np.percentile(body.between(iuv[a], iuv[b]), 95) < 0.13
    assert body.between(iuv[a], iuv[b]).mean() < 0.05
    c, d = make_rng(0, "pairs").integers(0, len(place), (2, 3000))
    straight = np.linalg.norm(place[c] - place[d], axis=1)
    assert np.percentile(body.between(iuv[c], iuv[d]) - straight, 1) > -0.06


def test_distances_between_limbs_are_those_of_a_person(body):
    """From the crown down to a foot is about the body's height, from hand to hand about the arms' span; feet meet at
    the crotch."""

    def middle(chart, v=0.5, u=0.5):
        return np.array([[chart, u, v]])

    head_to_foot = body.between(middle(24, 1.0), middle(6))[0]
    assert 1.5 < head_to_foot < 2.0
    assert 1.2 < body.between(middle(3), middle(4))[0] < 1.9
    assert 1.3 < body.between(middle(5), middle(6))[0] < 2.0
    assert body.between(middle(2, 0.5), middle(1, 0.5))[0] < 0.7
    for chart in range(1, 25):
        across = body.between(middle(chart, 0.1), middle(chart, 0.9))[0]
        assert across < 3 * chart_scales()[chart], chart


def test_a_mirror_image_has_the_same_distances(body):
    rows = make_rng(0, "mirror").choice(len(body.iuv), (2, 600))
    a, b = body.iuv[rows[0]], body.iuv[rows[1]]

    def mirrored(iuv):
        u = np.where(iuv[:, 0] <= 2, 1 - iuv[:, 1], iuv[:, 1])
        return np.stack([CHART_FLIP[iuv[:, 0].astype(int)], u, iuv[:, 2]], axis=1)

    here, there = body.between(a, b), body.between(mirrored(a), mirrored(b))
    assert np.abs(here - there).mean() < 0.03
    assert np.corrcoef(here, there)[0, 1] > 0.99


def test_exchanged_sides_are_far_apart(body):
    limbs = body.iuv[np.isin(body.iuv[:, 0], np.arange(3, 23))][::97]
    other = np.stack([CHART_FLIP[limbs[:, 0].astype(int)], limbs[:, 1], limbs[:, 2]], axis=1)
    similarity = np.exp(-(body.between(limbs, other) ** 2) / (2 * body.kappa[limbs[:, 0].astype(int)] ** 2))
    assert similarity.mean() < 0.15
    hands = limbs[:, 0] <= 4
    assert similarity[hands].max() < 1e-6


def test_rendered_scenes_score_as_they_should(body):
    """What is rendered (8 bits) is right, with left and right exchanged the limbs are wrong, and another scene's is
    worth nothing."""
    config = ScenesConfig(size=96, min_people=2, max_people=2, seed=3)
    scenes = [render_scene(config, number) for number in range(3)]
    people, predictions = [], {name: [] for name in ("truth", "exchanged", "others")}
    for number, scene in enumerate(scenes):
        people.append([])
        found: dict[str, list] = {name: [] for name in predictions}
        boxes = []
        for k, points in enumerate(scene.points):
            mask = scene.person == k + 1
            if not len(points):
                continue
            box = box_around(mask)
            people[-1].append({"box": box, "mask": mask, "dp_points": points, "crowd": False})
            boxes.append(box)
            x0, y0, x1, y1 = (int(each) for each in (*np.floor(box[:2]), *np.ceil(box[2:])))
            iuv = (scene.iuv / np.array([1, 255, 255]))[y0:y1, x0:x1] * mask[y0:y1, x0:x1, None]
            found["truth"].append(iuv)
            found["exchanged"].append(np.concatenate([CHART_FLIP[iuv[..., :1].astype(int)], iuv[..., 1:]], axis=2))
            other = scenes[(number + 1) % 3].iuv / np.array([1, 255, 255])
            found["others"].append(other[y0:y1, x0:x1])
        for name, arrays in found.items():
            predictions[name].append(
                {"boxes": np.stack(boxes), "scores": np.linspace(0.9, 0.5, len(boxes)), "iuv": arrays}
            )
    rows = Rows(("a", "b", "c"), np.full((3, 2), 96), people)
    metrics = {}
    for name, each in predictions.items():
        metric = DensePoseMetric(body)
        metric.update(rows, each)
        metrics[name] = metric.compute().metrics
    assert (
        metrics["truth"]["gps_ap"]
        == metrics["truth"]["gpsm_ap"]
        == metrics["truth"]["mask_ap"]
        == metrics["truth"]["box_ap"]
        == 1
    )
    assert metrics["exchanged"]["mask_ap"] == 1
    assert metrics["exchanged"]["gps_ap"] < 0.1
    assert metrics["others"]["gps_ap"] < 0.1


def test_reference_points_are_dense_where_scales_are_small():
    """In units of the chart's scale, a point is as well served on a hand as on the torso."""
    asset = load_asset()
    faces, islands = body_faces(asset)
    used, compact = np.unique(faces, return_inverse=True)
    vertices, pieces, where = mesh.split_long_edges(asset.template[used], compact.reshape(-1, 3), 0.03)
    scale = np.full(len(vertices), np.inf)
    np.minimum.at(
        scale, pieces.reshape(-1), chart_scales()[corner_labels(asset, faces, islands, where)[:, 0].astype(int)]
    )
    chosen = mesh.farthest_points(vertices, scale, 700)
    gap = (
        np.linalg.norm(vertices[:, None].astype(np.float32) - vertices[chosen].astype(np.float32), axis=2).min(1)
        / scale
    )
    assert gap.max() < 0.32
    assert (asset.face_kind == BODY).sum() == len(faces)


@pytest.mark.long
@pytest.mark.slow
def test_the_distances_are_kept(tmp_path):
    first = people_geodesics(folder=tmp_path)
    (file,) = tmp_path.glob("geodesics-people-*.safetensors")
    assert 15e6 < file.stat().st_size < 40e6
    written = file.stat().st_mtime_ns
    again = people_geodesics(scale=0.255, folder=tmp_path)
    assert file.stat().st_mtime_ns == written
    points = first.iuv[::501]
    np.testing.assert_array_equal(first.between(points, points[::-1]), again.between(points, points[::-1]))
    assert (again.kappa[1:] == 0.255).all()
    assert len(np.unique(COARSE_PARTS[points[:, 0].astype(int)])) == 8
