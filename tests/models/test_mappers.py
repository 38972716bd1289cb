"""Cells read through four taps, and maps made branch by branch, are the upsampled, concatenated and mapped pyramid."""

import pytest
import torch
import torch.nn.functional as F

from hcmoco.models.mappers import BranchMapper, cells_of, sample_cells

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def pyramid(dtype=torch.float64, batch=3, height=16, width=24, channels=(3, 5, 2, 4), channels_last=True):
    generator = torch.Generator().manual_seed(7)
    maps = [
        torch.randn(batch, c, height >> i, width >> i, generator=generator, dtype=dtype) for i, c in enumerate(channels)
    ]
    memory = torch.channels_last if channels_last else torch.contiguous_format
    return [each.contiguous(memory_format=memory).requires_grad_() for each in maps]


def upsample_then_map(mapper, maps):
    """The published order: all branches at the finest grid, concatenated, one 1x1 convolution."""
    size = maps[0].shape[2:]
    merged = torch.cat([F.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps], 1)
    return F.conv2d(merged, mapper.linear.weight[..., None, None], mapper.linear.bias)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("embedding", [6, 3, 1])
def test_cells_are_those_of_the_upsampled_map(dtype, channels_last, embedding):
    """No branch is wider than the first embedding, some are wider than the second, all than the third."""
    maps = pyramid(dtype, channels_last=channels_last)
    mapper = BranchMapper([3, 5, 2, 4], embedding).to(dtype)
    expected_BDN = upsample_then_map(mapper, maps).flatten(2)
    every_cell = torch.stack([torch.randperm(16 * 24) for _ in range(3)])
    got = mapper.at(maps, every_cell)
    expected = expected_BDN.transpose(1, 2).gather(1, every_cell[..., None].expand(-1, -1, embedding))
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_full_map_is_the_upsampled_map(dtype):
    maps = pyramid(dtype)
    mapper = BranchMapper([3, 5, 2, 4], 6).to(dtype)
    torch.testing.assert_close(mapper.full(maps), upsample_then_map(mapper, maps), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("way", "embedding"), [("at", 6), ("at", 3), ("full", 6)])
def test_gradients_are_those_of_the_published_order(way, embedding):
    maps = pyramid()
    mapper = BranchMapper([3, 5, 2, 4], embedding).double()
    cells = torch.randint(0, 16 * 24, (3, 100), generator=torch.Generator().manual_seed(1))  # with repeats
    weights = torch.randn(3, 100, embedding, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [*maps, *mapper.parameters()]

    def read(map_BDHW):
        return map_BDHW.flatten(2).transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, embedding))

    got = torch.autograd.grad(
        ((mapper.at(maps, cells) if way == "at" else read(mapper.full(maps))).sin() * weights).sum(), inputs
    )
    expected = torch.autograd.grad((read(upsample_then_map(mapper, maps)).sin() * weights).sum(), inputs)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_branches_of_any_size_ratio():
    coarse = torch.randn(2, 3, 3, 5, dtype=torch.float64)
    upsampled = F.interpolate(coarse, size=(7, 9), mode="bilinear", align_corners=False)
    cells = torch.arange(63).expand(2, -1)
    torch.testing.assert_close(
        sample_cells(coarse, cells, (7, 9)), upsampled.flatten(2).transpose(1, 2), rtol=0, atol=1e-12
    )


def test_padding_reads_within_the_map_and_touches_no_other_cell():
    maps = pyramid()
    mapper = BranchMapper([3, 5, 2, 4], 6).double()
    cells = torch.tensor([[5, -1, 300], [-1, -1, -1], [0, 383, -1]])
    got = mapper.at(maps, cells)
    assert got.isfinite().all()
    torch.testing.assert_close(got[0, [0, 2]], mapper.at(maps, cells[:, [0, 2]])[0])
    assert mapper.at(maps, cells[:, :0]).shape == (3, 0, 6)
    assert mapper.at([each[:0] for each in maps], cells[:0]).shape == (0, 3, 6)


def test_pooled_is_the_map_of_the_mean_of_every_branch():
    maps = pyramid()
    mapper = BranchMapper([3, 5, 2, 4], 6).double()
    expected = torch.cat([each.flatten(2).mean(2) for each in maps], 1) @ mapper.linear.weight.T + mapper.linear.bias
    torch.testing.assert_close(mapper.pooled(maps), expected)


def test_cells_of_positions():
    positions = torch.tensor([[[0.0, 0.0], [3.99, 4.0], [95.9, 63.9], [96.0, -5.0], [1e9, 1e9], [float("nan"), 8.5]]])
    assert cells_of(positions, (64, 96)).tolist() == [[0, 24, 15 * 24 + 23, 23, 15 * 24 + 23, 2 * 24]]
