"""The terms of the objective of one batch: through the encoders, to the levels.

Shape suffixes: B rows of this worker, R rows of them that an encoder sees, P anchors, J joints, D embedding.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

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
from hcmoco.pretraining.views import Views
from hcmoco.rng import make_rng

_FINE, _COARSE = ("rgb", "depth"), ("rgb", "keypoints")  # what meets in each of MMV's spaces


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
