"""Depth registered to color, against a room whose depth is known in closed form."""

import cv2
import numpy as np
import pytest

from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.registration import Rig, register_depth
from tests.helpers.rgbd_scene import BOX, seen_by_color, seen_by_depth, turned

# As the cameras are built, at a third to a half of their pixels.
KINECT_LENS = (0.78, -2.85, 0.0007, -0.0002, 1.62, 0.65, -2.68, 1.55)
REALSENSE_LENS = (-0.0559, 0.0671, -0.0007, 0.0005, -0.0214)
NARROW = Camera(200, 180, 158.0, 157.0, 101.3, 92.7)
RIGS = {
    "the same camera": Rig(NARROW, NARROW),
    "beside each other": Rig(NARROW, NARROW, translation_mm=(60.0, 0.0, 0.0)),
    "finer color": Rig(NARROW, Camera(420, 240, 310.0, 312.0, 208.0, 121.0), translation_mm=(-50.0, 4.0, 2.0)),
    "coarser color": Rig(NARROW, Camera(90, 70, 66.0, 66.0, 44.0, 36.0), translation_mm=(-30.0, 0.0, 0.0)),
    "turned": Rig(NARROW, NARROW, tuple(turned(4, -3, 20).ravel()), (-40.0, 10.0, -5.0)),
    "upside down": Rig(NARROW, NARROW, tuple(turned(0, 0, 180).ravel()), (-40.0, 10.0, -5.0)),
    "RealSense": Rig(
        Camera(212, 120, 107.0, 107.0, 106.2, 60.4),
        Camera(320, 180, 229.0, 229.0, 161.0, 90.0, "modified-brown-conrady", REALSENSE_LENS),
        tuple(turned(0.2, -0.3, 0.1).ravel()),
        (15.0, 0.1, -0.3),
    ),
    "Azure Kinect": Rig(
        Camera(213, 192, 168.0, 168.0, 106.5, 96.2, "brown-conrady", (0.5, -0.05, 1e-4, -5e-5, 0.02, 0.8, 0.04, 0.01)),
        Camera(320, 180, 152.0, 152.0, 160.0, 91.0, "brown-conrady", KINECT_LENS),
        tuple(turned(-5.9, 0.1, 0.1).ravel()),
        (-32.0, -2.1, 3.9),
    ),
}


def beside_edges(depth: np.ndarray, pixels: int) -> np.ndarray:
    """bool: a jump of depth is this near, or the edge of the picture."""
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    values = depth.astype(np.float32)
    return cv2.dilate(values, kernel) - cv2.erode(values, kernel) > 0.08 * np.maximum(values, 1000)


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS)
def test_the_color_camera_would_measure_the_same(rig):
    expected, seen = seen_by_color(rig)
    found = register_depth(seen_by_depth(rig), rig)
    coarse = int(np.ceil(1.5 * rig.color.fx / rig.depth.fx))  # pixels of color that a reading covers
    edge = beside_edges(expected, coarse) | beside_edges(seen.astype(float) * 1e6, coarse)
    # A reading is one distance all over its square, and slanted surfaces are not: what it covers has its value.
    kernel = np.ones((2 * coarse + 1,) * 2, np.uint8)
    low, high = cv2.erode(expected.astype(np.float32), kernel), cv2.dilate(expected.astype(np.float32), kernel)
    both = (found > 0) & seen & ~edge
    assert both.sum() > 2000
    slack = 3 + 0.5 * (high - low)  # at the picture's edge the surface goes on
    assert ((found >= low - slack) & (found <= high + slack))[both].all()
    assert np.median(np.abs(found - expected)[both]) < 6
    assert (found[seen & ~edge] > 0).all(), "no reading is lost, and a coarse depth camera leaves no grid of holes"
    assert not found[~seen & ~edge].any(), "what the depth camera does not see stays a hole"
    # At the edges a value is one of the surfaces there, never between them.
    on_edge = (found > 0) & beside_edges(expected, coarse)
    middle = (found > low + 0.3 * (high - low)) & (found < high - 0.3 * (high - low)) & (high - low > 600)
    assert (on_edge & middle).sum() <= 0.02 * max(on_edge.sum(), 1)


def test_the_same_camera_keeps_holes_and_every_value():
    depth = seen_by_depth(RIGS["the same camera"])
    depth[40:60, 70:90] = depth[100, 100] = 0
    np.testing.assert_allclose(register_depth(depth, RIGS["the same camera"]), depth, atol=1e-9)


def test_the_box_hides_the_wall_and_casts_a_shadow():
    rig = RIGS["beside each other"]
    found = register_depth(seen_by_depth(rig), rig)
    row = found[92]
    box = np.abs(row - BOX[0, 2]) < 1
    assert 0.9 * 500 / 1800 * 158 < box.sum() < 1.1 * 500 / 1800 * 158
    columns = np.flatnonzero(box)
    assert (row[columns[0] : columns[-1] + 1] < 1900).all(), "nothing shines through"
    # 60 mm apart, f 158: the box moves 5.3 pixels, the wall about 3.3: a shadow of two pixels on one side.
    shadow = (row == 0)[columns[0] - 6 : columns[-1] + 7]
    assert 1 <= shadow.sum() <= 3


def test_the_nearest_surface_wins_in_any_order():
    camera = Camera(8, 1, 10.0, 10.0, 3.5, 0.0)
    depth = np.array([[4000, 4000, 1000, 4000, 4000, 4000, 4000, 4000]], float)
    rig = Rig(camera, camera, translation_mm=(200.0, 0.0, 0.0))  # 2 pixels at 1 m, half a pixel at 4 m
    assert register_depth(depth, rig)[0, 4] == 1000
    assert register_depth(depth[:, ::-1], rig)[0, 7] == 1000


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the depth picture is 100 x 50 pixels, its camera 200 x 180"):
        register_depth(np.zeros((50, 100)), RIGS["turned"])
