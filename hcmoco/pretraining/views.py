"""A batch on the device: what the encoders take, and which places of the maps are compared.

Shape suffixes: B rows of this worker, R rows of them that an encoder sees, P anchors, J joints.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.schema import MAP_STRIDE, Batch
from hcmoco.data.transfer import send
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.models.points.encoder import PointCloud
from hcmoco.objectives import MODALITIES


@dataclass
class Views:
    """A batch on the device, normalized. An encoder sees only the rows that have its modality, or (the release) all of
    them.

    Attributes:
        inputs: modality -> what its encoder takes, [R, ...], or points of R rows.
        rows: modality -> int64 [R], which of the B rows these are, ascending.
        present: modality -> bool [B].
        has: the same on the host.
        keypoints_BJ3: x, y in pixels of the skeleton's crop, visibility.
        joints: "rgb" and "depth" -> float32 [B, J, 3], the same in the crop of the modality.
        anchors: "rgb" and "depth" -> int64 [B, P], flat stride-4 cells of the modality's map that show the same places,
            -1 where there is none.
        rgb_to_depth_B23: pixels of the RGB crop to pixels of the depth crop; None where all rows share one.
        size: side of the crops in pixels.
        layers: what the encoders' layers draw from in training; None: torch's generator.
        collective: whether an encoder also runs where no row has its modality, on a blank one, since its batch norms
            meet those of other workers.
    """

    inputs: dict[str, Tensor | PointCloud]
    rows: dict[str, Tensor]
    present: dict[str, Tensor]
    has: dict[str, np.ndarray]
    index_B: Tensor
    source_B: Tensor
    keypoints_BJ3: Tensor
    joints: dict[str, Tensor]
    anchors: dict[str, Tensor]
    rgb_to_depth_B23: Tensor | None
    size: int
    layers: LaneDraws | None = None
    collective: bool = False

    def spread(self, modality: str, values_R: Tensor) -> Tensor:
        """[R, ...] -> [B, ...], zeros in the rows that the encoder did not see."""
        if len(values_R) == len(self.index_B):
            return values_R
        return values_R.new_zeros((len(self.index_B), *values_R.shape[1:])).index_copy(0, self.rows[modality], values_R)

    def nothing(self, *shape: int) -> Tensor:
        """[B, *shape] of zeros, for a modality that no row has."""
        return torch.zeros(len(self.index_B), *shape, device=self.index_B.device)

    @property
    def visible(self) -> Tensor:
        """bool [B, J], which joints the skeleton encoder sees; none of a row without keypoints."""
        return self._visible(self.keypoints_BJ3)

    @property
    def visible_by_modality(self) -> dict[str, Tensor]:
        """Modality -> bool [B, J], which joints its crop shows; none of a row without keypoints."""
        return {**{name: self._visible(each) for name, each in self.joints.items()}, "keypoints": self.visible}

    def _visible(self, joints_BJ3: Tensor) -> Tensor:
        return (joints_BJ3[..., 2] > 0) & self.present["keypoints"][:, None]

    def anchor_cells(self) -> tuple[Tensor, Tensor | None]:
        """Where the anchors lie, for Eq. 4's distances: float32 [B, P, 2], (row, column) of the depth cells and of the
        RGB cells; None for the latter where they are the same.

        Both are in the depth map, with distances as they are on average over the two maps: of crops that are zoomed
        differently, the mean of what two places are apart in RGB cells and in depth cells.
        """
        grid = self.size // MAP_STRIDE
        depth_BP, rgb_BP = self.anchors["depth"], self.anchors["rgb"]
        depth_BP2 = torch.stack([depth_BP // grid, depth_BP % grid], -1).float()
        if self.rgb_to_depth_B23 is None:
            return depth_BP2, None
        linear_B122, shift_B12 = self.rgb_to_depth_B23[:, None, :, :2], self.rgb_to_depth_B23[:, None, :, 2]
        center_BP2 = MAP_STRIDE * (torch.stack([rgb_BP % grid, rgb_BP // grid], -1) + 0.5)
        # A sum, and no matrix product, which is of few digits under autocast and in TF32.
        at_BP2 = (linear_B122 * center_BP2[:, :, None]).sum(3) + shift_B12
        rgb_BP2 = (at_BP2 / MAP_STRIDE - 0.5).flip(-1)
        a_B, b_B, c_B, d_B = self.rgb_to_depth_B23[:, :, :2].flatten(1).unbind(1)
        zoom_B11 = (a_B * d_B - b_B * c_B).abs().sqrt()[:, None, None]  # of depth, of RGB's
        unit_B11 = (1 + 1 / zoom_B11) / 2
        return depth_BP2 * unit_B11, rgb_BP2 * unit_B11


def to_device(
    batch: Batch, device: torch.device, model: MultiModalEncoders, *, encode_absent: bool = False, inputs: bool = True
) -> Views:
    """Copies a batch to `device` and makes of its integers, there, what the encoders of `model` take.

    Args:
        encode_absent: give the encoders all rows; what a row lacks is zeros there, after normalization (the release).
        inputs: False leaves out what the encoders take.
    """

    def there(array: np.ndarray | EncodedImages) -> Tensor:
        return send(array, device)

    has = dict(zip(MODALITIES, (batch.has_rgb, batch.has_depth, batch.has_keypoints), strict=True))
    # Row numbers are found on the host, which knows the flags: the device is never waited for.
    shown = {name: np.arange(len(batch)) if encode_absent else np.flatnonzero(flags) for name, flags in has.items()}
    rows = {name: there(numbers) for name, numbers in shown.items()}
    present = {name: there(flags) for name, flags in has.items()}

    def seen(name: str, array: np.ndarray | EncodedImages) -> Tensor:
        # All rows are copied, since that copy may have been begun long ago; the encoder's are picked on the device.
        whole = there(array)
        if len(shown[name]) == len(batch):
            return whole
        # 16-bit unsigned tensors have hardly any operations.
        return whole.view(torch.int16)[rows[name]].view(whole.dtype) if array is batch.depth else whole[rows[name]]

    def depth() -> Tensor | PointCloud:
        if not model.config.depth.is_points:
            return model.prepare_depth(seen("depth", batch.depth))
        if not batch.points.shape[1]:
            raise ValueError("the batch has no points, and the depth encoder reads them: set CollateConfig.num_points")
        arrays = (batch.depth, batch.points, batch.rays)
        return model.prepare_points(*(seen("depth", array) for array in arrays))

    taken: dict[str, Tensor | PointCloud] = {}
    if inputs:
        numbers = shown["keypoints"]
        rgb_RCSS = model.prepare_rgb(seen("rgb", batch.rgb))
        if encode_absent:
            # Black is not zero once normalized; depth and keypoints are.
            rgb_RCSS = rgb_RCSS.masked_fill(~present["rgb"][:, None, None, None], 0)
        taken = {
            "rgb": rgb_RCSS,
            "depth": depth(),
            # The release's skeletons do not follow the augmentation, and are normalized already.
            "keypoints": there(batch.released_keypoints[numbers] * (batch.keypoints[numbers][..., 2:] > 0))
            if model.config.polluted_keypoints
            else model.prepare_keypoints(seen("keypoints", batch.keypoints)),
        }
    return Views(
        inputs=taken,
        rows=rows,
        present=present,
        has=has,
        index_B=there(batch.index),
        source_B=there(batch.source),
        keypoints_BJ3=there(batch.keypoints),
        joints={"rgb": there(batch.rgb_keypoints), "depth": there(batch.depth_keypoints)},
        anchors={"rgb": there(batch.rgb_anchors), "depth": there(batch.anchors)},
        rgb_to_depth_B23=None if (batch.rgb_to_depth == np.eye(2, 3)).all() else there(batch.rgb_to_depth),
        size=batch.rgb.shape[1],
    )
