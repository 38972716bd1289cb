"""One optimizer step: backward, average over the workers, clip, update."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hcmoco.training.averaging import Averaging
from hcmoco.training.flat_grads import FlatParameters, child_of
from hcmoco.training.optim import (
    OptimConfig,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)

AfterBackward = Callable[[Callable[[], AbstractContextManager]], None]
"""Adds to gradients after the backward pass of a loss; it is given the context for its own last backward pass."""


class OptimStep:
    """The optimizer of a model, with the model's parameters and gradients in flat vectors.

    Args:
        model: on its device, in its memory layout; after a change of either, or where it gains parameters, make a new
            one.
        scales: a child of the model, or a module or parameter inside one, by its dotted name -> its learning rate
            relative to the others'. The longest name that fits a parameter counts.

    Attributes:
        mean_flag: 0-d, mean of the workers' flags in the last step.
    """

    def __init__(self, model: nn.Module, config: OptimConfig, scales: Mapping[str, float] | None = None):
        self.model, self.config, self.scales = model, config, scales
        self.flat = FlatParameters(model, part_of=lambda name: part_of(name, scales or {}))
        self.optimizer = build_optimizer(config, self.flat, scales)
        self.averaging = Averaging(self.flat, model)
        self.mean_flag = torch.tensor(0.0)

    def step(
        self, loss: Tensor, lr: float, then: AfterBackward | None = None, flag: float = 0.0, *, overlap: bool = True
    ) -> Tensor:
        """Update the weights by the gradient of `loss`, averaged over the workers; every worker must call it.

        Args:
            loss: 0-d; one that requires no gradient (no row of this worker has any modality) counts as a gradient of
                zero.
            lr: learning rate of this step.
            then: called after the backward pass of `loss`, where that does not reach all weights by itself; adds to
                their gradients. It is given the context in which to run its last backward pass.
            flag: a number of this worker whose mean over the workers becomes `mean_flag`.
            overlap: whether gradients are sent while the backward pass goes on.

        Returns:
            0-d, on the device: L2 norm of the gradient before clipping.
        """
        set_learning_rate(self.optimizer, lr)
        self.flat.gradients.zero_()
        self.averaging.begin()
        last = self.averaging.overlapping if overlap else nullcontext
        if loss.requires_grad:
            with nullcontext() if then else last():
                loss.backward()
        if then:
            then(last)
        self.mean_flag = self.averaging.finish(flag)
        norm = self.flat.clip(self.config.clip_norm or float("inf"))
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Return the optimizer's slots as named tensors, `<parameter>|<slot>`; they share memory with the optimizer."""
        return optimizer_tensors(self.optimizer, self.flat)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the optimizer's slots by copies of `tensors`; children of the model that have none start fresh.

        Raises:
            ValueError: a tensor fits no parameter, or only some parameters of a child have one.
        """
        self.optimizer = build_optimizer(self.config, self.flat, self.scales)
        load_optimizer_tensors(self.optimizer, self.flat, dict(tensors))


def part_of(name: str, scales: Mapping[str, float]) -> str:
    """Return the part of a parameter: the longest name in `scales` that it is inside of, else its child of the
    model."""
    fitting = [scaled for scaled in scales if name == scaled or name.startswith(f"{scaled}.")]
    return max(fitting, key=len, default=child_of(name))
