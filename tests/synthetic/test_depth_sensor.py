"""Depth noise on scenes whose true depth is known."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic.render import depth_sensor

FACING = np.ones((200, 200), np.float32)
BRIGHT = np.zeros((200, 200), bool)


def read(depth: np.ndarray, scale: float, cosine=FACING, dark=BRIGHT) -> np.ndarray:
    return depth_sensor.measure(depth.astype(np.float32), cosine, dark, scale, make_rng(0, "test"))


@pytest.mark.parametrize("distance", [1.5, 3.0])
def test_wall_is_read_in_millimeters_with_the_stated_noise(distance):
    depth = read(np.full((200, 200), distance), 1.0)
    there = depth[depth > 0].astype(float)
    assert len(there) > 0.9 * depth.size
    assert there.mean() == pytest.approx(1000 * distance, rel=1e-3)
    assert there.std() == pytest.approx(1.2 + 1.9 * (distance - 0.4) ** 2, rel=0.1)


def test_out_of_range_and_nothing_give_no_reading():
    for distance in (0.0, 0.3, 9.0):
        assert not read(np.full((200, 200), distance), 1.0).any()


def edge_loss(scale: float) -> float:
    """Readings lost per row beside a vertical edge, in image pixels."""
    depth = np.full((200, 200), 3.0)
    depth[:, 100:] = 1.5
    lost = read(depth, scale) == 0
    return lost[:, 90:110].sum(1).mean() - 20 * lost[:, 130:].mean()


def test_lost_edges_are_as_wide_as_the_sensors_pixels():
    small, same, large = edge_loss(0.4), edge_loss(1.0), edge_loss(2.0)
    assert 0.2 < small < same < large
    assert large > 1.5 * same


def test_a_floor_seen_at_a_slant_is_no_edge():
    slope = np.broadcast_to(np.linspace(5, 1.5, 200)[:, None], (200, 200))
    assert (read(slope, 1.0) == 0).mean() < 0.06


def test_hair_and_grazing_surfaces_lose_readings():
    wall = np.full((200, 200), 2.0)
    plain = (read(wall, 1.0) == 0).mean()
    assert (read(wall, 1.0, dark=~BRIGHT) == 0).mean() > plain + 0.1
    assert (read(wall, 1.0, cosine=0.1 * FACING) == 0).mean() > plain + 0.2
