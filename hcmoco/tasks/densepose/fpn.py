"""The feature pyramid of HRNet detectors.

Source: Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", section 3.
Shape suffixes: B images, C channels, H and W rows and columns of a map.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.models.encoders import Encoder


class HRFeaturePyramid(nn.Module):
    """Upsamples all branches to stride 4, joins them by a 1 x 1 convolution, averages down, and convolves each level.

    As HRNet's authors describe it, with batch normalization and a ReLU after the joining convolution. detectron2's
    variant, which the paper trained, is published_pyramid.py.

    The joining convolution is stored as one per branch and applied before the upsampling, with which it commutes: the
    same function at a fraction of the cost.

    Args:
        encoder: of the input maps.
        channels: C of every level.
        levels: number of output maps: p1 has stride 4, each next one twice the stride.
    """

    def __init__(self, encoder: Encoder, channels: int, levels: int):
        super().__init__()
        self.factors = tuple(stride // encoder.strides[0] for stride in encoder.strides)
        reduce = [nn.Conv2d(width, channels, 1, bias=False) for width in encoder.channels]
        smooth = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels)]
        joined = sum(encoder.channels)
        for conv in reduce:
            # The variance that one convolution over all branches would be drawn with.
            nn.init.normal_(conv.weight, std=joined**-0.5)
        for conv in smooth:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.norm = nn.BatchNorm2d(channels)
        self.reduce, self.smooth = nn.ModuleList(reduce), nn.ModuleList(smooth)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Return p1, p2, ... [B, C, H / 2^i, W / 2^i], finest first, of the encoder's maps."""
        size = maps[0].shape[2:]
        x_BCHW = self.reduce[0](maps[0])
        for conv, branch in zip(list(self.reduce)[1:], maps[1:], strict=True):
            x_BCHW = x_BCHW + F.interpolate(conv(branch), size=size, mode="bilinear", align_corners=False)
        x_BCHW = F.relu(self.norm(x_BCHW))
        pyramid = {}
        for level, conv in enumerate(self.smooth):
            if level:
                x_BCHW = F.avg_pool2d(x_BCHW, 2)
            pyramid[f"p{level + 1}"] = conv(x_BCHW)
        return pyramid
