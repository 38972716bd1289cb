"""Weights that were trained on pixels normalized in another way, brought to ImageNet's mean and deviation.

Both ways are affine in each channel, so the difference goes into the weights that cut patches; nothing else changes:
w' = w s / s0 and b' = b + sum w (m - m0) / s0, where m and s are ImageNet's, m0 and s0 those of the weights.
"""

from collections.abc import Sequence

import torch
from torch import nn

from hcmoco.errors import UserError
from hcmoco.models.normalization import RGB_MEAN, RGB_STD

HALF = (0.5, 0.5, 0.5)


@torch.no_grad()
def take_imagenet_pixels(cut: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> None:
    """Change a convolution of RGB so that it gives of ImageNet's pixels what it gave of its own.

    Zeros that pad an image are ImageNet's mean afterwards, and were its own before.

    Args:
        cut: of 3 channels; changed in place.
        mean, std: of the pixels that its weights were trained on, RGB in 0..1.

    Raises:
        UserError: it has no bias, which the difference of the means goes into.
    """
    ours, theirs = (torch.tensor(pair, dtype=torch.float64) for pair in ((RGB_MEAN, RGB_STD), (mean, std)))
    if torch.equal(ours, theirs):
        return
    if cut.bias is None:
        raise UserError(
            f"its weights were trained on pixels of mean {tuple(mean)} and deviation {tuple(std)}, and patches are cut "
            "without a bias, so they cannot be brought to ImageNet's; take another ViT"
        )
    weight_OCHW = cut.weight.double()
    shift_C = (ours[0] - theirs[0]) / theirs[1]
    cut.bias.copy_(cut.bias.double() + (weight_OCHW.sum((2, 3)) * shift_C).sum(1))
    cut.weight.copy_(weight_OCHW * (ours[1] / theirs[1])[:, None, None])
