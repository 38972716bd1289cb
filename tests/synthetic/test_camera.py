"""Cameras, solids and textures against closed forms."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.synthetic.render.camera import Camera, Solids
from hcmoco.synthetic.scene import materials, textures


def camera() -> Camera:
    return Camera.look_at((0.3, -3.0, 1.4), (0.1, 0.0, 0.9), 0.03, 365.0).zoomed(-256, -212, 1.0)


def test_camera_axes_are_right_handed_and_look_at_the_target():
    eye = camera()
    np.testing.assert_allclose(eye.axes @ eye.axes.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(eye.axes) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(eye.project(eye.to_camera(np.array([[0.1, 0.0, 0.9]]))), [[256, 212]], atol=1e-3)
    above = eye.project(eye.to_camera(np.array([[0.1, 0.0, 1.9]])))[0]
    right = eye.project(eye.to_camera(np.array([[1.1, 0.0, 0.9]])))[0]
    assert above[1] < 212 - 50  # y points down
    assert right[0] > 256 + 50


def test_rays_go_through_the_centers_of_their_pixels():
    eye = camera().zoomed(40.0, 30.0, 0.5)
    rays = eye.rays(slice(10, 20, 2), slice(4, 7))
    pixels = eye.project(eye.to_camera(eye.position + 2.5 * rays))
    expected = [(column + 0.5, row + 0.5) for row in range(10, 20, 2) for column in range(4, 7)]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)
    np.testing.assert_allclose(eye.to_camera(eye.position + 2.5 * rays)[:, 2], 2.5, rtol=1e-6)


def test_zoom_is_a_crop_and_a_scale():
    point = np.array([[0.4, 0.2, 1.1]])
    whole, part = camera(), camera().zoomed(40.0, 30.0, 0.5)
    np.testing.assert_allclose(
        part.project(part.to_camera(point)), (whole.project(whole.to_camera(point)) - [40, 30]) / 2, atol=1e-4
    )


def volume(solids: Solids) -> float:
    vertices, faces, _ = solids.mesh()
    return float(np.linalg.det(vertices[faces].astype(float)).sum() / 6)


def test_solids_have_their_volumes():
    paint = materials.wall(make_rng(0, "test"))
    box, ball = Solids(), Solids()
    box.box((3, -2, 1), (1.0, 2.0, 0.5), paint, yaw=0.7)
    ball.ball((1, 1, 1), (2.0, 2.0, 2.0), paint)
    assert abs(volume(box)) == pytest.approx(1.0, rel=1e-4)
    assert 0.8 < abs(volume(ball)) / (4 / 3 * np.pi) < 1.0
    assert not Solids()
    assert box


def test_noise_repeats_and_fills_its_range():
    u, v = make_rng(0, "test").random((2, 20000))
    for which in range(textures.MAPS):
        values = textures.noise(which, u, v)
        np.testing.assert_array_equal(values, textures.noise(which, u + 2, v - 3))
        assert values.min() >= 0
        assert values.max() <= 1
        assert values.std() > 0.08


def test_pick_follows_its_weights():
    rng = make_rng(0, "test")
    drawn = [textures.pick(rng, {"a": 3, "b": 1, "never": 0}) for _ in range(2000)]
    assert drawn.count("a") / 2000 == pytest.approx(0.75, abs=0.04)
    assert "never" not in drawn


@pytest.mark.parametrize("kind", sorted(materials._KINDS))
def test_every_surface_is_two_colors_mixed(kind):
    rng = make_rng(0, "test")
    points = rng.uniform(-5, 5, (3000, 3)).astype(np.float32)
    normals = np.eye(3, dtype=np.float32)[rng.integers(3, size=3000)]
    first, second = np.float32([0.2, 0.3, 0.4]), np.float32([0.8, 0.7, 0.6])
    color = materials.Surface(kind, (first, second), 1.0, 3)(points, normals)
    share = (color - first) / (second - first)
    np.testing.assert_allclose(share, np.broadcast_to(share[:, :1], share.shape), atol=1e-4)
    assert share.min() > -0.05
    assert share.max() < 1.3
    assert share.std() > 0.02
