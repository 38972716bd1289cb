"""A fine-tuning so small that it takes seconds: 64 px people, a backbone of 0.4 million weights."""

from functools import cache
from pathlib import Path

import torch

from hcmoco.config import build, merge
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.loop import finetune
from hcmoco.finetuning.resolve import resolve
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.training.local import LocalContext

PEOPLE = 40
TINY = {
    "output_dir": "made by a test",
    "seed": 5,
    "task": {"name": "parsing-rgb", "size": 64},
    "init": "scratch",
    "encoder": {"name": "test_resnet"},
    "data": {"train": {"path": "people"}, "test": {"path": "people"}},
    "steps": 6,
    "num_val_rows": 8,
    "num_evals": 3,
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
        "provenance": Provenance(program="tests"),
    }
    return About(**{**values, **over})


def write_people(folder: Path, *, part_rows: int = 16, order_seed: int = 0) -> Shards:
    write_shards(str(folder), list(people()), about(), part_rows=part_rows, seed=order_seed)
    return Shards.open(str(folder))


def tiny_config(over: dict | None = None) -> FinetuneConfig:
    return build(FinetuneConfig, merge(TINY, over or {}), "tiny")


def start(shards: Shards, over: dict | None = None, *, states: str | None = None):
    """Runs or resumes; returns the context and the trainer."""
    torch.set_num_threads(1)
    config = tiny_config(over)
    run = resolve(config, shards, shards, load_encoder_init(config.init, config.encoder, "rgb"))
    context = LocalContext(
        run.train_loader(), states, validation=run.eval_loader(), num_checkpoints=config.train.num_checkpoints
    )
    return context, finetune(run, context)
