"""PointNet++ with multi-scale grouping: the network, with the published layers, radii and names of weights.

Source: Qi, Yi, Su and Guibas, "PointNet++" (NeurIPS 2017), sections 3.2 to 3.4, in the form that HCMoCo takes as its
second depth encoder (CVPR 2022, section 4.1).

Four levels of abstraction keep all points, a quarter, a sixteenth and a 64th; each reads balls of two radii around the
points that it keeps. Four levels of propagation bring the features back to all points.

The first layer of a ball reads offsets from its center and features of its points. It is linear, so it is applied to
points and to centers before they are grouped, and the results are subtracted: a sixteenth to a 32nd of the arithmetic.
Places are float32 (or wider) throughout, since bfloat16 has steps of millimeters at a meter.

Shape suffixes: B rows, N points of a level, M points of the next one, K points of a ball, C channels, 3 is x, y, z.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.models.points.neighbors import ball_query, farthest_point_order, interpolate, take, three_nearest


class Abstraction(NamedTuple):
    """One level of abstraction.

    Attributes:
        radii: of the two balls, meters.
        widths: channels of the two layers, for each ball.
    """

    radii: tuple[float, float]
    widths: tuple[tuple[int, int], tuple[int, int]]


LEVELS = (
    Abstraction((0.025, 0.125), ((16, 32), (32, 64))),
    Abstraction((0.125, 0.25), ((64, 128), (64, 128))),
    Abstraction((0.25, 0.5), ((128, 256), (128, 256))),
    Abstraction((0.5, 1.0), ((256, 512), (256, 512))),
)
BALL_POINTS = (16, 32)
"""Points that are read of a level's smaller and larger ball."""
REDUCTION = 4
"""Points of a level by points of the next one."""
PROPAGATION = ((128, 128), (256, 256), (512, 512), (512, 512))
"""Channels of the two layers of each propagation, finest first."""
WIDTH = PROPAGATION[0][-1]


class _Layer(nn.Module):
    """A linear map without bias, batch norm and ReLU, of [B, M, K, C]. Weights have the shape of a 1 x 1 convolution,
    as published."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.bn = nn.ModuleDict({"bn": nn.BatchNorm2d(width)})

    @property
    def weight(self) -> Tensor:
        return self.conv.weight[:, :, 0, 0]

    def forward(self, x_BMKC: Tensor) -> Tensor:
        return self.norm(F.linear(x_BMKC, self.weight))

    def norm(self, x_BMKC: Tensor) -> Tensor:
        return F.relu_(self.bn["bn"](x_BMKC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class _Layers(nn.Module):
    """Two layers, one after the other; their users apply the first one's linear map themselves."""

    def __init__(self, channels: int, widths: tuple[int, int]):
        super().__init__()
        self.layer0 = _Layer(channels, widths[0])
        self.layer1 = _Layer(widths[0], widths[1])


class SetAbstraction(nn.Module):
    """Read balls around centers, and keep the largest value of each channel.

    Args:
        level: radii and widths.
        channels: of the points' features; 0: they have none.
    """

    def __init__(self, level: Abstraction, channels: int):
        super().__init__()
        self.radii = level.radii
        self.mlps = nn.ModuleList([_Layers(3 + channels, widths) for widths in level.widths])
        self.width = sum(widths[-1] for widths in level.widths)

    def forward(self, points_BN3: Tensor, features_BNC: Tensor | None, centers_BM3: Tensor) -> Tensor:
        """Return [B, M, C'] of the centers, which are among the points."""
        found = ball_query(points_BN3, centers_BM3, self.radii, BALL_POINTS)
        scales = []
        for index_BMK, layers in zip(found, self.mlps, strict=True):
            assert isinstance(layers, _Layers)
            first, second = layers.layer0, layers.layer1
            of_points_BNC = _map_places(first.weight[:, :3], points_BN3)
            of_centers_BMC = _map_places(first.weight[:, :3], centers_BM3)
            if features_BNC is not None:
                of_points_BNC = of_points_BNC + F.linear(features_BNC, first.weight[:, 3:])
            grouped_BMKC = _as_autocast(_group(of_points_BNC, index_BMK) - of_centers_BMC[:, :, None])
            scales.append(second(first.norm(grouped_BMKC)).max(2).values)
        return torch.cat(scales, 2)


