"""Muon: updates of matrices are made orthogonal, so that no direction of a layer learns much faster than the others.

The momentum of each weight matrix M = U S V^T is replaced by about U V^T (Jordan et al., 2024, "Muon: an optimizer for
hidden layers in neural networks"), scaled to the size of AdamW's updates, so that one learning rate serves all
parameters (Liu et al., 2025, "Muon is scalable for LLM training", section 2.2). What is no matrix (biases, norms,
kernels of depthwise convolutions) is trained by AdamW. PyTorch's own Muon takes matrices alone, one at a time, and
computes in bfloat16, which many processors emulate.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hcmoco.training.distributed import rank, world
from hcmoco.training.flat_grads import FlatParameters

MOMENTUM, BETA_2, EPSILON = 0.95, 0.99, 1e-8
# The quintic a x + b x^3 + c x^5 of the Newton-Schulz iteration, as published with Muon: it drives singular values into
# 0.7 to 1.2 in five steps, not to 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
# An orthogonal matrix's root mean square is 1 / sqrt(longer side); AdamW's updates have about this one.
_UPDATE_RMS = 0.2


def orthogonalize(matrices_KMN: Tensor) -> Tensor:
    """Return about U V^T of each matrix U S V^T: the same singular vectors, singular values between 0.6 and 1.3.

    The iteration is carried out on the Gram matrix of the shorter side, whose products are a fraction of those with
    the matrix itself; the two commute.

    Args:
        matrices_KMN: float32 or float64 [K, M, N]. One of zeros stays zeros.
    """
    if matrices_KMN.shape[1] > matrices_KMN.shape[2]:
        return orthogonalize(matrices_KMN.mT).mT
    norms_K11 = torch.linalg.matrix_norm(matrices_KMN, keepdim=True)
    x_KMN = matrices_KMN / norms_K11.clamp(min=torch.finfo(matrices_KMN.dtype).tiny)
    gram_KMM = x_KMN @ x_KMN.mT
    identity_MM = torch.eye(x_KMN.shape[1], dtype=x_KMN.dtype, device=x_KMN.device)
    total_KMM = None
    for remaining in reversed(range(_ITERATIONS)):
        factor_KMM = torch.baddbmm(_A * identity_MM + _B * gram_KMM, gram_KMM, gram_KMM, alpha=_C)
        total_KMM = factor_KMM if total_KMM is None else factor_KMM @ total_KMM
        if remaining:
            gram_KMM = factor_KMM @ gram_KMM @ factor_KMM
    return total_KMM @ x_KMN


def as_matrices(shape: torch.Size) -> tuple[int, int, int] | None:
    """Return K, M, N of the K matrices of M x N that a parameter holds one after the other; None if it is no matrix.

    Args:
        shape: a linear layer's [outputs, inputs]; a convolution's [outputs, inputs, rows, columns], one matrix of
            outputs x the rest; a stack [K, inputs, outputs] of linear maps.
    """
    if len(shape) == 3:
        stacked, rows, columns = shape
    else:
        stacked, rows, columns = 1, shape[0] if shape else 1, shape[1:].numel()
    depthwise = len(shape) == 4 and shape[1] == 1
    return None if depthwise or min(rows, columns) == 1 else (stacked, rows, columns)


class Muon(torch.optim.Optimizer):
    """See the module.

    Each part has the slots exp_avg, exp_avg_sq and step; the second moments of matrices stay zero.

    Each of several workers makes its share of the matrices orthogonal and sends it to the others: a product of matrices
    ends in other last bits on another processor, and weights have to stay the same on all workers.

    Args:
        groups: of one part each.
        flat: the parts' parameters. The order of a matrix's columns does not matter, so they are taken as they lie.
        lr: learning rate.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], flat: FlatParameters, lr: float, weight_decay: float):
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        # Matrices of one shape are made orthogonal together: (K, M, N) -> the part of each, and where it begins there.
        self._matrices: dict[tuple[int, int, int], list[tuple[str, int]]] = defaultdict(list)
        self._others: dict[str, Tensor] = {}
        self._parts = flat.parts
        for child, part in flat.parts.items():
            others = torch.ones(len(part), dtype=torch.bool)
            for name, offset in flat.offsets(child).items():
                if shape := as_matrices(flat.shape(name)):
                    self._matrices[shape].append((child, offset))
                    others[offset : offset + torch.Size(shape).numel()] = False
            self._others[child] = others.nonzero()[:, 0].to(part.device)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parts by their gradients."""
        assert closure is None
        groups = dict(zip(self._parts, self.param_groups, strict=True))
        ahead = {child: self._step_others(child, group) for child, group in groups.items()}
        for (shape, places), updates in zip(self._matrices.items(), self._updates(ahead), strict=True):
            scale = _UPDATE_RMS * max(shape[1:]) ** 0.5
            for (child, offset), update in zip(places, updates, strict=True):
                self._parts[child][offset : offset + len(update)].add_(update, alpha=-groups[child]["lr"] * scale)

    def _step_others(self, child: str, group: dict[str, Any]) -> Tensor:
        """Update what is no matrix, and decay all; return the momentum that matrices are updated by, Nesterov's."""
        part, others = self._parts[child], self._others[child]
        gradient, lr = part.grad, group["lr"]
        assert gradient is not None
        slots = self.state[part]
        if not slots:
            slots |= {"exp_avg": torch.zeros_like(part), "exp_avg_sq": torch.zeros_like(part)}
            slots["step"] = torch.zeros((), device=part.device)
        mean = slots["exp_avg"].lerp_(gradient, 1 - MOMENTUM)
        slots["step"] += 1
        steps = slots["step"].double()  # the first corrections are small differences
        square = slots["exp_avg_sq"][others] * BETA_2 + gradient[others].square() * (1 - BETA_2)
        slots["exp_avg_sq"][others] = square
        size = (square / (1 - BETA_2**steps)).sqrt() + EPSILON
        part.mul_(1 - lr * group["weight_decay"])
        part.index_add_(0, others, (mean[others] / (1 - MOMENTUM**steps) / size).to(part.dtype), alpha=-lr)
        return gradient.lerp(mean, MOMENTUM)

    def _updates(self, ahead: dict[str, Tensor]) -> list[Tensor]:
        """Return the orthogonal updates [matrices, elements] of each shape."""
        like = next(iter(ahead.values()))
        sizes = [torch.Size(shape).numel() for shape in self._matrices]
        counts = [len(places) for places in self._matrices.values()]
        joined = like.new_zeros(sum(size * count for size, count in zip(sizes, counts, strict=True)))
        found, start = [], 0
        for ((stacked, rows, columns), places), size in zip(self._matrices.items(), sizes, strict=True):
            updates = joined[start : start + size * len(places)].view(len(places), size)
            start += updates.numel()
            own = slice(rank(), None, world())
            if mine := places[own]:
                pieces = [ahead[child][offset : offset + size].view(stacked, rows, columns) for child, offset in mine]
                updates[own] = orthogonalize(torch.cat(pieces)).reshape(len(mine), size)
            found.append(updates)
        if world() > 1:
            dist.all_reduce(joined)  # to zeros an update adds itself
        return found
