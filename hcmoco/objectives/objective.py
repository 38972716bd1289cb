"""The objective (Eq. 1): the terms that a config asks for, and their weighted sum.

Shape suffixes: B samples of the batch, D embedding width, J joints, K drawn bank rows, P anchor cells.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hcmoco.objectives.config import ObjectiveConfig
from hcmoco.objectives.dense import dense_intra
from hcmoco.objectives.loss_terms import Terms
from hcmoco.objectives.memory_bank import Bank
from hcmoco.objectives.sample import sample_level
from hcmoco.objectives.scope import LOCAL, Scope
from hcmoco.objectives.sparse import joint_inter, joint_intra

Level = Literal["sample", "full"]  # the first stage's objective, and the second's
GROUPS: dict[Level, tuple[str, ...]] = {"sample": ("g",), "full": ("g", "d", "s")}


def new_bank(
    config: ObjectiveConfig,
    samples: int,
    width: int,
    generator: np.random.Generator,
    device: torch.device | str = "cpu",
    members: np.ndarray | None = None,
) -> Bank:
    """A bank as the run starts with it.

    Args:
        samples: of the run.
        width: of an embedding.
        generator: used where the config starts from random rows.
        members: of `choose_members`; None: all samples have a row.
    """
    size = samples if members is None else len(members)
    bank = (
        Bank.empty(size, width, device)
        if config.release.bank_start == "empty"
        else Bank.random(size, width, generator, device)
    )
    bank.members = None if members is None else torch.from_numpy(members).to(device)
    return bank


def draw_shape(config: ObjectiveConfig, batch: int) -> tuple[int, ...]:
    """Shape of the float64 uniform draws in [0, 1) that `sample_terms` wants for a step: (K,), or (B, K) for per-sample
    negatives."""
    return (batch, config.num_negatives) if config.release.per_sample_negatives else (config.num_negatives,)


def sample_terms(
    config: ObjectiveConfig,
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    index_B: Tensor,
    banks: Mapping[str, Bank],
    draws: Tensor,
    scope: Scope = LOCAL,
) -> Terms:
    """The g terms; see `sample_level`.

    One set of draws (`draw_shape`) serves all banks. Call `update_banks` after the backward pass.
    """
    gather = Bank.gather_per_sample if config.release.per_sample_negatives else Bank.gather
    return sample_level(
        embeddings,
        present,
        index_B,
        {name: gather(bank, draws) for name, bank in banks.items()} if config.num_negatives else {},
        tau=config.tau_g,
        in_batch=config.in_batch_negatives,
        stale={name: bank.own(index_B) for name, bank in banks.items()} if config.release.positive == "bank" else None,
        scope=scope,
    )


def update_banks(
    config: ObjectiveConfig,
    banks: Mapping[str, Bank],
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    index_B: Tensor,
) -> None:
    """Writes a step's embeddings, gathered from all workers in one fixed order, into the banks."""
    for name, bank in banks.items():
        taken_B = torch.ones_like(present[name]) if config.release.absent_in_bank else present[name]
        bank.update(embeddings[name], index_B, taken_B, config.bank_momentum)


def dense_terms(
    config: ObjectiveConfig,
    rgb_BPD: Tensor,
    depth_BPD: Tensor,
    cells_BP2: Tensor,
    valid_BP: Tensor,
    scope: Scope = LOCAL,
    rgb_cells_BP2: Tensor | None = None,
) -> Terms:
    """The d terms; see `dense_intra`."""
    return dense_intra(
        rgb_BPD,
        depth_BPD,
        cells_BP2,
        valid_BP,
        tau=config.tau_d,
        target=config.dense_target,
        distance_scale=config.distance_scale,
        rgb_cells_BP2=rgb_cells_BP2,
        scope=scope,
    )


def sparse_terms(
    config: ObjectiveConfig,
    skeleton_BJD: Tensor,
    rgb_BJD: Tensor,
    depth_BJD: Tensor,
    visible: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    scope: Scope = LOCAL,
) -> Terms:
    """The s terms; see `joint_intra` and `joint_inter`.

    Args:
        visible: "rgb", "depth" and "keypoints" -> bool [B, J], the joint is marked visible and lies in the modality's
            crop; False for samples without keypoints. A skeleton and a picture are compared at the joints that both
            show.
        present: "rgb", "depth" and "keypoints" -> bool [B].
    """
    terms, used = Terms(), []
    for modality, dense_BJD in (("rgb", rgb_BJD), ("depth", depth_BJD)):
        marked_B = present[modality] & present["keypoints"]
        seen_BJ = visible[modality] & marked_B[:, None]
        terms |= joint_intra(
            skeleton_BJD,
            dense_BJD,
            seen_BJ & visible["keypoints"],
            tau=config.tau_s,
            modality=modality,
            release=config.release,
            scope=scope,
        )
        used.append(marked_B[:, None].expand_as(seen_BJ) if config.release.inter_invisible_joints else seen_BJ)
    return terms | joint_inter(
        rgb_BJD,
        depth_BJD,
        *used,
        tau=config.tau_s,
        release=config.release,
        scope=scope,
    )


def weight_of(term: str, config: ObjectiveConfig) -> float:
    """Return the lambda of a term's group. KeyError for a term of no known group."""
    return _weights(config)[term.split("/")[0]]


def _weights(config: ObjectiveConfig) -> dict[str, float]:
    return {"g": config.lambda_g, "d": config.lambda_d, "s": config.lambda_s}


def total(terms: Mapping[str, Tensor], config: ObjectiveConfig, level: Level) -> Tensor:
    """Return Eq. 1: each group's terms summed, as in the release, and weighted by its lambda.

    Level "sample" has g alone.

    Args:
        terms: `Terms.values`. Groups that the level does not have, or whose lambda is 0, are left out of the sum, NaN
            or not.
    Raises:
        ValueError: a group with a weight has no term, or a term is of no known group.
    """
    weights = _weights(config)
    if unknown := sorted(name for name in terms if name.split("/")[0] not in weights):
        raise ValueError(f"terms of no known group: {', '.join(unknown)}; groups are {', '.join(weights)}")
    sums = []
    for group in GROUPS[level]:
        members = [value for name, value in terms.items() if name.startswith(f"{group}/")]
        if not weights[group]:
            continue
        if not members:
            raise ValueError(f"lambda_{group} = {weights[group]:g} but there is no {group}/ term")
        sums.append(weights[group] * torch.stack(members).sum())
    if not sums:
        raise ValueError(
            f"level {level!r}: every weight of {', '.join(GROUPS[level])} is 0, so there is nothing to train"
        )
    return torch.stack(sums).sum()
