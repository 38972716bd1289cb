import math

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data.body_parts import LEFT_RIGHT_PAIRS
from hcmoco.data.skeletons import COCO_17, JOINT_SETS
from hcmoco.data.transforms import (
    CROP_MARGIN,
    Augmentation,
    AugmentConfig,
    center_affine,
    crop_matrix,
    draw_affine,
    flip_labels,
    resize_nearest,
    warp,
    warp_depth,
    warp_keypoints,
    warp_labels,
    warp_rgb,
)
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from tests.helpers.real_samples import real_sample

STRONG = AugmentConfig(
    size=192, scale=(0.8, 1.4), shift=0.05, rotation=40, rotation_probability=0.8, flip_probability=0.5
)
BOX = np.array([60.0, 40.0, 180.0, 210.0])
SIZE = 255


def strong_augmentations(count):
    return [draw_affine(STRONG, BOX, (SIZE, SIZE), make_rng(7, "test", index)) for index in range(count)]


def test_scale_and_shift_that_leave_the_stored_crop_are_config_errors():
    assert build(AugmentConfig, {"scale": [1.0, 1.4], "shift": 0.05}, "recipe").scale == (1.0, 1.4)
    for values, words in (
        ({"scale": [1.0, 1.6]}, "scale = .*1.5, the stored crop"),
        ({"scale": [1.2, 1.1]}, "low <= high"),
        ({"scale": [1.0, 1.45], "shift": 0.1}, "shift = 0.1: .*leave the stored square.*at most 0.025"),
        ({"size": 100}, "size = 100: must be a positive multiple of 32, for example 96"),
        ({"flip_probability": 2}, "flip_probability = 2"),
        ({"flips": 1}, "unknown key 'flips'; allowed here: size"),
    ):
        with pytest.raises(UserError, match=words):
            build(AugmentConfig, values, "recipe")


def test_unrotated_crops_stay_inside_the_stored_square():
    config = AugmentConfig(scale=(0.5, 1.3), shift=0.1, rotation_probability=0, flip_probability=0.5)
    stored = 300
    box = np.array([50.0, 100.0, 250.0, 200.0])
    for index in range(200):
        matrix = draw_affine(config, box, (stored, stored), make_rng(0, "test", index)).matrix_23
        back = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0, 1], [config.size, config.size, 1]]) @ back.T
        assert corners.min() >= -1e-6
        assert corners.max() <= stored + 1e-6


def test_matrix_follows_the_published_construction():
    # Center to the middle; the point half a side above it, turned with the box, to the middle of the upper edge.
    center, side, size, degrees = (70.0, 90.0), 80.0, 320, 25.0
    matrix = crop_matrix(center, side, size, degrees)
    angle = math.radians(degrees)
    up = np.array([math.sin(angle), -math.cos(angle)]) * side / 2
    assert matrix @ [*center, 1] == pytest.approx([160, 160])
    assert matrix @ [*(center + up), 1] == pytest.approx([160, 0], abs=1e-9)


def test_draws_follow_their_declared_distribution():
    config = AugmentConfig(
        scale=(0.9, 1.3), shift=0.1, rotation=30, rotation_limit=60, rotation_probability=0.6, flip_probability=0.25
    )
    matrices, flips = [], []
    for index in range(3000):
        drawn = draw_affine(config, BOX, (SIZE, SIZE), make_rng(1, "test", index))
        matrices.append(drawn.matrix_23)
        flips.append(drawn.flipped)
        assert (np.linalg.det(drawn.matrix_23[:, :2]) < 0) == drawn.flipped
    matrices = np.array(matrices)
    scales = config.size / np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2]))) / 170
    assert (scales.min(), scales.max()) == pytest.approx((0.9, 1.3), abs=2e-3)
    assert scales.mean() == pytest.approx(1.1, abs=0.01)
    degrees = np.degrees(np.arctan2(-matrices[:, 1, 0], matrices[:, 1, 1]))
    turned = np.abs(degrees) > 1e-9
    assert turned.mean() == pytest.approx(0.6, abs=0.03)
    assert np.abs(degrees).max() == pytest.approx(60)
    # P(|N(0, 30)| > 60) = 0.0455 lies on the limit.
    assert np.isclose(np.abs(degrees[turned]), 60).mean() == pytest.approx(0.0455, abs=0.015)
    assert np.mean(flips) == pytest.approx(0.25, abs=0.03)


