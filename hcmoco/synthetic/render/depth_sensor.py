"""Simulate a Kinect-like time-of-flight camera: jitter, range noise, lost edges, grazing and dark surfaces.

Every length is in pixels of the sensor, not of the crop. In a crop of half the size, the band of lost readings along an
edge is half as wide.
"""

import cv2
import numpy as np

FOCAL = 365.0  # pixels, depth camera of the Kinect v2
WIDTH, HEIGHT = 512, 424  # pixels
NEAR, FAR = 0.5, 8.0  # meters, readings outside are dropped

_JITTER = 0.35  # sensor pixels, lateral standard deviation
_EDGE_STEP = 0.08  # meters off the line through the neighbors that make an edge; a floor seen at a slant is none
_EDGE_LOSS = 0.45  # share of readings lost within one sensor pixel of an edge
_SHADOW_STEP = 0.25  # meters to the nearer surface that casts an infrared shadow
_GRAZING = 0.16  # cosine to the ray under which readings get lost
_OUTLIER = 0.12  # meters off the true surface at which the reading counts as a mixed pixel and is dropped


def _speckle(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Smooth noise of uniform draws with one draw per `cell` pixels."""
    height, width = shape
    grid = rng.random((max(int(height / cell), 2), max(int(width / cell), 2)), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)


def measure(
    depth_HW: np.ndarray, cosine_HW: np.ndarray, dark_HW: np.ndarray, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the sensor's readings of true depth.

    Args:
        depth_HW: float32 [H, W], meters along the optical axis, 0 where there is nothing.
        cosine_HW: float32 [H, W], cosine between surface normal and ray, 0..1.
        dark_HW: bool [H, W], surfaces that reflect little light (hair).
        scale: pixels of this image per pixel of the sensor.
        rng: source of all draws.

    Returns:
        uint16 [H, W], millimeters, 0 = no reading.
    """
    shape = depth_HW.shape
    height, width = shape
    # Where the sensor samples: below one sensor pixel per image pixel, jitter has to shrink with the image.
    shift = rng.standard_normal((2, height, width), dtype=np.float32) * (_JITTER * scale)
    columns = np.rint(np.arange(width, dtype=np.float32) + shift[0]).astype(np.int32).clip(0, width - 1)
    rows = np.rint(np.arange(height, dtype=np.float32)[:, None] + shift[1]).astype(np.int32).clip(0, height - 1)
    read = depth_HW.ravel().take(rows * width + columns)
    read = read + rng.standard_normal(shape, dtype=np.float32) * (0.0012 + 0.0019 * (read - 0.4) ** 2)

    draw = rng.random(shape, dtype=np.float32)
    edge = _near_edges(depth_HW, scale)
    lost = (read < NEAR) | (read > FAR) | (edge & (np.abs(read - depth_HW) > _OUTLIER))
    lost |= edge & (draw < _EDGE_LOSS * min(scale, 1.0) + 0.04)
    lost |= (cosine_HW < _GRAZING) & (draw < 0.3)
    lost |= dark_HW & (_speckle(rng, shape, 7 * scale) > 0.74)
    lost |= _speckle(rng, shape, 11 * scale) > 0.965
    # The emitter sits beside the lens, so a near surface leaves a strip without light on one side of it.
    width_of_shadow = max(round(rng.uniform(1, 3) * scale), 1)
    nearer = np.roll(depth_HW, -width_of_shadow, axis=1)
    lost |= (depth_HW - nearer > _SHADOW_STEP) & (draw < 0.85)
    return np.where(lost | (depth_HW <= 0), 0, np.rint(read * 1000)).astype(np.uint16)


def _near_edges(depth_HW: np.ndarray, scale: float) -> np.ndarray:
    """bool [H, W]: within one sensor pixel (at least one image pixel) of a step in depth."""
    across = np.abs(cv2.Laplacian(depth_HW, cv2.CV_32F, borderType=cv2.BORDER_REPLICATE)) > _EDGE_STEP
    reach = max(round(scale), 1) - 1
    return cv2.dilate(across.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
