"""3D pose from depth that is read as points: every point votes for where the joints are.

The anchors of the pictures' head (`anchors.py`) stand on a grid of pixels. Here the points themselves are the anchors:
of each, a head gives for every joint a weight and an offset, and a joint is the weighted mean of points and offsets.
All lengths are meters times the config's `depth_scale`, from the mean of the points, on three axes alike.

Shape suffixes: B batch, J joints, N points, 2 is x and y, 3 those and z.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.pinhole import project
from hcmoco.data.points import crop_turn
from hcmoco.data.transfer import send
from hcmoco.models.points.encoder import PointCloud, PointEncoder, make_cloud
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.points import ReadsPoints
from hcmoco.tasks.pose.anchors import Joints, weighted_joints
from hcmoco.tasks.pose.config import HeadConfig
from hcmoco.tasks.pose.loss import pose_losses
from hcmoco.tasks.pose.task import PoseBatch, PoseTask


@dataclass
class PointPoseBatch(PoseBatch):
    """Crops, and the labels of their joints; see `PoseBatch`.

    Attributes:
        points: int64 [B, N], pixels of `depth` that are read as points, row * S + column; -1 where it has no reading.
        rays: float32 [B, 2, 3], of the pixels of `depth`, see hcmoco.data.points.
        turn: float64 [B, 2, 2], the camera's frame to that of the points, x and y.
    """

    points: np.ndarray
    rays: np.ndarray
    turn: np.ndarray


class PointPoseHead(nn.Module):
    """Maps features of points to joints. Of the config, `num_convolutions` and `channels` apply: layers on single
    points."""

    def __init__(self, width: int, joints: int, config: HeadConfig):
        super().__init__()
        self.joints = joints
        layers: list[nn.Module] = []
        for _ in range(config.num_convolutions):
            layers += [nn.Conv1d(width, config.channels, 1), nn.BatchNorm1d(config.channels), nn.ReLU(inplace=True)]
            width = config.channels
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, 4 * joints, 1))

    def forward(self, features_BCN: Tensor, points_BN3: Tensor) -> Joints:
        """Return x, y and z of joints, in the unit of the points."""
        response_BJN, offset_BJN = self.layers(features_BCN).split([self.joints, 3 * self.joints], 1)
        offset_B3JN = offset_BJN.unflatten(1, (3, self.joints))
        depth_BJN = points_BN3[:, None, :, 2] + offset_B3JN[:, 2]
        return weighted_joints(response_BJN, offset_B3JN[:, :2], depth_BJN, points_BN3[..., :2])


class PointPoseModel(nn.Module):
    """Encoder and head: a cloud to `Joints`, in meters from its mean times `scale`."""

    def __init__(self, encoder: PointEncoder, joints: int, config: HeadConfig, scale: float):
        super().__init__()
        self.encoder = encoder
        self.head = PointPoseHead(encoder.channels[0], joints, config)
        self.scale = scale

    def forward(self, cloud: PointCloud) -> Joints:
        return self.head(self.encoder(cloud)[0][..., 0], self.scale * cloud.points_BN3)


class PointPose(ReadsPoints, PoseTask):
    """`pose` for an encoder that reads points; `PoseTask.for_encoder` makes it.

    Attributes:
        num_points: N.
    """

    def make_batch(self, rows, rngs) -> PointPoseBatch:
        """See `Task.make_batch`. Points of an evaluation are drawn too, for every row alike."""
        batch = super().make_batch(rows, rngs)
        points, rays = self.points_and_rays(batch.depth, batch.camera, batch.matrix, rngs)
        turns = [crop_turn(matrix) for matrix in batch.matrix]
        known = {field.name: getattr(batch, field.name) for field in fields(PoseBatch)}
        return PointPoseBatch(**known, points=points, rays=rays, turn=np.stack(turns))

    def make_model(self, encoder: Any) -> PointPoseModel:
        assert isinstance(encoder, PointEncoder)
        encoder.check_size(self.config.size, self.config.size)
        return PointPoseModel(encoder, len(self.joints), self.config.head, self.config.depth_scale)

    def losses(self, model: nn.Module, batch: PoseBatch, device: torch.device) -> dict[str, Tensor]:
        """Compute `anchor`, `in_plane` and `depth`, see `pose_losses`; a pixel is 1 / `depth_scale` m here."""
        assert isinstance(batch, PointPoseBatch)
        cloud = _cloud(batch, device)
        across_BJ2 = np.einsum("bij,bkj->bki", batch.turn, batch.truth[..., :2])
        truth_BJ3 = send(np.concatenate([across_BJ2, batch.truth[..., 2:]], 2).astype(np.float32), device)
        target_BJ3 = self.config.depth_scale * (truth_BJ3 - cloud.mean_B3[:, None])
        known_BJ = batch.annotated & (batch.mean > 0)[:, None]
        return pose_losses(model(cloud), target_BJ3, send(known_BJ, device))

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: PoseBatch, device: torch.device) -> list[Prediction]:
        assert isinstance(batch, PointPoseBatch)
        cloud = _cloud(batch, device)
        joints = model(cloud)
        found_BJ3 = torch.cat([joints.xy_BJ2, joints.depth_BJ[..., None]], 2) / self.config.depth_scale
        xyz_BJ3 = (found_BJ3 + cloud.mean_B3[:, None]).double().cpu().numpy()
        predictions: list[Prediction] = []
        for xyz_J3, turn_22, camera_4 in zip(xyz_BJ3, batch.turn, batch.camera, strict=True):
            xyz_J3[:, :2] = xyz_J3[:, :2] @ turn_22  # its inverse, from the right
            # A joint that is not in front of the camera has no pixel.
            front_J1 = xyz_J3[:, 2:] > 0
            pixels_J2 = np.where(front_J1, project(np.where(front_J1, xyz_J3, 1.0), camera_4), np.nan)
            predictions.append({"joints3d": xyz_J3.astype(np.float32), "joints2d": pixels_J2.astype(np.float32)})
        return predictions


def _cloud(batch: PointPoseBatch, device: torch.device) -> PointCloud:
    return make_cloud(*(send(each, device) for each in (batch.depth, batch.points, batch.rays)))
