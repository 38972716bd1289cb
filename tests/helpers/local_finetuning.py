"""A fine-tuning so small that it takes seconds: 64 px people, a backbone of 0.4 million weights."""

from functools import cache
from pathlib import Path

import torch

from hcmoco.config import build, merge
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import start as start_of
from hcmoco.finetuning.local import LocalTaskHost
from hcmoco.finetuning.loop import finetune
from hcmoco.finetuning.resolve import set_up
from hcmoco.synthetic import PeopleConfig, make_person

PEOPLE = 40
TINY = {
    "out": "made by a test",
    "seed": 5,
    "task": {"task": "parsing-rgb", "size": 64},
    "init": "scratch",
    "encoder": {"name": "test_resnet"},
    "data": {"train": {"path": "people"}, "test": {"path": "people"}},
    "steps": 6,
    "validation": 8,
    "validations": 3,
    "eval_batch_size": 3,
    "optim": {"name": "adamw", "lr": 0.002},
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 3,
        "window_steps": 2,
        "log_every": 2,
        "save_every": 2,
    },
}


@cache
def people() -> tuple[Person, ...]:
    config = PeopleConfig(size=64, seed=9)
    return tuple(make_person(config, number, dataset="people", split="train") for number in range(PEOPLE))


def about(**over) -> About:
    values = {
        "dataset": "people",
        "joints": "people-31",
        "joints3d": "people-31",
        "size": 64,
        "made_by": MadeBy(program="tests"),
    }
    return About(**{**values, **over})


def write_people(folder: Path, *, part_rows: int = 16, order_seed: int = 0) -> Shards:
    write_shards(str(folder), list(people()), about(), part_rows=part_rows, seed=order_seed)
    return Shards.open(str(folder))


def tiny_config(over: dict | None = None) -> FinetuneConfig:
    return build(FinetuneConfig, merge(TINY, over or {}), "tiny")


def start(shards: Shards, over: dict | None = None, *, states: str | None = None):
    """Runs or resumes; returns the host and the run."""
    torch.set_num_threads(1)
    config = tiny_config(over)
    begun = start_of(config.init, config.encoder, "rgb")
    setup = set_up(config, shards, shards, begun)
    host = LocalTaskHost(setup.train_loader(), setup.eval_loader(), states, keep=config.train.keep)
    return host, finetune(config, setup.task, setup.plan, host, setup.identity, validated=setup.chosen_on is not None)
