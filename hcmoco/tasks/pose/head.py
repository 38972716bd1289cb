"""The network: an encoder's pyramid, merged at stride 4, and three convolutional branches over a grid of anchors.

Shape suffixes: B batch, C channels, J joints, A anchors of a cell, H and W rows and columns, N = A * H * W anchors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.models.encoders import Encoder
from hcmoco.models.mappers import BranchMapper
from hcmoco.tasks.pose.anchors import Joints, anchor_positions, weighted_joints
from hcmoco.tasks.pose.config import STRIDE, HeadConfig


class PoseHead(nn.Module):
    """Maps the pyramid to joints. Branches: responses (J * A channels), offsets in pixels (2 * J * A), depths (J * A).

    Args:
        channels: of the pyramid's maps, finest first.
        joints: J.
        size: side of the input, pixels.
        config: of the branches.
    """

    anchors_N2: Tensor

    def __init__(self, channels: tuple[int, ...], joints: int, size: int, config: HeadConfig):
        super().__init__()
        self.joints = joints
        width = sum(channels) if config.reduce is None else config.reduce
        self.reduce = None if config.reduce is None else BranchMapper(channels, config.reduce)
        self.reduced = None if config.reduce is None else nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        anchors = joints * len(config.anchor_offsets) ** 2
        self.response, self.offset, self.depth = (_branch(width, config, outputs * anchors) for outputs in (1, 2, 1))
        grid = size // STRIDE
        self.register_buffer("anchors_N2", anchor_positions(grid, grid, config.anchor_offsets), persistent=False)

    def forward(self, maps: list[Tensor]) -> Joints:
        merged_BCHW = self._merge(maps)
        batch = merged_BCHW.shape[0]  # not len(), which an export takes for a constant
        return weighted_joints(
            self.response(merged_BCHW).reshape(batch, self.joints, -1),
            self.offset(merged_BCHW).reshape(batch, 2, self.joints, -1),
            self.depth(merged_BCHW).reshape(batch, self.joints, -1),
            self.anchors_N2,
        )

    def _merge(self, maps: list[Tensor]) -> Tensor:
        if self.reduce is not None and self.reduced is not None:
            return self.reduced(self.reduce.full(maps))
        size = maps[0].shape[2:]
        return torch.cat(
            [maps[0], *(F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps[1:])], 1
        )


def _branch(width: int, config: HeadConfig, outputs: int) -> nn.Sequential:
    """Convolutions drawn from Xavier's normal distribution, biases 0, as published."""
    layers: list[nn.Module] = []
    for _ in range(config.num_convolutions):
        layers += [
            nn.Conv2d(width, config.channels, 3, padding=1),
            nn.BatchNorm2d(config.channels),
            nn.ReLU(inplace=True),
        ]
        width = config.channels
    layers.append(nn.Conv2d(width, outputs, 3, padding=1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class PoseModel(nn.Module):
    """Encoder and head: normalized depth [B, C, S, S] to `Joints`."""

    def __init__(self, encoder: Encoder, joints: int, size: int, config: HeadConfig):
        super().__init__()
        self.encoder = encoder
        self.head = PoseHead(encoder.channels, joints, size, config)

    def forward(self, depth_BCSS: Tensor) -> Joints:
        return self.head(self.encoder(depth_BCSS))
