"""Places of predictions on an image, against closed forms: predictions that hold their own coordinates."""

import numpy as np
import pytest

from hcmoco.inference.adapter import ImageTransform, labels_on_image, resize, rounded
from hcmoco.inference.densepose import over_box, to_bytes
from hcmoco.inference.writer import file_name


@pytest.mark.parametrize("side", [16, 40, 80])
def test_spread_takes_what_lies_under_each_center(side):
    """A prediction of 4 x 4 numbered cells over a square of 40 x 40 pixels at (-10, 20) of a 60 x 50 picture."""
    cells = np.arange(1, 17, dtype=np.uint8).reshape(4, 4).repeat(side // 4, 0).repeat(side // 4, 1)
    transform = ImageTransform((0.5, 0.5), (5.0, -10.0))  # the row's image is 20 x 20
    found = labels_on_image(cells, 20, transform, (60, 50), (60, 50))
    expected = np.zeros((50, 60), np.uint8)
    for y in range(50):
        for x in range(60):
            column, row = (x + 10) // 10, (y - 20) // 10
            if 0 <= column < 4 and 0 <= row < 4:
                expected[y, x] = 1 + 4 * row + column
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(labels_on_image(cells, 20, transform, (60, 50), (30, 25)), expected[1::2, 1::2])


def test_places_go_back():
    transform = ImageTransform((0.25, 0.5), (3.0, -7.0))
    xy = np.random.default_rng(0).normal(size=(9, 2)) * 100
    np.testing.assert_allclose(transform.to_picture(xy * transform.scale + transform.offset), xy)


@pytest.mark.parametrize(("scale", "size"), [(1.0, (40, 30)), (0.5, (80, 60)), (0.25, (160, 120)), (2.0, (20, 15))])
def test_surfaces_are_read_under_each_center(scale, size):
    """Channels that hold the column and row of the image (40 x 30) that was predicted on."""
    box = np.array([3.4, 5.5, 22.2, 29.9])
    rows, columns = np.mgrid[5:30, 3:23]
    values = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    (x0, y0, x1, y1), found = over_box(values, box, ImageTransform((scale, scale)), size)
    assert (x0, y0) == tuple(np.floor(box[:2] / scale).astype(int))
    assert (x1, y1) == tuple(np.ceil(box[2:] / scale).astype(int))
    np.testing.assert_array_equal(found[0, :, 0], np.clip(np.floor((np.arange(x0, x1) + 0.5) * scale), 3, 22))
    np.testing.assert_array_equal(found[:, 0, 1], np.clip(np.floor((np.arange(y0, y1) + 0.5) * scale), 5, 29))


@pytest.mark.parametrize("box", [[40.0, 10.0, 40.0, 20.0], [39.9, 29.9, 40.0, 30.0], [0.0, 0.0, 0.0, 0.0]])
def test_surfaces_of_no_width_keep_a_pixel_inside(box):
    (x0, y0, x1, y1), found = over_box(np.ones((1, 1, 3)), np.array(box), ImageTransform(), (40, 30))
    assert 0 <= x0 < x1 <= 40
    assert 0 <= y0 < y1 <= 30
    assert found.shape == (y1 - y0, x1 - x0, 3)


def test_iuv_bytes():
    np.testing.assert_array_equal(
        to_bytes(np.array([[[24.0, 0.0, 1.0], [3.0, 0.5, 2.0]]])), [[[24, 0, 255], [3, 128, 255]]]
    )


def test_depth_is_never_blended():
    depth = np.random.default_rng(0).choice(np.array([0, 700, 9000], np.uint16), (37, 53))
    for size in ((20, 11), (53, 37), (120, 90)):
        small = resize(depth, size)
        assert small.shape == size[::-1]
        assert set(np.unique(small)) <= {0, 700, 9000}


def test_what_is_no_number_is_null():
    assert rounded([[1.23456, np.nan], [np.inf, -2]]) == [[1.235, None], [None, -2.0]]


def test_file_names_are_short_and_apart():
    names = ["a/" + "ü" * 200 + f"{number}.png" for number in range(3)]
    files = [file_name(name, ".0.png") for name in names]
    assert len(set(files)) == 3
    assert all(len(each.encode()) <= 2 + 255 and each.startswith("a/ü") for each in files)
    assert file_name("s/a.jpg", ".0.png") == "s/a.jpg.0.png"
