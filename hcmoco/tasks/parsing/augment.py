"""Resize and augment stored images and their label maps.

An image is RGB (uint8 [H, W, 3]) or depth (uint16 [H, W], millimeters, 0 = no reading). Labels are uint8 [H, W], part
numbers or IGNORE. Depth and labels are sampled by nearest pixels; the published protocol can blend depth.
Shapes: H, W of the stored image, S side of the result.
"""

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE, LEFT_RIGHT_PAIRS
from hcmoco.data.transforms import (
    Augmentation,
    color_matrix,
    crop_matrix,
    flip_labels,
    resize_nearest,
    warp_depth,
    warp_labels,
    warp_rgb,
)
from hcmoco.models.normalization import RGB_MEAN
from hcmoco.tasks.parsing.config import ParsingAugment

_RED, _GREEN, _BLUE = (round(255 * value) for value in RGB_MEAN)


Pairs = tuple[tuple[int, int], ...]
"""Numbers of parts that a mirror image exchanges."""


def flip(image: np.ndarray, labels_HW: np.ndarray, pairs: Pairs = LEFT_RIGHT_PAIRS) -> tuple[np.ndarray, np.ndarray]:
    """Mirror image and labels, and exchange left and right parts."""
    return image[:, ::-1], flip_labels(labels_HW[:, ::-1], pairs)


def whole_image(image: np.ndarray, size: int, config: ParsingAugment) -> np.ndarray:
    """Resize an image to S x S, for evaluation and prediction: depth by nearest pixels, RGB as in training."""
    if image.ndim == 2:
        return resize_nearest(image, size)
    if config.geometry == "multi-scale":
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    height, width = image.shape[:2]
    return warp_rgb(image, Augmentation(np.array([[size / width, 0, 0], [0, size / height, 0]])), size)


def draw_zoom(config: ParsingAugment, unit: float) -> float:
    """Return the zoom at `unit` of its distribution: uniform over the range, or over the steps in it with both ends.

    Args:
        config: has the range and the step.
        unit: in [0, 1).
    """
    low, high = config.scale
    if not config.scale_step:
        return low + (high - low) * unit
    return low + config.scale_step * int(unit * (int((high - low) / config.scale_step + 1e-9) + 1))


def cut_with_matrix(
    image: np.ndarray,
    labels_HW: np.ndarray,
    size: int,
    config: ParsingAugment,
    rng: np.random.Generator,
    pairs: Pairs = LEFT_RIGHT_PAIRS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Augment a training pair.

    Args:
        image, labels_HW: as stored, of the same height and width.
        size: S, pixels.
        config: of the augmentation.
        rng: always gives the same number of values: a setting that is switched off does not change the others.
        pairs: of the label map.
    Returns:
        image [S, S(, 3)] and labels uint8 [S, S], IGNORE outside the stored image; and float64 [2, 3], stored pixels to
        pixels of the result, mirror included.
    """
    unit, turn = rng.random(7), rng.standard_normal()
    zoom, flipped = draw_zoom(config, unit[0]), bool(unit[1] < config.flip_probability)
    ranges = np.array([config.brightness, config.contrast, config.saturation])
    color = color_matrix(*(1 + ranges * (2 * unit[4:7] - 1))) if image.ndim == 3 and ranges.any() else None
    if config.geometry == "multi-scale":
        if color is not None:
            image = cv2.transform(image, color)
        return _multi_scale(image, labels_HW, size, config, pairs, zoom=zoom, flipped=flipped, place=unit[2:4])
    side = labels_HW.shape[0]
    x, y = side * (0.5 + config.shift * (2 * unit[2:4] - 1))
    degrees = float(np.clip(turn * config.rotation, -config.rotation_limit, config.rotation_limit))
    cut = Augmentation(crop_matrix((x, y), side / zoom, size, degrees, flipped), flipped, color)
    moved = warp_depth(image, cut, size) if image.ndim == 2 else warp_rgb(image, cut, size, _border(config))
    return moved, warp_labels(labels_HW, cut, size, pairs, border=IGNORE), cut.matrix_23


def _multi_scale(
    image: np.ndarray,
    labels: np.ndarray,
    size: int,
    config: ParsingAugment,
    pairs: Pairs,
    *,
    zoom: float,
    flipped: bool,
    place: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published way: resize to S, mirror, resize to `zoom` times S, pad, and crop at `place` (x, y in [0, 1))."""
    stored = image.shape[1]
    image, labels = whole_image(image, size, config), resize_nearest(labels, size)
    if flipped:
        image, labels = flip(image, labels, pairs)
    side = int(size * zoom + 0.5)
    matrix_23 = side / stored * np.array([[-1.0 if flipped else 1.0, 0, stored if flipped else 0], [0, 1, 0]])
    if image.ndim == 2 and config.depth_resize == "nearest":
        image = resize_nearest(image, side)
    else:
        image = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=cv2.INTER_LINEAR)
    labels = resize_nearest(labels, side)
    if side < size:
        room = ((0, size - side), (0, size - side))
        padded = np.empty((size, size, *image.shape[2:]), image.dtype)
        padded[...] = 0 if image.ndim == 2 else _border(config)
        padded[:side, :side] = image
        return padded, np.pad(labels, room, constant_values=IGNORE), matrix_23
    column, row = (place * (side - size + 1)).astype(int)
    window = slice(row, row + size), slice(column, column + size)
    matrix_23[:, 2] -= column, row
    return image[window], labels[window], matrix_23


def _border(config: ParsingAugment) -> tuple[int, int, int]:
    return (_RED, _GREEN, _BLUE) if config.padding == "mean" else (0, 0, 0)
