import math

import numpy as np
import pytest

from hcmoco.data.pinhole import project, unproject
from hcmoco.models.normalization import normalize_depth
from hcmoco.rng import make_rng
from hcmoco.tasks.pose import PoseConfig, crop

BOX = np.array([40.0, 20.5, 71.0, 101.0])


def config(**values):
    return PoseConfig(**{"size": 96, **values})


def test_unprojecting_a_projection_gives_the_point_back():
    rng = np.random.default_rng(0)
    camera = np.array([285.7, 290.0, 160.0, 119.5])
    points = np.column_stack([rng.uniform(-1, 1, (50, 2)), rng.uniform(1, 4, 50)])
    np.testing.assert_allclose(unproject(project(points, camera), points[:, 2], camera), points, atol=1e-12)
    # x right, y down: a point up and left of the axis is up and left of the center, by f / z.
    np.testing.assert_allclose(project(np.array([-1.0, -0.5, 2.0]), camera), [160 - 285.7 / 2, 119.5 - 290 / 4])


@pytest.mark.parametrize("seed", range(5))
def test_moving_back_undoes_the_crop_under_any_augmentation(seed):
    settings = config(flip_probability=0.5, rotation=180.0)
    window, augment, _ = crop.draw_crop(settings, BOX, 128, make_rng(seed, "test"))
    matrix = crop.compose(crop.window_matrix(window, 96), augment)
    points = np.random.default_rng(seed).uniform(-50, 200, (40, 2))
    np.testing.assert_allclose(crop.move_back(crop.move(points, matrix), matrix), points, atol=1e-4)
    np.testing.assert_allclose(crop.move(crop.move_back(points, matrix), matrix), points, atol=1e-4)


def test_windows_are_the_box_with_margins_clipped_to_the_image():
    published = config(margin_unit="pixels", margin=(25, 15), jitter=10, test_margin=(0, 0))
    np.testing.assert_allclose(crop.crop_window(published, BOX, 200, published.margin), [15, 5.5, 96, 116])
    np.testing.assert_allclose(crop.crop_window(published, BOX, 110, published.margin), [15, 5.5, 96, 110])
    np.testing.assert_allclose(crop.evaluation_crop(published, BOX, 110), BOX)
    # In longest sides of the box, so that the crop of an image stored at another scale is the same.
    relative = config(margin=(0.1, 0.2), jitter=0.0)
    np.testing.assert_allclose(crop.evaluation_crop(relative, BOX, 128), BOX + 80.5 * np.array([-0.1, -0.2, 0.1, 0.2]))
    np.testing.assert_allclose(
        crop.evaluation_crop(relative, 2 * BOX, 256), 2 * crop.evaluation_crop(relative, BOX, 128)
    )


def test_windows_map_onto_the_whole_input():
    window = np.array([10.25, 3.0, 50.75, 97.5])
    corners = crop.move(window.reshape(2, 2), crop.window_matrix(window, 64))
    np.testing.assert_allclose(corners, [[0, 0], [64, 64]], atol=1e-12)


def test_jitter_keeps_the_box_inside_and_reaches_its_limits():
    settings = config(margin_unit="pixels", margin=(25, 15), jitter=10)
    windows = np.array([crop.draw_crop(settings, BOX + 100, 400, make_rng(number, "test"))[0] for number in range(400)])
    offsets = windows - (BOX + 100 + np.array([-25, -15, 25, 15]))
    assert (np.abs(offsets) <= 10).all()
    assert (offsets.min(0) < -9.5).all()
    assert (offsets.max(0) > 9.5).all()


def test_augmentations_turn_and_scale_about_the_center_within_their_ranges():
    angles, zooms, mirrored = [], [], []
    for number in range(400):
        _, matrix, flip = crop.draw_crop(config(flip_probability=0.3), BOX, 128, make_rng(number, "test"))
        np.testing.assert_allclose(crop.move(np.array([[48.0, 48.0]]), matrix), [[48, 48]], atol=1e-9)
        zooms.append(math.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        angles.append(math.degrees(math.atan2(matrix[1, 0], matrix[1, 1])))
        mirrored.append(flip)
        assert flip == (np.linalg.det(matrix[:, :2]) < 0)
    assert -15 <= min(angles) < -14
    assert 14 < max(angles) <= 15
    assert 0.5 <= min(zooms) < 0.52
    assert 1.48 < max(zooms) <= 1.5
    assert 0.2 < np.mean(mirrored) < 0.4


def test_the_picture_moves_with_the_matrix():
    """A marked pixel is found where the matrix says, in turned, scaled and mirrored crops."""
    found = 0
    for number in range(30):
        rng = make_rng(number, "test")
        window, augment, _ = crop.draw_crop(config(flip_probability=0.5, scale=(1.2, 1.5)), BOX, 128, rng)
        depth = np.full((128, 128), 2000, np.uint16)
        depth[60:63, 54:57] = 900
        where = crop.move(np.array([[55.5, 61.5]]), crop.compose(crop.window_matrix(window, 96), augment))[0]
        picture = crop.cut(depth, window, augment, 96, "nearest")
        assert set(np.unique(picture)) <= {0, 900, 2000}
        rows, columns = np.nonzero(picture == 900)
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], where, atol=0.7)
        found += 1
    assert found == 30


