"""The command that README prints, submitted to a cluster of a head and three nodes with S3 and an MLflow server."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from hcmoco.storage import Folder
from tests.helpers import s3_server
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.namespaces import REASON, unavailable
from tests.helpers.nodes import Nodes
from tests.helpers.pretrain_program import RECIPE
from tests.helpers.small_grid import FINETUNE, grid

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def submitting() -> Iterator[Nodes]:
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Nodes((0, 2, 2, 2), dashboard=True, environment=s3_server.ENVIRONMENT) as nodes:
        yield nodes


def printed(page: str, program: str) -> list[str]:
    """The command of a page that submits a program, its places and its recipe as printed."""
    found = re.findall(r"^    (ray job submit (?:.*\\\n)+.*)$", (ROOT / page).read_text(), re.MULTILINE)
    (command,) = (each for each in found if program in each)
    return shlex.split(command.replace("\\\n", " "))


def test_the_command_of_the_readme(submitting: Nodes, s3_environment, tmp_path: Path):
    nodes = submitting
    with s3_server.served(nodes.host_address) as s3, MlflowServer(tmp_path, nodes.host_address) as mlflow:
        s3.make_bucket("bucket")
        # Small people and models for large ones; one option, since `ray job submit` hands `&` to a shell.
        recipe = nodes.shared / "tiny.yaml"
        recipe.write_text(yaml.safe_dump({**RECIPE, "train": {**RECIPE["train"], "lanes": 4}}))
        endpoint = f"?endpoint_override=http%3A//{s3.address}"
        command = [
            re.sub(r"s3://BUCKET/(\S+)", rf"s3://bucket/\1{endpoint}", word)
            .replace("http://MLFLOW:5000", mlflow.uri)
            .replace("people-gpu", str(recipe) if word == "people-gpu" else "people-gpu")
            for word in printed("README.md", "pipelines/pretrain.py")
        ]
        said = nodes.run(0, command, {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"})
        assert "succeeded" in said
        workers = re.search(r"^workers: (.*)$", said, re.MULTILINE)[1]
        assert sorted(int(rank) for rank in re.findall(r"\b\d+(?=[, ]| on)", workers.replace(".", "_"))) == [0, 1, 2, 3]

        run = Folder(f"s3://bucket/people-gpu{endpoint}")
        assert {"export", "states"} <= set(run.folders())
        assert run.exists("table.md")
        client = MlflowClient(mlflow.uri)
        (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
        assert run.info.status == "FINISHED"


def test_the_grid_of_the_page(submitting: Nodes, s3_environment, tmp_path: Path):
    nodes = submitting
    for name, recipe in {"pretrain": RECIPE, "finetune": FINETUNE}.items():
        (nodes.shared / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    small = grid(nodes.shared)
    small["experiments"] = [{"tasks": ["parsing-rgb"], "labels": {"fraction": 0.5}, "seeds": [0]}]
    (nodes.shared / "grid.yaml").write_text(yaml.safe_dump(small))
    with s3_server.served(nodes.host_address) as s3, MlflowServer(tmp_path, nodes.host_address) as mlflow:
        s3.make_bucket("bucket")
        home = f"s3://bucket/team?endpoint_override=http%3A//{s3.address}"
        command = [
            word.replace("s3://BUCKET/team", home).replace("http://MLFLOW:5000", mlflow.uri)
            for word in printed("docs/cluster.md", "label_fractions.py")
        ]
        assert command[-1] == "people-cpu"
        command[-1] = str(nodes.shared / "grid.yaml")
        said = nodes.run(0, command, {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"})
        assert "succeeded" in said
        assert re.search(r"^busy: \d+ % of the CPUs that the nodes offered$", said, re.MULTILINE)
        assert Folder(home).exists("runs/grid/label_fractions.md")
        assert len(Folder(home).sizes("runs/grid/experiments")) == 2
        client = MlflowClient(mlflow.uri)
        runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
        assert len(runs) == 4  # the grid's, its two experiments' and that of its pre-training
        assert {each.info.status for each in runs} == {"FINISHED"}
