"""Anchors on the input's pixels, and joints as their weighted means (A2J: Xiong et al., ICCV 2019, section 3).

Shape suffixes: B batch, J joints, N anchors of one image, 2 and 3 are x, y (and depth).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hcmoco.tasks.pose.config import STRIDE


class Joints(NamedTuple):
    """The head's output for a batch, in pixels of the input.

    Attributes:
        anchor_BJ2: weighted means of the anchors alone, x, y.
        xy_BJ2: weighted means of anchors and their offsets, x, y.
        depth_BJ: weighted means of depths, meters from the input's mean depth times the config's `depth_scale`.
    """

    anchor_BJ2: Tensor
    xy_BJ2: Tensor
    depth_BJ: Tensor


def anchor_positions(height: int, width: int, offsets: tuple[float, ...]) -> Tensor:
    """Return float32 [N, 2]: x, y of every anchor in pixels of the input, N = len(offsets)^2 * height * width.

    Order: offset along y, offset along x, row, column; the column runs fastest. Cell (r, c) spans the pixels 4c..4c+4
    along x and 4r..4r+4 along y.

    Args:
        height, width: of the finest map, cells.
        offsets: of the anchors in a cell along x and y, pixels.
    """
    offset, row, column = torch.tensor(offsets, dtype=torch.float32), torch.arange(height), torch.arange(width)
    y, x, row, column = torch.meshgrid(offset, offset, STRIDE * row.float(), STRIDE * column.float(), indexing="ij")
    return torch.stack([column + x, row + y], -1).reshape(-1, 2)


def weighted_joints(response_BJN: Tensor, offset_B2JN: Tensor, depth_BJN: Tensor, anchors_N2: Tensor) -> Joints:
    """Compute the softmax of a joint's responses over all anchors, and the means with these weights.

    Computed in float32 or wider, also under autocast.
    """
    with torch.autocast(response_BJN.device.type, enabled=False):
        dtype = torch.promote_types(response_BJN.dtype, torch.float32)
        weight_BJN = response_BJN.to(dtype).softmax(-1)
        anchor_BJ2 = weight_BJN @ anchors_N2.to(dtype)
        offset_BJ2 = torch.einsum("bjn,bcjn->bjc", weight_BJN, offset_B2JN.to(dtype))
        return Joints(anchor_BJ2, anchor_BJ2 + offset_BJ2, (weight_BJN * depth_BJN.to(dtype)).sum(-1))
