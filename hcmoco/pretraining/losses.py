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

from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.schema import MAP_STRIDE, Batch
from hcmoco.data.transfer import send
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.mmv import COARSE, FINE, MMV
from hcmoco.models.multimodal import DENSE_MODALITIES, MultiModalEncoders, unit_length
from hcmoco.models.points.encoder import PointCloud, nearest_points
from hcmoco.models.sync_batch_norm import blank_rows
from hcmoco.objectives import (
    LOCAL,
    MODALITIES,
    Bank,
    ObjectiveConfig,
    Scope,
    Terms,
    dense_terms,
    draw_shape,
    sample_level,
    sample_terms,
    sparse_terms,
)
from hcmoco.rng import make_rng

_FINE, _COARSE = ("rgb", "depth"), ("rgb", "keypoints")  # what meets in each of MMV's spaces


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


def compute_terms(
    model: MultiModalEncoders,
    config: ObjectiveConfig,
    views: Views,
    banks: Mapping[str, Bank],
    draws: Tensor,
    *,
    stage: Literal[1, 2],
    encoded: tuple[dict[str, Any], Tensor] | None = None,
    embedded: dict[str, Tensor] | None = None,
    scope: Scope = LOCAL,
) -> tuple[Terms, dict[str, Tensor]]:
    """The terms of one batch, and its global embeddings [B, D] by modality (zeros where no encoder saw the row; none of
    a model that has no bank to keep them in, MMV).

    Args:
        views: of `to_device`, with the same `encode_absent` as `config`.
        draws: uniform draws for the negatives, see `draw_negatives`.
        stage: 1 has the sample level alone, 2 all three levels.
        encoded: of `encode`, for a caller that has use for the features itself.
        embedded: of `embed`, for a caller that has run the encoders itself.
        scope: whose rows are compared and averaged over.
    """
    found = embedded if embedded is not None else embed(model, views, stage=stage, encoded=encoded)
    if isinstance(model, MMV):
        return _mmv_terms(config, views, found, scope), {}
    embeddings = {name: found[f"global/{name}"] for name in MODALITIES}
    terms = sample_terms(config, embeddings, views.present, views.index_B, banks, draws, scope)
    if stage == 1:
        return terms, embeddings

    P = views.anchors["rgb"].shape[1]
    rgb_BCD, depth_BCD = found["dense/rgb"], found["dense/depth"]
    both_B = views.present["rgb"] & views.present["depth"]
    valid_BP = (views.anchors["rgb"] >= 0) & (views.anchors["depth"] >= 0) & both_B[:, None]
    cells_BP2, rgb_cells_BP2 = views.anchor_cells()
    terms |= dense_terms(config, rgb_BCD[:, :P], depth_BCD[:, :P], cells_BP2, valid_BP, scope, rgb_cells_BP2)
    return terms | sparse_terms(
        config,
        found["joints/keypoints"],
        rgb_BCD[:, P:],
        depth_BCD[:, P:],
        views.visible_by_modality,
        views.present,
        scope,
    ), embeddings


def embed(
    model: MultiModalEncoders, views: Views, *, stage: int, encoded: tuple[dict[str, Any], Tensor] | None = None
) -> dict[str, Tensor]:
    """All that the terms read of the rows, `<what>/<modality>` -> [B, ...], zeros in rows that no encoder saw.

    `global` [B, D] and, in stage 2, `dense` [B, P + J, D], at a row's anchors and joints, and `joints` [B, J, D]; of
    MMV `fine` and `coarse`.

    Args:
        stage: see `compute_terms`.
        encoded: of `encode`.
    """
    features, _ = encoded or encode(model, views)
    if isinstance(model, MMV):
        return _mmv_embeddings(model, views, features)
    width, found = model.config.embedding, {}
    for name in MODALITIES:
        found[f"global/{name}"] = (
            views.spread(name, model.global_embedding(name, features[name]))
            if name in features
            else views.nothing(width)
        )
    if stage == 1:
        return found
    for name in DENSE_MODALITIES:
        # Anchors and joints are read in one go: the first P cells of a row are its anchors, the other J its joints.
        cells_BC = torch.cat([views.anchors[name], model.joint_cells(views.joints[name], views.size)], 1)
        if name not in features:
            found[f"dense/{name}"] = views.nothing(cells_BC.shape[1], width)
            continue
        cells_RC = cells_BC[views.rows[name]]
        if getattr(model.config, name).is_points:
            cells_RC = _points_of(views, name, features[name])
        found[f"dense/{name}"] = views.spread(name, model.dense_at(name, features[name], cells_RC))
    found["joints/keypoints"] = (
        views.spread("keypoints", model.joint_embedding(features["keypoints"]))
        if "keypoints" in features
        else views.nothing(views.keypoints_BJ3.shape[1], width)
    )
    return found


