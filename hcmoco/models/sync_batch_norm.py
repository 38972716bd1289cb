"""Batch norm with the statistics of all workers' rows, on CPUs too, where torch's SyncBatchNorm refuses to run.

In training each layer exchanges count, mean and sum of squared deviations of its channels, and in the backward pass two
sums. They are combined by the pairwise formula of Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm
for computing sample variances", 1979), which does not lose the variance where the mean is large. In evaluation, and
with one worker, the layers are torch's and timm's own.

Every worker has to run every layer in every step, or the others wait for it: see `blank_rows`.

Shape suffixes: C channels, W workers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hcmoco.errors import UserError
from hcmoco.training import distributed

_blank: ContextVar[bool] = ContextVar("blank_rows", default=False)


@contextmanager
def blank_rows() -> Iterator[None]:
    """Inside, the rows that a layer is given add zero to its statistics: for a worker whose rows all lack a modality.

    They are normalized by what the other workers' rows give, and by the running statistics where no worker has one.
    """
    token = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(token)


class _Normalize(torch.autograd.Function):
    """x, weight and bias -> normalized x, mean, variance (biased) and the number of values in each channel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_C: Tensor | None,
        bias_C: Tensor | None,
        running: tuple[Tensor, Tensor],
        eps: float,
    ) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        count = 0 if _blank.get() else x.numel() // x.shape[1]
        # What a worker without rows sends must be finite: it is multiplied by its count of zero.
        mean_C = squares_C = x.new_zeros(x.shape[1], dtype=dtype)
        if count:
            var_C, mean_C = torch.var_mean(x.to(dtype), [0, *range(2, x.ndim)], correction=0)
            squares_C = var_C * count
        sent = torch.cat([mean_C.new_full((1,), count), mean_C, squares_C])
        gathered = sent.new_empty(distributed.world() * len(sent))
        dist.all_gather_into_tensor(gathered, sent)
        count_W1, mean_WC, squares_WC = gathered.view(-1, len(sent)).split([1, len(mean_C), len(mean_C)], 1)
        total = count_W1.sum()
        share_W1 = count_W1 / total.clamp(min=1)
        mean_C = (share_W1 * mean_WC).sum(0)
        var_C = squares_WC.sum(0) / total.clamp(min=1) + (share_W1 * (mean_WC - mean_C).square()).sum(0)
        some = total > 0
        mean_used_C = torch.where(some, mean_C, running[0].to(dtype))
        var_used_C = torch.where(some, var_C, running[1].to(dtype))
        y = F.batch_norm(x, mean_used_C, var_used_C, weight_C, bias_C, training=False, eps=eps)
        ctx.save_for_backward(x, weight_C, mean_used_C, var_used_C, total)
        ctx.eps, ctx.counts = eps, count > 0
        ctx.mark_non_differentiable(mean_C, var_C, total)
        return y, mean_C, var_C, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_C, var_C, total = ctx.saved_tensors
        shape = [1, -1, *[1] * (x.ndim - 2)]
        dims = [0, *range(2, x.ndim)]
        wide = gradients[0].to(mean_C.dtype)
        inverse_C = (var_C + ctx.eps).rsqrt()
        standard = (x.to(mean_C.dtype) - mean_C.view(shape)).mul_(inverse_C.view(shape))
        sums_2C = torch.stack([wide.sum(dims), (wide * standard).sum(dims)])
        bias_gradient_C, weight_gradient_C = sums_2C.clone()
        dist.all_reduce(sums_2C)
        scale_C = inverse_C if weight_C is None else inverse_C * weight_C
        if ctx.counts:
            # The statistics moved with x: by as much as every worker's loss depends on them.
            mean_2C = sums_2C / total.clamp(min=1)
            wide = wide - mean_2C[0].view(shape) - standard.mul_(mean_2C[1].view(shape))
        own = (wide * scale_C.view(shape)).to(x.dtype)
        if weight_C is None:
            return own, None, None, None, None
        return own, weight_gradient_C.to(weight_C.dtype), bias_gradient_C.to(weight_C.dtype), None, None


def _forward(layer: _BatchNorm, x: Tensor, alone: Callable[[Tensor], Tensor]) -> Tensor:
    if not layer.training or distributed.world() == 1:
        return alone(x)
    running_mean_C, running_var_C, batches = layer.running_mean, layer.running_var, layer.num_batches_tracked
    assert running_mean_C is not None
    assert running_var_C is not None
    assert batches is not None
    y, mean_C, var_C, total = _Normalize.apply(x, layer.weight, layer.bias, (running_mean_C, running_var_C), layer.eps)
    with torch.no_grad():
        seen = total > 0
        batches += seen
        share = seen.to(running_mean_C.dtype)
        share = share / batches.clamp(min=1) if layer.momentum is None else share * layer.momentum
        unbiased_C = var_C * (total / (total - 1).clamp(min=1))
        running_mean_C.lerp_(mean_C.to(running_mean_C.dtype), share)
        running_var_C.lerp_(unbiased_C.to(running_var_C.dtype), share)
    return y


class _Sync1d(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return _forward(self, x, super().forward)


class _Sync2d(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return _forward(self, x, super().forward)


class _SyncAct2d(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.world() == 1:
            return super().forward(x)
        return self.act(self.drop(_forward(self, x, super().forward)))


_SYNCHRONIZED = {nn.BatchNorm1d: _Sync1d, nn.BatchNorm2d: _Sync2d, BatchNormAct2d: _SyncAct2d}


def synchronize_batch_norm(model: nn.Module) -> None:
    """Have every batch norm inside `model` take the statistics of all workers' rows in training.

    Parameters, buffers and their names stay.

    Raises:
        UserError: a layer keeps statistics of a batch and is of a kind that is not known here.
    """
    for name, layer in model.named_modules():
        if type(layer) in _SYNCHRONIZED and layer.track_running_stats:
            layer.__class__ = _SYNCHRONIZED[type(layer)]
        elif isinstance(layer, _BatchNorm) or "running_var" in dict(layer.named_buffers(recurse=False)):
            raise UserError(
                f"train.global_batch: the layer {name} ({type(layer).__name__}) keeps statistics of a worker's rows "
                "and cannot share them; choose another encoder, or set train.global_batch: false"
            )
