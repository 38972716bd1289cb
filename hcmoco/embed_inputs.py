"""What people hold pictures, depth and keypoints in, as the rows that `Pretrained.embed` computes with.

Values in another convention are refused: in range and silently wrong is the worst that could be. Every fault is a
ValueError that says what is allowed. Shapes: B rows, H, W pixels, J joints.
"""

from typing import Any

import numpy as np
from torch import Tensor

from hcmoco.data.skeletons import convert, joint_set

_NEAREST_M, _FURTHEST_M = 0.05, 65.535
"""Depth that lies all within the one is in another unit; what lies beyond the other has no place in 16 bits."""


def _array(value: Any, what: str) -> np.ndarray:
    """An array of arrays, tensors or pictures, or of a sequence of them."""
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | list | tuple):
        parts = [_array(each, what) for each in value]
        if len({part.shape for part in parts}) > 1:
            raise ValueError(f"{what} of one call have one size; these have {sorted({part.shape for part in parts})}")
        return np.stack(parts)
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def rgb_rows(value: Any) -> np.ndarray:
    """Return RGB pictures, or one, as uint8 [B, H, W, 3]."""
    rows = _array(value, "rgb")
    rows = rows[None] if rows.ndim == 3 else rows
    if rows.ndim != 4 or rows.shape[3] != 3:
        order = "; move the channels to the end" if rows.ndim == 4 and rows.shape[1] == 3 else ""
        raise ValueError(f"rgb is [B, H, W, 3]; this is {list(rows.shape)}{order}")
    if rows.dtype != np.uint8:
        raise ValueError(
            f"rgb is uint8, 0 to 255; this is {rows.dtype}: convert it, for example (255 * rgb).round() where it is "
            "0 to 1; what was normalized goes to `rgb` of the model itself"
        )
    return rows


def depth_rows(value: Any) -> np.ndarray:
    """Return depth of B rows, or of one, as uint16 [B, H, W], millimeters: integers are, floats are meters."""
    rows = _array(value, "depth")
    rows = rows[None] if rows.ndim == 2 else rows
    if rows.ndim != 3:
        raise ValueError(f"depth is [B, H, W]; this is {list(rows.shape)}")
    is_float = rows.dtype.kind == "f"
    if not is_float and (rows.dtype.kind not in "iu" or rows.dtype.itemsize < 2):
        raise ValueError(f"depth is integers of 16 bits or more (millimeters) or floats (meters); this is {rows.dtype}")
    meters = rows.astype(np.float64) * (1 if is_float else 1e-3)
    if not np.isfinite(meters).all() or meters.min(initial=0) < 0:
        raise ValueError("depth has values below 0 or that are no numbers; 0 is no reading")
    largest = meters.max(initial=0)
    if largest > _FURTHEST_M:
        other = "millimeters: convert it to integers" if is_float else "another unit than millimeters"
        raise ValueError(f"the largest depth is {largest:g} m: it is probably in {other}")
    if 0 < largest < _NEAREST_M:
        other = "whole meters: convert them to floats" if not is_float else "another unit than meters"
        raise ValueError(f"the largest depth is {1e3 * largest:g} mm: it is probably in {other}")
    return np.rint(1e3 * meters).astype(np.uint16)


def keypoint_rows(value: Any, name: str, target: str) -> np.ndarray:
    """Return keypoints of B people, or of one, as float32 [B, J, 3] of another joint set: x, y, visibility 0 or 1.

    Args:
        value: [B, J, 3] or [J, 3].
        name: of their joint set.
        target: name of the set that is returned; joints are matched by name.
    """
    rows = _array(value, "keypoints").astype(np.float32)
    rows = rows[None] if rows.ndim == 2 else rows
    if rows.ndim != 3 or rows.shape[2] != 3:
        raise ValueError(f"keypoints are [B, J, 3], x, y and visibility; these are {list(rows.shape)}")
    if rows.shape[1] != (count := len(joint_set(name))):
        raise ValueError(
            f"{name} has {count} joints, the keypoints have {rows.shape[1]}; name their set with joint_set"
        )
    if not np.isin(rows[..., 2], (0, 1)).all():
        raise ValueError(
            "the third value of a keypoint is its visibility, 0 or 1; compare scores, or COCO's 0, 1 and 2, with a "
            "threshold first"
        )
    seen = rows[..., :2][rows[..., 2] > 0]
    if not np.isfinite(seen).all():
        raise ValueError("a visible keypoint has no finite position; its visibility is to be 0")
    if seen.size and np.abs(seen).max() <= 1.5:
        raise ValueError("keypoints are pixels of the crop, not shares of it: multiply them by its sides")
    return rows if name == target else np.stack([convert(row, name, target) for row in rows])
