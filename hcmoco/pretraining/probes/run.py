"""Probes of a pre-trained model on held-out people: no labels, no training, a few seconds.

    views = make_views(people, joints="people-31", target_joints="mpii-16", depth_codec="png16", size=96, count=256)
    print(probe(model, views, ProbeConfig()).table())

Shape suffixes: N all people, B those of one batch, D embedding, J joints, S pixels, H, W cells.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hcmoco.config import Config
from hcmoco.data.schema import MODALITIES
from hcmoco.data.skeletons import joint_set
from hcmoco.models.multimodal import MultiModalEncoders, evaluation_mode
from hcmoco.pretraining.probes.collapse import effective_rank, pair_gap
from hcmoco.pretraining.probes.correspondence import Correspondence, correspond
from hcmoco.pretraining.probes.joints import at_joints, draw_partners, either_side, same_joint
from hcmoco.pretraining.probes.nearest import closeness, cosine
from hcmoco.pretraining.probes.picture import compose
from hcmoco.pretraining.probes.result import ProbeResult
from hcmoco.pretraining.probes.retrieval import layout, retrieve
from hcmoco.pretraining.probes.views import PICTURE_PEOPLE, CropConfig, Crops, ProbeViews, make_views
from hcmoco.rng import make_rng
from hcmoco.training.precision import float32

__all__ = [
    "PICTURE_PEOPLE",
    "CropConfig",
    "ProbeConfig",
    "ProbeResult",
    "ProbeViews",
    "feature_picture",
    "make_views",
    "probe",
]


class ProbeConfig(Config):
    """What is probed, and how often. It decides nothing about the training."""

    renamed: ClassVar = {
        "people": "num_people",
        "people_during": "num_people_during_training",
        "cells": "num_positions",
        "partners": "num_partners",
    }

    num_people: int = Field(256, ge=2, description="held-out people of a full probe; retrieval is among this many")
    num_people_during_training: int = Field(64, ge=2, description="people of the small probe during training")
    every: int = Field(200, ge=0, description="steps between two small probes; 0: none")
    beside: bool | None = Field(
        None,
        description="run the small probes on a copy of the model beside the next steps, which takes its memory once "
        "more, and not between two steps. null: on a GPU, but not with train.precision=tf32, which PyTorch turns off "
        "for a whole process, and probes are float32",
    )
    batch_size: int = Field(32, ge=1, description="people encoded at once")
    tolerance: float = Field(
        0.05, gt=0, le=1, description="a dense match within this share of the person's height is right"
    )
    num_positions: int = Field(
        256, ge=1, description="positions matched per person and direction; all positions on the body are candidates"
    )
    num_partners: int = Field(4, ge=1, description="other people that each person's joints are looked for in")
    crops: CropConfig = CropConfig()

    def due(self, step: int, steps: int) -> bool:
        """Return whether a small probe follows step `step` of `steps`, counted from 1."""
        return self.every > 0 and step % self.every == 0 and step < steps


def probe(model: MultiModalEncoders, views: ProbeViews, config: ProbeConfig | None = None) -> ProbeResult:
    """All figures of one model: retrieval, dense correspondence and joints across people, see the modules of these
    names.

    The model is used in evaluation mode where it is, and left as it was. Memory is that of one batch plus, per person,
    six global embeddings and two sets of joints' features.
    """
    config = ProbeConfig() if config is None else config
    # Retrieval compares all with all, the other two look at one batch and may forget its maps.
    parts: dict[str, list] = defaultdict(list)
    with _evaluating(model) as device:
        for start in range(0, len(views), config.batch_size):
            _look_at(model, views, slice(start, start + config.batch_size), config, device, parts)
        result = ProbeResult(people=len(views))
        _retrieval(result, {key: torch.cat(value) for key, value in parts.items() if key.startswith("global")}, views)
        _dense(result, parts)
        _joints(
            result, {key: torch.cat(value) for key, value in parts.items() if key.startswith("joints")}, views, config
        )
    return result


def feature_picture(
    model: MultiModalEncoders, views: ProbeViews, people: int = PICTURE_PEOPLE, title: str = ""
) -> np.ndarray:
    """uint8 [H, W, 3].

    The dense embeddings of the first people, at most PICTURE_PEOPLE of them, see `probes.picture`.
    """
    crops = views.upright.rows(slice(people))
    with _evaluating(model) as device:
        maps = {name: model.dense_map(name, _pyramid(model, name, crops, device)) for name in ("rgb", "depth")}
        return compose(
            crops.rgb,
            crops.depth,
            maps["rgb"],
            maps["depth"],
            _on(crops.body, device),
            _on(crops.silhouettes, device),
            title=title,
        )


@contextmanager
def _evaluating(model: MultiModalEncoders) -> Iterator[torch.device]:
    """Evaluation mode, float32 and no gradients inside; every module's own mode again after. Gives the device."""
    with evaluation_mode(model), torch.no_grad(), float32():
        yield next(model.parameters()).device


