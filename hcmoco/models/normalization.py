"""From the batch on the wire to what the encoders take, on whatever device the batch is.

Shape suffixes: B batch, S side of the image, J joints; a 2 or 3 is that many columns or channels.
"""

from functools import cache

import torch
from torch import Tensor

from hcmoco.data.joint_set import JointSet
from hcmoco.data.released_keypoints import ROOT as _RELEASED_ROOT

# Mean and standard deviation of ImageNet's training images, RGB in [0, 1]: what every timm backbone here was made for.
RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)


def normalize_rgb(rgb_BSS3: Tensor) -> Tensor:
    """uint8 [B, S, S, 3], RGB -> float32 [B, 3, S, S] in channels-last memory, ImageNet's mean taken off, over its
    deviation."""
    mean_3, std_3 = _rgb_constants(rgb_BSS3.device)
    return rgb_BSS3.float().sub_(mean_3).div_(std_3).permute(0, 3, 1, 2)


@cache
def _rgb_constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation in 8-bit steps, copied to each device once."""
    return 255 * torch.tensor(RGB_MEAN, device=device), 255 * torch.tensor(RGB_STD, device=device)


def normalize_depth(depth_BSS: Tensor, channels: int = 3) -> Tensor:
    """uint16 [B, S, S], millimeters, 0 = no reading -> float32 [B, channels, S, S] in channels-last memory.

    Meters from the mean of the image's valid pixels; pixels without a reading are 0, so an image without any is all 0.
    Every channel is the same.
    """
    # 16-bit unsigned tensors have hardly any operations. Sums of int32 are int64, so the mean is exact.
    depth_BSS = depth_BSS.to(torch.int32)
    valid_BSS = depth_BSS > 0
    count_B11 = valid_BSS.sum((1, 2), keepdim=True).clamp(min=1)
    mean_B11 = depth_BSS.sum((1, 2), keepdim=True) / count_B11
    meters_BSS = (depth_BSS - mean_B11) * valid_BSS * 1e-3
    return meters_BSS[..., None].repeat(1, 1, 1, channels).permute(0, 3, 1, 2)


def normalize_keypoints(keypoints_BJ3: Tensor, joint_set: JointSet, *, released_root: bool = False) -> Tensor:
    """float32 [B, J, 3] (x, y in pixels, visibility) -> [B, J, 2] (row, column), root-relative, within [-1, 1],
    invisible joints 0.

    The root is the middle of the hips where both are visible, else the pelvis where it is, else the center of the
    visible joints. The scale is the largest absolute coordinate of a visible joint; a person of no extent is all 0.

    Args:
        released_root: joint 6 of whatever set is the root where it is visible, as in `released_keypoints`: what probes
            give a model that was trained on those.
    """
    visible_BJ1 = keypoints_BJ3[..., 2:] > 0
    # Whatever an invisible joint's position holds must not reach a product: 0 * nan is nan.
    position_BJ2 = keypoints_BJ3[..., :2].flip(-1).where(visible_BJ1, 0)
    roots = ((joint_set.joints[_RELEASED_ROOT],),) if released_root else (("pelvis",), ("left_hip", "right_hip"))
    offset_BJ2 = position_BJ2 - _root(position_BJ2, visible_BJ1, joint_set, roots)
    scale_B11 = offset_BJ2.abs().where(visible_BJ1, 0).amax((1, 2), keepdim=True)
    return (offset_BJ2 / scale_B11.clamp(min=1e-6)).where(visible_BJ1, 0)


def _root(position_BJ2: Tensor, visible_BJ1: Tensor, joint_set: JointSet, roots: tuple[tuple[str, ...], ...]) -> Tensor:
    """Return [B, 1, 2]: the middle of the last of `roots` that is all visible, else of the visible joints."""
    root_B12 = position_BJ2.sum(1, keepdim=True) / visible_BJ1.sum(1, keepdim=True).clamp(min=1)
    for names in roots:
        if all(name in joint_set.joints for name in names):
            joints = [joint_set.index(name) for name in names]
            middle_B12 = torch.stack([position_BJ2[:, joint] for joint in joints], 1).mean(1, keepdim=True)
            all_visible_B11 = torch.stack([visible_BJ1[:, joint] for joint in joints], 1).all(1, keepdim=True)
            root_B12 = middle_B12.where(all_visible_B11, root_B12)
    return root_B12
