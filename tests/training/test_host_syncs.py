"""In a step the host asks the device for nothing: it would wait until the device has caught up.

Counted on the CPU, by the calls that wait on a GPU. There the same is checked by PyTorch itself, in benchmarks/gpu.py.
"""

from collections.abc import Callable

import pytest
import torch

from benchmarks._host_syncs import HostSyncs, forbidden, of_project
from benchmarks._results import ROOT
from hcmoco.config import build, merge
from hcmoco.cotraining.trainer import CoTraining
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.resolve import resolve
from hcmoco.finetuning.trainer import Finetuning
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.local import LocalContext
from hcmoco.training.metrics import MetricsProcessor
from tests.helpers import local_cotraining, local_finetuning
from tests.helpers import local_pretraining as tiny

CPU = torch.device("cpu")
MASK = torch.tensor([True, False, True])

WAITING: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 1),
    "mask": lambda x: x[MASK],
    "write by a mask": lambda x: x.clone().__setitem__(MASK, torch.ones(2)),
    "masked_select": lambda x: x.masked_select(MASK),
    "unique": lambda x: x.unique(),
    "repeats": lambda x: x.repeat_interleave(torch.tensor([1, 0, 2])),
    "equal": lambda x: torch.equal(x, x),
    "copy from the host": lambda x: x.to(CPU),
    "scalar from the host": lambda x: torch.tensor(1.0, device=CPU),
    "backward of a mask": lambda x: x.clone().requires_grad_()[MASK].sum().backward(),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_found_with_its_line(name):
    with HostSyncs() as syncs:
        WAITING[name](torch.tensor([1.0, 2.0, 3.0]))
    assert syncs.found
    assert all(line.startswith("tests/training/test_host_syncs.py:") for _, line in syncs.found)
    with pytest.raises(RuntimeError, match=r"at tests/training/test_host_syncs.py:\d+ waits for a GPU"), forbidden(CPU):
        WAITING[name](torch.tensor([1.0, 2.0, 3.0]))


def test_a_library_in_an_environment_of_the_checkout_is_not_the_project():
    assert of_project(ROOT / "hcmoco/training/loss.py")
    assert not of_project(ROOT / ".venv/lib/python3.11/site-packages/torch/_tensor.py")
    assert not of_project(ROOT / "benchmarks/_host_syncs.py")
    assert not of_project(ROOT.parent / "other.py")


def test_what_does_not_wait_is_not_found():
    x, places = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 2])
    with HostSyncs() as syncs:
        x.clone().requires_grad_()[places].sum().backward()
        x.to(torch.float64), x.to(CPU, non_blocking=True), x.where(MASK, 0), x.masked_fill(MASK, 0)
        torch.full((), 2.0, device=CPU), torch.tensor(1.0)
    assert syncs.found == []


SHORT = merge(tiny.TINY, {"stages": {"stage1_steps": 2, "stage2_steps": 2}})
PRETRAININGS = {
    "sgd": {},
    "adamw, clipped, bfloat16": {
        "optim": {"name": "adamw", "lr": 0.01, "clip_norm": 1.0},
        "train": {"precision": "bfloat16"},
    },
    "muon": {"optim": {"name": "muon", "lr": 0.01}},
    "few rows at once": {"train": {"micro_rows": 2}},
    "global batch, bounded bank": {"train": {"global_batch": True}, "objective": {"bank_rows": 40}},
    "layers that draw": {"model": {"rgb": {"args": {"drop_path_rate": 0.5}}}},
    "crops of their own": {"augment": {"independent": True}},
    "mmv": {"objective": {"method": "mmv"}, "train": {"batch_size_per_lane": 4}},
    "as released": tiny.AS_RELEASED,
}


@pytest.mark.parametrize("name", PRETRAININGS)
def test_a_step_of_a_pre_training_waits_for_nothing(name, sources):
    config = build(PretrainConfig, merge(SHORT, PRETRAININGS[name]), "test")
    feed = tiny.tiny_feed(config, sources)
    context = LocalContext(feed, threads=1)
    run = Pretraining(config, feed.plan, CPU, lanes_here=2)
    metrics = MetricsProcessor(context, 0, feed.plan.steps)
    partly, stages = False, set()
    for batch in context.batches(0):
        partly |= bool(0 < batch.has_depth.sum() < len(batch))
        # Constants are copied once, and the second stage's weights when it begins.
        if batch.step in (0, config.stages.stage1_steps):
            run.train_step(batch)
            continue
        with HostSyncs() as syncs:
            metrics.add(run.train_step(batch), len(batch))
        assert syncs.found == [], batch.step
        stages.add(run.stage)
    assert partly
    assert stages == ({1} if name == "mmv" else {1, 2})


@pytest.mark.parametrize("missing", ["rgb", "depth", "keypoints"])
def test_nor_where_no_row_has_a_modality(missing, sources, batch):
    config = tiny.tiny_config(train={"batch_size_per_lane": 5})
    run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
    run.start_stage2()
    run.train_step(batch)
    run.step = batch.step
    with HostSyncs() as syncs:
        run.train_step(tiny.without(batch, missing))
    assert syncs.found == []


TASKS = {
    "parsing-rgb": {},
    "parsing-rgb, weighted": {"task": {"class_weights": "frequency"}},
    "parsing-depth": {"task": {"name": "parsing-depth"}},
    "pose": {
        "task": {"name": "pose", "size": 64, "head": {"channels": 8, "num_convolutions": 1}},
        "optim": {"name": "adam"},
    },
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return local_finetuning.write_people(tmp_path_factory.mktemp("people") / "shards")


@pytest.mark.parametrize("name", TASKS)
def test_a_step_of_a_fine_tuning_waits_for_nothing(name, people):
    config = build(FinetuneConfig, merge({**local_finetuning.TINY, "steps": 2}, TASKS[name]), "tiny")
    run = resolve(config, people, people, load_encoder_init("scratch", config.encoder, "rgb"))
    context = LocalContext(run.train_loader(), threads=1)
    trainer = Finetuning(run.config, run.task, run.plan, run.identity, CPU)
    batches = context.batches(0)
    trainer.train_step(next(batches))
    with HostSyncs() as syncs:
        trainer.train_step(next(batches))
    assert syncs.found == []


@pytest.mark.parametrize("experiment", ["rgb-to-depth", "depth-to-rgb", "missing-modality"])
def test_a_step_of_a_co_training_waits_for_nothing(experiment, tmp_path):
    run = local_cotraining.tiny_resolved(local_cotraining.write_sources(tmp_path), {"experiment": experiment})
    trainer = CoTraining(
        run.config,
        run.loader.plan,
        {},
        CPU,
        samples=run.loader.bank_offsets[-1],
        class_weights=run.class_weights,
        load_init=False,
    )
    batches = LocalContext(run.loader, threads=1).batches(0)
    trainer.train_step(next(batches))
    with HostSyncs() as syncs:
        trainer.train_step(next(batches))
    assert syncs.found == []
