"""Part maps as pictures: a fixed palette over the dimmed image; the person's right in warm colours, the left in cold ones.

Shapes: P side of a panel, H and W of the sheet.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hcmoco.data.body_parts import FLIP, IGNORE, PART_NAMES
from hcmoco.tasks.parsing.augment import resize_nearest

PANEL = 192
HEADS = ("input", "truth", "prediction")

_HEADER = 24
_GAP = 12
_LEGEND_LINE = 20
_LEGEND_COLUMN = 136
_RIGHT = {
    "hip": (255, 170, 60), "thigh": (226, 108, 20), "knee": (255, 214, 120), "calf": (184, 70, 24), "foot": (255, 120, 90),
    "shoulder": (230, 60, 80), "arm": (196, 28, 60), "elbow": (255, 150, 170), "forearm": (240, 84, 140), "hand": (255, 196, 214),
}  # fmt: skip
_LEFT = {
    "hip": (60, 190, 230), "thigh": (20, 128, 200), "knee": (150, 222, 250), "calf": (24, 72, 160), "foot": (40, 226, 206),
    "shoulder": (136, 96, 226), "arm": (98, 52, 184), "elbow": (190, 164, 255), "forearm": (156, 112, 244), "hand": (218, 204, 255),
}  # fmt: skip
_MIDDLE = {
    "background": (0, 0, 0), "crotch": (156, 156, 44), "lower spine": (56, 146, 62), "upper spine": (124, 204, 94),
    "head": (244, 242, 156),
}  # fmt: skip


def _color(name: str) -> tuple[int, int, int]:
    side, _, part = name.partition(" ")
    return {"right": _RIGHT, "left": _LEFT}[side][part] if side in ("right", "left") else _MIDDLE[name]


# uint8 [256, 3]: the colour of each label; what is left out of losses is grey
PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[: len(PART_NAMES)] = [_color(name) for name in PART_NAMES]
PALETTE[IGNORE] = 110
PALETTE.setflags(write=False)


def panel_of(image: np.ndarray) -> np.ndarray:
    """uint8 [P, P, 3] of RGB (uint8 [H, W, 3]) or of depth (uint16 [H, W]): near is bright, 'no reading' black."""
    if image.ndim == 2:
        return resize_nearest(gray_depth(image), PANEL)
    return cv2.resize(image, (PANEL, PANEL), interpolation=cv2.INTER_AREA if len(image) > PANEL else cv2.INTER_CUBIC)


def gray_depth(depth_HW: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of depth (uint16 [H, W]): near is bright, 'no reading' black."""
    readings = depth_HW[depth_HW > 0]
    near, far = np.percentile(readings, (2, 98)) if len(readings) else (0, 1)
    share = ((far - depth_HW.astype(np.float64)) / max(far - near, 1.0)).clip(0, 1)
    gray = np.where(depth_HW > 0, np.round(60 + 195 * share), 0).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def paint(panel_PP3: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """uint8 [P, P, 3]: `paint_labels` of a label map of any size."""
    return paint_labels(panel_PP3, resize_nearest(labels, PANEL))


def paint_labels(picture_HW3: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the colours of the parts (uint8 [H, W]), with the picture's shading and dark borders, over the dimmed picture."""
    gray_HW1 = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    colored = PALETTE[labels] * (0.7 + 0.3 * gray_HW1 / 255)
    picture = np.where((labels > 0)[..., None], colored, 0.35 * gray_HW1)
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    picture[border] *= 0.55
    return picture.astype(np.uint8)


def parts_sheet(
    images: Sequence[np.ndarray], truths: Sequence[np.ndarray | None], predictions: Sequence[np.ndarray]
) -> np.ndarray:
    """uint8 [H, W, 3]: input, truth (empty where there is none) and prediction of each row, two rows abreast, over a legend.

    Args:
        images: RGB or depth, see `panel_of`.
        truths, predictions: uint8 label maps of any size.
    """
    cells = []
    for image, truth, prediction in zip(images, truths, predictions, strict=True):
        panel = panel_of(image)
        empty = np.full_like(panel, 24)
        cells.append(
            np.concatenate([panel, empty if truth is None else paint(panel, truth), paint(panel, prediction)], axis=1)
        )
    return stacked(cells, HEADS)


def stacked(cells: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W, 3]: cells [P, len(names) * P, 3], two abreast, under the names of their panels and over a legend."""
    width = len(names) * PANEL
    abreast = min(2, max(1, len(cells)))
    cells = [*cells, *[np.zeros((PANEL, width, 3), np.uint8)] * (-len(cells) % abreast)]
    header = np.zeros((_HEADER, width, 3), np.uint8)
    for number, name in enumerate(names):
        _write(header, name, number * PANEL + 6, _HEADER - 8)
    lines = [
        _abreast([header] * abreast),
        *(_abreast(cells[start : start + abreast]) for start in range(0, len(cells), abreast)),
    ]
    return np.concatenate([*lines, legend(lines[0].shape[1])])


def _abreast(cells: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.zeros((cells[0].shape[0], _GAP, 3), np.uint8)
    row = [cells[0]]
    for cell in cells[1:]:
        row += [gap, cell]
    return np.concatenate(row, axis=1)


def legend(width: int) -> np.ndarray:
    """Every part's colour and name, left parts beside their right ones."""
    names = [number for number in range(1, len(PART_NAMES)) if FLIP[number] == number]
    pairs = [number for number in range(1, len(PART_NAMES)) if PART_NAMES[number].startswith("right")]
    order = [each for number in pairs for each in (number, int(FLIP[number]))] + names
    columns = max(1, width // _LEGEND_COLUMN)
    lines = -(-len(order) // columns)
    picture = np.zeros((lines * _LEGEND_LINE + 12, width, 3), np.uint8)
    for place, number in enumerate(order):
        x, y = place // lines * _LEGEND_COLUMN + 6, place % lines * _LEGEND_LINE + 8
        picture[y : y + 12, x : x + 12] = PALETTE[number]
        _write(picture, PART_NAMES[number], x + 18, y + 11)
    return picture


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
