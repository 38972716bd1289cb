"""What workers do for the tests of averaging gradients; see `forked_runs`."""

import gc
import weakref
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hcmoco.training import averaging
from hcmoco.training.averaging import Averaging
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import OptimConfig
from hcmoco.training.optim_step import OptimStep


class Branches(nn.Module):
    """Two branches and what follows them; each branch is for rows that may be missing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)))
        self.second = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)), nn.BatchNorm1d(16))
        self.last = nn.Linear(16, 16)
        self.never = nn.Linear(16, 16)

    def forward(self, x_first: Tensor | None, x_second: Tensor | None) -> Tensor:
        parts = [branch(x) for branch, x in ((self.first, x_first), (self.second, x_second)) if x is not None]
        return self.last(torch.stack(parts).sum(0)).square().mean() if parts else torch.zeros(())


# name -> what each rank lacks.
LACKS = {
    "nothing is missing": {},
    "a branch is missing": {0: {"second"}},
    "another one each": {0: {"first"}, 1: {"second"}},
    "everything is missing": {1: {"first", "second"}},
}


def make() -> Branches:
    torch.manual_seed(1)
    return Branches()


def rows(rank: int, lacks: set[str]) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(rank)
    both = [torch.randn(8, 16, generator=generator) for _ in range(2)]
    return [None if name in lacks else x for name, x in zip(("first", "second"), both, strict=True)]


def averaged(rank, world, *, out):
    """Of each case the averaged gradient, what the plain sum gives, and how many buckets were sent before the backward
    pass was over."""
    averaging.BUCKET_BYTES = 2500  # two layers each
    found = {}
    for name, lacks in LACKS.items():
        for passes in (1, 2):
            model, alone = make(), make()
            flat, flat_alone = FlatParameters(model), FlatParameters(alone)
            mean = Averaging(flat, model)
            for _ in range(2):  # two steps: nothing of the first is left in the second
                flat.gradients.zero_()
                flat_alone.gradients.zero_()
                mean.begin()
                for number in range(passes):
                    x = rows(rank + world * number, lacks.get(rank, set()))
                    loss, loss_alone = model(*x), alone(*x)
                    if loss.requires_grad:
                        loss_alone.backward()
                        if number == passes - 1:
                            with mean.overlapping():
                                loss.backward()
                        else:
                            loss.backward()
                sent = mean.sent
                flag = mean.finish(float(rank))
            dist.all_reduce(flat_alone.gradients)
            found[f"{name}, {passes}"] = {
                "mean": flat.gradients,
                "plain": flat_alone.gradients / world,
                "sent": sent,
                "buckets": len(mean.buckets),
                "flag": flag,
                "batches": model.second[-1].num_batches_tracked,
            }
    found["after it was sent"] = too_many_passes(rank)
    found["what an old one leaves"] = replaced()
    torch.save(found, f"{out}/{world}-{rank}.pt")


def too_many_passes(rank: int) -> str:
    """What is said of a second backward pass while gradients are sent."""
    model = make()
    mean = Averaging(FlatParameters(model), model)
    mean.begin()
    x, message = rows(rank, set()), ""
    with mean.overlapping():
        model(*x).backward()
        try:
            model(*x).backward()
        except RuntimeError as error:
            message = str(error)
    mean.finish()
    return message


def replaced() -> tuple[bool, int]:
    """Whether an optimizer step that was replaced is still there, and how many hooks a parameter then has."""
    model = make()
    step = OptimStep(model, OptimConfig())
    old = weakref.ref(step.averaging)
    step = OptimStep(model, OptimConfig())
    gc.collect()
    return old() is not None, len(model.last.weight._post_accumulate_grad_hooks)


def fails_in_backward(rank, world, *, out, stop):
    """The last rank fails in its backward pass once it has sent a bucket; what the others raise is written."""
    averaging.BUCKET_BYTES = 2500
    model = make()
    step = OptimStep(model, OptimConfig())
    if rank == world - 1:
        # The first layer's gradient comes last.
        model.first[0].weight.register_hook(lambda _: 1 / 0)
    try:
        step.step(model(*rows(rank, set())), 0.1)
    except BaseException as error:
        Path(out, f"{world}-{rank}.txt").write_text(f"{step.averaging.sent} {type(error).__name__}: {error}")
        raise