def test_switching_one_setting_off_leaves_the_other_draws():
    still = AugmentConfig(scale=(0.8, 1.4), shift=0.05, rotation_probability=0)
    flipped = AugmentConfig(scale=(0.8, 1.4), shift=0.05, rotation_probability=0, flip_probability=1, brightness=0.3)
    a = draw_affine(still, BOX, (SIZE, SIZE), make_rng(3, "test")).matrix_23
    b = draw_affine(flipped, BOX, (SIZE, SIZE), make_rng(3, "test")).matrix_23
    assert np.allclose(a * [[-1], [1]] + [[0, 0, 320], [0, 0, 0]], b)


def painted_scene(seed):
    """A white dot per joint on black, its depth beside it: the centroid of what is seen must lie on the moved joint."""
    rng = np.random.default_rng(seed)
    joint = rng.uniform(90, 165, 2)
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    blob = np.exp(-((xs - joint[0]) ** 2 + (ys - joint[1]) ** 2) / (2 * 3.0**2))
    rgb = np.repeat(np.rint(255 * blob).astype(np.uint8)[..., None], 3, axis=2)
    disc = ((xs - joint[0]) ** 2 + (ys - joint[1]) ** 2 < 6**2).astype(np.uint16) * 1234
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[COCO_17.index("left_wrist")] = [*joint, 1]
    return rgb, disc, keypoints


def centroid(weights):
    ys, xs = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("seed", range(12))
def test_rgb_depth_labels_and_keypoints_stay_on_each_other(seed):
    rgb, depth, keypoints = painted_scene(seed)
    for augmentation in strong_augmentations(6):
        moved = warp_keypoints(keypoints, augmentation, STRONG.size, COCO_17.flip)
        joint = COCO_17.index("right_wrist" if augmentation.flipped else "left_wrist")
        assert moved[:, 2].sum() == moved[joint, 2] == 1
        x, y = moved[joint, :2]
        assert np.hypot(*(centroid(warp_rgb(rgb, augmentation, STRONG.size)[..., 0].astype(float)) - (x, y))) < 0.15
        seen = warp_depth(depth, augmentation, STRONG.size)
        assert set(np.unique(seen)) == {0, 1234}
        # A disc of 6 px radius drawn by nearest pixels: its centroid is right to a fraction of a pixel.
        assert np.hypot(*(centroid((seen > 0).astype(float)) - (x, y))) < 0.5
        labels = warp_labels((depth > 0).astype(np.uint8), augmentation, STRONG.size)
        assert np.array_equal(labels > 0, seen > 0)


def test_a_whole_pixel_move_copies_pixels():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    depth = rng.integers(0, 65536, (64, 64)).astype(np.uint16)
    moved = Augmentation(crop_matrix((40, 30), 32, 32))
    assert np.array_equal(warp_rgb(rgb, moved, 32), rgb[14:46, 24:56])
    assert np.array_equal(warp_depth(depth, moved, 32), depth[14:46, 24:56])
    mirrored = Augmentation(crop_matrix((40, 30), 32, 32, flip=True), flipped=True)
    assert np.array_equal(warp_rgb(rgb, mirrored, 32), rgb[14:46, 24:56][:, ::-1])
    assert np.array_equal(warp_depth(depth, mirrored, 32), depth[14:46, 24:56][:, ::-1])


