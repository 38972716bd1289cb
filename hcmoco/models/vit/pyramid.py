"""A simple feature pyramid on a plain ViT: maps at strides 4 to 32, all from its last block.

Li et al., 2022, "Exploring plain vision transformer backbones for object detection", section 3: transposed
convolutions make the finer maps, max pooling the coarser ones, and each map ends in a 1x1 and a 3x3 convolution with
layer norms. The ViT is timm's own module.

Shape suffixes: B batch, C channels, H and W rows and columns.
"""

from typing import Any

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from hcmoco.models.vit.config import VitConfig

_STRIDES = (4, 8, 16, 32)
# Patches of these many pixels are a stride of the pyramid themselves; maps of the others are brought to the last's.
_ALIGNED = (8, 16, 32)
_RESAMPLED = (14,)
_TARGET = 16


class PlainVit(nn.Module):
    """A plain ViT with a pyramid, as `Encoder` needs it.

    Patches of 14 pixels do not tile the cells of a stride of 16. There the image is padded with zeros to the right and
    below to whole patches, and the map of the patches is read bilinearly at the centers of the stride's cells.

    Args:
        model: timm's; its last block's map is used, after its final norm where it has one. Its head is taken away.
        config: the pyramid.

    Raises:
        ValueError: patches that are not square, or of a size that no stride is near.

    Attributes:
        model: timm's ViT.
        pyramid: the convolutions of each map, finest first.
        feature_info: channels and stride of each map, finest first.
        patch: side of a patch, pixels.
    """

    def __init__(self, model: Any, config: VitConfig):
        super().__init__()
        height, width = model.patch_embed.patch_size
        if height != width or height not in (*_ALIGNED, *_RESAMPLED):
            allowed = ", ".join(map(str, sorted((*_ALIGNED, *_RESAMPLED))))
            raise ValueError(f"its patches are {height} x {width} pixels; allowed are squares of {allowed}")
        if 2 * config.patch_padding >= height:
            raise ValueError(f"vit.patch_padding = {config.patch_padding} is not less than half a patch of {height}")
        if config.patch_padding:
            model.patch_embed.proj.padding = (config.patch_padding, config.patch_padding)
        model.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.model: Any = model
        self.patch = height
        stride = _TARGET if height in _RESAMPLED else height
        strides, channels = _STRIDES[: config.pyramid_levels], config.pyramid_channels
        self.pyramid = nn.ModuleList(_branch(model.embed_dim, channels, stride, each) for each in strides)
        self.feature_info = FeatureInfo(
            [
                {"num_chs": channels, "reduction": each, "module": f"pyramid.{level}"}
                for level, each in enumerate(strides)
            ],
            out_indices=tuple(range(len(strides))),
        )

    @property
    def cut(self) -> nn.Conv2d:
        """The convolution that cuts the image into patches."""
        return self.model.patch_embed.proj

    def tokens(self, x_BCHW: Tensor) -> Tensor:
        """Return the last block's patch tokens as a map, without class and register tokens.

        Args:
            x_BCHW: normalized images; zeros are added on the right and below up to whole patches.

        Returns:
            [B, C, ceil(H / patch), ceil(W / patch)].
        """
        height, width = x_BCHW.shape[2:]
        right, below = -width % self.patch, -height % self.patch
        if right or below:
            x_BCHW = F.pad(x_BCHW, (0, right, 0, below))
        return self.model.forward_intermediates(x_BCHW, indices=1, norm=True, intermediates_only=True)[0]

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return maps [B, C, H / stride, W / stride], finest first; the coarsest stride divides both sides."""
        map_BCHW = self.tokens(x_BCHW)
        if self.patch in _RESAMPLED:
            map_BCHW = resample(map_BCHW, self.patch, _TARGET)
        return [branch(map_BCHW) for branch in self.pyramid]


def resample(map_BCHW: Tensor, stride: int, target: int) -> Tensor:
    """Read a map bilinearly at the centers of the cells of a coarser stride, both counted from the upper left corner.

    Args:
        map_BCHW: one value per cell of `stride` pixels.
        stride, target: pixels; `target` is less than twice `stride`.

    Returns:
        [B, C, H', W'], as many whole cells of `target` pixels as the map covers.
    """
    # The exact factor, not that of the two sizes: the map may reach beyond the last whole cell.
    return F.interpolate(
        map_BCHW, scale_factor=stride / target, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of 2 x 2 at stride 2, computed as what it is: a linear map of each cell to four.

    The matrix product is quicker on a CPU than the general kernel, and its output has the channels last.

    Args:
        width, channels: channels of the input and of the output.
    """

    def __init__(self, width: int, channels: int):
        super().__init__(width, channels, 2, stride=2)

    def forward(self, x_BCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return [B, channels, 2 H, 2 W]."""
        batch, _, height, width = x_BCHW.shape
        weight_CN = self.weight.permute(0, 2, 3, 1).flatten(1)  # N: row and column in the four, channel
        cells_BHWN = x_BCHW.permute(0, 2, 3, 1) @ weight_CN
        cells = cells_BHWN.view(batch, height, width, 2, 2, -1).transpose(2, 3)
        y_BHWC = cells.reshape(batch, 2 * height, 2 * width, -1)
        return (y_BHWC if self.bias is None else y_BHWC + self.bias).permute(0, 3, 1, 2)


def _branch(width: int, channels: int, stride: int, target: int) -> nn.Sequential:
    """Build what turns a map of `width` channels at one stride into one of `channels` at another, powers of 2 apart."""
    layers: list[nn.Module] = []
    while stride > target:
        if layers:
            layers += [LayerNorm2d(width), nn.GELU()]
        layers.append(Doubling(width, width // 2))
        width, stride = width // 2, stride // 2
    if stride < target:
        layers.append(nn.MaxPool2d(target // stride))
    layers += [
        nn.Conv2d(width, channels, 1, bias=False), LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels),
    ]  # fmt: skip
    return nn.Sequential(*layers)
