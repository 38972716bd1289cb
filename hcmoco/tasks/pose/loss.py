"""The terms of a training step.

Source: A2J (Xiong et al., ICCV 2019), equations 3 to 5, with the weights and knees of the ITOP release.

Shape suffixes: B batch, J joints, 2 x and y, 3 those and depth.
"""

import torch.nn.functional as F
from torch import Tensor

from hcmoco.tasks.pose.anchors import Joints

REGRESSION_WEIGHT = 3.0
_IN_PLANE_WEIGHT = 0.5
_IN_PLANE_KNEE = 1.0  # pixels of the input
_DEPTH_KNEE = 3.0  # scaled meters


def pose_losses(joints: Joints, target_BJ3: Tensor, known_BJ: Tensor) -> dict[str, Tensor]:
    """Compute anchor + 3 * regression, where regression = 0.5 * in_plane + depth.

    Each term is a smooth L1 (quadratic up to its knee): `anchor` of the weighted anchors' x, y, so that the anchors
    around a joint are responsible for it; `in_plane` of the weighted anchors with their offsets; `depth` of the depths.

    Args:
        joints: output of the head.
        target_BJ3: x, y in pixels of the input, scaled depth.
        known_BJ: bool, joints that count; the others' targets may be anything.
    Returns:
        `loss` and the three terms, 0-d: means over x and y, over the known joints of a row, and over the rows that have
        known joints; 0 if no joint is known.
    """
    target_BJ3 = target_BJ3.where(known_BJ[..., None], 0)
    xy_BJ2, depth_BJ = target_BJ3[..., :2], target_BJ3[..., 2]

    def mean(error_BJ: Tensor) -> Tensor:
        row_B = (error_BJ * known_BJ).sum(1) / known_BJ.sum(1).clamp(min=1)
        return row_B.sum() / known_BJ.any(1).sum().clamp(min=1)

    anchor = mean(F.smooth_l1_loss(joints.anchor_BJ2, xy_BJ2, reduction="none", beta=_IN_PLANE_KNEE).mean(-1))
    in_plane = mean(F.smooth_l1_loss(joints.xy_BJ2, xy_BJ2, reduction="none", beta=_IN_PLANE_KNEE).mean(-1))
    depth = mean(F.smooth_l1_loss(joints.depth_BJ, depth_BJ, reduction="none", beta=_DEPTH_KNEE))
    regression = _IN_PLANE_WEIGHT * in_plane + depth
    return {"loss": anchor + REGRESSION_WEIGHT * regression, "anchor": anchor, "in_plane": in_plane, "depth": depth}
