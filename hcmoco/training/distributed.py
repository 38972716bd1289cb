"""What the workers of one step share: one averaged gradient and one gathered set of embeddings.

With one worker every function here is the identity. The gradient travels as one flat vector, so the order of summation
depends on nothing
but the number of workers: a resumed run adds the same numbers in the same order.
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


def average(gradients: torch.Tensor, model: nn.Module, flag: float = 0.0) -> torch.Tensor:
    """Replaces the gradient by its mean over the workers, and every floating-point buffer of `model` likewise.

    What a worker did not use (no row of its modality) is zero in its gradient. Buffers are the running statistics of
    batch norm: averaged each step they are those of the whole batch's means, and the same on every worker.

    Every worker counts alike, although a term is a mean over the rows that entered it on that worker: where one worker
    has fewer rows with depth than another, each of its rows weighs more in the depth terms, and a worker without any
    adds a zero to their mean. So the gradient is that of the mean of the workers' losses, as in the published release,
    not that of one loss over the step's rows; the mixture gives every lane equally many rows of each data set, which
    keeps the two close. With `train.global_batch` a worker's loss is its share of one loss over the step's rows, times
    the number of workers, and the mean of the gradients is that of the one loss.

    Args:
        flag: a number of this worker that travels along, so that it costs no exchange of its own.

    Returns:
        0-d, on the gradients' device: the mean of the workers' flags.
    """
    if world() == 1:
        return torch.tensor(flag)
    dist.all_reduce(gradients)
    gradients /= world()
    # Batch norm also counts its batches: one more wherever a worker had rows, which is the mean of the counts rounded
    # up.
    floating, counts = running_statistics(model)
    buffers = floating + counts
    kind = torch.promote_types(torch.float32, gradients.dtype)
    riding = torch.tensor([flag], dtype=kind, device=gradients.device)
    flat = torch.cat([riding, *(each.reshape(-1).to(kind) for each in buffers)])
    dist.all_reduce(flat)
    flat /= world()
    riding, flat = flat[0], flat[1:]
    flat[len(flat) - len(counts) :].ceil_()
    for each, mean in zip(buffers, flat.split([each.numel() for each in buffers]), strict=True):
        each.copy_(mean.view_as(each))
    return riding


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
