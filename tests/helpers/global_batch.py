"""What workers do for the tests of `train.global_batch` and `train.micro_rows`; see `forked_runs`."""

from pathlib import Path

import numpy as np
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from hcmoco.data.shards.reader import Shards
from hcmoco.models.sync_batch_norm import blank_rows, synchronize_batch_norm
from hcmoco.objectives import bank_state
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training import distributed
from tests.helpers import local_pretraining as tiny
from tests.helpers.tolerances import FLOAT64

LAYERS = {
    "1d": lambda: nn.BatchNorm1d(5),
    "2d": lambda: nn.BatchNorm2d(5),
    "with activation": lambda: BatchNormAct2d(5),
    "cumulative": lambda: nn.BatchNorm2d(5, momentum=None),
    "without weights": lambda: nn.BatchNorm2d(5, affine=False),
}


def layer(name: str) -> nn.Module:
    """A batch norm in float64 with weights that are not 1 and 0."""
    torch.manual_seed(1)
    made = LAYERS[name]().double()
    for each in made.parameters():
        nn.init.uniform_(each, 0.5, 1.5)
    return made


def layer_rows(name: str) -> torch.Tensor:
    """Six rows whose mean is far larger than their spread, each row with a mean of its own."""
    rows = torch.from_numpy(np.random.default_rng(2).standard_normal((6, 5, *(() if name == "1d" else (3, 2)))))
    return rows + 1e4 + torch.arange(6).view(-1, *[1] * (rows.ndim - 1))


def layers(rank, world, *, counts, out):
    """Output, gradients and statistics of a synchronized layer over this worker's rows, which are `counts[rank]`."""
    found = {}
    for name in LAYERS:
        made = nn.Sequential(layer(name))
        synchronize_batch_norm(made)
        x = layer_rows(name)[sum(counts[:rank]) :][: counts[rank]].requires_grad_()
        for _ in range(2):
            if counts[rank]:
                y = made(x)
            else:
                with blank_rows():
                    y = made(x.new_zeros(1, *x.shape[1:]).requires_grad_())[:0]
        (y.sin() * layer_rows(name)[: len(y)].cos()).sum().backward()
        found[name] = {"y": y.detach(), "x": x.grad, **made[0].state_dict()}
        found[name] |= {f"gradient of {key}": each.grad for key, each in made[0].named_parameters()}
    torch.save(found, f"{out}/{rank}.pt")


def _double(x):
    """What an encoder takes, in float64: a tensor, or the tensors of a cloud of points."""
    return x.double() if isinstance(x, torch.Tensor) else type(x)(*(each.double() for each in x))


def run_in_float64(world, sources, over, full):
    """The loader and the state of a small pre-training, in stage 2 if `full`."""
    torch.set_default_dtype(torch.float64)
    config = tiny.tiny_config(**{"probe": {"every": 1}, **over})
    feed = tiny.tiny_feed(config, [Shards.open(each) for each in sources])
    run = Pretraining(config, feed.plan, torch.device("cpu"), lanes_here=config.train.lanes // world)
    if full:
        run.start_stage2()
    return feed, run


def step_in_float64(rank, world, *, sources, over, out, full=True, frozen=False, lacking=None):
    """One step of a pre-training.

    Args:
        frozen: batch norm takes its running statistics.
        lacking: modality -> lanes whose rows lose it.
    """
    feed, run = run_in_float64(world, sources, over, full)
    for module in run.model.modules():
        if frozen and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    for encoder in (run.model.rgb, run.model.depth, run.model.keypoints):
        encoder.register_forward_pre_hook(lambda _, inputs: (_double(inputs[0]), *inputs[1:]))
    lanes = list(range(rank, feed.plan.lanes, world))
    items = (feed.item(0, lane) for lane in lanes)
    batch = next(feed.batches(items, rank=rank, world=world, first_step=0, threads=1, ahead=1))
    for modality, without in (lacking or {}).items():
        gone = np.repeat([lane in without for lane in lanes], len(batch) // len(lanes))
        getattr(batch, f"has_{modality}")[gone] = False
        getattr(batch, modality)[gone] = 0
        if modality == "depth":
            batch.anchors[gone] = -1
    values = run.train_step(batch)
    names = [name for name in values if not name.startswith(("num_anchors", "rows"))]
    means = distributed.mean_over_workers(torch.stack([values[name].detach() for name in names]))
    found = {
        "values": dict(zip(names, means.unbind(), strict=True)),
        "gradient norms": run.gradient_norms,
        "gradients": {name: each.grad.clone() for name, each in run.model.named_parameters()},
        "model": run.model.state_dict(),
        "bank": bank_state(run.banks),
    }
    Path(out).mkdir(exist_ok=True)
    torch.save(found, f"{out}/{world}-{rank}.pt")


def assert_same_step(found: dict, expected: dict) -> None:
    """What `step_in_float64` left of the same step in two shapes, to FLOAT64 of the largest value of its kind."""
    assert found.keys() == expected.keys()
    for kind, tensors in expected.items():
        assert found[kind].keys() == tensors.keys()
        floating = {name: each for name, each in tensors.items() if each.is_floating_point()}
        largest = max([each.abs().max().item() for each in floating.values()], default=0)
        for name, value in tensors.items():
            limit = FLOAT64 * largest if name in floating else 0
            torch.testing.assert_close(found[kind][name], value, rtol=0, atol=limit, msg=f"{kind}: {name}")
