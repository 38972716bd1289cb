"""How hard each term of the objective pulls: the norm of its gradient with respect to the embeddings of a step.

With respect to the embeddings and not to the encoders' weights, since what tells the terms apart lies between the
embeddings and the loss: temperature, negatives, weight, how many rows enter. Below the embeddings the chain rule is the
same linear map for all terms, and to take each term through it would cost a backward pass of the encoders for each:
eleven of them in stage 2. What the map makes of the sum is `train/grad_norm`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hcmoco.objectives import ObjectiveConfig, weight_of
from hcmoco.training import distributed


def ask_for_gradients(embedded: Mapping[str, Tensor]) -> None:
    """Let each of the embeddings be asked for its gradient, those too that no encoder has made: then every worker goes
    through the same exchanges with the others, whatever its rows lack."""
    for each in embedded.values():
        if not each.requires_grad:
            each.requires_grad_()


def gradient_norms(
    terms: Mapping[str, Tensor], config: ObjectiveConfig, embedded: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the L2 norm of each term's gradient, and that of their sum; every worker must call it.

    The gradient is that of the weighted term as it enters the training, the mean of the workers' losses, with respect
    to the embeddings of all workers' rows. So the gradients add up to that of the loss, and a term whose lambda is 0
    has none. The graph stays, for the backward pass; no gradient of a weight is touched.

    Args:
        terms: `Terms.values`.
        embedded: of `embed`, after `ask_for_gradients`; what `terms` were computed from.

    Returns:
        0-d tensors on the device, by term, and "all" for the sum.
    """
    asked = list(embedded.values())
    whole = [torch.zeros_like(each) for each in asked]
    squares = []
    for name, value in terms.items():
        weight = weight_of(name, config)
        parts: list[Tensor] = []
        if weight and value.requires_grad:
            found = torch.autograd.grad(value, asked, retain_graph=True, allow_unused=True)
            for total, part in zip(whole, found, strict=True):
                if part is not None:
                    parts.append(weight * part)
                    total += parts[-1]
        squares.append(_square(parts, value))
    squares.append(_square(whole, whole[0]))
    norms = distributed.sum_over_workers(torch.stack(squares)).sqrt() / distributed.world()
    return dict(zip([*terms, "all"], norms.unbind(), strict=True))


def _square(parts: list[Tensor], like: Tensor) -> Tensor:
    """0-d: sum of the squares of all values."""
    return torch.stack([part.square().sum() for part in parts]).sum() if parts else like.new_zeros(())
