"""DensePose-COCO's annotations of one person, as its JSON files hold them, to points and masks in pixels of the image.

Source: data format of the COCO DensePose challenge; run lengths as in COCO's mask API. Shapes: N points, H x W pixels.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from scipy.ndimage import zoom

# Annotated coordinates are shares of the box, 0..255; masks of parts are 256 x 256 images of the box.
_SIDE = 255.0
_FINER = 5


def annotated_points(annotation: Mapping) -> np.ndarray | None:
    """float32 [N, 5], x, y in pixels of the image, I, U, V; None where the person has no points."""
    if "dp_x" not in annotation:
        return None
    left, top, width, height = annotation["bbox"]
    names = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
    x, y, chart, u, v = (np.asarray(annotation[name], np.float64) for name in names)
    return np.stack([x * width / _SIDE + left, y * height / _SIDE + top, chart, u, v], axis=1).astype(np.float32)


def annotated_mask(annotation: Mapping, height: int, width: int) -> np.ndarray | None:
    """bool [H, W], the person: the union of its masks of parts, scaled to its box as the published evaluator does, or else its
    segmentation; None where it has neither."""
    if "dp_masks" not in annotation:
        return segmentation_mask(annotation["segmentation"], height, width) if annotation.get("segmentation") else None
    parts = [decode_rle(each) for each in annotation["dp_masks"] if each]
    body = np.any(parts, axis=0).astype(np.float64) if parts else np.zeros((256, 256))
    left, top, box_width, box_height = annotation["bbox"]
    scaled = zoom(body, (max(box_height, 1) / body.shape[0], max(box_width, 1) / body.shape[1]), order=1, prefilter=False) > 0.5
    x, y = int(left), int(top)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(int(left + box_width), width, x + scaled.shape[1]), min(int(top + box_height), height, y + scaled.shape[0])
    mask = np.zeros((height, width), bool)
    if x1 > x0 and y1 > y0:
        mask[y0:y1, x0:x1] = scaled[y0 - y : y1 - y, x0 - x : x1 - x]
    return mask


def segmentation_mask(segmentation: Mapping | Sequence, height: int, width: int) -> np.ndarray:
    """bool [H, W] of a COCO segmentation: run lengths, or a list of polygons x, y, x, y, ...

    A pixel belongs to a polygon if its centre does; COCO's own borders differ from that by a pixel here and there.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation)
    # OpenCV fills whatever pixel a polygon touches, so it is drawn larger and the pixels' centres are taken.
    mask = np.zeros((height * _FINER, width * _FINER), np.uint8)
    for polygon in segmentation:
        corners = np.asarray(polygon, np.float64).reshape(-1, 2) * _FINER - 0.5
        cv2.fillPoly(mask, [np.round(corners * 256).astype(np.int32)], 1, shift=8)
    return mask[_FINER // 2 :: _FINER, _FINER // 2 :: _FINER].astype(bool)


def decode_rle(rle: Mapping) -> np.ndarray:
    """bool [H, W] of COCO's run lengths, `size` (height, width) and `counts`: a list, or its compressed string; runs go down the columns
    and begin with background. ValueError if they do not fill the image."""
    height, width = rle["size"]
    counts = rle["counts"]
    runs = np.asarray(counts if isinstance(counts, list) else _runs(counts), np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"run lengths fill {runs.sum()} of {height * width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _runs(text: str | bytes) -> list[int]:
    """Characters from 48 on hold six bits: five of a number, lowest first, and whether more follow; the highest of the last five is its
    sign. From the fourth on, numbers are differences to the one but last."""
    data = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        piece = byte - 48
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
