"""The optimizer, its config, and its state as named tensors."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator

from hcmoco.config import Config
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.muon import Muon


class OptimConfig(Config):
    """Optimizer and schedule. Defaults are the paper's release: SGD 0.03, momentum 0.9, weight decay 1e-4, a cosine per
    stage to 0.001 of the peak, no warm-up, no clipping."""

    renamed: ClassVar = {"drop_factor": "gamma", "drops": "milestones"}

    name: Literal["sgd", "adam", "adamw", "muon"] = Field(
        "sgd",
        description="sgd (with momentum), adam (weight decay as L2 in the gradient) or adamw; betas 0.9, 0.999. muon: "
        "adamw with orthogonal updates of matrices, which learns more in a step, at larger learning rates",
    )
    lr: float = Field(0.03, gt=0, allow_inf_nan=False, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; the others ignore it")
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False, description="on every parameter, as released")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up at the start of each cosine")
    schedule: Literal["cosine", "poly", "multistep"] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    final_lr: float = Field(
        0.001, ge=0, le=1, description="of cosine: learning rate at its end, as a share of the peak"
    )
    power: float = Field(0.9, gt=0, allow_inf_nan=False, description="of poly: (1 - progress) to this power")
    milestones: tuple[float, ...] = Field(
        (), description="of multistep: shares of the run at which the learning rate is multiplied by gamma"
    )
    gamma: float = Field(0.1, gt=0, lt=1, description="of multistep")
    restart: bool = Field(
        True, description="each stage has its own optimizer state and cosine; off: one of each over the whole run"
    )
    clip_norm: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="limit of the gradient's global L2 norm; 0: no clipping"
    )

    @field_validator("schedule", mode="before")
    @classmethod
    def _renamed_schedule(cls, schedule: object) -> object:
        if schedule == "drops":
            raise ValueError("this schedule is now called 'multistep'")
        return schedule


def build_optimizer(
    config: OptimConfig,
    flat: FlatParameters,
    scales: Mapping[str, float] | None = None,
    *,
    fused_sgd: bool | None = None,
) -> torch.optim.Optimizer:
    """Build an optimizer over the parts of `flat`.

    Args:
        config: which, and its constants.
        flat: the parameters.
        scales: part -> its learning rate relative to the others'.
        fused_sgd: whether SGD updates in one kernel; None: on a GPU. On a CPU that rounds otherwise. Adam and AdamW
            always do.
    """
    scales = scales or {}
    groups = [
        {"params": [part], "lr": config.lr, "scale": scales.get(child, 1.0)} for child, part in flat.parts.items()
    ]
    if config.name == "sgd":
        fused = (flat.values.is_cuda if fused_sgd is None else fused_sgd) or None
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
        )
    if config.name == "muon":
        return Muon(groups, flat, config.lr, config.weight_decay)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every part `rate` times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, flat: FlatParameters) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as named tensors, `<parameter>|<slot>`: what a file without pickles can hold."""
    tensors = {}
    for name in flat.names:
        for slot, value in optimizer.state.get(flat.part_of(name), {}).items():
            if value is not None:
                tensors[f"{name}|{slot}"] = flat.view(name, value) if value.ndim else value.clone()
    return tensors


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, flat: FlatParameters, tensors: dict[str, torch.Tensor]
) -> None:
    """Load a copy of what `optimizer_tensors` returned. Parameters that `tensors` does not name start fresh, with their
    whole part.

    Raises ValueError for a tensor that fits no parameter, for a part of which only some parameters are named, and for
    one whose parameters have taken different numbers of steps.
    """
    slots: dict[tuple[str, str], torch.Tensor] = {}
    for key, value in tensors.items():
        name, _, slot = key.rpartition("|")
        if name not in flat.names or value.shape != (() if slot == "step" else flat.shape(name)):
            raise ValueError(f"optimizer state {key!r} of shape {list(value.shape)} fits no parameter of this model")
        slots[name, slot] = value
    for child, part in flat.parts.items():
        inside = [name for name in flat.names if flat.part_of(name) is part]
        for slot in {slot for name, slot in slots if name in inside}:
            missing = [name for name in inside if (name, slot) not in slots]
            if missing:
                raise ValueError(f"optimizer state lacks {slot} of {missing[0]}, which others in {child} have")
            optimizer.state[part][slot] = _joined(flat, part, {name: slots[name, slot] for name in inside}, slot)


def _joined(flat: FlatParameters, part: torch.nn.Parameter, values: dict[str, torch.Tensor], slot: str) -> torch.Tensor:
    if slot == "step":
        steps = {value.item() for value in values.values()}
        if len(steps) > 1:
            raise ValueError(
                f"optimizer state: {next(iter(values))} and its neighbors have taken {sorted(steps)} steps"
            )
        return torch.tensor(steps.pop(), dtype=torch.float32, device=part.device)
    vector = torch.zeros_like(part.detach())
    for name, value in values.items():
        flat.view(name, vector).copy_(value)
    return vector
