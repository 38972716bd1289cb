"""The mean of the workers' gradients, sent in buckets while the backward pass still computes.

The gradient is one vector, see `flat_grads`. It is cut into buckets from its end, since a backward pass reaches the
last parameters first. A worker sends a bucket once all gradients that the pass will bring to it are there, and all
buckets before it are sent. So every worker sends the same buckets in the same order, whatever modalities its rows lack,
and the order of summation depends on nothing but the number of workers and the model: a resumed run adds the same
numbers in the same order.

Source of the scheme: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (VLDB 2020),
section 3.2.3. PyTorch's own DistributedDataParallel keeps buckets of its own beside the gradients, and its order from
the second step on is that of the first step's gradients.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hcmoco.training.distributed import running_statistics, world
from hcmoco.training.flat_grads import FlatParameters

# The last bucket is sent when the backward pass is over, so its time cannot hide: 4.5 ms between 8 workers over
# 25 Gbit/s. Still smaller ones would pay more for the start of each exchange than they hide.
BUCKET_BYTES = 8 << 20


class Averaging:
    """Averages the gradients of a model over the workers of a step; with one worker it does nothing.

    Args:
        flat: the model's parameters; its gradients become the mean.
        model: whose floating-point buffers are averaged too.

    Attributes:
        buckets: slices of the gradient, in the order in which they are sent.
        sent: how many of this step's buckets are on their way.
    """

    def __init__(self, flat: FlatParameters, model: nn.Module):
        self._flat, self._model = flat, model
        cut = flat.cut(BUCKET_BYTES)
        self.buckets = [gradients for gradients, _ in cut]
        self._parameters = [each for _, parameters in cut for each in parameters]
        self._bucket_of = [number for number, (_, parameters) in enumerate(cut) for _ in parameters]
        self._expected: list[set[int]] | None = None
        self._works: list[dist.Work] = []
        self._overlaps, self.sent = False, 0
        if world() > 1:
            self._nodes = [torch.autograd.graph.get_gradient_edge(each).node for each in self._parameters]
            # The model may outlive this object, and must not keep it and its vectors.
            this = weakref.ref(self)
            hooks = [
                each.register_post_accumulate_grad_hook(partial(_take, this, number))
                for number, each in enumerate(self._parameters)
            ]
            weakref.finalize(self, _remove, hooks).atexit = False

    def begin(self) -> None:
        """Begin a step; the gradients are zeros."""
        self._works, self.sent, self._expected, self._overlaps = [], 0, None, False

    @contextmanager
    def overlapping(self) -> Iterator[None]:
        """Inside, buckets are sent as their gradients come: around the last backward pass of a step, and no other."""
        self._overlaps = world() > 1
        try:
            yield
        finally:
            self._overlaps = False

    def finish(self, flag: float = 0.0) -> Tensor:
        """Send what has not been sent, and wait: the gradient is then its mean over the workers, and so is every
        floating-point buffer of the model.

        What a worker did not use (no row of its modality) is zero in its gradient. Buffers are the running statistics
        of batch norm: averaged each step they are those of the whole batch's means, and the same on every worker.

        Every worker counts alike, although a term is a mean over the rows that entered it on that worker: where one
        worker has fewer rows with depth than another, each of its rows weighs more in the depth terms, and a worker
        without any adds a zero to their mean. So the gradient is that of the mean of the workers' losses, as in the
        published release, not that of one loss over the step's rows; the mixture gives every lane equally many rows of
        each data set, which keeps the two close. With `train.global_batch` a worker's loss is its share of one loss
        over the step's rows, times the number of workers, and the mean of the gradients is that of the one loss.

        Args:
            flag: a number of this worker that travels along, so that it costs no exchange of its own.

        Returns:
            0-d, on the gradients' device: the mean of the workers' flags.
        """
        if world() == 1:
            return torch.tensor(flag)
        while self.sent < len(self.buckets):
            self._send()
        # Batch norm also counts its batches: one more wherever a worker had rows, which is the mean of the counts
        # rounded up.
        floating, counts = running_statistics(self._model)
        buffers = floating + counts
        gradients = self._flat.gradients
        kind = torch.promote_types(torch.float32, gradients.dtype)
        riding = gradients.new_full((1,), flag, dtype=kind)
        flat = torch.cat([riding, *(each.reshape(-1).to(kind) for each in buffers)])
        dist.all_reduce(flat)
        for work in self._works:
            work.wait()
        gradients /= world()
        flat /= world()
        riding, flat = flat[0], flat[1:]
        flat[len(flat) - len(counts) :].ceil_()
        for each, mean in zip(buffers, flat.split([each.numel() for each in buffers]), strict=True):
            each.copy_(mean.view_as(each))
        return riding

    def _arrived(self, number: int) -> None:
        """A parameter has its gradient."""
        if not self._overlaps:
            return
        if self._expected is None:
            self._expected = self._coming()
        bucket = self._expected[self._bucket_of[number]]
        if number not in bucket:
            raise RuntimeError("a gradient came after it was sent: only the last backward pass of a step may overlap")
        bucket.remove(number)
        while self.sent < len(self.buckets) and not self._expected[self.sent]:
            self._send()

    def _coming(self) -> list[set[int]]:
        """By bucket, the parameters to which the backward pass that is under way brings a gradient: the question is the
        one that `torch.autograd.graph.register_multi_grad_hook` asks, and answered by no public function."""
        coming: list[set[int]] = [set() for _ in self.buckets]
        for number, (bucket, node) in enumerate(zip(self._bucket_of, self._nodes, strict=True)):
            if torch._C._will_engine_execute_node(node):
                coming[bucket].add(number)
        return coming

    def _send(self) -> None:
        work = dist.all_reduce(self.buckets[self.sent], async_op=True)
        assert work is not None
        self._works.append(work)
        self.sent += 1


def _take(averaging: "weakref.ref[Averaging]", number: int, _: Tensor) -> None:
    this = averaging()
    if this is not None:
        this._arrived(number)


def _remove(hooks: list) -> None:
    for each in hooks:
        each.remove()
