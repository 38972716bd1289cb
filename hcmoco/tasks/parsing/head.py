"""The published parsing head: the pyramid's maps concatenated at the finest grid, then two 1 x 1 convolutions.

Shape suffixes: B batch, C channels, K classes, H and W rows and columns of the finest map, S side of the input, L side
of the labels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.data.body_parts import PART_NAMES
from hcmoco.data.schema import MAP_STRIDE
from hcmoco.models.encoders import Encoder
from hcmoco.models.normalization import normalize_depth, normalize_rgb


class ParsingHead(nn.Module):
    """Concatenated maps -> 1 x 1 convolution, batch norm, ReLU -> 1 x 1 convolution.

    The first convolution is linear and acts on single cells, so it commutes with the bilinear upsampling of the coarse
    maps. Each map is convolved at its own size, and the results are upsampled and added: an eighth of the arithmetic,
    equal up to rounding.

    Args:
        channels: of each map, finest first; the hidden layer has their sum.
        classes: K.
        std: standard deviation of the initial weights, which are normal; None for PyTorch's own initialization.
    """

    def __init__(self, channels: Sequence[int], classes: int = len(PART_NAMES), std: float | None = None):
        super().__init__()
        self.channels = tuple(channels)
        width = sum(channels)
        self.merge = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.classify = nn.Conv2d(width, classes, 1)
        if std is not None:
            for convolution in (self.merge, self.classify):
                nn.init.normal_(convolution.weight, std=std)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits [B, K, H, W] of maps [B, C_i, H_i, W_i], finest first."""
        slices = self.merge.weight.split(self.channels, 1)
        total_BCHW = F.conv2d(maps[0], slices[0], self.merge.bias)
        for map_BCHW, weight in zip(maps[1:], slices[1:], strict=True):
            coarse_BCHW = F.conv2d(map_BCHW, weight)
            total_BCHW = total_BCHW + F.interpolate(
                coarse_BCHW, size=maps[0].shape[2:], mode="bilinear", align_corners=False
            )
        return self.classify(F.relu(self.norm(total_BCHW)))


class ParsingModel(nn.Module):
    """Encoder and head, from stored pixels to logits at stride 4.

    Args:
        encoder: of the modality.
        modality: of the pixels.
        std: see `ParsingHead`.
        classes: K.
    """

    def __init__(
        self,
        encoder: Encoder,
        modality: Literal["rgb", "depth"],
        std: float | None = None,
        classes: int = len(PART_NAMES),
    ):
        super().__init__()
        self.encoder = encoder
        self.head = ParsingHead(encoder.channels, classes, std)
        self.modality = modality

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of images of S x S pixels.

        A side that the encoder's coarsest stride does not divide (the published 473) is padded at the right and at the
        bottom, with the mean color or with 'no reading'. `resize_logits` crops the padding.

        Args:
            image: uint8 [B, S, S, 3], RGB, or uint16 [B, S, S], millimeters.
        Returns:
            Logits [B, K, H, W]; H and W are S / 4, rounded up, and more where the image is padded.
        """
        x_B3SS = (
            normalize_rgb(image) if self.modality == "rgb" else normalize_depth(image, self.encoder.config.in_chans)
        )
        room = -x_B3SS.shape[-1] % self.encoder.strides[-1]
        return self.head(self.encoder(F.pad(x_B3SS, (0, room, 0, room)) if room else x_B3SS))


def resize_logits(logits_BKHW: Tensor, size: int, label_size: int) -> Tensor:
    """Read logits bilinearly at the centers of the L x L pixels of a label map of the same image.

    Args:
        logits_BKHW: of an input of `size` pixels; may cover padding at the right and at the bottom.
        size: S, pixels.
        label_size: L, pixels.
    Returns:
        float32 [B, K, L, L].
    """
    logits_BKHW = logits_BKHW.float()
    if logits_BKHW.shape[-1] * MAP_STRIDE == size:
        return F.interpolate(logits_BKHW, size=(label_size, label_size), mode="bilinear", align_corners=False)
    # The map is wider than the image; its padding ends up beyond L.
    zoom = MAP_STRIDE * label_size / size
    return F.interpolate(logits_BKHW, scale_factor=zoom, mode="bilinear", align_corners=False)[
        ..., :label_size, :label_size
    ]


def mean_with_mirror(logits_BKLL: Tensor, mirrored_BKLL: Tensor, flip_K: Tensor) -> Tensor:
    """Average the logits of an image with those of its mirror image, mirrored back.

    Args:
        logits_BKLL, mirrored_BKLL: of the image and of its mirror image.
        flip_K: int64, the class that each class becomes in a mirror image.
    Returns:
        [B, K, L, L].
    """
    return (logits_BKLL + torch.flip(mirrored_BKLL, (-1,)).index_select(1, flip_K)) / 2