def _map_places(weight_C3: Tensor, places_BN3: Tensor) -> Tensor:
    """[B, N, C]: without a matrix product, which is of few digits under autocast and in TF32."""
    return (places_BN3[:, :, None] * weight_C3.to(places_BN3.dtype)).sum(3)


def _as_autocast(x: Tensor) -> Tensor:
    """The tensor in the type that linear layers compute in; what follows has no small differences any more."""
    kind = x.device.type
    under = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if under else x


def _group(values_BNC: Tensor, index_BMK: Tensor) -> Tensor:
    """[B, M, K, C]: values at numbers of points."""
    batch, num_points, channels = values_BNC.shape
    first_B11 = torch.arange(batch, device=values_BNC.device)[:, None, None] * num_points
    return F.embedding(index_BMK + first_B11, values_BNC.reshape(-1, channels))


class FeaturePropagation(nn.Module):
    """Interpolate the features of few points at many, beside what these had.

    Args:
        coarse: channels of the few points.
        fine: channels of the many; 0: they have none.
        widths: of the layers.
    """

    def __init__(self, coarse: int, fine: int, widths: tuple[int, int]):
        super().__init__()
        self.coarse = coarse
        self.mlp = _Layers(coarse + fine, widths)

    def forward(self, many_BN3: Tensor, features_BNC: Tensor | None, few_BM3: Tensor, coarse_BMC: Tensor) -> Tensor:
        """Return [B, N, C'] of the many points."""
        first, second = self.mlp.layer0, self.mlp.layer1
        # The first layer is linear, and so is the interpolation: the layer is applied where there are fewer points.
        x_BNC = F.linear(coarse_BMC, first.weight[:, : self.coarse])
        # Where all points were kept, each one's nearest is itself, at a distance of 0.
        if few_BM3.shape[1] != many_BN3.shape[1]:
            x_BNC = interpolate(x_BNC, *three_nearest(few_BM3, many_BN3))
        if features_BNC is not None:
            x_BNC = x_BNC + F.linear(features_BNC, first.weight[:, self.coarse :])
        return second(first.norm(x_BNC[:, :, None]))[:, :, 0]


class PointNet2MSG(nn.Module):
    """Points to a feature of each. 2,674,992 parameters; names and shapes of the state are the published ones."""

    def __init__(self) -> None:
        super().__init__()
        widths, self.SA_modules = [0], nn.ModuleList()
        for level in LEVELS:
            self.SA_modules.append(abstraction := SetAbstraction(level, widths[-1]))
            widths.append(abstraction.width)
        coarse = [*(each[-1] for each in PROPAGATION[1:]), widths[-1]]
        self.FP_modules = nn.ModuleList(
            [FeaturePropagation(*each) for each in zip(coarse, widths, PROPAGATION, strict=False)]
        )

    def forward(self, points_BN3: Tensor) -> Tensor:
        """Compute features of points; the order of the points only orders the result.

        Args:
            points_BN3: meters; N is at least 256 and a multiple of 64. Float32 or float64.

        Returns:
            [B, N, 128], in the order of the points.
        """
        order_BN = farthest_point_order(points_BN3, points_BN3.shape[1] // REDUCTION)
        sorted_BN3 = take(points_BN3, order_BN)
        # A prefix of the order is a farthest point sample: the levels need no other search.
        places: list[Tensor] = [sorted_BN3]
        features: list[Tensor | None] = [None]
        for number, abstraction in enumerate(self.SA_modules):
            kept = sorted_BN3.shape[1] // REDUCTION**number
            centers_BM3 = sorted_BN3[:, :kept].contiguous()
            features.append(abstraction(places[-1], features[-1], centers_BM3))
            places.append(centers_BM3)
        x_BMC = features[-1]
        assert x_BMC is not None
        for number in reversed(range(len(self.FP_modules))):
            x_BMC = self.FP_modules[number](places[number], features[number], places[number + 1], x_BMC)
        return take(x_BMC, order_BN.argsort(1))
