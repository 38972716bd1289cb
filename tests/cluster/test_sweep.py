"""A sweep of weights and temperatures on three nodes, with S3 and an MLflow server; a node and the program are lost."""

import json
import signal
from collections import Counter

import pytest
import yaml
from mlflow import MlflowClient

from hcmoco.storage import Folder, join
from tests.helpers import s3_server, sweep_program
from tests.helpers.cable import Cable
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.small_grid import FINETUNE

pytestmark = [pytest.mark.cluster, pytest.mark.long]

NAMES = ("objective.lambda_d", "objective.lambda_s", "objective.tau_g", "objective.tau_d")
SWEEP = {
    "method": "random",  # its values do not depend on which trial ends first
    "num_trials": 6,
    "space": {name: {"loguniform": [0.1, 1]} for name in NAMES},
    "fixed": {"stages": {"stage1_steps": 10, "stage2_steps": 30}},
}


def records(home: str) -> dict[str, dict]:
    """What decides and scores each trial, and the digest of its weights, by its file."""
    folder = Folder(join(home, "runs/sweep/trials"))
    trials = {name: json.loads(folder.read(name)) for name in folder.sizes()}
    return {
        name: {
            **{key: each[key] for key in ("values", "score", "status", "steps")},
            "weights": each["finetuning"]["init"]["digest"],
        }
        for name, each in trials.items()
    }


def test_a_sweep_that_loses_a_node_and_its_program_ends_as_on_one_node(nodes, s3, tmp_path, capsys):
    (nodes.shared / "finetune.yaml").write_text(yaml.safe_dump(FINETUNE))
    labels = {"task": "parsing-rgb", "recipe": str(nodes.shared / "finetune.yaml"), "labels": {"fraction": 0.1}}
    sweep = sweep_program.write(nodes.shared, {**SWEEP, "score": {"finetune": labels}})
    command = ["python", "tuning/sweep.py", "--sweep", str(sweep)]
    alone = str(nodes.shared / "alone-sweep")
    nodes.run(1, command, env={"HCMOCO_HOME": alone})  # a Ray of its own
    cable = Cable(s3.address, nodes.host_address)
    home = f"s3://bucket/sweep?endpoint_override={cable.address}&scheme=http"
    with MlflowServer(tmp_path, nodes.host_address) as mlflow:
        environment = {**s3_server.ENVIRONMENT, "RAY_ADDRESS": nodes.ray_address, "HCMOCO_HOME": home}
        environment |= {"MLFLOW_TRACKING_URI": mlflow.uri, "MLFLOW_EXPERIMENT_NAME": "people"}
        first = nodes.popen(0, command, env=environment)
        first.until(r"^1/6  trial")
        nodes.kill_node(2)
        first.until(r"^3/6  trial")
        first.send_signal(signal.SIGKILL)
        first.wait()
        nodes.start(2)
        second = nodes.popen(0, command, env=environment)
        status = second.wait()
        with capsys.disabled():
            print(f"\n{first.said}\n{second.said}")
        assert status == 0, second.said
        assert "Traceback" not in second.said
        assert records(home) == records(alone)
        client = MlflowClient(mlflow.uri)
        experiment = client.get_experiment_by_name("people")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
        parents = Counter(each.data.tags.get("mlflow.parentRunId") for each in runs)
        assert {each.info.status for each in runs} == {"FINISHED"}
        assert parents.pop(None) == 1
        assert list(parents.values()) == [6]
