"""Cut the network's input out of the stored depth, and map its pixels back: one matrix and its exact inverse.

Shapes: H, W the stored image, S side of the input, J joints, 23 a 2 x 3 matrix, 4 a box or window (x0, y0, x1, y1).
Coordinates are x, y in pixels; a pixel's center is at +0.5. `matrix_23` maps the stored image to the input and holds
the augmentation.
"""

import cv2
import numpy as np

from hcmoco.data.transforms import CROP_MARGIN, crop_matrix, warp
from hcmoco.tasks.pose.config import PoseConfig

TRUTH_MARGIN = 0.05
"""Meters behind the last labeled joint at which background=ground-truth cuts."""


def person_box(box: np.ndarray | list | None, image_size: int) -> np.ndarray:
    """Return float64 [4]: the row's box, or without one the middle of the stored square that its margin surrounds.

    Raises:
        ValueError: the box has no area.
    """
    if box is None:
        side = image_size / CROP_MARGIN
        return np.array([image_size - side, image_size - side, image_size + side, image_size + side]) / 2
    box_4 = np.asarray(box, np.float64)
    if not (np.isfinite(box_4).all() and box_4[0] < box_4[2] and box_4[1] < box_4[3]):
        raise ValueError(f"the box {box_4.tolist()} has no area")
    return box_4


def crop_window(
    config: PoseConfig,
    box_4: np.ndarray,
    image_size: int,
    margin: tuple[float, float],
    jitter_4: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return float64 [4]: the box with margins and jitter, clipped to the image.

    Args:
        config: has the unit of margin and jitter.
        box_4: of the person.
        image_size: side of the stored image, pixels.
        margin: beyond the box to the left and right, and above and below.
        jitter_4: added to each side of the window.
    Raises:
        ValueError: less than a pixel of it is in the image.
    """
    unit = max(box_4[2] - box_4[0], box_4[3] - box_4[1]) if config.margin_unit == "box" else 1.0
    x, y = margin
    window_4 = np.clip(box_4 + unit * (np.array([-x, -y, x, y]) + jitter_4), 0, image_size)
    if min(window_4[2] - window_4[0], window_4[3] - window_4[1]) < 1:
        raise ValueError(f"the box {box_4.tolist()} is outside the image of {image_size} pixels")
    return window_4


def window_matrix(window_4: np.ndarray, size: int) -> np.ndarray:
    """Return float64 [2, 3], which maps the window onto the whole input; its aspect ratio is not kept."""
    zoom = size / (window_4[2:] - window_4[:2])
    return np.column_stack([np.diag(zoom), -zoom * window_4[:2]])


def draw_crop(
    config: PoseConfig, box_4: np.ndarray, image_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Draw a training crop.

    It always draws the same number of values, so that a setting does not change what another one draws.

    Returns:
        The window [4]; the augmentation of the crop as a matrix [2, 3] of the input onto itself; whether it mirrors.
    """
    unit = rng.random(7)
    window_4 = crop_window(config, box_4, image_size, config.margin, config.jitter * (2 * unit[:4] - 1))
    degrees = config.rotation * (2 * unit[4] - 1)
    low, high = config.scale
    flip = bool(unit[6] < config.flip_probability)
    side = config.size / (low + (high - low) * unit[5])
    return window_4, crop_matrix((config.size / 2, config.size / 2), side, config.size, degrees, flip), flip


def evaluation_crop(config: PoseConfig, box_4: np.ndarray, image_size: int) -> np.ndarray:
    """Return float64 [4]: the window of evaluation and prediction."""
    return crop_window(config, box_4, image_size, config.margin if config.test_margin is None else config.test_margin)


def compose(first_23: np.ndarray, second_23: np.ndarray) -> np.ndarray:
    """Return float64 [2, 3]: `second_23` after `first_23`."""
    return second_23 @ np.vstack([first_23, [0, 0, 1]])


def move(xy_J2: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """Return float64 [J, 2]: pixels of the stored image as pixels of the input."""
    return np.asarray(xy_J2, np.float64) @ matrix_23[:, :2].T + matrix_23[:, 2]


def move_back(xy_J2: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """Return float64 [J, 2]: the inverse of `move`."""
    return np.linalg.solve(matrix_23[:, :2], (np.asarray(xy_J2, np.float64) - matrix_23[:, 2]).T).T


def cut(
    depth_HW: np.ndarray, window_4: np.ndarray, augment_23: np.ndarray | None, size: int, interpolation: str
) -> np.ndarray:
    """Resize the window's depth to the input, by nearest pixels, and augment it.

    Args:
        depth_HW: uint16, millimeters, 0 = no reading.
        window_4: in pixels of the stored image.
        augment_23: see `draw_crop`; None for evaluation.
        size: S, pixels.
        interpolation: of the augmentation. "nearest" samples the stored pixels once. "bilinear" samples the resized
            crop and blends readings with holes, as released.
    Returns:
        uint16 [S, S]; 0 outside the window.
    """
    # Evaluation sees nothing from beside the window, so an augmented crop must not either.
    first_xy, last_xy = np.ceil(window_4[:2] - 0.5).astype(int), np.ceil(window_4[2:] - 0.5).astype(int)
    inside_HW = np.zeros_like(depth_HW)
    inside = np.s_[first_xy[1] : last_xy[1], first_xy[0] : last_xy[0]]
    inside_HW[inside] = depth_HW[inside]
    matrix_23 = window_matrix(window_4, size)
    if augment_23 is None:
        return warp(inside_HW, matrix_23, size, cv2.INTER_NEAREST)
    if interpolation == "nearest":
        return warp(inside_HW, compose(matrix_23, augment_23), size, cv2.INTER_NEAREST)
    return warp(warp(inside_HW, matrix_23, size, cv2.INTER_NEAREST), augment_23, size, cv2.INTER_LINEAR)


def keep_near_box(depth_HW: np.ndarray, box_4: np.ndarray, depth_range: float) -> np.ndarray:
    """Keep only the readings near the person: uint16 [H, W].

    Near is within `depth_range` meters of the median reading in the middle of the box (half its width and height): the
    person fills the middle of their box more often than anything else does. If the middle has no reading, the median is
    that of the whole box; if that has none either, all readings stay.
    """
    quarter = (box_4[2:] - box_4[:2]) / 4
    for low, high in ((box_4[:2] + quarter, box_4[2:] - quarter), (box_4[:2], box_4[2:])):
        (x0, y0), (x1, y1) = np.maximum(np.floor(low), 0).astype(int), np.maximum(np.ceil(high), 0).astype(int)
        readings = depth_HW[y0:y1, x0:x1]
        readings = readings[readings > 0]
        if len(readings):
            middle, reach = float(np.median(readings)), 1000 * depth_range
            return np.where(np.abs(depth_HW.astype(np.float32) - middle) <= reach, depth_HW, 0).astype(depth_HW.dtype)
    return depth_HW


def keep_before(depth_HW: np.ndarray, limit: float) -> np.ndarray:
    """Keep only the readings up to `limit` meters: uint16 [H, W]."""
    return np.where(depth_HW <= 1000 * limit, depth_HW, 0).astype(depth_HW.dtype)


def mean_depth(depth_SS: np.ndarray) -> float:
    """Return the mean of the readings in meters, as `normalize_depth` subtracts it; 0 if there is no reading."""
    readings = depth_SS[depth_SS > 0]
    return float(readings.mean(dtype=np.float64)) / 1000 if len(readings) else 0.0
