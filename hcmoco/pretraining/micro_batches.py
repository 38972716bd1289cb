"""A step of which few rows are on the device at once, with the gradient of the contrast over all of them.

A term compares rows with each other, so gradients of parts of a batch do not add up to that of the whole. What the
terms read of a row is small, though: its embeddings. A first pass computes those without a graph, micro-batch by
micro-batch; the terms and their gradient with respect to the embeddings are of all rows; a second pass runs each
micro-batch again, with a graph, and takes that gradient on to the weights. The price is a second forward pass.

Source: Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(RepL4NLP 2021), GradCache.

Statistics of batch norm are of a micro-batch, in both passes the same. Running statistics move once a step, by the mean
over the micro-batches, as they do by the mean over workers.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn

from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.pretraining.losses import embed
from hcmoco.pretraining.views import Views
from hcmoco.training.distributed import running_statistics


def micro_batches(lanes: int, rows_per_lane: int, micro_rows: int | None) -> list[slice]:
    """Cut a worker's rows into micro-batches of nearly equal size.

    Rows of a lane that has more than `micro_rows` are cut among themselves, so that their micro-batches do not depend
    on the number of workers; else whole lanes are put together.

    Args:
        lanes: that the worker serves, one after the other.
        micro_rows: most rows of a micro-batch; None: no limit.
    """
    if micro_rows is None:
        return [slice(0, lanes * rows_per_lane)]
    if micro_rows < rows_per_lane:
        inside = _even(rows_per_lane, micro_rows)
        return [
            slice(lane * rows_per_lane + part.start, lane * rows_per_lane + part.stop)
            for lane in range(lanes)
            for part in inside
        ]
    return [
        slice(part.start * rows_per_lane, part.stop * rows_per_lane)
        for part in _even(lanes, micro_rows // rows_per_lane)
    ]


def _even(count: int, limit: int) -> list[slice]:
    parts = -(-count // limit)
    bounds = [count * number // parts for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]


class CachedEmbeddings:
    """The embeddings of a batch whose rows are not on the device together.

    Args:
        views: of each micro-batch, in the order of their rows; called in each pass, and must draw the same in both.
        context: what the encoders run in, autocast for example; called for each micro-batch, so that casts of weights
            that were made without a graph are not met again.
    """

    def __init__(
        self,
        model: MultiModalEncoders,
        views: Sequence[Callable[[], Views]],
        *,
        stage: int,
        context: Callable[[], AbstractContextManager],
    ):
        self._model, self._views, self._stage, self._context = model, views, stage, context
        self._rows: list[int] = []
        self._leaves: dict[str, Tensor] = {}

    def compute(self) -> dict[str, Tensor]:
        """Do the first pass; return what `embed` would return of the whole batch, as leaves that require a gradient."""
        parts = []
        statistics = _MeanStatistics(self._model)
        with torch.no_grad():
            for view in self._views:
                parts.append(self._embed(view))
                statistics.restore()
        self._rows = [len(next(iter(part.values()))) for part in parts]
        self._leaves = {name: torch.cat([part[name] for part in parts]).requires_grad_() for name in parts[0]}
        return self._leaves

    def backward(self, last: Callable[[], AbstractContextManager] = nullcontext) -> None:
        """Do the second pass: add to the weights' gradients what the leaves' gradients ask for.

        The terms' own backward pass has to be done before.

        Args:
            last: the context for the backward pass of the last micro-batch, after which all gradients are there.
        """
        statistics = _MeanStatistics(self._model)
        first, whole = 0, sum(self._rows)
        for view, rows in zip(self._views, self._rows, strict=True):
            outputs, gradients = [], []
            for name, output in self._embed(view).items():
                gradient = self._leaves[name].grad
                if gradient is not None and output.requires_grad:
                    outputs.append(output)
                    gradients.append(gradient[first : first + rows].to(output.dtype))
            if outputs:
                with last() if first + rows == whole else nullcontext():
                    torch.autograd.backward(outputs, gradients)
            statistics.take()
            first += rows
        statistics.finish(len(self._views))

    def _embed(self, view: Callable[[], Views]) -> dict[str, Tensor]:
        with self._context():
            return embed(self._model, view(), stage=self._stage)


class _MeanStatistics:
    """The running statistics of a model, which every micro-batch moves from where they were before the step."""

    def __init__(self, model: nn.Module):
        buffers, counts = running_statistics(model)
        self._buffers, self._counts = buffers + counts, len(counts)
        self._before = [each.clone() for each in self._buffers]
        self._sums = [torch.zeros_like(each) for each in self._buffers]

    def restore(self) -> None:
        """Put back what was there before the step."""
        for each, before in zip(self._buffers, self._before, strict=True):
            each.copy_(before)

    def take(self) -> None:
        """Keep what a micro-batch made of them, for the mean, and put back what was there before."""
        for total, each in zip(self._sums, self._buffers, strict=True):
            total += each
        self.restore()

    def finish(self, parts: int) -> None:
        """Set them to the mean; a count of batches to one more where any micro-batch had rows."""
        for number, (each, total) in enumerate(zip(self._buffers, self._sums, strict=True)):
            mean = total / parts
            each.copy_(mean.ceil() if number >= len(self._buffers) - self._counts else mean)
