"""Nodes that log to one MLflow server of the test process."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.helpers import postgres
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.nodes import Nodes

pytestmark = pytest.mark.cluster

LOG = """
import socket, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
run = client.create_run("0").info.run_id
client.log_metric(run, "loss", 0.5, step=3)
client.log_text(run, socket.gethostname(), "host.txt")
print(run)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_runs_of_nodes_outlive_the_server(nodes: Nodes, tmp_path: Path, database: str):
    with ExitStack() as stack:
        backend = None
        if database == "postgresql":
            if why := postgres.unavailable():
                pytest.skip(f"{postgres.REASON}: {why}")
            backend = stack.enter_context(postgres.Postgres()).uri
        server = stack.enter_context(MlflowServer(tmp_path, nodes.host_address, backend=backend))
        runs = [nodes.run(node, ["python", "-c", LOG, server.uri]).split()[-1] for node in (1, 2)]
        server.stop()
        assert not server.answers()
        server.start()
        client = MlflowClient(server.uri)
        for node, run in zip((1, 2), runs, strict=True):
            [point] = client.get_metric_history(run, "loss")
            assert (point.value, point.step) == (0.5, 3)
            host = client.download_artifacts(run, "host.txt", str(tmp_path))
            assert Path(host).read_text() == nodes.hostname(node)
