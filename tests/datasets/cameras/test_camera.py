"""Lenses: OpenCV is the reference for Brown and Conrady's model, and what is seen from a direction is seen in it."""

import cv2
import numpy as np
import pytest

from hcmoco.datasets.cameras.camera import Camera
from tests.datasets.cameras.test_registration import KINECT_LENS, REALSENSE_LENS
from tests.helpers.rgbd_scene import pixels

LENSES = [(), (0.09, -0.06, 0.001, -0.002), REALSENSE_LENS, KINECT_LENS]


def camera(distortion, model="brown-conrady") -> Camera:
    return Camera(320, 180, 152.0, 150.0, 161.0, 88.0, model if distortion else "none", distortion)


@pytest.mark.parametrize("distortion", LENSES, ids=len)
def test_points_are_seen_where_opencv_sees_them(distortion):
    points = np.random.default_rng(0).uniform((-1.2, -0.7, 1), (1.2, 0.7, 3), (400, 3))
    mine = camera(distortion)
    matrix = np.array([[mine.fx, 0, mine.cx], [0, mine.fy, mine.cy], [0, 0, 1]])
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(distortion or (0.0,) * 4))[0][:, 0]
    seen = mine.project(points)
    known = np.isfinite(seen).all(1)
    assert known.mean() > 0.9
    np.testing.assert_allclose(seen[known], theirs[known], atol=1e-6)


@pytest.mark.parametrize("model", ["brown-conrady", "modified-brown-conrady"])
@pytest.mark.parametrize("distortion", LENSES, ids=len)
def test_a_pixel_sees_what_is_seen_there(distortion, model):
    mine = camera(distortion, model)
    rays = mine.rays(pixels(mine))
    known = np.isfinite(rays).all(1)
    assert known.mean() > 0.95
    seen = mine.project(np.column_stack([rays[known], np.ones(known.sum())]) * 2.5)
    np.testing.assert_allclose(seen, pixels(mine)[known], atol=0.02)


def test_the_modified_model_bends_radially_first():
    """By hand: k1 = 0.1, p1 = 0.01, p2 = 0.02 at x = 0.5, y = 0.25, so r2 = 0.3125 and radial = 1.03125."""
    x, y = 0.5 * 1.03125, 0.25 * 1.03125
    bent = (x + 0.02 * x * y + 0.02 * (0.3125 + 2 * x * x), y + 0.01 * (0.3125 + 2 * y * y) + 0.04 * x * y)
    mine = Camera(9, 9, 1.0, 1.0, 0.0, 0.0, "modified-brown-conrady", (0.1, 0.0, 0.01, 0.02, 0.0))
    np.testing.assert_allclose(mine.project(np.array([[0.5, 0.25, 1.0]]))[0], bent)


def test_far_points_do_not_land_inside_where_a_lens_bends_back():
    """With k1 = -0.3 directions beyond 46 degrees would come back into the picture."""
    mine = Camera(320, 180, 152.0, 152.0, 160.0, 90.0, "brown-conrady", (-0.3, 0.0, 0.0, 0.0, 0.0))
    assert np.isnan(mine.project(np.array([[1.8, 0.0, 1.0], [0.0, 0.0, -1.0]]))).all()
    assert np.isfinite(mine.project(np.array([[0.9, 0.0, 1.0]]))).all()


def test_records_count_from_the_corner_of_the_first_pixel():
    assert camera(()).record_camera == (152.0, 150.0, 161.5, 88.5)
