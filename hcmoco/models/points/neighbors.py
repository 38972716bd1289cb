"""Neighbors among points, in plain PyTorch: farthest points, points in a ball, three nearest points.

Distances are computed for a few query points at a time, so memory grows with the number of points and not with its
square. Nothing here waits for a GPU, and nothing has a gradient: neighbors are choices.

Shape suffixes: B rows, N points that are searched, M points that are asked for, K neighbors of each, 3 is x, y, z.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Distances that exist at once, in all rows together: 4 MB, which a core's cache holds.
_MAX_DISTANCES = 1 << 20
# Hits are packed into bytes; tables have an entry for every byte.
_BITS = 8
_PACK = 0x0102040810204080


@torch.no_grad()
def farthest_point_order(points_BN3: Tensor, count: int) -> Tensor:
    """Sort points so that the first ones are spread evenly over the cloud.

    Farthest point sampling: each of the first `count` points is the one that is farthest from all before it. The first
    is the one farthest from the mean. (The published code begins with the point that happens to be number 0.) The rest
    follows by falling distance from the chosen. So the order is one of places: it does not depend on the order of the
    input, and every prefix of up to `count` points is itself a farthest point sample.

    Args:
        points_BN3: meters, or any other unit.
        count: points to choose, 1 to N.

    Returns:
        int64 [B, N], a permutation of each row's points.
    """
    axes_3BN = points_BN3.permute(2, 0, 1).contiguous()
    largest = torch.finfo(points_BN3.dtype).max
    near_BN = (axes_3BN - axes_3BN.mean(2, keepdim=True)).square_().sum(0)
    chosen: list[Tensor] = []
    for step in range(count):
        farthest_B1 = near_BN.argmax(1, keepdim=True)
        chosen.append(farthest_B1)
        place_3B1 = axes_3BN.gather(2, farthest_B1.expand(3, -1, -1))
        squared_BN = (axes_3BN - place_3B1).square_().sum(0)
        near_BN = squared_BN if step == 0 else torch.minimum(near_BN, squared_BN)
    # One sort puts the chosen first, in their order: their keys lie above every distance.
    rank_C = torch.arange(2, count + 2, device=points_BN3.device, dtype=points_BN3.dtype)
    near_BN.scatter_(1, torch.cat(chosen, 1), (largest / rank_C).expand(len(points_BN3), -1))
    return near_BN.argsort(dim=1, descending=True, stable=True)


def take(values_BNC: Tensor, index_BM: Tensor) -> Tensor:
    """Return [B, M, C]: of each row the values at some of its points."""
    return values_BNC.gather(1, index_BM[..., None].expand(-1, -1, values_BNC.shape[2]))


@torch.no_grad()
def ball_query(points_BN3: Tensor, centers_BM3: Tensor, radii: Sequence[float], counts: Sequence[int]) -> list[Tensor]:
    """Find the points in balls around some centers, in the published way.

    Of a ball that holds more than K points, the first K in the order of `points_BN3` are taken. One that holds fewer is
    filled up with its first point, one that holds none with point 0.

    Args:
        points_BN3, centers_BM3: in the unit of the radii.
        radii: of the balls; a point is inside if its distance is less.
        counts: K of each radius.

    Returns:
        For each radius int64 [B, M, K], numbers of points.
    """
    found: list[list[Tensor]] = [[] for _ in radii]
    for part in _parts(len(points_BN3), points_BN3.shape[1], centers_BM3.shape[1]):
        distance_BmN = _distances(centers_BM3[:, part], points_BN3)
        for index, radius, count in zip(found, radii, counts, strict=True):
            index.append(_first_hits(distance_BmN < radius, count))
    return [torch.cat(each, 1) for each in found]


def _first_hits(hit_BMN: Tensor, count: int) -> Tensor:
    """int64 [B, M, count]: places of the first True along the last axis, then the first one again, or 0.

    Rank and select on packed bits, which touches every hit once. (A running count of the hits, or sorting them, takes
    four times as long on a CPU.)
    """
    ones_256, place_2048 = _tables(hit_BMN.device)
    hit_BMN = F.pad(hit_BMN, (0, -hit_BMN.shape[2] % _BITS))
    # Eight bytes of 0 or 1, read as one integer: the product moves bit i of byte i to the highest byte.
    byte_BMW = (hit_BMN.contiguous().view(torch.int64) * _PACK).bitwise_right_shift_(56).bitwise_and_(255)
    through_BMW = ones_256[byte_BMW].cumsum(2, dtype=torch.int32)  # hits up to the end of each byte
    wanted_K = torch.arange(1, count + 1, device=hit_BMN.device, dtype=torch.int32)
    wanted_BMK = wanted_K.expand(*through_BMW.shape[:2], -1).contiguous()
    word_BMK = torch.searchsorted(through_BMW, wanted_BMK)
    exists_BMK = word_BMK < byte_BMW.shape[2]
    word_BMK = word_BMK.clamp(max=byte_BMW.shape[2] - 1)
    value_BMK = byte_BMW.gather(2, word_BMK)
    rank_BMK = wanted_BMK - 1 - (through_BMW.gather(2, word_BMK) - ones_256[value_BMK])
    index_BMK = word_BMK * _BITS + place_2048[value_BMK * _BITS + rank_BMK.clamp(0, _BITS - 1)]
    first_BM1 = index_BMK[..., :1].where(exists_BMK[..., :1], 0)
    return index_BMK.where(exists_BMK, first_BM1)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """int32 [2^8]: how many bits of a byte are set; int64 [2^8 * 8]: the place of its r-th set bit, at 8 * byte + r."""
    bits_256_8 = (torch.arange(1 << _BITS)[:, None] >> torch.arange(_BITS)) & 1
    place_256_8 = bits_256_8.argsort(dim=1, descending=True, stable=True)
    return bits_256_8.sum(1).int().to(device), place_256_8.flatten().to(device)


@torch.no_grad()
def three_nearest(points_BN3: Tensor, places_BM3: Tensor) -> tuple[Tensor, Tensor]:
    """Find the three points nearest to some places, and their weights in an interpolation.

    Args:
        points_BN3: at least three in each row.
        places_BM3: in the same unit.

    Returns:
        int64 [B, M, 3], numbers of points, nearest first; and their weights [B, M, 3], which sum to 1: the inverse of
        the distance plus 1e-8, as published.
    """
    index, weight = [], []
    for part in _parts(len(points_BN3), points_BN3.shape[1], places_BM3.shape[1]):
        distance_Bm3, index_Bm3 = _distances(places_BM3[:, part], points_BN3).topk(3, dim=2, largest=False)
        inverse_Bm3 = 1 / (distance_Bm3 + 1e-8)
        index.append(index_Bm3)
        weight.append(inverse_Bm3 / inverse_Bm3.sum(2, keepdim=True))
    return torch.cat(index, 1), torch.cat(weight, 1)


def interpolate(values_BNC: Tensor, index_BM3: Tensor, weight_BM3: Tensor) -> Tensor:
    """Return [B, M, C]: weighted sums of three points' values each, see `three_nearest`."""
    batch, num_points, channels = values_BNC.shape
    first_B11 = torch.arange(batch, device=values_BNC.device)[:, None, None] * num_points
    # A weighted sum of three table rows, without the three rows of every place in memory.
    summed = F.embedding_bag(
        (index_BM3 + first_B11).view(-1, 3),
        values_BNC.reshape(-1, channels),
        per_sample_weights=weight_BM3.to(values_BNC.dtype).view(-1, 3),
        mode="sum",
    )
    return summed.view(batch, -1, channels)


@torch.no_grad()
def nearest(points_BN2: Tensor, places_BM2: Tensor) -> Tensor:
    """Return int64 [B, M]: the number of the point that is nearest to each place; both of any one dimension."""
    parts = _parts(len(points_BN2), points_BN2.shape[1], places_BM2.shape[1])
    found = [_distances(places_BM2[:, part], points_BN2).argmin(2) for part in parts]
    return torch.cat(found, 1)


def _distances(places_BM3: Tensor, points_BN3: Tensor) -> Tensor:
    # The form by a matrix product loses the digits of small distances.
    return torch.cdist(places_BM3, points_BN3, compute_mode="donot_use_mm_for_euclid_dist")


def _parts(batch: int, num_points: int, places: int) -> Iterator[slice]:
    """Cut the places so that no more than `_MAX_DISTANCES` are computed at once (but those of one place always are)."""
    size = max(1, _MAX_DISTANCES // max(1, batch * num_points))
    return (slice(first, first + size) for first in range(0, max(1, places), size))
