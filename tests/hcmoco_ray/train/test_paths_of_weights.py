"""Paths of weights and charts in a recipe are below the home, since workers have another current folder."""

import pytest

from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    return tmp_path


def test_of_a_whole_detector_and_its_charts(home):
    own = ["init=scratch", "task.weights=zoo/model_final.pkl", "encoder.fusion=nearest"]
    config = run_config.check(FinetuneRecipe, cli.task_values("densepose", "paper-w18", own), "densepose/paper-w18")
    assert config.task.weights == str(home / "zoo" / "model_final.pkl")
    assert config.task.charts == str(home / "data" / "densepose-eval")
    assert config.task.weights in config.initial_weights()
    people = run_config.check(FinetuneRecipe, cli.task_values("densepose", "people-cpu", ["init=scratch"]), "people")
    assert (people.task.charts, people.task.weights) == ("people", None)


def test_of_the_keypoint_encoder(home):
    config = run_config.load(PretrainRecipe, "people-cpu", ["model.skeleton.init=semgcn.pth"])
    assert config.model.skeleton.init == str(home / "semgcn.pth")
    assert config.initial_weights() == ["scratch", "scratch", str(home / "semgcn.pth")]