def test_cutting_at_scale_one_copies_pixels():
    depth = np.random.default_rng(0).integers(1, 5000, (64, 64)).astype(np.uint16)
    assert np.array_equal(crop.cut(depth, np.array([8.0, 16, 40, 48]), None, 32, "nearest"), depth[16:48, 8:40])
    doubled = crop.cut(depth, np.array([8.0, 16, 24, 32]), None, 32, "nearest")
    assert np.array_equal(doubled, depth[16:32, 8:24].repeat(2, 0).repeat(2, 1))


def test_what_lies_beside_the_window_never_enters():
    depth = np.full((64, 64), 3000, np.uint16)
    depth[16:48, 16:48] = 1500
    _, shrink, _ = crop.draw_crop(config(scale=(0.5, 0.5), rotation=0), BOX, 64, make_rng(0, "test"))
    assert set(np.unique(crop.cut(depth, np.array([16.0, 16, 48, 48]), shrink, 96, "nearest"))) == {0, 1500}


def test_only_bilinear_makes_depths_between_surfaces():
    depth = np.zeros((128, 128), np.uint16)
    depth[40:80, 40:80] = 2000
    window, augment, _ = crop.draw_crop(config(), BOX, 128, make_rng(3, "test"))
    assert set(np.unique(crop.cut(depth, window, augment, 96, "nearest"))) == {0, 2000}
    assert len(np.unique(crop.cut(depth, window, augment, 96, "bilinear"))) > 10


def test_background_goes_and_the_person_stays():
    depth = np.full((128, 128), 4000, np.uint16)
    person = np.zeros((128, 128), bool)
    person[22:100, 48:64] = True
    depth[person] = np.random.default_rng(0).integers(1500, 2900, person.sum())
    kept = crop.keep_near_box(depth, BOX, 1.0)
    assert np.array_equal(kept, np.where(person, depth, 0))
    assert kept.dtype == np.uint16
    # An empty middle falls back on the whole box, an empty box on the whole image.
    ring = np.zeros((128, 128), np.uint16)
    ring[21:25, 41:70], ring[0, 0] = 1000, 9000
    assert np.array_equal(crop.keep_near_box(ring, BOX, 0.5) > 0, ring == 1000)
    ring[21:25] = 0
    assert np.array_equal(crop.keep_near_box(ring, BOX, 0.5), ring)


def test_cutting_by_labels_is_by_their_last_depth():
    depth = np.array([[0, 1000, 2049], [2050, 2051, 9000]], np.uint16)
    assert crop.keep_before(depth, 2.0 + crop.TRUTH_MARGIN).tolist() == [[0, 1000, 2049], [2050, 0, 0]]


def test_the_mean_is_the_one_that_the_network_does_not_see():
    depth = np.random.default_rng(0).integers(500, 4000, (32, 32)).astype(np.uint16)
    depth[:10] = 0
    import torch

    meters = normalize_depth(torch.from_numpy(depth[None]))[0, 0].numpy()
    np.testing.assert_allclose(meters[10:] + crop.mean_depth(depth), depth[10:] / 1000, atol=1e-6)
    assert crop.mean_depth(np.zeros((4, 4), np.uint16)) == 0


@pytest.mark.parametrize("box", [[10, 10, 10, 30], [10, 30, 40, 20], [float("nan"), 0, 4, 4]])
def test_boxes_without_area_are_refused(box):
    with pytest.raises(ValueError, match="has no area"):
        crop.person_box(box, 64)


def test_boxes_outside_the_image_are_refused():
    with pytest.raises(ValueError, match="outside the image of 64 pixels"):
        crop.evaluation_crop(config(), np.array([200.0, 10, 240, 60]), 64)


def test_without_a_box_the_middle_of_the_stored_square_counts():
    np.testing.assert_allclose(crop.person_box(None, 150), [25, 25, 125, 125])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 100}, "multiple of 32, for example 96"),
        ({"joints": "itop"}, "allowed are .*itop-15"),
        ({"margin": (0.1, -0.1)}, "never cut the person's box"),
        ({"jitter": 0.2}, "jitter = 0.2 exceeds the smaller margin, 0.08"),
        ({"scale": (1.5, 0.5)}, "low <= high"),
        ({"head": {"anchor_offsets": (1, 4)}}, "distinct numbers from 0 to below 4"),
        ({"background": "truth"}, "'none', 'box-depth' or 'ground-truth'"),
    ],
)
def test_bad_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)
