"""The programs that run a part on each CPU, on three nodes: the same results as on one node.

`label_fractions` and `sweep` are in files of their own, where they lose a node and the program besides.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers.nodes import Nodes
from tests.helpers.pretrain_program import MODEL, RECIPE
from tests.helpers.small_grid import FINETUNE
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

OBJECTIVES = {
    "cmc": ["objective.method=cmc"],
    "hard": ["objective.dense_target=hard", "objective.lambda_s=0"],
    "soft": ["objective.lambda_s=0"],
    "hcmoco": [],
}
PEOPLE = {"domain": "indoor", "size": 64}
VERSATILITY = {
    "name": "tiny",
    "output_dir": "runs/versatility",
    "results": "tables",
    "data": {
        "unlabeled": {"path": "data/unlabeled", "people": {**PEOPLE, "count": 24, "seed": 1}},
        "labeled": {"path": "data/labeled", "people": {**PEOPLE, "count": 16, "seed": 5}},
        "test": {"path": "data/test", "people": {**PEOPLE, "count": 8, "seed": 4}},
    },
    "augment": {"size": 64},
    "model": MODEL,
    "objective": {"num_anchors": 12, "num_negatives": 0},
    "steps": 20,
    "optim": {"name": "adamw", "lr": 0.002},
    "train": {"precision": "float32", "lanes": 1, "batch_size_per_lane": 4, "window_steps": 2},
}


@pytest.fixture
def recipes(nodes: Nodes) -> Path:
    (nodes.shared / "pretrain.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    (nodes.shared / "finetune.yaml").write_text(yaml.safe_dump(FINETUNE))
    return nodes.shared


def homes(nodes: Nodes, name: str, command: Sequence[str], task: str) -> tuple[Path, Path]:
    """Runs a program on a node alone, with a Ray of its own, and then on all nodes.

    Args:
        task: what the tasks that do the work are called; they are seen on each of the three nodes.

    Returns:
        HCMOCO_HOME of the one and of the other.
    """
    alone, together = nodes.shared / f"{name}-alone", nodes.shared / f"{name}-together"
    nodes.run(1, command, env={"HCMOCO_HOME": str(alone)})
    program = nodes.popen(0, command, env={"RAY_ADDRESS": nodes.ray_address, "HCMOCO_HOME": str(together)})
    seen: set[int] = set()

    def over() -> bool:
        seen.update(node for node in (1, 2, 3) if any(_is(each, task) for each in nodes.processes(node)))
        return program.process.poll() is not None

    wait_until(over, pause=0.2)
    assert program.wait() == 0, program.said
    assert "Traceback" not in program.said
    assert seen == {1, 2, 3}, program.said
    return alone, together


def _is(process: psutil.Process, task: str) -> bool:
    try:
        return f"ray::{task}" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def results(folder: Path) -> dict[str, dict]:
    """What decides and scores each experiment, by its file."""
    files = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    keys = ("key", "init", "labels", "test", "evals", "steps")
    return {name: {key: each[key] for key in keys} for name, each in files.items()}


def same_results(both: tuple[Path, Path], experiments: str, count: int, table: str) -> str:
    """Asserts that both homes hold the same experiments and the same table, which it returns."""
    alone, together = (results(home / experiments) for home in both)
    assert len(together) == count
    assert together == alone
    tables = [(home / table).read_text() for home in both]
    assert tables[0] == tables[1]
    return tables[0]


def test_an_ablation(nodes, recipes):
    inits = {
        name: {"pretrain": str(recipes / "pretrain.yaml"), "overrides": overrides, "output_dir": f"runs/{name}"}
        for name, overrides in OBJECTIVES.items()
    }
    experiments = [{"tasks": ["parsing-rgb", "parsing-depth"], "labels": {"fraction": 0.5}, "seeds": [0, 1]}]
    grid = {"recipe": str(recipes / "finetune.yaml"), "output_dir": "runs/grid", "baseline": "cmc", "inits": inits}
    (recipes / "ablation.yaml").write_text(yaml.safe_dump({**grid, "experiments": experiments}))
    command = ["python", "tuning/ablation.py", "--grid", str(recipes / "ablation.yaml")]
    both = homes(nodes, "ablation", command, "work")
    table = same_results(both, "runs/grid/experiments", 16, "runs/grid/ablation.md")
    assert "| + sparse | " in table


def test_a_versatility_study(nodes, recipes):
    start = {"pretrain": str(recipes / "pretrain.yaml"), "output_dir": "runs/start"}
    (recipes / "versatility.yaml").write_text(yaml.safe_dump({**VERSATILITY, "init": start}))
    command = ["python", "tuning/versatility.py", "--recipe", str(recipes / "versatility.yaml")]
    same_results(homes(nodes, "versatility", command, "work"), "tables/versatility", 9, "tables/versatility.md")


def test_a_preparation(nodes):
    """Byte for byte the same files, the manifest among them."""
    command = ["python", "pipelines/prepare.py", "people", "--out", "data/people", "--count", "960", "--size", "64"]
    alone, together = homes(nodes, "prepare", command, "make_part")
    files = [{path.name: path.read_bytes() for path in (home / "data/people").iterdir()} for home in (alone, together)]
    assert len(files[0]) > 1
    assert files[0] == files[1]
