"""Draw part maps: a fixed palette over the dimmed image. The person's right is in warm colors, the left in cold ones.

Shapes: P side of a panel, H and W of the image or the sheet.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP, LabelMap, label_map
from hcmoco.data.transforms import resize_nearest
from hcmoco.visualization.sheet import gray_depth, header, side_by_side, write_text

PANEL = 192
HEADS = ("input", "truth", "prediction")

_GAP = 12
_TINT = 0.62  # share of the color of a part over the image
_LEGEND_LINE = 20
_LEGEND_COLUMN = 136
_RIGHT = {
    "hip": (255, 170, 60), "thigh": (226, 108, 20), "knee": (255, 214, 120), "calf": (184, 70, 24),
    "foot": (255, 120, 90), "shoulder": (230, 60, 80), "arm": (196, 28, 60), "elbow": (255, 150, 170),
    "forearm": (240, 84, 140), "hand": (255, 196, 214), "leg": (226, 108, 20), "shoe": (255, 120, 90),
}  # fmt: skip
_LEFT = {
    "hip": (60, 190, 230), "thigh": (20, 128, 200), "knee": (150, 222, 250), "calf": (24, 72, 160),
    "foot": (40, 226, 206), "shoulder": (136, 96, 226), "arm": (98, 52, 184), "elbow": (190, 164, 255),
    "forearm": (156, 112, 244), "hand": (218, 204, 255), "leg": (20, 128, 200), "shoe": (40, 226, 206),
}  # fmt: skip
_MIDDLE = {
    "background": (0, 0, 0), "crotch": (156, 156, 44), "lower spine": (56, 146, 62), "upper spine": (124, 204, 94),
    "head": (244, 242, 156),
}  # fmt: skip


def _color(name: str, number: int) -> tuple[int, int, int]:
    side, _, part = name.partition(" ")
    if side in ("right", "left"):
        return {"right": _RIGHT, "left": _LEFT}[side][part]
    if name in _MIDDLE:
        return _MIDDLE[name]
    hue, saturation, value = 180 * (0.618034 * number % 1), 130 if number % 2 else 200, 235 if number % 3 else 170
    hsv = np.array([[[hue, saturation, value]]], np.float64).astype(np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


@cache
def palette(name: str) -> np.ndarray:
    """Return uint8 [256, 3]: the color of each label of the label map `name`; IGNORE is gray."""
    colors = np.zeros((256, 3), np.uint8)
    parts = label_map(name).parts
    colors[: len(parts)] = [_color(part, number) for number, part in enumerate(parts)]
    colors[IGNORE] = 110
    colors.setflags(write=False)
    return colors


PALETTE = palette(DEFAULT_LABEL_MAP)
_DEFAULT = label_map(DEFAULT_LABEL_MAP)


def panel_of(image: np.ndarray) -> np.ndarray:
    """Return uint8 [P, P, 3]: an image in the size of a panel.

    Args:
        image: RGB (uint8 [H, W, 3]), or depth (uint16 [H, W]), which is drawn as `gray_depth` draws it.
    """
    if image.ndim == 2:
        return resize_nearest(gray_depth(image), PANEL)
    return cv2.resize(image, (PANEL, PANEL), interpolation=cv2.INTER_AREA if len(image) > PANEL else cv2.INTER_CUBIC)


def paint(panel_PP3: np.ndarray, labels: np.ndarray, of: LabelMap = _DEFAULT) -> np.ndarray:
    """Return uint8 [P, P, 3]: `paint_labels` of labels of any size."""
    return paint_labels(panel_PP3, resize_nearest(labels, PANEL), of)


def paint_labels(image_HW3: np.ndarray, labels_HW: np.ndarray, of: LabelMap = _DEFAULT) -> np.ndarray:
    """Return uint8 [H, W, 3]: the parts in color, with the image's shading and dark borders, over the dimmed image.

    Args:
        image_HW3: uint8, RGB.
        labels_HW: uint8, numbers of the label map, or IGNORE.
        of: the label map.
    """
    gray_HW1 = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    colored = palette(of.name)[labels_HW] * (0.7 + 0.3 * gray_HW1 / 255)
    painted = np.where((labels_HW > 0)[..., None], colored, 0.35 * gray_HW1)
    border = np.zeros(labels_HW.shape, bool)
    border[:, 1:] |= labels_HW[:, 1:] != labels_HW[:, :-1]
    border[1:] |= labels_HW[1:] != labels_HW[:-1]
    painted[border] *= 0.55
    return painted.astype(np.uint8)


def tint_labels(image_HW3: np.ndarray, labels_HW: np.ndarray, of: LabelMap = _DEFAULT) -> np.ndarray:
    """Return uint8 [H, W, 3]: the parts in color over the image, which stays as it is elsewhere.

    Args:
        image_HW3: uint8, RGB.
        labels_HW: uint8, numbers of the label map, or IGNORE.
        of: the label map.
    """
    tinted = cv2.addWeighted(image_HW3, 1 - _TINT, palette(of.name)[labels_HW], _TINT, 0)
    return np.where((labels_HW > 0)[..., None], tinted, image_HW3)


def parts_sheet(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray | None],
    predictions: Sequence[np.ndarray],
    of: LabelMap = _DEFAULT,
) -> np.ndarray:
    """Draw input, truth and prediction of each row, two rows abreast, over a legend.

    Args:
        images: RGB or depth, see `panel_of`.
        truths: uint8 label maps of any size; None leaves the panel empty.
        predictions: uint8 label maps of any size.
        of: the label map that all of them follow.
    Returns:
        uint8 [H, W, 3], RGB.
    """
    cells = []
    for image, truth, prediction in zip(images, truths, predictions, strict=True):
        panel = panel_of(image)
        empty = np.full_like(panel, 24)
        true = empty if truth is None else paint(panel, truth, of)
        cells.append(side_by_side([panel, true, paint(panel, prediction, of)]))
    return stacked(cells, HEADS, of)


def stacked(cells: Sequence[np.ndarray], titles: Sequence[str], of: LabelMap = _DEFAULT) -> np.ndarray:
    """Stack cells two abreast, under the titles of their panels and over a legend.

    Args:
        cells: uint8 [P, len(titles) * P, 3].
        titles: of the panels of a cell.
        of: the label map.
    Returns:
        uint8 [H, W, 3], RGB.
    """
    abreast = min(2, max(1, len(cells)))
    cells = [*cells, *[np.zeros((PANEL, len(titles) * PANEL, 3), np.uint8)] * (-len(cells) % abreast)]
    lines = [
        side_by_side([header(titles, PANEL)] * abreast, _GAP),
        *(side_by_side(cells[start : start + abreast], _GAP) for start in range(0, len(cells), abreast)),
    ]
    return np.concatenate([*lines, legend(lines[0].shape[1], of)])


def legend(width: int, of: LabelMap = _DEFAULT) -> np.ndarray:
    """Return uint8 [H, width, 3]: the color and name of each part of a label map, left parts beside right ones."""
    unpaired = [number for number in range(1, len(of)) if of.flip[number] == number]
    rights = [number for number in range(1, len(of)) if of.parts[number].startswith("right")]
    order = [number for right in rights for number in (right, int(of.flip[right]))] + unpaired
    columns = max(1, width // _LEGEND_COLUMN)
    lines = -(-len(order) // columns)
    image = np.zeros((lines * _LEGEND_LINE + 12, width, 3), np.uint8)
    for position, number in enumerate(order):
        x, y = position // lines * _LEGEND_COLUMN + 6, position % lines * _LEGEND_LINE + 8
        image[y : y + 12, x : x + 12] = palette(of.name)[number]
        write_text(image, of.parts[number], x + 18, y + 11)
    return image
