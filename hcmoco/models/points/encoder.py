"""The depth encoder that reads points instead of a picture, beside the encoders of `hcmoco.models.encoders`.

Shape suffixes: B rows, S side of the crop in pixels, N points, C channels, H and W rows and columns at stride 4, P
places; 3 is x, y, z in meters, 2 is x, y in pixels of the crop, 23 a row's rays (see hcmoco.data.points).
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hcmoco.data.schema import MAP_STRIDE
from hcmoco.errors import UserError
from hcmoco.models.points.neighbors import interpolate, nearest, take, three_nearest
from hcmoco.models.points.pointnet2 import WIDTH, PointNet2MSG
from hcmoco.models.pretrained import WeightsReport, load_weights

if TYPE_CHECKING:
    from hcmoco.models.encoders import EncoderConfig

_SCRATCH = "scratch"


class PointCloud(NamedTuple):
    """What the encoder takes.

    Attributes:
        points_BN3: float32, from the mean of the row's points.
        pixels_BN2: float32, where in the crop they are.
        cells_BHW4: float32, x, y, z of the reading in the middle of each stride-4 cell, and 1; all 0 where it has none.
        mean_B3: float32, the mean that was taken off, in the frame of hcmoco.data.points.
    """

    points_BN3: Tensor
    pixels_BN2: Tensor
    cells_BHW4: Tensor
    mean_B3: Tensor

    @property
    def read(self) -> Tensor:
        """bool [B, H, W]: the cells with a reading in their middle."""
        return self.cells_BHW4[..., 3] > 0

    def blank(self) -> "PointCloud":
        """Return one row of zeros, of the same number of points."""
        return PointCloud(*(each.new_zeros((1, *each.shape[1:])) for each in self))


def make_cloud(depth_BSS: Tensor, points_BN: Tensor, rays_B23: Tensor, *, stride: int = MAP_STRIDE) -> PointCloud:
    """Turn depth into points in the camera's frame, from the mean of each row's points.

    The mean is taken off all three axes, so a person who stands elsewhere has the same points. Meters stay meters: the
    network's radii are meters, and a child is not an adult far away.

    Args:
        depth_BSS: uint16, millimeters along the optical axis, 0 = no reading.
        points_BN: int64, the pixels that were drawn as points, row * S + column; below 0 in rows without depth, whose
            points all become 0.
        rays_B23: float32, of the crop.
        stride: pixels a side of a cell.
    """
    batch, side = len(depth_BSS), depth_BSS.shape[-1]
    # 16-bit unsigned tensors have hardly any operations.
    z_BSS = depth_BSS.to(torch.int32) * 1e-3
    index_BN = points_BN.clamp(min=0)
    z_BN = z_BSS.flatten(1).gather(1, index_BN)
    pixels_BN2 = torch.stack([index_BN % side, index_BN // side], -1) + 0.5
    points_BN3 = _unproject(pixels_BN2, z_BN, rays_B23)
    middle = slice(stride // 2, None, stride)
    z_BHW = z_BSS[:, middle, middle]
    at_H = torch.arange(side, device=depth_BSS.device)[middle] + 0.5
    cells_HW2 = torch.stack(torch.meshgrid(at_H, at_H, indexing="ij")[::-1], -1)
    cells_BHW3 = _unproject(cells_HW2.expand(batch, -1, -1, -1), z_BHW, rays_B23[:, None])
    mean_B13 = points_BN3.mean(1, keepdim=True)
    read_BHW1 = (z_BHW > 0)[..., None]
    cells_BHW4 = torch.cat([(cells_BHW3 - mean_B13[:, None]).where(read_BHW1, 0), read_BHW1.to(cells_BHW3.dtype)], -1)
    return PointCloud(points_BN3 - mean_B13, pixels_BN2, cells_BHW4, mean_B13[:, 0])


def _unproject(pixels_BP2: Tensor, z_BP: Tensor, rays_B23: Tensor) -> Tensor:
    """[B, P, 3]; without matrix products, which are of few digits under autocast and in TF32."""
    columns_3B12 = rays_B23[..., None, :, :].unbind(-1)
    slope_BP2 = columns_3B12[0] * pixels_BP2[..., :1] + columns_3B12[1] * pixels_BP2[..., 1:] + columns_3B12[2]
    return torch.cat([slope_BP2, torch.ones_like(slope_BP2[..., :1])], -1) * z_BP[..., None]


class PointEncoder(nn.Module):
    """Points to features, as a pyramid of one map whose "cells" are the points.

    Attributes:
        trunk: the network; its state has the published names.
        channels, strides: of what stands for a map, see `features_on_cells`.
        report: what a weights file gave, None without one.
    """

    def __init__(self, config: "EncoderConfig", report: WeightsReport | None = None):
        super().__init__()
        self.trunk = PointNet2MSG()
        self.config = config
        self.report = report
        self.channels = (WIDTH,)
        self.strides = (MAP_STRIDE,)
        self.channels_last = False

    def check_size(self, height: int, width: int) -> None:
        """UserError if a crop of so many pixels cannot have as many points."""
        wanted = self.config.points_at(height)
        if wanted > height * width:
            raise UserError(
                f"args.num_points = {wanted}: a crop of {height} x {width} pixels has {height * width} at most; "
                "lower it, or leave it out"
            )

    def forward(self, cloud: PointCloud) -> list[Tensor]:
        """Compute features.

        Returns:
            The features [B, C, N, 1], then the tensors of the cloud, which say where they are.
        """
        features_BNC = self.trunk(cloud.points_BN3)
        return [features_BNC.mT[..., None], *cloud]


def build_point_encoder(config: "EncoderConfig", weights: str) -> PointEncoder:
    """Build the encoder with its initial weights: torch's generator, or a file under the published names.

    Args:
        config: with `is_points`.
        weights: file with them, or "scratch".

    Raises:
        UserError: weights that cannot be read or do not fit.
    """
    if weights == "timm":
        raise UserError(f"encoder {config.name}: timm publishes no weights for it; give a weights file, or scratch")
    encoder = PointEncoder(config)
    if config.batch_norm_momentum is not None:
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = config.batch_norm_momentum
    if weights != _SCRATCH:
        encoder.report = load_weights(encoder.trunk, weights, name=config.name)
    return encoder


def nearest_points(features: list[Tensor], places_BP2: Tensor) -> Tensor:
    """Return int64 [B, P]: the number of the point that is nearest to each place, in pixels of the crop.

    Args:
        features: of `PointEncoder`.
        places_BP2: x, y; a place that is not finite gives any point.
    """
    pixels_BN2 = PointCloud(*features[1:]).pixels_BN2
    return nearest(pixels_BN2, places_BP2.to(pixels_BN2.dtype).nan_to_num())


def values_on_cells(values_BNC: Tensor, cloud: PointCloud) -> Tensor:
    """Return [B, H, W, C]: at each cell the values of the three points that are nearest to its reading in space, by the
    inverse of their distance. Cells without a reading hold anything; `read_cells` tells them apart."""
    batch, height, width, _ = cloud.cells_BHW4.shape
    places_BP3 = cloud.cells_BHW4.flatten(1, 2)[..., :3].contiguous()
    return interpolate(values_BNC, *three_nearest(cloud.points_BN3, places_BP3)).view(batch, height, width, -1)


def features_on_cells(features: list[Tensor]) -> Tensor:
    """Bring features from points to the stride-4 cells of the crop.

    A cell with a reading takes those of the three points that are nearest to it in space. One without takes those of
    the point that is nearest in the picture; `read_cells` tells them apart.

    Args:
        features: of `PointEncoder`.

    Returns:
        [B, C, H, W].
    """
    of_points_BCN1, *rest = features
    cloud = PointCloud(*rest)
    values_BNC = of_points_BCN1[..., 0].mT
    batch, height, width, _ = cloud.cells_BHW4.shape
    cell_P = torch.arange(height * width, device=values_BNC.device)
    centers_P2 = MAP_STRIDE * (torch.stack([cell_P % width, cell_P // width], -1) + 0.5)
    in_picture_BP = nearest_points(features, centers_P2.expand(batch, -1, -1))
    beside_BHWC = take(values_BNC, in_picture_BP).view(batch, height, width, -1)
    on_cells_BHWC = values_on_cells(values_BNC, cloud).where(cloud.read[..., None], beside_BHWC)
    return on_cells_BHWC.permute(0, 3, 1, 2)


def read_cells(features: list[Tensor]) -> Tensor:
    """Return bool [B, H, W]: the stride-4 cells with a depth reading in their middle."""
    return PointCloud(*features[1:]).read
