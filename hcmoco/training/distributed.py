"""What the workers of one step share: one gathered set of embeddings, and numbers. Their gradients: see `averaging`.

With one worker every function here is the identity.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def world() -> int:
    """Number of workers in the step."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of the step's workers this is."""
    return dist.get_rank() if dist.is_initialized() else 0


def running_statistics(model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The floating-point buffers of `model`, and batch norm's counts of batches."""
    counts = [each for name, each in model.named_buffers() if name.endswith("num_batches_tracked")]
    return [each for each in model.buffers() if each.is_floating_point()], counts


def gather_lanes(tensor: torch.Tensor, lanes_here: int) -> torch.Tensor:
    """The rows of all workers in the order of the lanes.

    Args:
        tensor: [B, ...], the rows of this worker's lanes r, r + W, r + 2W, ... one after the other, equally many each.
    Returns:
        [W * B, ...], rows of lane 0, lane 1, ...: the same order for any number of workers.
    """
    if world() == 1:
        return tensor
    gathered = torch.empty((world(), *tensor.shape), dtype=tensor.dtype, device=tensor.device)
    dist.all_gather_into_tensor(gathered.view(-1, *tensor.shape[1:]), tensor.contiguous())
    by_lane = gathered.view(world(), lanes_here, -1, *tensor.shape[1:]).transpose(0, 1)
    return by_lane.reshape(-1, *tensor.shape[1:])


def own_lanes(gathered: torch.Tensor, lanes_here: int) -> torch.Tensor:
    """This worker's rows [B, ...] of gathered ones [W * B, ...]: undoes `gather_lanes`."""
    if world() == 1:
        return gathered
    by_lane = gathered.unflatten(0, (world() * lanes_here, -1))
    return by_lane[rank() :: world()].flatten(0, 1)


class _GatherLanes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, lanes_here: int) -> torch.Tensor:
        ctx.lanes_here = lanes_here
        return gather_lanes(tensor, lanes_here)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return own_lanes(summed, ctx.lanes_here), None


def gather_lanes_with_gradient(tensor: torch.Tensor, lanes_here: int) -> torch.Tensor:
    """`gather_lanes` through which gradients flow: each row gets the sum of what all workers' losses ask of it.

    Every worker must reach it in the backward pass too. So a tensor that requires no gradient, as of a worker without a
    row of some modality, takes part all the same.
    """
    if world() == 1:
        return tensor
    if torch.is_grad_enabled() and not tensor.requires_grad:
        tensor = tensor.detach().requires_grad_()
    return _GatherLanes.apply(tensor, lanes_here)


def sum_over_workers(value: torch.Tensor) -> torch.Tensor:
    """Sum over the workers, without a gradient."""
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def mean_over_workers(values: torch.Tensor) -> torch.Tensor:
    """Mean over the workers of a small vector of statistics."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
        values /= world()
    return values


def gather_objects(value: Any) -> list:
    """The values of all workers in the order of their ranks, on every worker. For what is small or rare: it is copied
    whole."""
    if world() == 1:
        return [value]
    values: list = [None] * world()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Waits for all workers."""
    if world() > 1:
        dist.barrier()


def check_same_step(step: int) -> None:
    """Waits for all workers; RuntimeError unless all are at the same step: they would average what does not belong
    together."""
    if world() > 1:
        steps = gather_objects(step)
        if len(set(steps)) > 1:
            raise RuntimeError(f"the workers found train states of different steps: {steps}; start the run again")