def _points_of(views: Views, name: str, features: list[Tensor]) -> Tensor:
    """int64 [R, P + J]: the points that are compared with RGB: those that lie in the anchors' cells, which are the
    first P, and to each joint the nearest."""
    rows_R = views.rows[name]
    anchors_P = torch.arange(views.anchors[name].shape[1], device=rows_R.device)
    joints_RJ = nearest_points(features, views.joints[name][rows_R, :, :2])
    return torch.cat([anchors_P.expand(len(rows_R), -1), joints_RJ], 1)


def encode(model: MultiModalEncoders, views: Views, names: Iterable[str] = MODALITIES) -> tuple[dict[str, Any], Tensor]:
    """Features of the rows that each encoder sees, by modality (none: the modality is left out, or has no row where
    `views` are collective), and which joints are visible, [B, J].

    Args:
        names: modalities whose encoders are run.
    """
    visible_BJ = views.visible
    encoders: dict[str, Callable[[Any, Tensor], Any]] = {
        "rgb": lambda x, _: model.encode_rgb(x),
        "depth": lambda x, _: model.encode_depth(x),
        "keypoints": lambda x, rows_R: model.encode_keypoints(x, visible_BJ[rows_R]),
    }
    features = {}
    for name in names:
        encoder = encoders[name]
        rows_R, x = views.rows[name], views.inputs[name]
        if len(rows_R):
            with views.layers.of(name, rows_R) if views.layers else nullcontext():
                features[name] = encoder(x, rows_R)
        elif views.collective:
            blank = x.blank() if isinstance(x, PointCloud) else x.new_zeros((1, *x.shape[1:]))
            first = rows_R.new_zeros(1)
            with blank_rows(), views.layers.of(name, first) if views.layers else nullcontext():
                found = encoder(blank, first)
            features[name] = [each[:0] for each in found] if isinstance(found, list) else found[:0]
    return features, visible_BJ


def _mmv_embeddings(model: MMV, views: Views, features: dict[str, Any]) -> dict[str, Tensor]:
    fine = {name: model.fine(name, features[name]) for name in DENSE_MODALITIES if name in features}
    coarse = {"rgb": model.coarse("rgb", fine["rgb"])} if "rgb" in fine else {}
    if "keypoints" in features:
        coarse["keypoints"] = model.coarse("keypoints", features["keypoints"])
    return {
        f"{kind}/{name}": views.spread(name, unit_length(space[name])) if name in space else views.nothing(width)
        for kind, space, names, width in (("fine", fine, _FINE, FINE), ("coarse", coarse, _COARSE, COARSE))
        for name in names
    }


def _mmv_terms(config: ObjectiveConfig, views: Views, found: dict[str, Tensor], scope: Scope) -> Terms:
    """MMV's terms: RGB and depth find each other in the fine space, RGB and keypoints in the coarse one, in both
    directions, among the rows of the scope. Rows without depth enter the coarse terms alone."""
    terms = Terms()
    for kind, names in (("fine", _FINE), ("coarse", _COARSE)):
        embeddings = {name: found[f"{kind}/{name}"] for name in names}
        terms |= sample_level(embeddings, views.present, views.index_B, {}, tau=config.tau_g, scope=scope)
    return terms
