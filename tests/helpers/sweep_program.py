"""A sweep of a few seconds a trial on synthetic people, and what it left."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.helpers.pretrain_program import MODEL, PROBE

ROOT = Path(__file__).parents[2]
RECIPE = {
    "name": "tiny",
    "output_dir": "runs/tiny",
    "seed": 3,
    "data": {
        "sources": {
            "indoor": {"path": "data/indoor", "people": {"domain": "indoor", "size": 64, "count": 24, "seed": 1}}
        },
        "held_out": {"path": "data/held-out", "people": {"domain": "indoor", "size": 64, "count": 8, "seed": 3}},
    },
    "augment": {"size": 64},
    "model": MODEL,
    "objective": {"num_negatives": 0, "num_anchors": 12},
    "stages": {"stage1_steps": 2, "stage2_steps": 4},
    "optim": {"name": "adamw", "lr": 0.004, "restart": False},
    "train": {
        "precision": "float32",
        "lanes": 1,
        "batch_size_per_lane": 4,
        "window_steps": 2,
        "log_every": 1,
        "save_every": 4,
    },
    "probe": PROBE,
}
SWEEP = {
    "output_dir": "runs/sweep",
    "num_trials": 3,
    "space": {"objective.lambda_d": {"loguniform": [0.1, 10]}, "optim.name": {"choice": ["adam", "adamw"]}},
}


@dataclass(frozen=True)
class Swept:
    """What a call of the program returned, printed and left."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def records(self) -> dict[int, dict]:
        """The trials that are over."""
        return {
            int(path.stem): json.loads(path.read_text()) for path in sorted((self.folder / "trials").glob("*.json"))
        }


def write(home: Path, over: dict | None = None) -> Path:
    """The tiny recipe, and a sweep over it as a file."""
    (home / "tiny.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    path = home / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "recipe": str(home / "tiny.yaml"), **(over or {})}, sort_keys=False))
    return path


def call(home: Path, over: dict | None = None, *arguments: str) -> Swept:
    """The program in this process, on the Ray that runs already. HCMOCO_HOME must be `home`."""
    from hcmoco_ray.commands.sweep import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["--sweep", str(write(home, over)), *arguments])
    return Swept(status, out.getvalue(), err.getvalue(), home / (over or {}).get("output_dir", SWEEP["output_dir"]))


def start(home: Path, over: dict) -> subprocess.Popen:
    """The program in a process and with a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_"))}
    environment |= {"HCMOCO_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tuning" / "sweep.py"), "--sweep", str(write(home, over))]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def runs(folder: Path) -> list:
    """Every MLflow run of a sweep's folder."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def points(folder: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    """What a run has measured."""
    from mlflow import MlflowClient

    return [
        (each.step, each.value)
        for each in MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_metric_history(run_id, key)
    ]
