"""Draw what contact sheets have in common: text, headers, rows of panels, boxes, depth in gray and in color.

Images are uint8 RGB. Shape suffixes: H, W rows and columns of an image.
"""

from collections.abc import Sequence

import cv2
import numpy as np

TEXT_COLOR = (235, 235, 235)
GROUND = (18, 20, 26)
"""Color of what has no depth reading, and of empty views."""

HEADER_HEIGHT = 24


def write_text(
    image: np.ndarray,
    text: str,
    x: int,
    y: int,
    *,
    scale: float = 0.42,
    color: tuple[int, int, int] = TEXT_COLOR,
) -> None:
    """Write a line of text into an image.

    Args:
        image: uint8 [H, W, 3]; changed in place.
        text: ASCII; OpenCV shows other characters as `?`.
        x, y: left end of the baseline, pixels.
        scale: size relative to OpenCV's own, whose capitals are 22 pixels high.
        color: RGB.
    """
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


def header(titles: Sequence[str], width: int, *, height: int = HEADER_HEIGHT, scale: float = 0.42) -> np.ndarray:
    """Return uint8 [height, len(titles) * width, 3]: a title over each column of `width` pixels."""
    image = np.zeros((height, len(titles) * width, 3), np.uint8)
    for column, title in enumerate(titles):
        write_text(image, title, column * width + 6, height - 8, scale=scale)
    return image


def side_by_side(images: Sequence[np.ndarray], gap: int = 0) -> np.ndarray:
    """Join images of one height from left to right, with `gap` black columns between them."""
    black = np.zeros((images[0].shape[0], gap, 3), np.uint8)
    row = [images[0]]
    for image in images[1:]:
        row += [black, image]
    return np.concatenate(row, axis=1)


def draw_box(image: np.ndarray, box_4: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw the outline of a box. Sides that lie outside the image are cut off on the left and at the top, and drawn on
    the last pixel on the right and at the bottom.

    Args:
        image: uint8 [H, W, 3]; changed in place.
        box_4: x0, y0, x1, y1 in pixels.
        color: RGB.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(value) for value in box_4)
    cv2.rectangle(image, (x0, y0), (min(x1, width - 1), min(y1, height - 1)), color, 1)


def dim_gray(rgb_HW3: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3]: the image in gray at a third of its brightness, to paint on."""
    return cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) // 3


def turbo(levels: np.ndarray) -> np.ndarray:
    """Return uint8 [..., 3]: the colors of the Turbo map, from blue (0) to red (255).

    Args:
        levels: uint8, of any shape; may be empty.
    """
    if not levels.size:
        return np.zeros((*levels.shape, 3), np.uint8)
    bgr = cv2.applyColorMap(np.ascontiguousarray(levels).reshape(-1, 1), cv2.COLORMAP_TURBO)
    return bgr[..., ::-1].reshape(*levels.shape, 3)


def gray_depth(depth_HW: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3]: near is bright, 'no reading' is black.

    Args:
        depth_HW: uint16, millimeters, 0 = no reading.
    """
    readings = depth_HW[depth_HW > 0]
    near, far = np.percentile(readings, (2, 98)) if len(readings) else (0, 1)
    share = ((far - depth_HW.astype(np.float64)) / max(far - near, 1.0)).clip(0, 1)
    gray = np.where(depth_HW > 0, np.round(60 + 195 * share), 0).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def depth_colors(depth_HW: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3]: near is red, far is blue, 'no reading' is GROUND.

    Args:
        depth_HW: uint16, millimeters, 0 = no reading.
    """
    valid_HW = depth_HW > 0
    colors = np.full((*depth_HW.shape, 3), GROUND, np.uint8)
    if valid_HW.any():
        low, high = np.percentile(depth_HW[valid_HW], (1, 99))
        near_HW = np.clip(1 - (depth_HW.astype(np.float64) - low) / max(high - low, 1), 0, 1)
        colors[valid_HW] = turbo((30 + 215 * near_HW).astype(np.uint8))[valid_HW]
    return colors
