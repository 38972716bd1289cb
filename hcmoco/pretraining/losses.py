"""The terms of the objective of one batch: to the device, through the encoders, to the levels.

Shape suffixes: B rows of this worker, R rows of them that an encoder sees, P anchors, J joints, D embedding.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hcmoco.data.schema import MAP_STRIDE, Batch
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.mmv import COARSE, FINE, MMV
from hcmoco.models.multimodal import DENSE_MODALITIES, MultiModalEncoders, unit_length
from hcmoco.objectives import (
    MODALITIES,
    Bank,
    ObjectiveConfig,
    Terms,
    dense_terms,
    draw_shape,
    sample_level,
    sample_terms,
    sparse_terms,
)
from hcmoco.rng import make_rng


@dataclass
class Views:
    """A batch on the device, normalized. An encoder sees only the rows that have its modality, or (the release) all of
    them.

    Attributes:
        inputs: modality -> [R, ...], what its encoder takes.
        rows: modality -> int64 [R], which of the B rows these are, ascending.
        present: modality -> bool [B].
        keypoints_BJ3: x, y in pixels of the crop, visibility.
        anchors_BP: flat stride-4 cells, -1 where there is none.
        size: side of the crop in pixels.
        layers: what the encoders' layers draw from in training; None: torch's generator.
    """

    inputs: dict[str, Tensor]
    rows: dict[str, Tensor]
    present: dict[str, Tensor]
    index_B: Tensor
    source_B: Tensor
    keypoints_BJ3: Tensor
    anchors_BP: Tensor
    size: int
    layers: LaneDraws | None = None

    def spread(self, modality: str, values_R: Tensor) -> Tensor:
        """[R, ...] -> [B, ...], zeros in the rows that the encoder did not see."""
        if len(values_R) == len(self.index_B):
            return values_R
        return values_R.new_zeros((len(self.index_B), *values_R.shape[1:])).index_copy(0, self.rows[modality], values_R)


def draw_negatives(
    config: ObjectiveConfig, *, seed: int, step: int, lanes: Iterable[int], batch_size_per_lane: int
) -> np.ndarray:
    """The float64 uniform draws of a step that `compute_terms` wants from the worker that serves `lanes`.

    One set [K] for everybody, or (the release) [B, K], keyed by each row's lane: the same for any number of workers.
    """
    if not config.release.per_sample_negatives:
        return make_rng(seed, "negatives", step).random(draw_shape(config, 0))
    shape = draw_shape(config, batch_size_per_lane)
    return np.concatenate([make_rng(seed, "negatives", step, lane).random(shape) for lane in lanes])


def to_device(batch: Batch, device: torch.device, model: MultiModalEncoders, *, encode_absent: bool = False) -> Views:
    """Copies a batch to `device` and makes of its integers, there, what the encoders of `model` take.

    Args:
        encode_absent: give the encoders all rows; what a row lacks is zeros there, after normalization (the release).
    """

    def send(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    has = dict(zip(MODALITIES, (batch.has_rgb, batch.has_depth, batch.has_keypoints), strict=True))
    # Row numbers are found on the host, which knows the flags: the device is never waited for.
    rows = {name: np.arange(len(batch)) if encode_absent else np.flatnonzero(flags) for name, flags in has.items()}
    shown = rows["keypoints"]
    inputs = {
        "rgb": model.prepare_rgb(send(batch.rgb[rows["rgb"]])),
        "depth": model.prepare_depth(send(batch.depth[rows["depth"]])),
        # The release's skeletons do not follow the augmentation, and are normalized already.
        "keypoints": send(batch.released_keypoints[shown] * (batch.keypoints[shown][..., 2:] > 0))
        if model.config.polluted_keypoints
        else model.prepare_keypoints(send(batch.keypoints[shown])),
    }
    present = {name: send(flags) for name, flags in has.items()}
    if encode_absent:
        # Black is not zero once normalized; depth and keypoints are.
        inputs["rgb"] = inputs["rgb"].masked_fill(~present["rgb"][:, None, None, None], 0)
    return Views(
        inputs=inputs,
        rows={name: send(each) for name, each in rows.items()},
        present=present,
        index_B=send(batch.index),
        source_B=send(batch.source),
        keypoints_BJ3=send(batch.keypoints),
        anchors_BP=send(batch.anchors),
        size=batch.rgb.shape[1],
    )


def compute_terms(
    model: MultiModalEncoders,
    config: ObjectiveConfig,
    views: Views,
    banks: Mapping[str, Bank],
    draws: Tensor,
    *,
    stage: Literal[1, 2],
    encoded: tuple[dict[str, Any], Tensor] | None = None,
) -> tuple[Terms, dict[str, Tensor]]:
    """The terms of one batch, and its global embeddings [B, D] by modality (zeros where no encoder saw the row; none of
    a model that has no bank to keep them in, MMV).

    Args:
        views: of `to_device`, with the same `encode_absent` as `config`.
        draws: uniform draws for the negatives, see `draw_negatives`.
        stage: 1 has the sample level alone, 2 all three levels.
        encoded: of `encode`, for a caller that has use for the features itself.
    """
    features, visible_BJ = encoded or encode(model, views)
    if isinstance(model, MMV):
        return _mmv_terms(model, config, views, features), {}
    width = model.config.embedding
    embeddings = {}
    for name in MODALITIES:
        if name in features:
            embeddings[name] = views.spread(name, model.global_embedding(name, features[name]))
        else:
            embeddings[name] = torch.zeros(len(views.index_B), width, device=views.index_B.device)
    terms = sample_terms(config, embeddings, views.present, views.index_B, banks, draws)
    if stage == 1:
        return terms, embeddings

    # Anchors and joints are read in one go: the first P cells of a row are its anchors, the other J its joints.
    P, J = views.anchors_BP.shape[1], views.keypoints_BJ3.shape[1]
    grid = views.size // MAP_STRIDE
    joint_cells_BJ = model.joint_cells(views.keypoints_BJ3, views.size)
    cells_BC = torch.cat([views.anchors_BP, joint_cells_BJ], 1)
    dense = {}
    for name in DENSE_MODALITIES:
        if name in features:
            at_RCD = model.dense_at(name, features[name], cells_BC[views.rows[name]])
            dense[name] = views.spread(name, at_RCD)
        else:
            dense[name] = torch.zeros(len(views.index_B), P + J, width, device=views.index_B.device)
    valid_BP = (views.anchors_BP >= 0) & (views.present["rgb"] & views.present["depth"])[:, None]
    cells_BP2 = torch.stack([views.anchors_BP // grid, views.anchors_BP % grid], -1).float()
    terms |= dense_terms(config, dense["rgb"][:, :P], dense["depth"][:, :P], cells_BP2, valid_BP)

    if "keypoints" in features:
        skeleton_BJD = views.spread("keypoints", model.joint_embedding(features["keypoints"]))
    else:
        skeleton_BJD = torch.zeros(len(views.index_B), J, width, device=views.index_B.device)
    return terms | sparse_terms(
        config, skeleton_BJD, dense["rgb"][:, P:], dense["depth"][:, P:], visible_BJ, views.present
    ), embeddings


def encode(model: MultiModalEncoders, views: Views) -> tuple[dict[str, Any], Tensor]:
    """Features of the rows that each encoder sees, by modality (none: the modality is left out), and which joints are
    visible, [B, J]."""
    visible_BJ = (views.keypoints_BJ3[..., 2] > 0) & views.present["keypoints"][:, None]
    encoders: dict[str, Callable[[Tensor], Any]] = {
        "rgb": model.encode_rgb,
        "depth": model.encode_depth,
        "keypoints": lambda x: model.encode_keypoints(x, visible_BJ[views.rows["keypoints"]]),
    }
    features = {}
    for name, encoder in encoders.items():
        if len(views.rows[name]):
            with views.layers.of(name, views.rows[name]) if views.layers else nullcontext():
                features[name] = encoder(views.inputs[name])
    return features, visible_BJ


def _mmv_terms(model: MMV, config: ObjectiveConfig, views: Views, features: dict[str, Any]) -> Terms:
    """MMV's terms: RGB and depth find each other in the fine space, RGB and keypoints in the coarse one, in both
    directions, among the worker's rows of the batch. Rows without depth enter the coarse terms alone."""
    fine = {name: model.fine(name, features[name]) for name in DENSE_MODALITIES if name in features}
    coarse = {"rgb": model.coarse("rgb", fine["rgb"])} if "rgb" in fine else {}
    if "keypoints" in features:
        coarse["keypoints"] = model.coarse("keypoints", features["keypoints"])
    terms = Terms()
    for space, names, width in ((fine, ("rgb", "depth"), FINE), (coarse, ("rgb", "keypoints"), COARSE)):
        nothing_BD = torch.zeros(len(views.index_B), width, device=views.index_B.device)
        embeddings = {
            name: views.spread(name, unit_length(space[name])) if name in space else nothing_BD for name in names
        }
        terms |= sample_level(embeddings, views.present, views.index_B, {}, tau=config.tau_g)
    return terms
