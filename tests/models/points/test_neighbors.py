"""Neighbors against brute force, point by point."""

import pytest
import torch

from hcmoco.models.points import neighbors
from hcmoco.models.points.neighbors import (
    ball_query,
    farthest_point_order,
    interpolate,
    nearest,
    take,
    three_nearest,
)


def cloud(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, count, 3, generator=generator, dtype=torch.float64)


def farthest_points(points: list[list[float]], count: int) -> list[int]:
    """Farthest point sampling from the point that is farthest from the mean, in loops."""

    def squared(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    mean = [sum(axis) / len(points) for axis in zip(*points, strict=True)]
    chosen = [max(range(len(points)), key=lambda k: squared(points[k], mean))]
    while len(chosen) < count:
        chosen.append(max(range(len(points)), key=lambda k: min(squared(points[k], points[c]) for c in chosen)))
    return chosen


def test_the_farthest_points_come_first():
    points = cloud(3, 40)
    order = farthest_point_order(points, 12)
    assert order.sort(1).values.tolist() == [list(range(40))] * 3
    for row, found in zip(points.tolist(), order.tolist(), strict=True):
        assert found[:12] == farthest_points(row, 12)
        rest = [min((points_k - points_c).norm() for points_c in torch.tensor(row)[found[:12]])
                for points_k in torch.tensor(row)[found[12:]]]  # fmt: skip
        assert rest == sorted(rest, reverse=True)


def test_the_order_is_one_of_places_not_of_numbers():
    points = cloud(2, 96)
    shuffled = torch.stack([torch.randperm(96), torch.randperm(96)])
    before = take(points, farthest_point_order(points, 24))
    moved = take(points, shuffled)
    assert torch.equal(take(moved, farthest_point_order(moved, 24)), before)


def test_copies_of_one_point_are_still_a_permutation():
    order = farthest_point_order(torch.zeros(1, 20, 3), 10)
    assert order.sort(1).values.tolist() == [list(range(20))]


@pytest.mark.parametrize("count", [37, 64, 200])
@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_balls_hold_the_first_hits_and_are_filled_with_the_first_one(count, most, monkeypatch):
    """Small chunks, and numbers of points that eight does not divide, change nothing."""
    monkeypatch.setattr(neighbors, "_MAX_DISTANCES", most * 2 * count)
    points, centers = cloud(2, count), cloud(2, 9, seed=1)
    radii, counts = (0.1, 0.25, 0.6), (4, 8, 70)
    found = ball_query(points, centers, radii, counts)
    sizes = set()
    for radius, wanted, index in zip(radii, counts, found, strict=True):
        assert index.shape == (2, 9, wanted)
        for row in range(2):
            for center in range(9):
                inside = [k for k in range(count) if (points[row, k] - centers[row, center]).norm() < radius]
                sizes.add(min(len(inside), wanted) - (len(inside) > wanted))
                expected = (inside + [(inside or [0])[0]] * wanted)[:wanted]
                assert index[row, center].tolist() == expected
    assert 0 in sizes
    assert len(sizes) > 5, "balls of one size alone would prove little"


def test_three_nearest_and_their_weights():
    points, places = cloud(2, 30), cloud(2, 11, seed=3)
    places[0, 0] = points[0, 4]
    index, weight = three_nearest(points, places)
    values = torch.rand(2, 30, 5, dtype=torch.float64)
    found = interpolate(values, index, weight)
    for row in range(2):
        for place in range(11):
            distances = [(points[row, k] - places[row, place]).norm().item() for k in range(30)]
            expected = sorted(range(30), key=lambda k: distances[k])[:3]
            assert index[row, place].tolist() == expected
            inverse = [1 / (distances[k] + 1e-8) for k in expected]
            mean = sum(values[row, k] * w for k, w in zip(expected, inverse, strict=True)) / sum(inverse)
            torch.testing.assert_close(found[row, place], mean)
    torch.testing.assert_close(found[0, 0], values[0, 4], rtol=1e-6, atol=1e-6)


def test_nearest_in_the_picture():
    pixels, places = cloud(2, 50)[..., :2], cloud(2, 8, seed=5)[..., :2]
    brute = (places[:, :, None] - pixels[:, None]).norm(dim=3).argmin(2)
    assert torch.equal(nearest(pixels, places), brute)


def test_gradients_of_an_interpolation():
    index, weight = three_nearest(cloud(1, 6), cloud(1, 4, seed=2))
    values = torch.rand(1, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: interpolate(v, index, weight), values)


def test_distances_in_memory_do_not_grow_with_the_square(monkeypatch):
    """The largest table of distances, whatever the number of points."""
    largest = []
    distances = neighbors._distances

    def noted(places, points):
        result = distances(places, points)
        largest.append(result.numel())
        return result

    monkeypatch.setattr(neighbors, "_distances", noted)
    for count in (256, 1024, 4096):
        points = cloud(2, count).float()
        ball_query(points, points, (0.05,), (16,))
        three_nearest(points, points)
    assert max(largest) <= neighbors._MAX_DISTANCES
