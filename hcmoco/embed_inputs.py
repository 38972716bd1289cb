"""What people hold pictures, depth and keypoints in, as the rows that `Pretrained.embed` computes with.

Values in another convention are refused: in range and silently wrong is the worst that could be. Every fault is a
ValueError that says what is allowed. Shapes: B rows, H, W pixels, J joints.
"""

from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from hcmoco.data.skeletons import convert, joint_set

_NEAREST_M, _FURTHEST_M = 0.2, 20.0
"""No depth camera sees people nearer or farther: what lies all within the one, or mostly beyond the other, is in
another unit."""


def _array(value: Any, what: str) -> np.ndarray:
    """An array of arrays, tensors or pictures, or of a sequence of them."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    if isinstance(first, str | bytes | PathLike):
        raise ValueError(f"{what} is given as {type(first).__name__}: read the file first, for example with PIL")
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
    if not rows.size:
        raise ValueError(f"rgb has no pixels: its shape is {list(rows.shape)}")
    if rows.dtype == np.uint8 and rows.max() <= 1:
        raise ValueError("rgb is 0 to 255, this has no value above 1: multiply it by 255 before it becomes uint8")
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
    if not rows.size:
        raise ValueError(f"depth has no pixels: its shape is {list(rows.shape)}")
    is_float = rows.dtype.kind == "f"
    if not is_float and (rows.dtype.kind not in "iu" or rows.dtype.itemsize < 2):
        raise ValueError(f"depth is integers of 16 bits or more (millimeters) or floats (meters); this is {rows.dtype}")
    meters = rows.astype(np.float64) * (1 if is_float else 1e-3)
    if not np.isfinite(meters).all() or meters.min(initial=0) < 0:
        raise ValueError("depth has values below 0 or that are no numbers; 0 is no reading")
    read = meters[meters > 0]
    middle = float(np.median(read)) if read.size else 1.0
    if not _NEAREST_M <= middle <= _FURTHEST_M or read.max(initial=0) >= 65.535:
        how = "floats are meters" if is_float else "integers are millimeters"
        where = "beyond" if middle > _FURTHEST_M else "within"
        fault = f"half of the depth would be {where} {middle:g} m, where no depth camera sees a person"
        if _NEAREST_M <= middle <= _FURTHEST_M:
            fault = f"the largest would be {read.max():g} m, which is no reading: set such pixels to 0"
        raise ValueError(f"{how}, and {fault}")
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
    check_keypoints(rows)
    if not (rows[..., 2] > 0).any(1).all():
        raise ValueError("a person has no visible joint, so there is nothing to embed: leave the person out")
    return rows if name == target else np.stack([convert(row, name, target) for row in rows])


def check_keypoints(rows: np.ndarray) -> None:
    """Raise ValueError for keypoints [..., 3] whose visibility is not 0 or 1, or which are no pixels."""
    if not np.isin(rows[..., 2], (0, 1)).all():
        raise ValueError(
            "the third value of a keypoint is its visibility, 0 or 1; compare scores, or COCO's 0, 1 and 2, with a "
            "threshold first"
        )
    seen = rows[..., :2][rows[..., 2] > 0]
    if not np.isfinite(seen).all():
        raise ValueError("a visible keypoint has no finite position; its visibility is to be 0")
    if seen.size and np.abs(seen).max() <= 1.5:
        raise ValueError("keypoints are pixels, not shares of a picture: multiply them by its sides")
