"""Draw scenes with boxes, parts, U and V: the annotated points beside the predicted pixels.

Shapes: H, W rows and columns of the stored image, P side of a panel, N points, h, w rows and columns of a detection.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hcmoco.data.codecs import decode_rgb
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.densepose.targets import read_instances
from hcmoco.visualization.sheet import dim_gray, draw_box, header, side_by_side, turbo, write_text

PANEL = 192
HEADS = ("input", "I annotated", "I predicted", "U annotated", "U predicted", "V annotated", "V predicted")

_MIN_SCORE = 0.3  # detections below are not drawn
_TRUE, _FOUND, _CROWD = (80, 255, 80), (255, 225, 40), (150, 150, 150)


def _part_colors() -> np.ndarray:
    """uint8 [25, 3]: hues a golden ratio apart, so that neighboring charts differ."""
    number = np.arange(25)
    hsv = np.stack(
        [number * 0.618034 % 1 * 180, np.where(number % 2, 220, 140), np.where(number % 3, 250, 170)], axis=1
    )
    return cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]


PART_COLORS = _part_colors()
PART_COLORS.setflags(write=False)


def colors(iuv_N3: np.ndarray, channel: int) -> np.ndarray:
    """Return uint8 [N, 3]: colors of I, U or V.

    Args:
        iuv_N3: I (0..24), U and V (0..1).
        channel: 0 for I, a color per part; 1 for U and 2 for V, from blue (0) to red (1).
    """
    if channel == 0:
        return PART_COLORS[iuv_N3[:, 0].astype(np.int64).clip(0, 24)]
    return turbo(np.round(255 * iuv_N3[:, channel].clip(0, 1)).astype(np.uint8))


def paste(iuvs: Sequence[np.ndarray], boxes_D4: np.ndarray, height: int, width: int) -> np.ndarray:
    """Paste the detections of an image into one map.

    Args:
        iuvs: I, U, V [h, w, 3] of each detection, best first.
        boxes_D4: their boxes; a detection begins at the pixel of its box's upper left corner.
        height, width: of the map.
    Returns:
        float32 [H, W, 3]; where several detections claim a pixel, the first has it.
    """
    whole_HW3 = np.zeros((height, width, 3), np.float32)
    for iuv_hw3, box_4 in zip(reversed(iuvs), boxes_D4[::-1], strict=True):
        x, y = int(np.floor(box_4[0])), int(np.floor(box_4[1]))
        region = whole_HW3[y : y + iuv_hw3.shape[0], x : x + iuv_hw3.shape[1]]
        region[:] = np.where(iuv_hw3[..., :1] > 0, iuv_hw3, region)
    return whole_HW3


def legend(width: int) -> np.ndarray:
    """Return uint8 [H, width, 3]: the color of each chart of I by its number, and of U and V from 0 to 1."""
    image = np.zeros((64, width, 3), np.uint8)
    write_text(image, "I", 6, 19)
    for number in range(1, 25):
        x, y = 22 + (number - 1) % 12 * 36, 8 + 20 * ((number - 1) // 12)
        image[y : y + 12, x : x + 12] = PART_COLORS[number]
        write_text(image, str(number), x + 15, y + 11, scale=0.38)
    write_text(image, "U, V   0", 6, 59)
    image[48:60, 70:326] = turbo(np.arange(256, dtype=np.uint8))
    write_text(image, "1", 332, 59)
    return image


def draw_sheet(rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
    """Draw a line per row, with the columns of HEADS.

    Annotated boxes are green, crowds gray, predicted boxes yellow with their scores in hundredths.

    Args:
        rows: rows of `scene_schema`.
        predictions: of the DensePose task, one for each row.
    Returns:
        uint8 [H, W, 3], RGB.
    """
    lines = [_line(row, prediction) for row, prediction in zip(rows, predictions, strict=True)]
    return np.concatenate([header(HEADS, PANEL), *lines])


def _line(row: dict, prediction: Prediction) -> np.ndarray:
    rgb_HW3 = decode_rgb(row["rgb"])
    scale = PANEL / max(rgb_HW3.shape[:2])
    people = read_instances(row)
    shown = prediction["scores"] >= _MIN_SCORE
    boxes_D4 = prediction["boxes"][shown]
    iuvs = [iuv for iuv, show in zip(prediction["iuv"], shown, strict=True) if show]
    iuv_HW3 = paste(iuvs, boxes_D4, *rgb_HW3.shape[:2])
    panels = [_panel(rgb_HW3, scale)]
    for person in people:
        draw_box(panels[0], person["box"] * scale, _CROWD if person["crowd"] else _TRUE)
    gray_HW3 = dim_gray(rgb_HW3)
    for channel in range(3):
        annotated = _panel(gray_HW3, scale)
        for points_N5 in (person["dp_points"] for person in people if person["dp_points"] is not None):
            for (x, y), color in zip(points_N5[:, :2] * scale, colors(points_N5[:, 2:], channel).tolist(), strict=True):
                cv2.circle(annotated, (int(x), int(y)), 1, color, -1)
        colored_HW3 = colors(iuv_HW3.reshape(-1, 3), channel).reshape(iuv_HW3.shape)
        predicted = _panel(np.where(iuv_HW3[..., :1] > 0, colored_HW3, gray_HW3), scale)
        for box_4, score in zip(boxes_D4 * scale, prediction["scores"][shown], strict=True):
            draw_box(predicted, box_4, _FOUND)
            if channel == 0:
                write_text(predicted, f"{100 * score:.0f}", int(box_4[0]) + 2, int(box_4[1]) + 12)
        panels += [annotated, predicted]
    return side_by_side(panels)


def _panel(image_HW3: np.ndarray, scale: float) -> np.ndarray:
    """uint8 [P, P, 3]: the image, scaled, in the upper left corner."""
    size = max(1, round(image_HW3.shape[1] * scale)), max(1, round(image_HW3.shape[0] * scale))
    panel = np.zeros((PANEL, PANEL, 3), np.uint8)
    panel[: size[1], : size[0]] = cv2.resize(
        image_HW3, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
    return panel
