import numpy as np
import pytest

from hcmoco.datasets.ntu import registration
from hcmoco.rng import make_rng
from tests.helpers.ntu_files import rig

AFFINE = np.array([[2.9, 0.02, 200, 0], [-0.01, 2.88, -70, 0], [0, 0, 1, 0]])
HOMOGRAPHY = np.array([[2.9, 0.02, 200, 0], [-0.01, 2.88, -70, 0], [6e-5, -4e-5, 1, 0]])
RIG = rig(1, 1).matrix
DEPTH_PIXEL = 2.9  # pixels of the color picture


def pairs(matrix, count, *, noise=0.0, wrong=0.0, near=2.0, far=4.2):
    """Joints anywhere in the room; noise in pixels of depth; a share of them is wrong by hundreds of pixels."""
    rng = make_rng(0, "pairs", count)
    xy, z = rng.uniform((90, 40), (430, 400), (count, 2)), rng.uniform(near, far, count)
    color = registration.project(matrix, xy, z) + rng.normal(0, noise * DEPTH_PIXEL, (count, 2))
    outliers = rng.random(count) < wrong
    color[outliers] += rng.normal(0, 300, (outliers.sum(), 2))
    return xy, z, color


def worst(found, truth, near=2.0, far=4.2):
    """Largest distance between two transforms over most of the picture, pixels of depth."""
    grid = np.stack(np.meshgrid(np.linspace(60, 450, 9), np.linspace(20, 410, 9)), -1).reshape(-1, 2)
    apart = [
        np.linalg.norm(
            registration.project(found, grid, np.full(81, z)) - registration.project(truth, grid, np.full(81, z)),
            axis=1,
        )
        for z in (near, (near + far) / 2, far)
    ]
    return float(np.max(apart)) / DEPTH_PIXEL


@pytest.mark.parametrize(
    ("truth", "model"),
    [(AFFINE, "affine"), (HOMOGRAPHY, "homography"), (RIG, "homography and parallax")],
    ids=["affine", "plane", "rig"],
)
def test_a_known_warp_comes_back(truth, model):
    exact = registration.fit(*pairs(truth, 75))
    assert exact.model == model
    assert worst(exact.matrix, truth) < 0.01
    assert exact.inliers.all()

    found = registration.fit(*pairs(truth, 3000, noise=0.5, wrong=0.3))
    assert worst(found.matrix, truth) < 0.5
    assert abs(found.inliers.mean() - 0.7) < 0.05
    assert 0.3 < np.median(found.residuals) < 1.2
    again = registration.fit(*pairs(truth, 3000, noise=0.5, wrong=0.3))
    assert np.array_equal(again.matrix, found.matrix)


def test_a_plane_to_plane_transform_would_miss_by_pixels():
    """Why distance is in the model: two pictures from 5 cm apart, between 2 and 4 meters."""
    xy, z, color = pairs(RIG, 2000)
    flat = registration.fit(xy, np.full(len(z), 3.0), color)
    assert np.percentile(flat.residuals, 90) > 1
    assert np.percentile(registration.fit(xy, z, color).residuals, 90) < 0.01


def test_people_at_one_distance_do_not_tell_parallax_and_need_not():
    found = registration.fit(*pairs(RIG, 500, noise=0.2, near=3.0, far=3.0))
    assert found.model != "homography and parallax"
    assert worst(found.matrix, RIG, near=3.0, far=3.0) < 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda xy, z, color: (xy[:23], z[:23], color[:23]), "23 joint pairs, at least 24"),
        (lambda xy, z, color: (np.column_stack([xy[:, 0], 0 * xy[:, 0] + 200]), z, color), "lie in a line"),
        (lambda xy, z, color: (0 * xy + 7, z, color), "lie in a line"),
    ],
)
def test_pairs_that_determine_nothing(change, words):
    with pytest.raises(ValueError, match=words):
        registration.fit(*change(*pairs(RIG, 100)))


def test_a_picture_that_is_turned_over_is_no_registration():
    mirrored = RIG @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(ValueError, match="turns the picture over"):
        registration.magnification(mirrored, 3.0)
    assert registration.magnification(RIG, 3.0) == pytest.approx(DEPTH_PIXEL, rel=0.05)


def test_the_camera_comes_back_from_joints():
    truth, rng = rig(2, 3).camera, make_rng(0, "camera")
    xyz = np.column_stack([rng.uniform(-1, 1, (4000, 2)), rng.uniform(2, 4, 4000)])
    xy = registration.project_camera(truth, xyz)
    assert np.allclose(registration.fit_camera(xyz, xy)[0], truth, atol=1e-6)
    xy += rng.normal(0, 0.3, xy.shape)
    xy[:1200] += rng.normal(0, 60, (1200, 2))
    camera, residuals = registration.fit_camera(xyz, xy)
    assert np.allclose(camera, truth, atol=0.2)
    assert np.median(residuals) < 1
    with pytest.raises(ValueError, match="do not spread"):
        registration.fit_camera(np.tile([0.1, 0.2, 3.0], (50, 1)), xy[:50])
    with pytest.raises(ValueError, match="further to the right"):
        registration.fit_camera(xyz * (-1, 1, 1), registration.project_camera(truth, xyz))
