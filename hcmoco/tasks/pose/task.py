"""The task of 3D pose from depth: rows to crops, crops to joints in meters.

Shape suffixes: B rows, S side of the input, J joints, 4 the camera (fx, fy, cx, cy), 23 the crop's matrix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.codecs import decode_depth
from hcmoco.data.pinhole import project, unproject
from hcmoco.data.shards.manifest import About
from hcmoco.data.skeletons import joint_set
from hcmoco.data.transfer import send
from hcmoco.errors import UserError
from hcmoco.models.encoders import Encoder, EncoderConfig
from hcmoco.models.normalization import normalize_depth
from hcmoco.tasks.base import Prediction, Task, TaskBatch
from hcmoco.tasks.pose import crop
from hcmoco.tasks.pose.config import PoseConfig
from hcmoco.tasks.pose.head import PoseModel
from hcmoco.tasks.pose.loss import pose_losses
from hcmoco.tasks.pose.metric import PoseMetric
from hcmoco.tasks.pose.sheet import pose_sheet


@dataclass
class PoseBatch(TaskBatch):
    """Crops, and the labels of their joints.

    Attributes:
        depth: uint16 [B, S, S], millimeters, 0 = no reading or removed.
        mean: float64 [B], meters: mean reading of each crop, 0 where it has none.
        matrix: float64 [B, 2, 3], pixels of the stored image to pixels of the crop.
        camera: float64 [B, 4], of the stored image.
        target: float32 [B, J, 3], x, y in pixels of the crop, (z - mean) * depth_scale; 0 where not annotated.
        truth: float32 [B, J, 3], meters in the camera's frame (of the unmirrored image); 0 where not annotated.
        annotated: bool [B, J].
    """

    depth: np.ndarray
    mean: np.ndarray
    matrix: np.ndarray
    camera: np.ndarray
    target: np.ndarray
    truth: np.ndarray
    annotated: np.ndarray


class PoseTask(Task[PoseBatch]):
    """3D pose of one person from depth, as in ITOP; see `Task`.

    A prediction is `joints3d` float32 [J, 3], meters in the camera's frame, and `joints2d` float32 [J, 2], x, y in
    pixels of the stored image.

    Raises:
        UserError: the labels' joint set lacks a joint of the set that is predicted, or a row has no depth or camera.
    """

    name: ClassVar = "pose"
    config_class = PoseConfig
    primary_metric: ClassVar = "acc_10cm"
    modality: ClassVar = "depth"
    inputs: ClassVar = ("depth",)  # and the camera, which manifests do not count
    labels: ClassVar = ("joints3d",)
    columns: ClassVar = ("id", "size", "depth", "camera", "box", "joints3d")

    def __init__(self, config: PoseConfig, about: About, statistics: Mapping[str, Any] | None = None):
        super().__init__(config, about, statistics)
        self.joints = joint_set(config.joints)
        self._gather_J = np.zeros(0, np.int64)
        if about.joints3d:
            source = joint_set(about.joints3d)
            self._gather_J = np.array([source.find(joint) for joint in self.joints.joints])
            if missing := [joint for joint in self.joints.joints if source.find(joint) < 0]:
                raise UserError(
                    f"task.joints = {config.joints!r}: the labels of {about.dataset} are {about.joints3d}, which "
                    f"has no {', '.join(missing)}; choose a joint set that it covers, such as {about.joints3d}"
                )

    def for_encoder(self, encoder: EncoderConfig) -> "PoseTask":
        """See `Task.for_encoder`."""
        if not encoder.is_points:
            return self
        from hcmoco.tasks.pose.points import PointPose

        return PointPose(self.config, self.about, self.statistics).for_encoder(encoder)

    def make_batch(self, rows: Sequence[dict], rngs: Sequence[np.random.Generator] | None) -> PoseBatch:
        config: PoseConfig = self.config
        count, size, joints = len(rows), config.size, len(self.joints)
        batch = PoseBatch(
            ids=tuple(row["id"] for row in rows),
            depth=np.zeros((count, size, size), np.uint16),
            mean=np.zeros(count),
            matrix=np.zeros((count, 2, 3)),
            camera=np.zeros((count, 4)),
            target=np.zeros((count, joints, 3), np.float32),
            truth=np.zeros((count, joints, 3), np.float32),
            annotated=np.zeros((count, joints), bool),
        )
        for position, row in enumerate(rows):
            try:
                self._fill(batch, position, row, None if rngs is None else rngs[position])
            except (ValueError, IndexError, cv2.error) as error:
                raise ValueError(f"record {row['id']!r}: {error}") from error
        return batch

    def _fill(self, batch: PoseBatch, position: int, row: dict, rng: np.random.Generator | None) -> None:
        config: PoseConfig = self.config
        if missing := [name for name in ("depth", "camera") if row.get(name) is None]:
            raise UserError(
                f"record {row['id']!r} has no {' and no '.join(missing)}: pose needs both; prepare the data set with "
                "them"
            )
        camera_4 = np.asarray(row["camera"], np.float64)
        box_4 = crop.person_box(row.get("box"), row["size"])
        truth_J3, annotated_J = self._truth(row)
        depth_HW = decode_depth(row["depth"], self.about.depth_codec, row["size"])
        depth_HW = self._without_background(depth_HW, box_4, truth_J3[annotated_J])

        if rng is None:
            window_4, augment_23, flipped = crop.evaluation_crop(config, box_4, row["size"]), None, False
        else:
            window_4, augment_23, flipped = crop.draw_crop(config, box_4, row["size"], rng)
        matrix_23 = crop.window_matrix(window_4, config.size)
        if augment_23 is not None:
            matrix_23 = crop.compose(matrix_23, augment_23)
        batch.depth[position] = crop.cut(depth_HW, window_4, augment_23, config.size, config.interpolation)
        batch.mean[position] = crop.mean_depth(batch.depth[position])
        batch.matrix[position], batch.camera[position] = matrix_23, camera_4
        if flipped:
            truth_J3, annotated_J = truth_J3[self.joints.flip], annotated_J[self.joints.flip]
        batch.truth[position], batch.annotated[position] = truth_J3, annotated_J
        known_K3 = truth_J3[annotated_J]
        depth_K1 = (known_K3[:, 2:] - batch.mean[position]) * config.depth_scale
        batch.target[position, annotated_J] = np.concatenate(
            [crop.move(project(known_K3, camera_4), matrix_23), depth_K1], 1
        )

    def _truth(self, row: dict) -> tuple[np.ndarray, np.ndarray]:
        """Labels, float32 [J, 3], and bool [J]: those that are finite and in front of the camera are annotated."""
        if row.get("joints3d") is None or not len(self._gather_J):
            return np.zeros((len(self.joints), 3), np.float32), np.zeros(len(self.joints), bool)
        truth_J3 = np.asarray(row["joints3d"], np.float32).reshape(-1, 3)[self._gather_J]
        annotated_J = np.isfinite(truth_J3).all(1) & (truth_J3[:, 2] > 0)
        return np.where(annotated_J[:, None], truth_J3, np.float32(0)), annotated_J

    def _without_background(self, depth_HW: np.ndarray, box_4: np.ndarray, known_K3: np.ndarray) -> np.ndarray:
        if self.config.background == "none":
            return depth_HW
        if self.config.background == "box-depth":
            return crop.keep_near_box(depth_HW, box_4, self.config.depth_range)
        if not len(known_K3):
            raise UserError(
                "task.background = 'ground-truth' cuts the input behind the labeled joints, and there is a row "
                "without any; use box-depth"
            )
        return crop.keep_before(depth_HW, float(known_K3[:, 2].max()) + crop.TRUTH_MARGIN)

    def make_model(self, encoder: Any) -> nn.Module:
        encoder.check_size(self.config.size, self.config.size)
        return PoseModel(encoder, len(self.joints), self.config.size, self.config.head)

    def _input(self, model: nn.Module, batch: PoseBatch, device: torch.device) -> Tensor:
        encoder = model.encoder
        assert isinstance(encoder, Encoder)
        return normalize_depth(send(batch.depth, device), encoder.config.in_chans)

    def losses(self, model: nn.Module, batch: PoseBatch, device: torch.device) -> dict[str, Tensor]:
        """Compute `anchor`, `in_plane` and `depth`, see `pose_losses`; crops without a reading do not count."""
        known_BJ = batch.annotated & (batch.mean > 0)[:, None]
        return pose_losses(model(self._input(model, batch, device)), send(batch.target, device), send(known_BJ, device))

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: PoseBatch, device: torch.device) -> list[Prediction]:
        joints = model(self._input(model, batch, device))
        return self.decode(joints.xy_BJ2.double().cpu().numpy(), joints.depth_BJ.double().cpu().numpy(), batch)

    def decode(self, xy_BJ2: np.ndarray, depth_BJ: np.ndarray, batch: PoseBatch) -> list[Prediction]:
        """Turn joints of the crops into predictions: back through the matrix of the crop, then through the camera.

        Args:
            xy_BJ2: pixels of the crop.
            depth_BJ: meters from the crop's mean depth times `depth_scale`.
            batch: has the matrices, means and cameras.
        """
        predictions = []
        for xy_J2, depth_J, matrix_23, mean, camera_4 in zip(
            xy_BJ2, depth_BJ, batch.matrix, batch.mean, batch.camera, strict=True
        ):
            stored_J2 = crop.move_back(xy_J2, matrix_23)
            joints_J3 = unproject(stored_J2, depth_J / self.config.depth_scale + mean, camera_4)
            predictions.append({"joints3d": joints_J3.astype(np.float32), "joints2d": stored_J2.astype(np.float32)})
        return predictions

    def metric(self) -> PoseMetric:
        return PoseMetric(self.joints.joints)

    def visualize(self, rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
        truths = [self._truth(row) for row in rows]
        depths = [decode_depth(row["depth"], self.about.depth_codec, row["size"]) for row in rows]
        cameras = [np.asarray(row["camera"], np.float64) for row in rows]
        return pose_sheet(depths, cameras, truths, predictions, self.joints)
