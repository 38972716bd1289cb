"""3D pose on points: joints that are votes of points, in meters of the camera's frame."""

import numpy as np
import pytest
import torch

from benchmarks._host_syncs import HostSyncs
from hcmoco.data.pinhole import project
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.tasks.base import parse_task_config
from hcmoco.tasks.pose.anchors import Joints
from hcmoco.tasks.pose.points import PointPose, PointPoseHead
from hcmoco.tasks.pose.task import PoseTask
from tests.helpers import local_finetuning as tiny

CPU = torch.device("cpu")
POINTS = EncoderConfig(name="pointnet2_msg")


def make_task(**values) -> PointPose:
    config = parse_task_config({"name": "pose", "size": 64, "head": {"num_convolutions": 1, "channels": 8}, **values})
    return PoseTask(config, tiny.about()).for_encoder(POINTS)


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [person.to_row(number) for number, person in enumerate(tiny.people()[:4])]


def rngs(count: int) -> list[np.random.Generator]:
    return [make_rng(2, "rows", number) for number in range(count)]


class Knows(torch.nn.Module):
    """Answers with the labels, in the unit and the frame of the network: meters times `scale` from the mean."""

    def __init__(self, batch, scale: float):
        super().__init__()
        self.batch, self.scale = batch, scale

    def forward(self, cloud):
        across = np.einsum("bij,bkj->bki", self.batch.turn, self.batch.truth[..., :2])
        truth = torch.from_numpy(np.concatenate([across, self.batch.truth[..., 2:]], 2)).float()
        found = self.scale * (truth - cloud.mean_B3[:, None])
        return Joints(found[..., :2], found[..., :2], found[..., 2])


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_labels_come_back_as_predictions_and_cost_nothing(rows, train, flip):
    """Through turn, mirror, mean and scale, and back; also of crops that stretch."""
    task = make_task(flip_probability=flip, rotation=40.0)
    batch = task.make_batch(rows, rngs(4) if train else None)
    knows = Knows(batch, task.config.depth_scale)
    assert all(value.item() < 1e-6 for value in task.losses(knows, batch, CPU).values())
    for row, prediction, truth, annotated in zip(
        rows, task.predict(knows, batch, CPU), batch.truth, batch.annotated, strict=True
    ):
        np.testing.assert_allclose(prediction["joints3d"][annotated], truth[annotated], atol=1e-5)
        pixels = project(truth[annotated], np.asarray(row["camera"], np.float64))
        np.testing.assert_allclose(prediction["joints2d"][annotated], pixels, atol=1e-2)


def test_points_and_labels_are_in_one_frame(rows):
    """Joints lie within a hand of the body's points, however the crop is turned and mirrored."""
    task = make_task(flip_probability=0.5, rotation=90.0)
    batch = task.make_batch(rows, rngs(4))
    seen = []

    class Watches(Knows):
        def forward(self, cloud):
            found = super().forward(cloud)
            joints = torch.cat([found.xy_BJ2, found.depth_BJ[..., None]], 2) / self.scale
            seen.append(torch.cdist(joints, cloud.points_BN3).min(2).values)
            return found

    task.losses(Watches(batch, task.config.depth_scale), batch, CPU)
    assert seen[0][torch.from_numpy(batch.annotated)].quantile(0.9) < 0.2


def test_a_joint_is_the_weighted_mean_of_points_and_offsets():
    torch.manual_seed(0)
    head = PointPoseHead(6, 3, parse_task_config({"name": "pose", "head": {"num_convolutions": 0}}).head).double()
    features, points = torch.randn(2, 6, 10, dtype=torch.float64), torch.randn(2, 10, 3, dtype=torch.float64)
    with torch.no_grad():
        joints, output = head(features, points), head.layers(features)
    for row in range(2):
        for joint in range(3):
            weights = output[row, joint].softmax(0)
            votes = [points[row, :, axis] + output[row, 3 + 3 * axis + joint] for axis in range(3)]
            expected = torch.stack([(weights * vote).sum() for vote in votes])
            found = torch.cat([joints.xy_BJ2[row, joint], joints.depth_BJ[row, joint][None]])
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(joints.anchor_BJ2[row, joint], weights @ points[row, :, :2])


def test_a_step_waits_for_nothing_and_crops_without_a_reading_stay_finite(rows):
    task = make_task()
    torch.manual_seed(0)
    model = task.make_model(build_encoder(POINTS)).train()
    batch = task.make_batch(rows, rngs(4))
    batch.depth[2], batch.points[2], batch.mean[2] = 0, -1, 0
    task.losses(model, batch, CPU)["loss"].backward()
    with HostSyncs() as syncs:
        task.losses(model, batch, CPU)["loss"].backward()
    assert syncs.found == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert np.isfinite(task.predict(model.eval(), batch, CPU)[2]["joints3d"]).all()
