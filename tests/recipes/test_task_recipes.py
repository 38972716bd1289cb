"""The recipes of the tasks are valid, and what the published ones lead to: steps, learning rates, inputs."""

import pytest

from hcmoco.tasks.registry import REGISTRY
from hcmoco.training.lr_schedule import learning_rate
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


@pytest.mark.parametrize("task", ["parsing-rgb", "parsing-depth"])
def test_published_parsing_uses_every_row_of_an_epoch(task):
    config = recipe(task, "paper-w18")
    assert config.total_steps(22_000) == config.epochs * 22_000 / batch(config)


def test_published_pose_drops_its_learning_rate_every_tenth_epoch():
    """A2J (Xiong et al., ICCV 2019) steps its rate every 10 epochs; here milestones are shares of all steps."""
    config = recipe("pose", "paper-w18")
    steps_per_epoch = 3317  # about the 39,795 frames of ITOP in batches of 12
    steps = config.total_steps(12 * steps_per_epoch)
    assert steps == 50 * steps_per_epoch
    for epoch in range(50):
        expected = config.optim.lr * config.optim.gamma ** (epoch // 10)
        for step in (epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1):
            assert learning_rate(config.optim, step, steps) == pytest.approx(expected, rel=1e-12), (epoch, step)


def test_published_pose_trains_few_frames_long_enough_and_on_input_alone():
    config = recipe("pose", "paper-w18")
    assert config.epochs * -(-17 // batch(config)) < config.min_steps, "else the minimum would do nothing"
    assert config.total_steps(17) == config.min_steps
    assert config.task.background != "ground-truth", "labels must not reach the input"


@pytest.mark.parametrize("task", REGISTRY)
def test_published_recipes_name_the_file_of_their_imagenet_row(task):
    for path in (cli.RECIPES / task).glob("paper-*.yaml"):
        config = recipe(task, path.stem)
        if config.encoder.name == "pointnet2_msg":  # ImageNet has none
            assert config.imagenet_weights is None
            continue
        width = config.encoder.name.removeprefix("hrnet_w")
        assert str(config.imagenet_weights).endswith(f"data/hrnetv2_w{width}_imagenet_pretrained.pth")


def test_published_densepose_is_detectron2s():
    """Base-DensePose-RCNN-FPN with HRFPN: what is not a number is as published, too."""
    for name, rate in (("paper-w18", 0.01), ("paper-w32", 0.03)):
        config = recipe("densepose", name)
        assert (config.task.pyramid, config.task.flip_probability, config.task.chart_norm) == ("published", 0.5, "none")
        assert config.optim.lr == rate
        assert config.encoder.fusion == "bilinear", "as the encoders of paper-w18 and paper-w32 were trained"
        assert batch(config) == 16


def test_published_densepose_drops_its_learning_rate_as_detectron2_does():
    """The s1x schedule of DensePose R-CNN in detectron2: STEPS (100000, 120000) of 130000."""
    config = recipe("densepose", "paper-w18")
    for milestone, drops in ((100_000, 0), (120_000, 1)):
        for step, count in ((milestone - 100, drops), (milestone + 100, drops + 1)):
            expected = config.optim.lr * config.optim.gamma**count
            assert learning_rate(config.optim, step, 130_000) == pytest.approx(expected, rel=1e-12)