def _on(array: np.ndarray, device: torch.device | str) -> Tensor:
    # Views may lie in shared memory that nobody may write to; PyTorch knows no such tensor, so those are copied.
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def _pyramid(model: MultiModalEncoders, modality: str, crops: Crops, device: torch.device) -> list[Tensor]:
    if modality == "rgb":
        return model.encode_rgb(model.prepare_rgb(_on(crops.rgb, device)))
    if crops.points.shape[1]:
        return model.encode_depth(
            model.prepare_points(*(_on(each, device) for each in (crops.depth, crops.points, crops.rays)))
        )
    return model.encode_depth(model.prepare_depth(_on(crops.depth, device)))


def _look_at(
    model: MultiModalEncoders,
    views: ProbeViews,
    rows: slice,
    config: ProbeConfig,
    device: torch.device,
    parts: dict[str, list],
) -> None:
    """Encodes one batch of people in both crops and keeps what outlives it."""
    crops = [views.first_crop.rows(rows), views.second_crop.rows(rows)]
    maps: dict[tuple[str, int], Tensor] = {}
    for number, crop in enumerate(crops):
        for name in ("rgb", "depth"):
            pyramid = _pyramid(model, name, crop, device)
            parts[f"global/{name}/{number}"].append(model.global_embedding(name, pyramid))
            maps[name, number] = model.dense_map(name, pyramid).float()
        keypoints_BJ3 = _on(crop.keypoints, device)
        features_BJD = model.encode_keypoints(model.prepare_keypoints(keypoints_BJ3), keypoints_BJ3[..., 2])
        parts[f"global/keypoints/{number}"].append(model.global_embedding("keypoints", features_BJD))
    body = [_on(crop.body, device) for crop in crops]
    affine = [_on(crop.affines, device) for crop in crops]
    height_B = _on(views.heights[rows], device)
    for query, gallery in (("rgb", "depth"), ("depth", "rgb")):
        for name, other in (("same_crop", 0), ("different_crops", 1)):
            found = correspond(
                maps[query, 0],
                maps[gallery, other],
                body[0],
                body[other],
                affine[0],
                affine[other],
                height_B,
                tolerance=config.tolerance,
                most_queries=config.num_positions,
            )
            parts[f"dense_{name}/{query}_to_{gallery}"].append(found)
        parts[f"joints/{query}"].append(at_joints(maps[query, 0], _on(crops[0].keypoints, device)))


def _retrieval(result: ProbeResult, embeddings: dict[str, Tensor], views: ProbeViews) -> None:
    for name in MODALITIES:
        result.signals[f"effective_rank/{name}"] = effective_rank(embeddings[f"global/{name}/0"])
    boxes = [layout(_on(crop.silhouettes, "cpu")) for crop in (views.first_crop, views.second_crop)]
    for name, other in (("same_crop", 0), ("different_crops", 1)):
        framing_N = retrieve(closeness(boxes[0], boxes[other]))
        for query in MODALITIES:
            for gallery in MODALITIES:
                if query != gallery:
                    alike_NN = cosine(embeddings[f"global/{query}/0"], embeddings[f"global/{gallery}/{other}"])
                    found_N = retrieve(alike_NN)
                    result.add(f"retrieval_{name}/{query}_to_{gallery}", found_N.cpu(), 1 / len(views), framing_N)
                    result.signals[f"pair_gap_{name}/{query}_to_{gallery}"] = pair_gap(alike_NN)
        result.add_mean(f"retrieval_{name}/mean", f"retrieval_{name}/")


def _dense(result: ProbeResult, parts: dict[str, list]) -> None:
    for name in ("dense_same_crop", "dense_different_crops"):
        for direction in ("rgb_to_depth", "depth_to_rgb"):
            found = Correspondence(
                *(
                    torch.cat([getattr(each, field.name) for each in parts[f"{name}/{direction}"]]).cpu()
                    for field in fields(Correspondence)
                )
            )
            result.add(f"{name}/{direction}", found.score, found.chance, found.position)
            result.note(f"{name}/{direction}: body cells asked", found.answerable)
        result.add_mean(f"{name}/mean", f"{name}/")


def _joints(result: ProbeResult, features: dict[str, Tensor], views: ProbeViews, config: ProbeConfig) -> None:
    features = {key: value.cpu() for key, value in features.items()}
    keypoints_NJ3 = _on(views.first_crop.keypoints, "cpu")
    visible_NJ, places_NJ2 = keypoints_NJ3[..., 2] > 0, keypoints_NJ3[..., :2]
    partners_NK = torch.from_numpy(
        draw_partners(views.subjects, config.num_partners, make_rng(views.seed, "probe partners", len(views)))
    )
    for name, same_JJ in (("joint", None), ("joint_either_side", either_side(joint_set(views.joint_set).flip))):
        position_N, _ = same_joint(
            places_NJ2, places_NJ2, visible_NJ, visible_NJ, partners_NK, same_JJ=same_JJ, measure=closeness
        )
        for gallery in ("rgb", "depth"):
            found_N, chance_N = same_joint(
                features["joints/rgb"],
                features[f"joints/{gallery}"],
                visible_NJ,
                visible_NJ,
                partners_NK,
                same_JJ=same_JJ,
            )
            result.add(f"{name}/rgb_to_{gallery}", found_N, chance_N, position_N)
