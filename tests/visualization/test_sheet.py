"""The drawing that contact sheets share, against known values."""

import numpy as np

from hcmoco.visualization.sheet import (
    GROUND,
    depth_colors,
    draw_box,
    gray_depth,
    header,
    side_by_side,
    turbo,
    write_text,
)


def test_near_is_bright_and_red_and_no_reading_is_neither():
    depth = np.full((10, 100), 2000, np.uint16)
    depth[:, :50] = 1000
    depth[0] = 0
    gray, colors = gray_depth(depth), depth_colors(depth)
    assert gray.shape == colors.shape == (10, 100, 3)
    assert (gray[1:, :50] == 255).all()
    assert (gray[1:, 50:] == 60).all()
    assert (gray[0] == 0).all()
    assert (colors[0] == GROUND).all()
    near, far = colors[5, 0].astype(int), colors[5, 99].astype(int)
    assert near[0] > near[2] + 100
    assert far[2] > far[0] + 50


def test_depth_without_readings():
    nothing = np.zeros((4, 5), np.uint16)
    assert not gray_depth(nothing).any()
    assert (depth_colors(nothing) == GROUND).all()


def test_turbo_runs_from_blue_to_red_in_any_shape():
    low, high = turbo(np.uint8([20, 235])).astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    levels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 10
    np.testing.assert_array_equal(turbo(levels)[1, 2], turbo(levels[1, 2]))
    assert turbo(np.zeros((0, 7), np.uint8)).shape == (0, 7, 3)


def test_a_title_stands_over_each_column():
    image = header(["a", "", "b"], 50)
    assert image.shape == (24, 150, 3)
    assert [bool(image[:, start : start + 50].any()) for start in (0, 50, 100)] == [True, False, True]
    np.testing.assert_array_equal(header(["b"], 50), image[:, 100:])


def test_images_stand_side_by_side():
    left, right = np.full((3, 2, 3), 7, np.uint8), np.full((3, 4, 3), 9, np.uint8)
    joined = side_by_side([left, right], gap=1)
    assert joined[0, :, 0].tolist() == [7, 7, 0, 9, 9, 9, 9]
    assert side_by_side([left]).shape == left.shape


def test_a_box_is_kept_in_the_image():
    image = np.zeros((8, 10, 3), np.uint8)
    draw_box(image, np.array([2.0, 3.0, 99.0, 99.0]), (1, 2, 3))
    rows, columns = np.nonzero(image[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 7, 2, 9)
    assert not image[5, 5].any()


def test_text_leaves_the_rest_as_it_is():
    image = np.zeros((30, 60, 3), np.uint8)
    write_text(image, "hello", 4, 20)
    assert image[5:25].any()
    assert not image[:5].any()
    assert not image[25:].any()
