"""The chart head: foreground, part and surface coordinates inside a region.

Source: DensePose (CVPR 2018), section 3, and the head DensePoseV1ConvX of detectron2.
Shape suffixes: R regions, C channels, D side of the region features, S side of the head's maps (2 D times the upscale).
"""

from dataclasses import dataclass
from math import gcd

import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.data.body_parts import NUM_CHARTS
from hcmoco.tasks.densepose.config import DensePoseConfig

NUM_CLASSES = NUM_CHARTS + 1
"""Background and the 24 charts."""

_COARSE = 2
_GROUPS = 32


@dataclass(frozen=True)
class ChartMaps:
    """The head's output for R regions, float32.

    Attributes:
        coarse: [R, 2, S, S], logits of background and person.
        fine: [R, 25, S, S], logits of the parts; the background's is not trained.
        u, v: [R, 24, S, S], coordinates in each chart; true ones are in 0..1.
    """

    coarse: Tensor
    fine: Tensor
    u: Tensor
    v: Tensor

    def at(self, regions: Tensor | slice) -> "ChartMaps":
        """Return the maps of some of the regions."""
        return ChartMaps(self.coarse[regions], self.fine[regions], self.u[regions], self.v[regions])


class ChartHead(nn.Module):
    """Convolutions, a transposed one that doubles the side, and bilinear upsampling."""

    def __init__(self, config: DensePoseConfig):
        super().__init__()
        layers: list[nn.Module] = []
        channels = config.pyramid_channels
        for _ in range(config.chart_depth):
            layers.append(nn.Conv2d(channels, config.chart_width, 3, padding=1))
            if config.chart_norm == "group":
                layers.append(nn.GroupNorm(gcd(_GROUPS, config.chart_width), config.chart_width))
            layers.append(nn.ReLU(inplace=True))
            channels = config.chart_width
        self.body = nn.Sequential(*layers)
        # The published four transposed convolutions, side by side in one.
        self.out = nn.ConvTranspose2d(channels, _COARSE + NUM_CLASSES + 2 * (NUM_CLASSES - 1), 4, stride=2, padding=1)
        self.upscale = config.chart_upscale
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Parts begin undecided and coordinates in the middle of their charts, not several units away from them.
        nn.init.normal_(self.out.weight, std=0.01)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)
            nn.init.constant_(self.out.bias[_COARSE + NUM_CLASSES :], 0.5)

    def convolutions(self) -> dict[int, int]:
        """Return the place in `body` of each of its convolutions, by their number from 1."""
        places = [place for place, module in enumerate(self.body) if isinstance(module, nn.Conv2d)]
        return dict(enumerate(places, 1))

    def forward(self, x_RCDD: Tensor) -> ChartMaps:
        maps = self.out(self.body(x_RCDD)).float()
        if self.upscale > 1:
            maps = F.interpolate(maps, scale_factor=self.upscale, mode="bilinear", align_corners=False)
        return ChartMaps(*maps.split([_COARSE, NUM_CLASSES, NUM_CLASSES - 1, NUM_CLASSES - 1], dim=1))
