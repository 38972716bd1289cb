"""The optimiser and its learning-rate schedule."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from hcmoco.config import Config


class OptimConfig(Config):
    """Optimiser and schedule. Defaults are the paper's release: SGD 0.03, momentum 0.9, weight decay 1e-4, a cosine per stage to 0.001 of
    the peak, no warm-up, no clipping."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw (betas 0.9, 0.999)")
    lr: float = Field(0.03, gt=0, allow_inf_nan=False, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; adamw ignores it")
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False, description="on every parameter, as released")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up at the start of each cosine")
    final_lr: float = Field(0.001, ge=0, le=1, description="learning rate at the end of the cosine, as a share of the peak")
    restart: bool = Field(True, description="each stage has its own optimiser state and cosine; off: one of each over the whole run")
    clip_norm: float = Field(0.0, ge=0, allow_inf_nan=False, description="limit of the gradient's global L2 norm; 0: no clipping")


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of step `step` (0-based) of a schedule of `steps`: linear warm-up, then a cosine from the peak to `final_lr` of it."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """An optimiser over all parameters of `model`, in the order of `named_parameters`."""
    parameters = list(model.parameters())
    if config.name == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors, `<parameter>|<slot>`: what a file without pickles can hold."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{name}|{slot}"] = torch.as_tensor(value)
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `optimizer_tensors`, in place. ValueError for a tensor that fits no parameter of the model."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, slot = key.rpartition("|")
        parameter = parameters.get(name)
        # Adam's step count stays on the host, as torch.optim keeps it there unless told otherwise. Every other slot lies in memory as its
        # parameter does (channels last), so that an update of it takes the kernel that it always took.
        if parameter is not None and slot == "step" and not value.ndim:
            optimizer.state[parameter][slot] = value.to("cpu", copy=True)
        elif parameter is not None and value.shape == parameter.shape:
            optimizer.state[parameter][slot] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        else:
            raise ValueError(f"optimiser state {key!r} of shape {list(value.shape)} fits no parameter of this model")
