import numpy as np
import pytest
import torch

from hcmoco.tasks.pose.anchors import anchor_positions, weighted_joints


def test_anchors_stand_at_the_published_offsets_in_every_cell():
    anchors = anchor_positions(72, 72, (1.0, 2.0, 3.0))
    assert anchors.shape == (46656, 2)
    expected = {
        (4 * column + x, 4 * row + y) for row in range(72) for column in range(72) for x in (1, 2, 3) for y in (1, 2, 3)
    }
    assert {tuple(each) for each in anchors.tolist()} == expected


def test_anchors_come_in_the_order_of_a_maps_channels_rows_and_columns():
    anchors = anchor_positions(3, 5, (0.5, 2.5)).view(2, 2, 3, 5, 2)
    for y, x, row, column in np.ndindex(2, 2, 3, 5):
        assert anchors[y, x, row, column].tolist() == [4 * column + (0.5, 2.5)[x], 4 * row + (0.5, 2.5)[y]]


def test_one_hot_responses_pick_one_anchor_its_offset_and_its_depth():
    rng = torch.Generator().manual_seed(0)
    anchors = anchor_positions(6, 6, (1.0, 3.0))
    batch, joints, count = 2, 3, len(anchors)
    chosen = torch.randint(count, (batch, joints), generator=rng)
    response = torch.zeros(batch, joints, count).scatter_(2, chosen[..., None], 1e4)
    offset, depth = (
        torch.randn(batch, 2, joints, count, generator=rng),
        torch.randn(batch, joints, count, generator=rng),
    )
    found = weighted_joints(response, offset, depth, anchors)
    for row, joint in np.ndindex(batch, joints):
        pick = chosen[row, joint]
        assert torch.equal(found.anchor_BJ2[row, joint], anchors[pick])
        assert torch.allclose(found.xy_BJ2[row, joint], anchors[pick] + offset[row, :, joint, pick])
        assert torch.allclose(found.depth_BJ[row, joint], depth[row, joint, pick])


def test_equal_responses_give_plain_means():
    anchors = anchor_positions(4, 8, (1.0, 2.0, 3.0))
    offset, depth = torch.randn(1, 2, 2, len(anchors)), torch.randn(1, 2, len(anchors))
    found = weighted_joints(torch.full((1, 2, len(anchors)), 7.0), offset, depth, anchors)
    # The grid is centerd: its mean is the image's middle.
    torch.testing.assert_close(found.anchor_BJ2, torch.tensor([16.0, 8.0]).expand(1, 2, 2))
    torch.testing.assert_close(found.xy_BJ2, found.anchor_BJ2 + offset.mean(-1).transpose(1, 2))
    torch.testing.assert_close(found.depth_BJ, depth.mean(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_does_not_round_positions(dtype):
    rng = torch.Generator().manual_seed(0)
    anchors = anchor_positions(72, 72, (1.0, 2.0, 3.0))
    maps = [
        torch.randn(shape, generator=rng).to(dtype)
        for shape in [(1, 2, len(anchors)), (1, 2, 2, len(anchors)), (1, 2, len(anchors))]
    ]
    with torch.autocast("cpu", torch.bfloat16):
        found = weighted_joints(*maps, anchors)
    exact = weighted_joints(*(each.double() for each in maps), anchors.double())
    assert found.xy_BJ2.dtype == torch.float32
    torch.testing.assert_close(found.xy_BJ2.double(), exact.xy_BJ2, atol=5e-3, rtol=0)
    torch.testing.assert_close(found.depth_BJ.double(), exact.depth_BJ, atol=1e-4, rtol=0)


def test_gradients_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(1)
    anchors = anchor_positions(2, 3, (2.0,)).double()
    maps = [
        torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True)
        for shape in [(2, 2, 6), (2, 2, 2, 6), (2, 2, 6)]
    ]
    assert torch.autograd.gradcheck(lambda *values: tuple(weighted_joints(*values, anchors)), maps)
