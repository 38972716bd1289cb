"""detectron2's feature pyramid on HRNet, which the published DensePose results were trained with.

Source: `HRFPN` of detectron2's DensePose project (`build_hrfpn_backbone`). Modules have its names, so the part of a
checkpoint under `backbone.` loads as it is: `interp_conv`, `reduction_pooling_conv`, `fpn_conv`.
Shape suffixes: B images, C channels, H and W rows and columns of a map.
"""

import torch
from torch import Tensor, nn

from hcmoco.models.encoders import Encoder

_KERNEL = 4


class PublishedPyramid(nn.Module):
    """Upsamples each branch by a transposed convolution, joins them, and makes each level by one strided convolution.

    The transposed convolutions have a kernel of 4 and no padding. So the joined map ends with the smallest of them,
    which lacks 4 cells of stride 4. Levels are then cut to the coarsest one: the last 64 pixels of the padded picture,
    on the right and below, have no cell. That is how the published weights were trained.

    Args:
        encoder: of the input maps.
        channels: C of every level.
        levels: number of output maps: p1 has stride 4, each next one twice the stride.
    """

    def __init__(self, encoder: Encoder, channels: int, levels: int):
        super().__init__()
        self.interp_conv = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(width, width, _KERNEL, stride=stride // encoder.strides[0], bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for width, stride in zip(encoder.channels, encoder.strides, strict=True)
        )
        self.reduction_pooling_conv = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(sum(encoder.channels), channels, 2**level, stride=2**level),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
            for level in range(levels)
        )
        self.fpn_conv = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels))

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Return p1, p2, ... [B, C, h 2^(levels - i), w 2^(levels - i)] of the encoder's maps, finest first."""
        raised = [conv(branch) for conv, branch in zip(self.interp_conv, maps, strict=True)]
        height, width = (min(each.shape[axis] for each in raised) for axis in (2, 3))
        joined_BCHW = torch.cat([each[:, :, :height, :width] for each in raised], 1)
        levels = [conv(joined_BCHW) for conv in self.reduction_pooling_conv]
        rows, columns = levels[-1].shape[2:]
        pyramid = {}
        for level, (conv, map_BCHW) in enumerate(zip(self.fpn_conv, levels, strict=True)):
            times = 2 ** (len(levels) - 1 - level)
            pyramid[f"p{level + 1}"] = conv(map_BCHW[:, :, : rows * times, : columns * times])
        return pyramid
