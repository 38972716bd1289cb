"""A fine-tuning so small that it takes seconds: 64 px people, a backbone of 0.4 million weights."""

from functools import cache
from pathlib import Path

import torch

from hcmoco.config import build, merge
from hcmoco.datasets.people import PeopleConfig, make_person
from hcmoco.schema import Person
from hcmoco.shards.manifest import About, MadeBy
from hcmoco.shards.plan import Plan
from hcmoco.shards.read import Shards
from hcmoco.shards.write import write_shards
from hcmoco.tasks.config import FinetuneConfig
from hcmoco.tasks.feed import EvaluationFeed, TrainingFeed
from hcmoco.tasks.labels import split
from hcmoco.tasks.local import LocalTaskHost
from hcmoco.tasks.loop import finetune
from hcmoco.tasks.tasks import make_task

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
    "evaluation_rows": 3,
    "optim": {"name": "adamw", "lr": 0.002},
    "train": {"lanes": 2, "rows_per_lane": 3, "window_steps": 2, "log_every": 2, "save_every": 2},
}


@cache
def people() -> tuple[Person, ...]:
    config = PeopleConfig(size=64, seed=9)
    return tuple(make_person(config, number, dataset="people", split="train") for number in range(PEOPLE))


def about(**over) -> About:
    values = {"dataset": "people", "joints": "people-31", "joints3d": "people-31", "size": 64, "made_by": MadeBy(program="tests")}
    return About(**{**values, **over})


def write_people(folder: Path, *, part_rows: int = 16, order_seed: int = 0) -> Shards:
    write_shards(str(folder), list(people()), about(), part_rows=part_rows, seed=order_seed)
    return Shards.open(str(folder))


def tiny_config(over: dict | None = None) -> FinetuneConfig:
    return build(FinetuneConfig, merge(TINY, over or {}), "tiny")


def start(shards: Shards, over: dict | None = None, *, states: str | None = None, world: int = 1):
    """Runs or resumes; returns the host and the run."""
    torch.set_num_threads(1)
    config = tiny_config(over)
    task = make_task(config.task, shards.manifest)
    labelled, validation = split(shards, config, (*task.inputs, *task.labels), seed=config.seed)
    train = config.train
    plan = Plan(config.seed, (labelled.source_plan("labelled"),), train.lanes, train.rows_per_lane, train.window_steps, config.steps)
    feed = TrainingFeed(plan, (labelled,), task)
    looked = EvaluationFeed(task, validation, config.evaluation_rows, world) if validation else None
    host = LocalTaskHost(feed, looked, states, keep=train.keep)
    identity = {**config.identity(), "labels": labelled.digest, "plan": plan.description}
    return host, finetune(config, task, plan, host, identity, validated=looked is not None)
