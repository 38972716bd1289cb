"""A pre-training of a few seconds on synthetic people, and what it left."""

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
import yaml

from hcmoco.training.checkpoint import States, TrainState
from hcmoco_ray.tracking.progress import beside
from tests.helpers.called import Called
from tests.helpers.ending import interrupt_this_process
from tests.helpers.overrides import last_of_each

ROOT = Path(__file__).parents[2]
PROGRESS = r"starting |the workers have been starting |step \d+|preparing "

# The smallest model and probes; sweeps of a few seconds have them too.
MODEL = {
    "rgb": {"name": "test_resnet"},
    "depth": {"name": "test_resnet"},
    "skeleton": {"width": 16, "num_blocks": 1},
    "embedding": 16,
}
PROBE = {
    "every": 2,
    "num_people": 8,
    "num_people_during_training": 4,
    "batch_size": 8,
    "num_positions": 16,
    "num_partners": 1,
}
RECIPE = {
    "name": "tiny",
    "output_dir": "runs/tiny",
    "seed": 3,
    "data": {
        "sources": {
            "indoor": {
                "path": "data/indoor",
                "weight": 3,
                "people": {"domain": "indoor", "size": 64, "count": 48, "seed": 1},
            },
            "wild": {
                "path": "data/wild",
                "weight": 1,
                "people": {"domain": "wild", "size": 64, "count": 24, "seed": 2},
            },
        },
        "held_out": {"path": "data/held-out", "people": {"domain": "indoor", "size": 64, "count": 16, "seed": 3}},
    },
    "augment": {"size": 64},
    "model": MODEL,
    "objective": {"num_negatives": 32, "num_anchors": 12},
    "stages": {"stage1_steps": 3, "stage2_steps": 3},
    "optim": {"name": "adamw", "lr": 0.004, "restart": False},
    "train": {
        "precision": "float32",
        "lanes": 2,
        "batch_size_per_lane": 4,
        "window_steps": 2,
        "log_every": 1,
        "save_every": 2,
    },
    "probe": PROBE,
}


def write_recipe(home: Path) -> Path:
    """RECIPE as a file."""
    path = home / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return path


def newest(out: Path) -> TrainState:
    state = States(str(out / "states")).newest()
    assert state is not None
    return state


def differences(one: TrainState, other: TrainState) -> list[str]:
    """Names of all that is not the same, bit for bit, in two train states; the id of the tracking run aside."""
    found = [name for name in ("step", "stage", "identity", "history") if getattr(one, name) != getattr(other, name)]
    for part in ("model", "optimizer", "bank", "best"):
        a, b = getattr(one, part), getattr(other, part)
        found += [
            f"{part} {name}"
            for name in sorted(a.keys() | b.keys())
            if name not in a or name not in b or not _same(a[name], b[name])
        ]
    return found


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
    )


def tracked(out: Path) -> list[dict]:
    """The MLflow runs of an output folder: status, params, metrics (name -> [(step, value)]), names of artifacts."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = []
    for run in client.search_runs([each.experiment_id for each in client.search_experiments()]):
        history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        folder = Path(run.info.artifact_uri)
        runs.append(
            {
                "id": run.info.run_id,
                "status": run.info.status,
                "params": dict(run.data.params),
                "metrics": {
                    name: sorted((point.step, point.value) for point in points) for name, points in history.items()
                },
                "artifacts": {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()},
            }
        )
    return runs


def logged(out: Path) -> tuple:
    """The one MLflow run of an output folder and its logged models."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return run, [each for each in client.search_logged_models(experiments) if each.source_run_id == run.info.run_id]


def numbers(out: Path) -> dict[str, list[tuple[int, float]]]:
    """All that the one MLflow run of a folder has measured, the clock's and the machine's figures aside."""
    (run,) = tracked(out)
    assert run["status"] == "FINISHED"
    return {name: points for name, points in run["metrics"].items() if not name.startswith(("perf/", "system/"))}


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below `folder` with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


class Done(Called):
    """What a call of the program returned, printed and left."""

    @property
    def error(self) -> str:
        """The one line of a user's mistake; progress may come before it."""
        assert self.status == 2, self
        *before, last = self.err.splitlines()
        assert last.startswith("error: "), self.err
        assert not [line for line in before if not re.match(PROGRESS, line)], self.err
        return last.removeprefix("error: ")


def call(home: Path, *arguments: str, recipe: str | None = None) -> Done:
    """The program in this process, on the Ray that runs already."""
    from hcmoco_ray.commands.pretrain import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["--recipe", recipe or str(home / "tiny.yaml"), *last_of_each(arguments)])
    chosen = [each.partition("=")[2] for each in arguments if each.startswith("output_dir=")]
    return Done(status, out.getvalue(), err.getvalue(), home / (chosen[-1] if chosen else RECIPE["output_dir"]))


@contextmanager
def interrupted_at(file: Path) -> Iterator[None]:
    """As if someone pressed Ctrl-C once `file` is there."""

    def watch(over: threading.Event) -> None:
        while not over.wait(0.002):
            if file.exists():
                interrupt_this_process()
                return

    with beside(watch):
        yield


def start(home: Path, *arguments: str, **settings) -> subprocess.Popen:
    """The program in a process and with a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_"))}
    environment |= {"HCMOCO_HOME": str(home), "OMP_NUM_THREADS": "1"}
    recipe = [] if "--recipe" in arguments else ["--recipe", str(home / "tiny.yaml")]
    command = [sys.executable, str(ROOT / "pipelines" / "pretrain.py"), *recipe, *last_of_each(arguments)]
    return subprocess.Popen(command, env=environment, **settings)
