"""The recipes of the tasks are valid, and those that claim a published protocol hold its constants."""

import pytest

from hcmoco.tasks.registry import REGISTRY
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe


def recipe(task: str, name: str) -> FinetuneRecipe:
    return run_config.check(FinetuneRecipe, cli.task_values(task, name, ["init=scratch"]), name)


@pytest.mark.parametrize(
    ("task", "name"),
    [(task, path.stem) for task in REGISTRY for path in sorted((cli.RECIPES / task).glob("*.yaml"))],
)
def test_each_is_valid_and_of_its_task(task, name):
    config = recipe(task, name)
    assert config.task.name == task
    assert config.name == f"{task}-{name}"


def test_every_task_has_a_small_and_a_published_recipe():
    for task in REGISTRY:
        assert {path.stem for path in (cli.RECIPES / task).glob("*.yaml")} >= {"people-cpu", "people-gpu", "paper-w18"}


def batch(config: FinetuneRecipe) -> int:
    return config.train.lanes * config.train.batch_size_per_lane


@pytest.mark.parametrize(("task", "rows", "epochs"), [("parsing-rgb", 40, 50), ("parsing-depth", 80, 150)])
def test_parsing_as_published(task, rows, epochs):
    config = recipe(task, "paper-w18")
    assert (batch(config), config.epochs, config.encoder.name) == (rows, epochs, "hrnet_w18")
    optim = config.optim
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.schedule, optim.power) == (
        "sgd",
        0.007,
        0.9,
        5e-4,
        "poly",
        0.9,
    )
    assert (config.task.size, config.task.label_size, config.task.flip_test) == (473, 1000, True)
    assert (config.task.augment.scale, config.task.augment.flip_probability) == ((0.5, 1.6), 0.5)
    assert config.task.class_weights == {"parsing-rgb": "none", "parsing-depth": "parsing-4k"}[task]
    # Every row of a batch is used in an epoch: 22,000 rows are 550 steps of 40.
    assert config.total_steps(22_000) == epochs * 22_000 / rows


def test_pose_as_published():
    config = recipe("pose", "paper-w18")
    assert (batch(config), config.epochs, config.task.size) == (12, 50, 288)
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay, config.optim.gamma) == (
        "adam",
        3.5e-4,
        1e-4,
        0.2,
    )
    assert [round(share * 50) for share in config.optim.milestones] == [10, 20, 30, 40]
    assert (config.task.head.convolutions, config.task.head.channels, len(config.task.head.anchor_offsets) ** 2) == (
        4,
        256,
        9,
    )
    assert config.task.background != "ground-truth", "labels must not reach the input"
    # 17 frames would have 100 steps in 50 epochs.
    assert config.total_steps(17) == config.min_steps == 2000


def test_densepose_as_published():
    config = recipe("densepose", "paper-w18")
    assert (config.steps, batch(config), config.optim.lr, config.optim.clip_norm) == (130_000, 16, 0.01, 1.0)
    assert [round(share * 130_000, -3) for share in config.optim.milestones] == [100_000, 120_000]
    assert (config.task.chart_depth, config.task.chart_width) == (8, 512)
