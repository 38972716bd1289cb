"""Scenes as pictures for people to look at: boxes, parts, U and V, as annotated (points) and as predicted (every pixel).

Shapes: H, W rows and columns of the stored image, P side of a panel, N points, h and w rows and columns of a detection.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hcmoco.data.codecs import decode_rgb
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.densepose.targets import read_instances

PANEL = 192
HEADS = ("input", "I annotated", "I predicted", "U annotated", "U predicted", "V annotated", "V predicted")

_HEADER = 24
_SHOWN = 0.3  # score from which on a detection is drawn
_TRUE, _FOUND, _CROWD = (80, 255, 80), (255, 225, 40), (150, 150, 150)


def _part_colors() -> np.ndarray:
    """uint8 [25, 3]: hues a golden ratio apart, so that neighbouring charts differ."""
    number = np.arange(25)
    hsv = np.stack(
        [number * 0.618034 % 1 * 180, np.where(number % 2, 220, 140), np.where(number % 3, 250, 170)], axis=1
    )
    return cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]


PART_COLOURS = _part_colors()
PART_COLOURS.setflags(write=False)


def colors(iuv_N3: np.ndarray, channel: int) -> np.ndarray:
    """uint8 [N, 3]: a colour per part for channel 0, blue (0) to red (1) for the coordinates, channels 1 and 2."""
    if channel == 0:
        return PART_COLOURS[iuv_N3[:, 0].astype(np.int64).clip(0, 24)]
    level_N1 = np.round(255 * iuv_N3[:, channel, None].clip(0, 1)).astype(np.uint8)
    return (
        cv2.cvtColor(cv2.applyColorMap(level_N1, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)[:, 0]
        if len(iuv_N3)
        else level_N1.repeat(3, 1)
    )


def paste(iuvs: Sequence[np.ndarray], boxes_D4: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [H, W, 3]: I, U, V of an image's detections in one picture; where several claim a pixel, the first has it."""
    whole_HW3 = np.zeros((height, width, 3), np.float32)
    for iuv_hw3, box_4 in zip(reversed(iuvs), boxes_D4[::-1], strict=True):
        x, y = int(np.floor(box_4[0])), int(np.floor(box_4[1]))
        place = whole_HW3[y : y + iuv_hw3.shape[0], x : x + iuv_hw3.shape[1]]
        place[:] = np.where(iuv_hw3[..., :1] > 0, iuv_hw3, place)
    return whole_HW3


def draw_sheet(rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
    """uint8 [H, W, 3], RGB: a line for each row of `scene_schema` and its prediction, columns as in HEADS.

    Annotated boxes are green, crowds grey, predicted boxes yellow with their scores in hundredths.
    """
    header = np.zeros((_HEADER, PANEL * len(HEADS), 3), np.uint8)
    for number, name in enumerate(HEADS):
        _write(header, name, number * PANEL + 6, _HEADER - 8)
    return np.concatenate([header, *(_line(row, each) for row, each in zip(rows, predictions, strict=True))])


def _line(row: dict, prediction: Prediction) -> np.ndarray:
    rgb_HW3 = decode_rgb(row["rgb"])
    scale = PANEL / max(rgb_HW3.shape[:2])
    people = read_instances(row)
    shown = prediction["scores"] >= _SHOWN
    boxes_D4 = prediction["boxes"][shown]
    iuv_HW3 = paste(
        [iuv for iuv, show in zip(prediction["iuv"], shown, strict=True) if show], boxes_D4, *rgb_HW3.shape[:2]
    )
    panels = [_panel(rgb_HW3, scale)]
    for each in people:
        _box(panels[0], each["box"] * scale, _CROWD if each["crowd"] else _TRUE)
    gray_HW3 = cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) // 3
    for channel in range(3):
        annotated = _panel(gray_HW3, scale)
        for points_N5 in (each["dp_points"] for each in people if each["dp_points"] is not None):
            for (x, y), color in zip(points_N5[:, :2] * scale, colors(points_N5[:, 2:], channel).tolist(), strict=True):
                cv2.circle(annotated, (int(x), int(y)), 1, color, -1)
        colored_HW3 = colors(iuv_HW3.reshape(-1, 3), channel).reshape(iuv_HW3.shape)
        predicted = _panel(np.where(iuv_HW3[..., :1] > 0, colored_HW3, gray_HW3), scale)
        for box_4, score in zip(boxes_D4 * scale, prediction["scores"][shown], strict=True):
            _box(predicted, box_4, _FOUND)
            if channel == 0:
                _write(predicted, f"{100 * score:.0f}", int(box_4[0]) + 2, int(box_4[1]) + 12)
        panels += [annotated, predicted]
    return np.concatenate(panels, axis=1)


def _panel(image_HW3: np.ndarray, scale: float) -> np.ndarray:
    """uint8 [P, P, 3]: the image's upper left corner in the panel's."""
    size = max(1, round(image_HW3.shape[1] * scale)), max(1, round(image_HW3.shape[0] * scale))
    panel = np.zeros((PANEL, PANEL, 3), np.uint8)
    panel[: size[1], : size[0]] = cv2.resize(
        image_HW3, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
    return panel


def _box(panel: np.ndarray, box_4: np.ndarray, color: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (int(value) for value in box_4)
    cv2.rectangle(panel, (x0, y0), (min(x1, PANEL - 1), min(y1, PANEL - 1)), color, 1)


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
