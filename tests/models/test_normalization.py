"""Normalisation against NumPy in float64."""

import numpy as np
import pytest
import torch

from hcmoco.data.skeletons import COCO_17, COMMON_13, MPII_16, PEOPLE_31
from hcmoco.models.normalization import RGB_MEAN, RGB_STD, normalize_depth, normalize_keypoints, normalize_rgb


def test_rgb():
    rgb = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    before = rgb.copy()
    x = normalize_rgb(torch.from_numpy(rgb))
    expected = ((rgb / 255.0 - RGB_MEAN) / RGB_STD).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(x.numpy(), expected, atol=2e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(rgb, before)


def test_depth_is_meters_from_the_mean_of_the_readings():
    depth = np.random.default_rng(1).integers(500, 65536, (3, 32, 32)).astype(np.uint16)
    depth[0, :20] = 0
    depth[2] = 0  # no reading at all
    x = normalize_depth(torch.from_numpy(depth), channels=2)
    expected = np.zeros(depth.shape)
    for each, meters in zip(expected, depth / 1000.0, strict=True):
        if (meters > 0).any():
            each[:] = np.where(meters > 0, meters - meters[meters > 0].mean(), 0)
    assert x.shape == (3, 2, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    for channel in range(2):
        np.testing.assert_allclose(x[:, channel].numpy(), expected, atol=1e-5)


def reference(keypoints, joints, root):
    """One person: root-relative (row, column) over the largest visible coordinate."""
    visible = keypoints[:, 2] > 0
    offset = keypoints[:, 1::-1].astype(float) - root(keypoints[:, 1::-1].astype(float), visible)
    return np.where(visible[:, None], offset / np.abs(offset[visible]).max(), 0)


@pytest.mark.parametrize("joints", [MPII_16, COMMON_13, COCO_17, PEOPLE_31])
def test_keypoints_hang_on_the_middle_of_the_hips(joints):
    rng = np.random.default_rng(2)
    keypoints = np.concatenate([rng.uniform(0, 320, (len(joints), 2)), np.ones((len(joints), 1))], 1).astype(np.float32)
    keypoints[0, 2] = 0  # neither hips nor pelvis in any of these sets
    hips = [joints.index("left_hip"), joints.index("right_hip")]
    x = normalize_keypoints(torch.from_numpy(keypoints)[None], joints)[0]
    np.testing.assert_allclose(x.numpy(), reference(keypoints, joints, lambda p, _: p[hips].mean(0)), atol=1e-5)
    np.testing.assert_allclose(x[hips].mean(0).numpy(), 0, atol=1e-6)
    assert x.abs().max() == 1


def test_without_hips_the_pelvis_and_without_it_the_center_is_the_root():
    keypoints = np.random.default_rng(3).uniform(0, 320, (16, 3)).astype(np.float32)
    keypoints[:, 2] = 1
    keypoints[MPII_16.index("left_hip"), 2] = 0
    x = normalize_keypoints(torch.from_numpy(keypoints)[None], MPII_16)[0]
    np.testing.assert_allclose(
        x.numpy(), reference(keypoints, MPII_16, lambda p, _: p[MPII_16.index("pelvis")]), atol=1e-5
    )
    keypoints[MPII_16.index("pelvis"), 2] = 0
    x = normalize_keypoints(torch.from_numpy(keypoints)[None], MPII_16)[0]
    np.testing.assert_allclose(x.numpy(), reference(keypoints, MPII_16, lambda p, v: p[v].mean(0)), atol=1e-5)


@pytest.mark.parametrize("junk", [-1.0, 0.0, 1e30, float("nan"), float("inf")])
def test_what_an_invisible_joint_holds_changes_nothing(junk):
    keypoints = torch.rand(4, 16, 3) * 100
    keypoints[..., 2] = (torch.rand(4, 16) < 0.6).float()
    spoilt = keypoints.clone()
    spoilt[..., :2] = spoilt[..., :2].where(keypoints[..., 2:] > 0, junk)
    torch.testing.assert_close(
        normalize_keypoints(spoilt, MPII_16), normalize_keypoints(keypoints, MPII_16), rtol=0, atol=0
    )


def test_nobody_and_one_joint_are_all_zero():
    keypoints = torch.full((2, 13, 3), 50.0)
    keypoints[..., 2] = 0
    keypoints[1, 4, 2] = 1
    assert torch.equal(normalize_keypoints(keypoints, COMMON_13), torch.zeros(2, 13, 2))


def test_keypoints_ignore_shift_and_scale():
    keypoints = torch.rand(3, 16, 3) * 200
    keypoints[..., 2] = 1
    moved = keypoints.clone()
    moved[..., :2] = 0.3 * moved[..., :2] + torch.tensor([40.0, -12.0])
    torch.testing.assert_close(
        normalize_keypoints(moved, MPII_16), normalize_keypoints(keypoints, MPII_16), rtol=1e-4, atol=1e-4
    )


def test_the_released_root_is_joint_6_where_it_is_visible():
    keypoints = np.random.default_rng(5).uniform(1, 320, (16, 3)).astype(np.float32)
    keypoints[:, 2] = 1
    keypoints[0] = (-1, -1, 0)
    x = normalize_keypoints(torch.from_numpy(keypoints)[None], MPII_16, released_root=True)[0]
    np.testing.assert_allclose(x.numpy(), reference(keypoints, MPII_16, lambda p, _: p[6]), atol=1e-5)
    keypoints[6, 2] = 0
    x = normalize_keypoints(torch.from_numpy(keypoints)[None], MPII_16, released_root=True)[0]
    np.testing.assert_allclose(x.numpy(), reference(keypoints, MPII_16, lambda p, v: p[v].mean(0)), atol=1e-5)
