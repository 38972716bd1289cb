"""Mappers from an encoder's feature pyramid to the shared embedding space: one linear layer each (paper, section 3.4).

A dense embedding is a linear map of all branches, brought to the finest branch's grid by bilinear upsampling and
concatenated. Upsampling and the linear map commute, so neither the upsampled nor the concatenated map needs to exist:
single cells are read through the four bilinear taps of each branch, whole maps are made branch by branch.

Shape suffixes: B batch, C channels, H and W rows and columns of a map, P cells, D embedding; a leading N is any
flattened B H W.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.data.schema import MAP_STRIDE

# A map of no more cells is read as a product with the rows of the upsampling's matrix, which is less work than finding
# its taps.
_FEW_CELLS = 144


def cells_of(positions: Tensor, size: tuple[int, int], stride: int = MAP_STRIDE) -> Tensor:
    """Flat cells of positions: row * (width / stride) + column of floor(position / stride), clamped into the map.

    Args:
        positions: [..., 2], x, y in pixels of the image.
        size: height and width of the image in pixels.
    Returns:
        int64 [...].
    """
    height, width = (side // stride for side in size)
    column, row = (positions / stride).floor().nan_to_num().unbind(-1)
    return row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()


def sample_cells(map_BCHW: Tensor, cells_BP: Tensor, size: tuple[int, int]) -> Tensor:
    """The values [B, P, C] that the map, upsampled bilinearly (corners not aligned) to `size`, would have at flat
    cells.

    Cells below 0 are padding; they read cell 0, and the caller masks what comes of it.
    """
    batch, channels, height, width = map_BCHW.shape
    rows, columns = size
    cells_BP = cells_BP.clamp(min=0)
    first_B1 = torch.arange(batch, device=cells_BP.device)[:, None] * (height * width)
    map_NC = map_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
    if (height, width) == (rows, columns):
        return F.embedding(cells_BP + first_B1, map_NC)
    if height * width <= _FEW_CELLS:
        weights_NM = _upsampling(size, (height, width), map_BCHW.device).to(map_BCHW.dtype)
        return F.embedding(cells_BP, weights_NM) @ map_NC.view(batch, height * width, channels)
    top, bottom, down = _taps(cells_BP // columns, rows, height, map_BCHW.dtype)
    left, right, across = _taps(cells_BP % columns, columns, width, map_BCHW.dtype)
    taps_BP4 = torch.stack([top * width + left, top * width + right, bottom * width + left, bottom * width + right], -1)
    weights_BP4 = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], -1)
    # A weighted sum of four table rows, without the four rows of every cell in memory.
    taps_BP4 = taps_BP4 + first_B1[..., None]
    sampled = F.embedding_bag(taps_BP4.view(-1, 4), map_NC, per_sample_weights=weights_BP4.view(-1, 4), mode="sum")
    return sampled.view(*cells_BP.shape, channels)


@lru_cache(maxsize=16)
def _upsampling(fine: tuple[int, int], coarse: tuple[int, int], device: torch.device) -> Tensor:
    """Bilinear upsampling as a matrix, float64 [cells of the fine map, cells of the coarse map]."""
    identity = torch.eye(coarse[0] * coarse[1], dtype=torch.float64, device=device).view(1, -1, *coarse)
    return F.interpolate(identity, size=fine, mode="bilinear", align_corners=False)[0].flatten(1).T.contiguous()


def _taps(position: Tensor, fine: int, coarse: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Of positions on an axis of `fine` cells.

    The two neighbors on the axis of `coarse` cells and the second one's weight.
    """
    source = (
        (position.to(torch.float64 if dtype == torch.float64 else torch.float32) + 0.5) * (coarse / fine) - 0.5
    ).clamp(min=0)
    lower = source.floor()
    return lower.long(), (lower.long() + 1).clamp(max=coarse - 1), (source - lower).to(dtype)


class BranchMapper(nn.Module):
    """One linear map over the concatenated branches of a feature pyramid; the mapper M_d of the paper's section 3.1
    without its norm.

    Args:
        channels: channels of each branch, finest first.
        embedding: D.
    """

    def __init__(self, channels: Sequence[int], embedding: int):
        super().__init__()
        self.channels = tuple(channels)
        self.linear = nn.Linear(sum(channels), embedding)

    def pooled(self, maps: Sequence[Tensor]) -> Tensor:
        """[B, D]: the map of the branches' means over their cells."""
        return self.linear(torch.cat([map_BCHW.mean((2, 3)) for map_BCHW in maps], 1))

    def at(self, maps: Sequence[Tensor], cells_BP: Tensor) -> Tensor:
        """[B, P, D]: the full map at flat cells of the finest grid (row * W + column; below 0 is padding, whose result
        means nothing)."""
        size = (maps[0].shape[2], maps[0].shape[3])
        slices = self.linear.weight.split(self.channels, 1)
        read: list[Tensor] = []
        weights: list[Tensor] = []
        total_BPD: Tensor = self.linear.bias
        for map_BCHW, weight_DC in zip(maps, slices, strict=True):
            # A wide branch of few cells is mapped before it is read, which is less work.
            if map_BCHW.shape[2] * map_BCHW.shape[3] < cells_BP.shape[1] and map_BCHW.shape[1] > len(weight_DC):
                mapped_BDHW = F.conv2d(map_BCHW, weight_DC[..., None, None])
                total_BPD = total_BPD + sample_cells(mapped_BDHW, cells_BP, size)
            else:
                read.append(sample_cells(map_BCHW, cells_BP, size))
                weights.append(weight_DC)
        if len(read) == len(maps):
            return self.linear(torch.cat(read, 2))
        return total_BPD + F.linear(torch.cat(read, 2), torch.cat(weights, 1)) if read else total_BPD

    def full(self, maps: Sequence[Tensor]) -> Tensor:
        """[B, D, H, W] on the finest grid.

        Each branch mapped at its own size by its slice of the weights, upsampled, added.
        """
        slices = self.linear.weight[..., None, None].split(self.channels, 1)
        total_BDHW = F.conv2d(maps[0], slices[0], self.linear.bias)
        for map_BCHW, weight_DC11 in zip(maps[1:], slices[1:], strict=True):
            mapped_BDHW = F.conv2d(map_BCHW, weight_DC11)
            total_BDHW = total_BDHW + F.interpolate(
                mapped_BDHW, size=maps[0].shape[2:], mode="bilinear", align_corners=False
            )
        return total_BDHW
