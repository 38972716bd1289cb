"""Convert DensePose-COCO's annotations of one person to points and masks in pixels of the image.

Source: data format of the COCO DensePose challenge; run lengths and polygons as in COCO's mask API. Everything that
does not fit that format is a ValueError before anything is allocated by it: the mask API itself trusts its input.
Shapes: N points, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import zoom

from hcmoco.data.containers import MAX_PIXELS, MAX_SIDE

# Annotated coordinates are shares of the box, 0..255 in the published evaluator; masks of parts are 256 x 256 images of
# the box.
_SIDE = 255.0
_MASK_SIDE = 256
_PARTS = 14
# Longest outline of a polygon, pixels: the mask API allocates by it. A number of a run has at most this many bits.
_OUTLINE = 1 << 20
_BOX_PIXELS = 1 << 24
_BITS = 35


def annotated_points(annotation: Mapping) -> np.ndarray | None:
    """Return the annotated surface points of one person.

    Args:
        annotation: with `bbox` (left, top, width, height) and `dp_x` to `dp_V`.

    Returns:
        float32 [N, 5], x, y in pixels of the image, I, U, V; None if the person has no points.
    """
    if "dp_x" not in annotation:
        return None
    left, top, width, height = annotation["bbox"]
    names = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
    x, y, chart, u, v = (np.asarray(annotation[name], np.float64) for name in names)
    with np.errstate(over="ignore"):  # of a box that is none; the points are then not finite, and checked
        return np.stack([x * width / _SIDE + left, y * height / _SIDE + top, chart, u, v], axis=1).astype(np.float32)


def annotated_mask(annotation: Mapping, height: int, width: int) -> np.ndarray | None:
    """Return the mask of one person.

    It is the union of the masks of its parts, scaled to its box as the published evaluator does, or else its
    segmentation.

    Args:
        annotation: with `bbox` (left, top, width, height) and `dp_masks` or `segmentation`.
        height, width: of the image, pixels.

    Returns:
        bool [H, W]; None if the person has neither.

    Raises:
        ValueError: a mask is not valid, or the box has more than 2^24 pixels.
    """
    if "dp_masks" not in annotation:
        return segmentation_mask(annotation["segmentation"], height, width) if annotation.get("segmentation") else None
    masks = annotation["dp_masks"]
    if not isinstance(masks, Sequence) or isinstance(masks, str) or len(masks) > _PARTS:
        raise ValueError(f"the masks of parts must be a list of at most {_PARTS}")
    parts = [decode_rle(each, (_MASK_SIDE, _MASK_SIDE)) for each in masks if each]
    body = np.any(parts, axis=0).astype(np.float64) if parts else np.zeros((_MASK_SIDE, _MASK_SIDE))
    left, top, box_width, box_height = annotation["bbox"]
    if not (
        max(abs(left), abs(top), abs(box_width), abs(box_height)) <= MAX_SIDE and box_width * box_height <= _BOX_PIXELS
    ):
        raise ValueError(f"the box {[left, top, box_width, box_height]} is too large for a mask")
    scaled = (
        zoom(body, (max(box_height, 1) / body.shape[0], max(box_width, 1) / body.shape[1]), order=1, prefilter=False)
        > 0.5
    )
    x, y = int(left), int(top)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = (
        min(int(left + box_width), width, x + scaled.shape[1]),
        min(int(top + box_height), height, y + scaled.shape[0]),
    )
    mask = np.zeros((height, width), bool)
    if x1 > x0 and y1 > y0:
        mask[y0:y1, x0:x1] = scaled[y0 - y : y1 - y, x0 - x : x1 - x]
    return mask


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation to bool [H, W].

    Args:
        segmentation: run lengths, or a list of polygons x, y, x, y, ... (those of fewer than three corners are empty).
        height, width: of the image, pixels.

    Raises:
        ValueError: the segmentation is anything else.
    """
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, (height, width))
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise ValueError(f"the segmentation is neither polygons nor run lengths but {type(segmentation).__name__}")
    polygons = [corners for each in segmentation if len(corners := _corners(each)) > 2]
    if not polygons:
        return np.zeros((height, width), bool)
    from pycocotools import mask as coco_mask

    runs = coco_mask.frPyObjects([each.ravel().tolist() for each in polygons], height, width)
    return decode_rle(coco_mask.merge(runs))


def _corners(polygon: object) -> np.ndarray:
    """float64 [C, 2], x, y; ValueError for a polygon that the mask API cannot take."""
    if not isinstance(polygon, Sequence) or isinstance(polygon, str) or len(polygon) % 2:
        raise ValueError("a polygon of the segmentation is not a list of x, y, x, y, ...")
    if not all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= 2 * MAX_SIDE for each in polygon
    ):
        raise ValueError(f"a polygon of the segmentation has a corner that is no number of at most {2 * MAX_SIDE}")
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    outline = np.abs(corners - np.roll(corners, 1, axis=0)).max(1, initial=0).sum() + len(corners)
    if outline > _OUTLINE:
        raise ValueError(f"a polygon of the segmentation is {outline:.0f} pixels long; at most {_OUTLINE} are drawn")
    return corners


def decode_rle(rle: Any, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Decode COCO's run lengths to bool [H, W].

    Args:
        rle: `size` (height, width) and `counts`, a list or its compressed string. Runs go down the columns and begin
            with background.
        shape: the expected H, W; None allows any.

    Raises:
        ValueError: the runs do not fill the image, or it is not of the expected shape.
    """
    if not isinstance(rle, Mapping) or "counts" not in rle:
        raise ValueError("a mask is not run lengths with size and counts")
    size = rle.get("size")
    if (
        not isinstance(size, Sequence)
        or len(size) != 2
        or not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in size)
    ):
        raise ValueError(f"the size {str(size)[:60]!r} of a mask is not its height and width, 1..{MAX_SIDE}")
    height, width = (int(side) for side in size)
    if shape is not None and (height, width) != shape:
        raise ValueError(f"a mask is {width} x {height} pixels, {shape[1]} x {shape[0]} are needed")
    pixels, counts = height * width, rle["counts"]
    if pixels > MAX_PIXELS:
        raise ValueError(f"a mask has {pixels} pixels, at most {MAX_PIXELS} are decoded")
    if isinstance(counts, str | bytes):
        found = _runs(counts)
    elif isinstance(counts, Sequence) and all(isinstance(each, int) for each in counts):
        found = [int(each) for each in counts]
    else:
        raise ValueError("the run lengths of a mask are neither a text nor a list of whole numbers")
    if found and not 0 <= min(found) <= max(found) <= pixels:
        raise ValueError(f"a run length of {min(found) if min(found) < 0 else max(found)} is not in 0..{pixels}")
    runs = np.array(found, np.int64)
    if runs.sum() != pixels:
        raise ValueError(f"run lengths fill {runs.sum()} of {pixels} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _runs(text: str | bytes) -> list[int]:
    """Decompress run lengths.

    Characters from 48 on hold six bits: five of a number, lowest first, and whether more follow. The highest of the
    last five is its sign. From the fourth number on, numbers are differences to the last but one.
    """
    data = text.encode(errors="replace") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        piece = byte - 48
        if not 0 <= piece < 64 or shift >= _BITS:
            raise ValueError("the compressed run lengths of a mask are damaged")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths of a mask are cut off")
    return runs