@pytest.mark.parametrize("name", sorted(JOINT_SETS))
def test_flipping_twice_is_the_identity(name):
    joints = JOINT_SETS[name]
    rng = np.random.default_rng(1)
    size = 96
    mirror = Augmentation(crop_matrix((size / 2, size / 2), size, size, flip=True), flipped=True)
    rgb = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    depth = rng.integers(0, 65536, (size, size)).astype(np.uint16)
    parts = rng.integers(0, 25, (size, size)).astype(np.uint8)
    keypoints = np.column_stack([rng.uniform(1, size - 1, (len(joints), 2)), np.ones(len(joints))]).astype(np.float32)
    once = warp_keypoints(keypoints, mirror, size, joints.flip)
    assert not np.allclose(once, keypoints)
    assert np.allclose(warp_keypoints(once, mirror, size, joints.flip), keypoints, atol=1e-4)
    assert np.array_equal(warp_rgb(warp_rgb(rgb, mirror, size), mirror, size), rgb)
    assert np.array_equal(warp_depth(warp_depth(depth, mirror, size), mirror, size), depth)
    flipped = warp_labels(parts, mirror, size, LEFT_RIGHT_PAIRS)
    assert np.array_equal(flipped, flip_labels(parts[:, ::-1], LEFT_RIGHT_PAIRS))
    assert np.array_equal(warp_labels(flipped, mirror, size, LEFT_RIGHT_PAIRS), parts)


def test_label_pairs_change_places_and_nothing_else():
    table = flip_labels(np.arange(256, dtype=np.uint8)[None], LEFT_RIGHT_PAIRS)[0]
    assert sorted(table) == list(range(256))
    assert {(int(a), int(b)) for a, b in enumerate(table) if a < b} == set(LEFT_RIGHT_PAIRS)


def test_depth_is_never_blended():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    chessboard = np.where((rows + columns) % 2, 60001, 257).astype(np.uint16)
    for augmentation in strong_augmentations(20):
        assert set(np.unique(warp_depth(chessboard, augmentation, STRONG.size))) <= {0, 257, 60001}


