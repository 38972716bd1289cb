"""Cuts for parsing: images and labels stay together, and nothing is blended that must not be."""

import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data.body_parts import FLIP, IGNORE
from hcmoco.data.transforms import resize_nearest
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.tasks.parsing import ParsingAugment
from hcmoco.tasks.parsing.augment import cut_with_matrix, draw_zoom, flip, whole_image
from tests.helpers.parsing_rows import NEAR, block_labels, depth_of, rgb_of

MULTI_SCALE = {"geometry": "multi-scale", "shift": 0.0, "rotation": 0.0, "scale": (0.5, 1.6), "scale_step": 0.1}
NO_COLOUR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
GEOMETRIES = [pytest.param({}, id="square"), pytest.param(MULTI_SCALE, id="multi-scale")]


def training_cut(*arguments):
    """The image and the labels of a cut."""
    return cut_with_matrix(*arguments)[:2]


def rngs(count: int = 20):
    return [make_rng(3, "cuts", number) for number in range(count)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_depth_and_labels_move_as_one_and_no_value_is_invented(geometry: dict, mirrored: bool):
    labels = block_labels(64, 1)
    config = ParsingAugment(**geometry, flip_probability=float(mirrored))
    for rng in rngs():
        depth, moved = training_cut(depth_of(labels), labels, 48, config, rng)
        assert depth.shape == moved.shape == (48, 48)
        assert depth.dtype == np.uint16
        inside = moved != IGNORE
        assert np.array_equal(inside, depth > 0)
        of_depth = (depth[inside] - NEAR).astype(np.uint8)
        assert np.array_equal(moved[inside], FLIP[of_depth] if mirrored else of_depth)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [96, 160])
def test_rgb_and_labels_agree_inside_the_parts(geometry: dict, size: int):
    """A label counts as inside where all labels within 3 pixels are the same, so that neither blending nor rounding
    reaches it."""
    labels = block_labels(128, 2, blocks=4)
    config = ParsingAugment(**geometry, **NO_COLOUR, flip_probability=0.0)
    for rng in rngs():
        rgb, moved = training_cut(rgb_of(labels), labels, size, config, rng)
        assert rgb.shape == (size, size, 3)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(moved, 3, constant_values=IGNORE), (7, 7))
        inside = (windows == moved[..., None, None]).all((2, 3)) & (moved != IGNORE)
        assert inside.mean() > 0.03
        assert np.abs(rgb[inside].astype(int) - 10 * moved[inside][:, None].astype(int)).max() <= 1


def test_bilinear_depth_is_the_published_quirk_and_no_more():
    """It invents readings; labels are not touched by the switch."""
    depth = np.zeros((64, 64), np.uint16)
    depth[16:48, 16:48] = 2000
    labels = (depth > 0).astype(np.uint8)
    sharp = training_cut(depth, labels, 48, ParsingAugment(**MULTI_SCALE), make_rng(0, "q"))
    smeared = training_cut(depth, labels, 48, ParsingAugment(**MULTI_SCALE, depth_resize="bilinear"), make_rng(0, "q"))
    assert set(np.unique(sharp[0])) == {0, 2000}
    assert set(np.unique(smeared[0])) > {0, 2000}
    assert np.array_equal(sharp[1], smeared[1])


def test_flipping_twice_changes_nothing():
    labels = block_labels(64, 4)
    image, mirrored = flip(*flip(rgb_of(labels), labels))
    assert np.array_equal(image, rgb_of(labels))
    assert np.array_equal(mirrored, labels)
    assert not np.array_equal(flip(rgb_of(labels), labels)[1], labels[:, ::-1])


def test_published_zooms():
    """Long sides of 473 * (0.5 + k / 10), k from 0 to 11, equally often."""
    config = ParsingAugment(**MULTI_SCALE)
    zooms = [draw_zoom(config, unit) for unit in (np.arange(1200) + 0.5) / 1200]
    sides, counts = np.unique([int(473 * zoom + 0.5) for zoom in zooms], return_counts=True)
    assert sides.tolist() == [int(473 * (5 + k) / 10 + 0.5) for k in range(12)]
    assert (counts == 100).all()
    free = ParsingAugment(scale=(0.5, 1.5))
    assert draw_zoom(free, 0.0) == 0.5
    assert draw_zoom(free, 0.25) == 0.75


