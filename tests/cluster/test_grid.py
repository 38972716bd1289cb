"""A data-fraction grid on three nodes, with S3 and an MLflow server: a node and the program are lost on the way."""

import json
import signal
from collections import Counter

import pytest
import yaml
from mlflow import MlflowClient

from hcmoco.storage import Folder, join
from tests.helpers import s3_server
from tests.helpers.cable import Cable
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.pretrain_program import RECIPE
from tests.helpers.small_grid import FINETUNE, grid
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def recipes(nodes):
    (nodes.shared / "pretrain.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    (nodes.shared / "finetune.yaml").write_text(yaml.safe_dump(FINETUNE))
    return nodes.shared


def results(home: str) -> dict[str, dict]:
    """What each cell has measured, by its name."""
    folder = Folder(join(home, "runs/grid/experiments"))
    cells = {name: json.loads(folder.read(name)) for name in folder.sizes()}
    return {name: {key: cell[key] for key in ("test", "evals", "labels", "steps")} for name, cell in cells.items()}


def table(home: str) -> bytes:
    return Folder(join(home, "runs/grid")).read("label_fractions.md")


def test_a_grid_that_loses_a_node_and_its_program_ends_as_on_one_node(nodes, recipes, s3, tmp_path, capsys):
    command = ["python", "tuning/label_fractions.py", "--grid"]
    alone = str(recipes / "alone")
    (recipes / "alone.yaml").write_text(yaml.safe_dump(grid(recipes)))
    nodes.run(1, [*command, str(recipes / "alone.yaml")], env={"HCMOCO_HOME": alone})  # a Ray of its own
    cable = Cable(s3.address, nodes.host_address)
    home = f"s3://bucket/grid?endpoint_override={cable.address}&scheme=http"
    with MlflowServer(tmp_path, nodes.host_address) as mlflow:
        (recipes / "together.yaml").write_text(yaml.safe_dump(grid(recipes, mlflow.uri)))
        environment = {**s3_server.ENVIRONMENT, "RAY_ADDRESS": nodes.ray_address, "HCMOCO_HOME": home}

        def start():
            return nodes.popen(0, [*command, str(recipes / "together.yaml")], env=environment)

        first = start()
        first.until(r"^4/40  ")
        nodes.kill_node(2)
        first.until(r"^16/40  ")
        first.send_signal(signal.SIGKILL)
        first.wait()
        nodes.start(2)
        second = start()
        wait_until(lambda: second.process.poll() is not None)
        with capsys.disabled():
            print(f"\n{first.said}\n{second.said}")
        assert second.wait() == 0, second.said
        assert "Traceback" not in second.said
        assert results(home) == results(alone)
        assert table(home) == table(alone)
        client = MlflowClient(mlflow.uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.`hcmoco.task` != ''", max_results=1000)
        assert {each.info.status for each in runs} == {"FINISHED"}
        assert set(Counter(each.data.tags["hcmoco.key"] for each in runs).values()) == {1}
        assert len(runs) == 40
