"""A train state and the model it is of: taking one, and going on from it."""

from typing import Any

import torch
from torch import nn

from hcmoco.errors import UserError
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import load_optimizer_tensors, optimizer_tensors


def capture(
    model: nn.Module, optimizer: torch.optim.Optimizer, flat: FlatParameters, *, step: int, **facts: Any
) -> TrainState:
    """The state after `step` steps; `facts` are the other fields of a TrainState.

    UserError if a weight is no longer finite: a state is good or it is not kept.
    """
    bad = [name for name, each in model.named_parameters() if not each.isfinite().all()]
    if bad:
        raise UserError(
            f"the weights {bad[0]} are no longer finite after step {step}; lower optim.lr, or set optim.clip_norm"
        )
    return TrainState(step=step, model=model.state_dict(), optimizer=optimizer_tensors(optimizer, flat), **facts)


def restore(
    state: TrainState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    flat: FlatParameters,
    *,
    where: str,
    libraries: str,
) -> None:
    """Copies the weights and the optimiser's slots of a state. UserError, naming the `libraries` whose versions matter, where they are
    not those of this model: another release may name them otherwise."""
    try:
        model.load_state_dict(state.model)
        load_optimizer_tensors(optimizer, flat, state.optimizer)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the train state in {where} does not fit this model ({' '.join(str(error).split())[:200]}); go on with the versions of "
            f"{libraries} that wrote it, or choose another folder with out=..."
        ) from None
