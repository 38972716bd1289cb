"""Rays against a triangle whose hits are known in closed form."""

import sys

import numpy as np
import pytest

from hcmoco.errors import UserError
from hcmoco.synthetic.render import raycast

CORNERS = np.float32([[0, 2, 0], [1, 2, 0], [0, 2, 1]])
FACES = np.int32([[0, 1, 2]])


def test_hits_are_those_of_the_plane():
    pytest.importorskip("embreex")
    rays = np.float32(
        [[0.1, 1, 0.2], [0.2, 1, 0.05], [0.4, 1, 0.4], [0, -1, 0]]
    )  # the plane y = 2 is met at twice each direction
    hits = raycast.Mesh(CORNERS, FACES).hits(np.zeros(3), rays)
    np.testing.assert_array_equal(hits.face, [0, 0, -1, -1])
    np.testing.assert_allclose(hits.depth[:2], 2, rtol=1e-6)
    np.testing.assert_allclose(hits.weights[:2] @ CORNERS, 2 * rays[:2], atol=1e-6)
    np.testing.assert_allclose(hits.normal[:2], [[0, -1, 0]] * 2, atol=1e-6)


def test_limit_is_in_lengths_of_the_direction():
    pytest.importorskip("embreex")
    mesh, rays = raycast.Mesh(CORNERS, FACES), np.float32([[0.1, 1, 0.2]] * 3)
    np.testing.assert_array_equal(mesh.blocked(np.zeros(3), rays, np.float32([1.9, 2.1, 1e37])), [False, True, True])
    np.testing.assert_allclose(mesh.depth(np.zeros(3), rays), 2, rtol=1e-6)


def test_missing_renderer_is_one_line_with_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex", None)
    with pytest.raises(UserError, match=r"prepare.py folder") as caught:
        raycast._embree.__wrapped__()
    assert "\n" not in str(caught.value)
