import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hcmoco.tasks.densepose.heads import NUM_CLASSES, ChartMaps
from hcmoco.tasks.densepose.losses import chart_losses, sample_maps


def _maps(regions: int, side: int, seed: int = 0) -> ChartMaps:
    generator = torch.Generator().manual_seed(seed)
    return ChartMaps(
        *(
            torch.randn(regions, channels, side, side, generator=generator).requires_grad_()
            for channels in (2, NUM_CLASSES, 24, 24)
        )
    )


def _read(map_SS: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Bilinear, from its definition: cell j's center is at (j + 0.5) / S."""
    side = len(map_SS)
    x, y = (float(np.clip(float(each) * side - 0.5, 0, side - 1)) for each in place)
    column, row = int(min(x, side - 2)), int(min(y, side - 2))
    a, b = x - column, y - row
    top = (1 - a) * map_SS[row, column] + a * map_SS[row, column + 1]
    bottom = (1 - a) * map_SS[row + 1, column] + a * map_SS[row + 1, column + 1]
    return (1 - b) * top + b * bottom


def test_maps_are_read_at_their_cells_and_between_them():
    maps = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    places = torch.tensor([[[0.5, 0.1], [0.3, 0.9], [0.0, 0.0], [0.44, 0.61]]])
    found = sample_maps(maps, places)
    torch.testing.assert_close(found[0, :, :3], torch.stack([maps[0, :, 0, 2], maps[0, :, 4, 1], maps[0, :, 0, 0]], 1))
    torch.testing.assert_close(found[0, 1, 3], _read(maps[0, 1], places[0, 3]))


def _problem():
    maps = _maps(3, 8)
    rng = torch.Generator().manual_seed(5)
    foreground = torch.randint(0, 2, (3, 8, 8), generator=rng)
    has_mask = torch.tensor([True, False, True])
    places = torch.rand(3, 20, 2, generator=rng) * 1.3 - 0.1
    charts = torch.randint(1, 25, (3, 20, 1), generator=rng)
    points = torch.cat([charts, torch.rand(3, 20, 2, generator=rng)], -1)
    has_point = torch.rand(3, 20, generator=rng) < 0.8
    has_point[2] = False
    return maps, foreground, has_mask, places, points, has_point


def test_losses_equal_loops_over_cells_and_points():
    maps, foreground, has_mask, places, points, has_point = _problem()
    terms = chart_losses(maps, foreground, has_mask, places, points, has_point, images=2)
    coarse, part, uv = [], [], []
    for region in range(3):
        if has_mask[region]:
            for row in range(8):
                for column in range(8):
                    coarse.append(-maps.coarse[region, :, row, column].log_softmax(0)[foreground[region, row, column]])
        for number in range(20):
            place, (chart, u, v) = places[region, number], points[region, number]
            if has_point[region, number] and (place >= 0).all() and (place <= 1).all():
                logits = torch.stack([_read(each, place) for each in maps.fine[region]])
                part.append(-logits.log_softmax(0)[int(chart)])
                for coordinate, each in ((u, maps.u), (v, maps.v)):
                    off = (_read(each[region, int(chart) - 1], place) - coordinate).abs()
                    uv.append(0.5 * off**2 if off < 1 else off - 0.5)
    assert 10 < len(part) < has_point.sum()
    torch.testing.assert_close(terms["coarse"], torch.stack(coarse).mean())
    torch.testing.assert_close(terms["part"], torch.stack(part).mean())
    torch.testing.assert_close(terms["uv"], torch.stack(uv).sum() / 2)


def test_what_is_not_annotated_has_no_gradient():
    maps, foreground, has_mask, places, points, has_point = _problem()
    sum(chart_losses(maps, foreground, has_mask, places, points, has_point, images=2).values()).backward()
    assert maps.coarse.grad[0].abs().sum() > 0
    assert not maps.coarse.grad[1].any()
    for each in (maps.fine, maps.u, maps.v):
        assert each.grad[0].abs().sum() > 0
        assert not each.grad[2].any()
    charts = {int(chart) for chart, valid in zip(points[0, :, 0], has_point[0], strict=True) if valid}
    assert set(maps.u.grad[0].flatten(1).any(1).nonzero()[:, 0].tolist()) <= {chart - 1 for chart in charts}


@pytest.mark.parametrize("regions", [0, 2])
def test_nothing_annotated_is_zero_not_nan(regions):
    maps = _maps(regions, 8)
    points, no_points = torch.zeros(regions, 4, 3), torch.zeros(regions, 4, dtype=torch.bool)
    places = torch.full((regions, 4, 2), float("nan"))
    nowhere = torch.zeros(regions, 8, 8, dtype=torch.long)
    terms = chart_losses(maps, nowhere, torch.zeros(regions, dtype=torch.bool), places, points, no_points, images=1)
    assert [float(each.detach()) for each in terms.values()] == [0, 0, 0]
    sum(terms.values()).backward()
    for each in (maps.coarse, maps.fine, maps.u, maps.v):
        assert not each.grad.any()


def test_points_beyond_the_region_do_not_count():
    maps = _maps(1, 8)
    points = torch.tensor([[[3, 0.5, 0.5], [3, 0.5, 0.5]]])
    places = torch.tensor([[[0.5, 0.5], [1.01, 0.5]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    arguments = maps, torch.zeros(1, 8, 8, dtype=torch.long), torch.ones(1, dtype=torch.bool), places, points
    first = torch.tensor([[True, False]])
    inside, all_of_them = (chart_losses(*arguments, each, images=1) for each in (first, both))
    for name in inside:
        assert torch.equal(inside[name], all_of_them[name])
    torch.testing.assert_close(
        inside["part"], F.cross_entropy(sample_maps(maps.fine, places)[:, :, 0], torch.tensor([3]))
    )
