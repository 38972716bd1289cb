"""A fine-tuning of a few seconds on synthetic people or scenes, and what it left."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml

from hcmoco.export import export_encoders
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from tests.helpers.overrides import last_of_each
from tests.helpers.pretrain_program import ROOT, Done

PEOPLE = {
    "train": {"path": "data/people", "people": {"size": 64, "count": 40, "seed": 1}},
    "test": {"path": "data/people-test", "people": {"size": 64, "count": 11, "seed": 2}},
}
SCENES = {
    "train": {"path": "data/scenes", "scenes": {"size": 64, "count": 14, "seed": 3}},
    "test": {"path": "data/scenes-test", "scenes": {"size": 64, "count": 5, "seed": 4}},
}
RECIPE = {
    "output_dir": "runs/tiny",
    "seed": 5,
    "encoder": {"name": "test_resnet"},
    "steps": 6,
    "num_val_rows": 8,
    "num_evals": 3,
    "eval_batch_size": 3,
    "optim": {"name": "adamw", "lr": 0.002, "clip_norm": 1.0},
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 3,
        "window_steps": 2,
        "log_every": 1,
        "save_every": 2,
    },
}
POSE = {"size": 64, "head": {"num_convolutions": 1, "channels": 16, "anchor_offsets": [2.0], "reduce": 16}}
DENSEPOSE = {
    "short_sides": [64],
    "test_short_side": 64,
    "long_side": 64,
    "pyramid_channels": 16,
    "anchor_sizes": [[8], [14], [20], [28], [40]],
    "proposals_per_level": 20,
    "proposals": 20,
    "proposals_per_level_test": 10,
    "proposals_test": 10,
    "box_width": 16,
    "detections": 4,
    "chart_depth": 1,
    "chart_width": 8,
    "chart_cells": 7,
}
RECIPES = {
    "parsing-rgb": {**RECIPE, "data": PEOPLE, "task": {"size": 64}},
    "parsing-depth": {**RECIPE, "data": PEOPLE, "task": {"size": 64, "class_weights": "frequency"}},
    "pose": {**RECIPE, "data": PEOPLE, "task": POSE},
    "densepose": {
        **RECIPE,
        "data": SCENES,
        "task": DENSEPOSE,
        "num_val_rows": 3,
        "train": {**RECIPE["train"], "batch_size_per_lane": 1},
    },
}


OTHERS = {"name": "clips", "terms": "by agreement alone", "page": ""}


def write_recipes(home: Path) -> None:
    """RECIPES as files."""
    for task, values in RECIPES.items():
        (home / f"{task}.yaml").write_text(yaml.safe_dump({"name": f"tiny-{task}", **values}, sort_keys=False))


def export(folder: Path, seed: int = 0, **encoder) -> str:
    """What a pre-training leaves, its weights as they were drawn."""
    config = EncoderConfig(**{"name": "test_resnet", **encoder})
    model = ModelConfig(rgb=config, depth=config, skeleton=SkeletonConfig(width=16, num_blocks=1), embedding=16)
    return export_encoders(HCMoCo(model, seed=seed), folder, training={"stage": 2, "steps": 7, "terms": [OTHERS]})


def command(home: Path, task: str, *arguments: str) -> list[str]:
    """Arguments of the program; those given win."""
    overrides = last_of_each(["init=scratch", f"output_dir=runs/{task}", *arguments])
    return [task, "--recipe", str(home / f"{task}.yaml"), *overrides]


def call(home: Path, task: str, *arguments: str, bare: bool = False) -> Done:
    """finetune.py in this process, on the Ray that runs already. `bare`: with these arguments alone."""
    from hcmoco_ray.commands.finetune import main

    given = [task, *arguments] if bare else command(home, task, *arguments)
    chosen = [each.partition("=")[2] for each in given if each.startswith("output_dir=")]
    return _called(main, home, given, home / (chosen[-1] if chosen else RECIPE["output_dir"]))


def evaluate(home: Path, weights: str, data: str, *arguments: str) -> Done:
    """evaluate.py, likewise; without --out its results lie beside the model."""
    from hcmoco_ray.commands.evaluate import main

    beside = home / weights / "model" / "evaluations" / Path(data).name
    folder = home / arguments[arguments.index("--out") + 1] if "--out" in arguments else beside
    return _called(main, home, [weights, "--data", data, *arguments], folder)


def _called(main, home: Path, arguments: list[str], folder: Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCMOCO_HOME", str(home))
        try:
            status = main(arguments)
        except SystemExit as refused:  # argparse's way
            status = refused.code
    return Done(status, out.getvalue(), err.getvalue(), folder)


def results(folder: Path) -> dict:
    """results.json, which has to be JSON as everybody reads it: without NaN and Infinity."""

    def refuse(word: str):
        raise AssertionError(f"{word} is not JSON")

    return json.loads((folder / "results.json").read_text(), parse_constant=refuse)


def tags(folder: Path) -> dict[str, str]:
    """Of the one MLflow run of a folder."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return dict(run.data.tags)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two states are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def start(home: Path, task: str, *arguments: str, **settings) -> subprocess.Popen:
    """finetune.py in a process and with a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_"))}
    environment |= {"HCMOCO_HOME": str(home), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(ROOT / "pipelines" / "finetune.py")]
    return subprocess.Popen([*program, *command(home, task, *arguments)], env=environment, **settings)
