"""Points of a crop: where they are in the camera's frame, and which pixels they are."""

import numpy as np
import pytest

from hcmoco.data.pinhole import project, unproject
from hcmoco.data.points import crop_rays, draw_points, require_camera
from hcmoco.data.transforms import crop_matrix
from hcmoco.errors import UserError
from hcmoco.rng import make_rng

CAMERA = np.array([150.0, 140.0, 61.0, 70.0])


def cloud_of(xyz: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points that the camera sees, looked up in the crop, and brought back by the rays through these pixels."""
    crop = project(xyz, CAMERA) @ matrix[:, :2].T + matrix[:, 2]
    rays = crop_rays(CAMERA, matrix)
    slopes = crop @ rays[:, :2].T + rays[:, 2]
    return np.column_stack([slopes, np.ones(len(xyz))]) * xyz[:, 2:]


@pytest.fixture(scope="module")
def xyz() -> np.ndarray:
    return make_rng(0, "points").uniform([-0.5, -0.9, 2.0], [0.5, 0.9, 3.0], (40, 3))


def test_a_crop_that_is_not_turned_gives_the_cameras_own_points(xyz):
    found = cloud_of(xyz, crop_matrix((70, 60), 100, 96))
    np.testing.assert_allclose(found, xyz, atol=1e-12)
    np.testing.assert_allclose(found, unproject(project(xyz, CAMERA), xyz[:, 2], CAMERA), atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0])
def test_points_turn_and_mirror_with_the_crop_and_keep_their_distances(xyz, degrees, flip):
    found = cloud_of(xyz, crop_matrix((70, 60), 100, 96, degrees, flip))
    turn = np.radians(degrees)
    rolled = xyz[:, :2] @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]).T
    expected = np.column_stack([rolled * [-1 if flip else 1, 1], xyz[:, 2]])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_crop_that_stretches_neither_turns_nor_stretches_points(xyz):
    matrix = np.array([[2.0, 0, -30], [0, 0.7, 5]])
    np.testing.assert_allclose(cloud_of(xyz, matrix), xyz, atol=1e-12)


def depth_of(count: int) -> np.ndarray:
    depth = np.zeros(64 * 64, np.uint16)
    depth[make_rng(1, "pixels").choice(64 * 64, count, replace=False)] = 2000
    return depth.reshape(64, 64)


@pytest.mark.parametrize("count", [1, 100, 300, 4000])
def test_points_are_pixels_with_a_reading_and_the_first_lie_in_the_anchors(count):
    depth = depth_of(count)
    points, anchors = draw_points(depth, 256, 50, make_rng(0, "draw"))
    valid = np.flatnonzero(depth)
    assert (points.shape, anchors.shape) == ((256,), (50,))
    assert set(points) <= set(valid)
    assert len(set(points)) == min(256, count)
    cells = points // 64 // 4 * 16 + points % 64 // 4
    known = anchors >= 0
    assert known.sum() == min(50, len(set(cells)))
    assert not known[known.sum() :].any()
    assert len(set(anchors[known])) == known.sum()
    assert (cells[: known.sum()] == anchors[known]).all()


def test_a_crop_without_a_reading_has_no_points():
    points, anchors = draw_points(depth_of(0), 256, 10, make_rng(0, "draw"))
    assert (points == -1).all()
    assert (anchors == -1).all()


def test_every_pixel_is_drawn_as_often():
    depth = depth_of(500)
    drawn = np.concatenate([draw_points(depth, 256, 20, make_rng(k, "draw"))[0] for k in range(200)])
    counts = np.bincount(drawn, minlength=4096)[np.flatnonzero(depth)]
    # Each is drawn 102.4 times on average; five standard deviations.
    assert abs(counts - 102.4).max() < 5 * np.sqrt(200 * 0.512 * 0.488)


@pytest.mark.parametrize("camera", [None, [0.0, 100, 1, 1], [float("nan"), 1, 1, 1]])
def test_a_row_without_a_camera_is_one_line_that_names_it(camera):
    with pytest.raises(UserError, match="'room/3'") as caught:
        require_camera({"id": "room/3", "camera": camera})
    assert "\n" not in str(caught.value)