def test_nearest_takes_the_pixel_under_the_center():
    ids = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE)
    for augmentation in strong_augmentations(10):
        result = warp_depth(ids, augmentation, STRONG.size)
        back = cv2.invertAffineTransform(augmentation.matrix_23)
        ys, xs = np.mgrid[: STRONG.size, : STRONG.size] + 0.5
        source = np.stack([xs, ys, np.ones_like(xs)], -1) @ back.T
        inside = ((source > 0.1) & (source < SIZE - 0.1)).all(-1)
        found = np.stack([result % SIZE, result // SIZE], -1) + 0.5
        assert np.abs(found - source)[inside].max() < 0.51


def test_outside_the_source_is_black_even_with_color_jitter():
    white = np.full((64, 64, 3), 255, np.uint8)
    config = AugmentConfig(size=64, rotation_probability=0, contrast=0.5, brightness=0.2, saturation=0.5)
    drawn = draw_affine(config, np.array([0.0, 0.0, 60.0, 60.0]), (64, 64), make_rng(0, "test"))
    shifted = Augmentation(crop_matrix((0, 32), 64, 64), color_34=drawn.color_34)
    assert warp_rgb(white, shifted, 64)[:, :31].max() == 0
    assert warp_labels(white[..., 0], shifted, 64, border=9)[:, :31].min() == 9


def test_color_jitter_of_gray_keeps_it_gray_and_saturation_keeps_its_luma():
    config = AugmentConfig(size=64, saturation=1.0)
    drawn = draw_affine(config, BOX, (SIZE, SIZE), make_rng(2, "test"))
    assert drawn.color_34 @ [90, 90, 90, 1] == pytest.approx([90, 90, 90])
    luma = np.array([0.299, 0.587, 0.114])
    assert luma @ (drawn.color_34 @ [200, 40, 10, 1]) == pytest.approx(luma @ [200, 40, 10])


def test_strong_shrinking_averages_instead_of_picking():
    rows, columns = np.mgrid[:512, :512]
    stripes = np.repeat((255 * ((rows + columns) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    small = warp_rgb(stripes, Augmentation(crop_matrix((256.3, 255.6), 500, 64, 10)), 64)
    assert np.abs(small[8:-8, 8:-8].astype(float) - 127.5).max() < 12
    ramp = np.repeat((columns / 2).astype(np.uint8)[..., None], 3, axis=2)
    matrix = crop_matrix((256.0, 256.0), 448, 64)
    seen = warp_rgb(ramp, Augmentation(matrix), 64)[32, :, 0].astype(float)
    expected = ((np.arange(64) + 0.5) * 7 + 32) / 2
    assert np.abs(seen - expected).max() < 1.0


def test_keypoints_outside_are_invisible_and_zero():
    keypoints = np.array([[10, 10, 1], [-0.5, 10, 1], [64, 10, 1], [63.99, 0, 1], [20, 20, 0]], np.float32)
    moved = warp_keypoints(keypoints, Augmentation(crop_matrix((32, 32), 64, 64)), 64, np.arange(5))
    assert moved[:, 2].tolist() == [1, 0, 0, 1, 0]
    assert not moved[[1, 2, 4]].any()


def test_centerd_crop_is_fixed_and_a_missing_box_means_the_middle():
    config = AugmentConfig(size=96, center_scale=1.2)
    matrix = center_affine(config, BOX, (SIZE, SIZE)).matrix_23
    assert matrix @ [120, 125, 1] == pytest.approx([48, 48])
    assert matrix[0, 0] == pytest.approx(96 / (1.2 * 170))
    without = center_affine(config, None, (240, 240)).matrix_23
    assert without @ [120, 120, 1] == pytest.approx([48, 48])
    assert without[0, 0] == pytest.approx(96 / (1.2 * 240 / CROP_MARGIN))


def test_real_depth_keeps_its_readings():
    files = sorted(real_sample("kinect1-masked-depth").glob("*.png"))
    for path in files:
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        drawn = draw_affine(STRONG, np.array([150.0, 20.0, 500.0, 470.0]), (640, 480), make_rng(0, "test"))
        assert set(np.unique(warp_depth(depth, drawn, 192))) <= set(np.unique(depth)) | {0}


def test_real_labels_keep_their_classes_and_exchange_sides():
    labels = cv2.imread(str(real_sample("lip-parsing/684_2150041.png")), cv2.IMREAD_UNCHANGED)
    height, width = labels.shape
    mirror = Augmentation(crop_matrix((width / 2, height / 2), 220, 220, flip=True), flipped=True)
    mirrored = warp_labels(labels, mirror, 220, pairs=[(14, 15)])
    counts = np.bincount(labels.ravel(), minlength=20)
    assert (
        np.bincount(mirrored.ravel(), minlength=20)[1:].tolist()
        == counts[[*range(1, 14), 15, 14, 16, 17, 18, 19]].tolist()
    )


def test_nearest_pixels_are_those_under_the_centers():
    image = np.arange(4 * 6).reshape(4, 6)
    assert np.array_equal(resize_nearest(image, 2, 3), image[1::2, 1::2])
    assert np.array_equal(resize_nearest(image, 8, 12), np.kron(image, np.ones((2, 2), int)))
    assert resize_nearest(np.zeros((4, 6, 3), np.uint8), 5).shape == (5, 5, 3)


def test_a_warp_by_whole_pixels_is_exact():
    image = np.random.default_rng(0).integers(1, 9, (6, 6)).astype(np.uint8)
    moved = warp(image, np.array([[1.0, 0, 2], [0, 1, -1]]), 6, cv2.INTER_NEAREST)
    assert np.array_equal(moved[:5, 2:], image[1:, :4])
    assert not moved[5].any()
    assert not moved[:, :2].any()
    # A mirror image about the middle: half a pixel off, and it would blend.
    assert np.array_equal(warp(image, np.array([[-1.0, 0, 6], [0, 1, 0]]), 6, cv2.INTER_LINEAR), image[:, ::-1])