@pytest.mark.parametrize(("padding", "color"), [("mean", (124, 116, 104)), ("black", (0, 0, 0))])
def test_small_zoom_is_padded_right_and_below(padding: str, color: tuple[int, int, int]):
    labels = block_labels(64, 5)
    config = ParsingAugment(**{**MULTI_SCALE, "scale": (0.5, 0.5)}, **NO_COLOUR, padding=padding)
    rgb, moved = training_cut(rgb_of(labels), labels, 473, config, make_rng(0, "pad"))
    side = 237  # 473 / 2, rounded up
    assert (moved[:side, :side] != IGNORE).all()
    assert (moved[side:] == IGNORE).all()
    assert (moved[:, side:] == IGNORE).all()
    assert (rgb[side:] == color).all()
    assert (rgb[:, side:] == color).all()


def test_border_of_the_square_cut_has_the_padding_color():
    labels = block_labels(64, 5)
    config = ParsingAugment(scale=(0.5, 0.5), shift=0, rotation=0, **NO_COLOUR)
    rgb, moved = training_cut(rgb_of(labels), labels, 64, config, make_rng(0, "pad"))
    assert (moved[16:48, 16:48] != IGNORE).all()
    assert (moved == IGNORE).sum() == 64 * 64 - 32 * 32
    assert (rgb[:14] == (124, 116, 104)).all()


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_nearest_enlarging_repeats_pixels(factor: int):
    image = make_rng(0, "image").integers(0, 60000, (9, 9)).astype(np.uint16)
    assert np.array_equal(resize_nearest(image, 9 * factor), np.kron(image, np.ones((factor, factor), np.uint16)))


def test_nearest_shrinking_takes_the_pixel_under_the_center():
    image = np.arange(9 * 9).reshape(9, 9)
    assert np.array_equal(resize_nearest(image, 3), image[1::3, 1::3])
    assert np.array_equal(resize_nearest(image[:6], 3), image[1:6:2, 1::3])


def test_evaluation_sees_the_whole_image():
    labels = block_labels(64, 6)
    for geometry in ({}, MULTI_SCALE):
        config = ParsingAugment(**geometry)
        assert np.array_equal(whole_image(rgb_of(labels), 64, config), rgb_of(labels))
        larger = whole_image(rgb_of(labels), 128, config)
        assert np.array_equal(larger[4::16, 4::16, 0], 10 * labels[2::8, 2::8])
        assert np.array_equal(
            whole_image(depth_of(labels), 128, config), np.kron(depth_of(labels), np.ones((2, 2), np.uint16))
        )


def test_switching_one_setting_off_leaves_the_other_draws():
    labels = block_labels(64, 7)
    still = {"shift": 0.0, "scale": (1.0, 1.0), "flip_probability": 0.5}
    mirrored = []
    for rotation in (0.0, 30.0):
        config = ParsingAugment(**still, **NO_COLOUR, rotation=rotation)
        cuts = [training_cut(depth_of(labels), labels, 64, config, rng) for rng in rngs()]
        # The image's middle stays near the middle; parts are exchanged in mirrored ones only.
        mirrored.append(
            [not np.array_equal(moved[moved != IGNORE], (depth[depth > 0] - NEAR)) for depth, moved in cuts]
        )
    assert mirrored[0] == mirrored[1]
    assert len(set(mirrored[0])) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"geometry": "multi-scale"}, "shift and rotation to 0"),
        ({"depth_resize": "bilinear"}, "multi-scale"),
        ({"scale": (1.2, 0.8)}, "low <= high"),
        ({"geometry": "round"}, "square"),
    ],
)
def test_settings_that_contradict_are_refused_in_a_line(values: dict, words: str):
    with pytest.raises(UserError, match=words) as caught:
        build(ParsingAugment, values, "recipe")
    assert "\n" not in str(caught.value)
