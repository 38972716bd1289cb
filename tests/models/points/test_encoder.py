"""From depth to points, and from points to cells of the picture."""

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.data.pinhole import unproject
from hcmoco.data.points import crop_rays, draw_points
from hcmoco.data.transforms import crop_matrix
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.points.encoder import features_on_cells, make_cloud, nearest_points, read_cells
from hcmoco.models.points.neighbors import interpolate, three_nearest
from hcmoco.rng import make_rng

SIDE, COUNT = 64, 256
CAMERA = np.array([90.0, 95.0, 31.0, 33.0])
MATRIX = crop_matrix((32, 32), 60, SIDE, 20.0)


def crops(rows: int, *, empty: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ellipsoids 2 to 3 m away: depth, points and rays as a batch has them."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    depth, points, rays = [], [], []
    for row in range(rows):
        reach = 1 - ((x - 30 - row) / 14) ** 2 - ((y - 34) / 26) ** 2
        picture = np.where(reach > 0, 2600 - 100 * row - 250 * np.sqrt(reach.clip(0)), 0).astype(np.uint16)
        if row in empty:
            picture[:] = 0
        depth.append(picture)
        points.append(draw_points(picture, COUNT, 20, make_rng(3, "points", row))[0])
        rays.append(crop_rays(CAMERA, MATRIX) if row not in empty else np.zeros((2, 3)))
    return tuple(torch.from_numpy(np.stack(each)) for each in (depth, points, np.float32(rays)))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(name="pointnet2_msg")).eval()


def test_points_are_those_of_the_camera_turned_as_the_crop_is():
    depth, points, rays = crops(2)
    cloud = make_cloud(depth, points, rays)
    for row in range(2):
        column, line = points[row].numpy() % SIDE, points[row].numpy() // SIDE
        pixels = np.column_stack([column, line]) + 0.5
        stored = (pixels - MATRIX[:, 2]) @ np.linalg.inv(MATRIX[:, :2]).T
        xyz = unproject(stored, depth[row].numpy()[line, column] / 1000, CAMERA)
        turn = MATRIX[:, :2] / np.sqrt(np.linalg.det(MATRIX[:, :2]))
        expected = np.column_stack([xyz[:, :2] @ turn.T, xyz[:, 2]])
        np.testing.assert_allclose(cloud.points_BN3[row], expected - expected.mean(0), atol=2e-6)
        np.testing.assert_allclose(cloud.pixels_BN2[row], pixels)
        middle = depth[row].numpy()[2::4, 2::4]
        assert np.array_equal(cloud.cells_BHW4[row, ..., 3] > 0, middle > 0)


def test_whoever_stands_elsewhere_has_the_same_features(encoder):
    """Moved by whole millimeters along the axis and by any distance across it; tilted rays move the points sideways."""
    depth, points, rays = crops(1)
    moved = make_cloud(depth, points, rays)
    away = moved._replace(points_BN3=moved.points_BN3 + torch.tensor([0.3, -0.2, 1.0]))
    recentered = away._replace(points_BN3=away.points_BN3 - away.points_BN3.mean(1, keepdim=True))
    with torch.no_grad():
        first, second = encoder(moved)[0], encoder(recentered)[0]
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_cells_read_three_points_in_space_and_without_a_reading_one_in_the_picture(encoder):
    depth, points, rays = crops(2)
    with torch.no_grad():
        features = encoder(make_cloud(depth, points, rays))
        found = features_on_cells(features)
    of_points, where, pixels, cells, _ = features
    assert found.shape == (2, 128, SIDE // 4, SIDE // 4)
    read = read_cells(features)
    assert 0 < read.sum() < read.numel()
    for row in range(2):
        values = of_points[row : row + 1, :, :, 0].mT
        for line, column in read[row].nonzero().tolist()[::7]:
            place = cells[row, line, column, :3][None, None]
            expected = interpolate(values, *three_nearest(where[row : row + 1], place))[0, 0]
            torch.testing.assert_close(found[row, :, line, column], expected, rtol=1e-5, atol=1e-6)
        for line, column in (~read[row]).nonzero().tolist()[::7]:
            center = torch.tensor([4 * column + 2.0, 4 * line + 2.0])
            closest = (pixels[row] - center).norm(dim=1).min()
            nearby = nearest_points(features, center.expand(2, 1, 2))[row, 0]
            assert (pixels[row, nearby] - center).norm() == closest
            assert torch.equal(found[row, :, line, column], values[0, nearby])


def test_rows_without_depth_and_joints_that_are_nowhere_give_numbers(encoder):
    features = encoder(make_cloud(*crops(3, empty=(1,))))
    assert all(each.isfinite().all() for each in features)
    assert features_on_cells(features).isfinite().all()
    places = torch.tensor([[float("nan"), 3.0], [float("inf"), 0.0], [10.0, 20.0]]).expand(3, -1, -1)
    found = nearest_points(features, places)
    assert ((found >= 0) & (found < COUNT)).all()


@pytest.mark.parametrize(("size", "count"), [(64, 256), (96, 1024), (128, 1024), (224, 4096), (320, 4096)])
def test_a_crop_has_a_ninth_of_its_pixels_as_points(size, count):
    assert EncoderConfig(name="pointnet2_msg").points_at(size) == count
    assert EncoderConfig(name="pointnet2_msg", args={"num_points": 640}).points_at(size) == 640
    assert EncoderConfig(name="hrnet_w18_small").points_at(size) == 0


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"args": {"num_points": 100}}, "num_points", "100"),
        ({"args": {"num_points": 1000}}, "num_points", "1000"),
        ({"args": {"img_size": 96}}, "args", "img_size"),
        ({"in_chans": 1}, "in_chans", "3"),
        ({"fusion": "bilinear"}, "fusion", "as-trained"),
        ({"conv_init": "normal-0.001"}, "conv_init", "timm"),
        ({"init": "timm"}, "init", "scratch"),
    ],
)
def test_what_points_do_not_have_is_refused_in_one_line(values, key, value):
    with pytest.raises(UserError) as caught:
        build(ModelConfig, {"depth": {"name": "pointnet2_msg", **values}}, "test")
    assert key in str(caught.value)
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rgb_has_no_points():
    with pytest.raises(UserError, match="rgb"):
        build(ModelConfig, {"rgb": {"name": "pointnet2_msg"}}, "test")


def test_the_other_parts_start_with_the_weights_that_they_always_had():
    """Which encoder depth has moves no other draw."""
    small = {"rgb": {"name": "test_resnet"}, "embedding": 16}
    pictures = HCMoCo(build(ModelConfig, {**small, "depth": {"name": "test_resnet"}}, "test"), seed=1)
    points = HCMoCo(build(ModelConfig, {**small, "depth": {"name": "pointnet2_msg"}}, "test"), seed=1)
    for name in ("rgb", "keypoints"):
        one, other = getattr(pictures, name).state_dict(), getattr(points, name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)
