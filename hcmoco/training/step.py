"""One training step: a batch to the device, through the encoders, to the terms of the objective and back.

Shapes: B rows of this worker, R rows of them that have the modality, P anchors, J joints, D embedding, K drawn bank rows, N bank rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hcmoco import draws
from hcmoco.models.hcmoco import HCMoCo
from hcmoco.models.inputs import normalise_depth, normalise_keypoints, normalise_rgb
from hcmoco.objectives import MODALITIES, MemoryBank, ObjectiveConfig, Terms, dense_terms, joint_terms, sample_terms
from hcmoco.schema import Batch
from hcmoco.training import collective


@dataclass
class Views:
    """A batch on the device. An encoder sees only the rows that have its modality: `rows[m]` int64 [R_m] says which of the B they are."""

    inputs: dict[str, Tensor]
    rows: dict[str, Tensor]
    present: dict[str, Tensor]
    index_B: Tensor
    keypoints_BJ3: Tensor
    anchors_BP: Tensor

    def scatter(self, modality: str, values_R: Tensor) -> Tensor:
        """[R_m, ...] -> [B, ...], zeros in the rows without the modality."""
        full = values_R.new_zeros((len(self.index_B), *values_R.shape[1:]))
        return full.index_copy(0, self.rows[modality], values_R)


def to_device(batch: Batch, device: torch.device) -> Views:
    """Copies a batch to `device` and normalises it there (Section 3 of the paper leaves this open; see `models.inputs`)."""

    def send(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    has = {"rgb": batch.has_rgb, "depth": batch.has_depth, "keypoints": batch.has_keypoints}
    # The row numbers are found on the host, where presence is known: no wait for the device.
    rows = {name: np.flatnonzero(flags) for name, flags in has.items()}
    inputs = {
        "rgb": normalise_rgb(send(batch.rgb[rows["rgb"]])),
        "depth": normalise_depth(send(batch.depth[rows["depth"]])),
        "keypoints": normalise_keypoints(send(batch.keypoints[rows["keypoints"]])),
    }
    return Views(
        inputs,
        {name: send(each) for name, each in rows.items()},
        {name: send(flags) for name, flags in has.items()},
        send(batch.index),
        send(batch.keypoints),
        send(batch.anchors),
    )
