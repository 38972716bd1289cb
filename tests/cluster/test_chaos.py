"""Whatever is lost on the way, the weights are those of an undisturbed run, bit for bit."""

import random
import time

import pytest

from tests.helpers import s3_server
from tests.helpers.cable import Cable
from tests.helpers.chaos import EVENTS, SAVE_EVERY, Event, Training, first_start, kill_worker, suffer, table
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.pretrain_program import differences

pytestmark = pytest.mark.cluster

GAP = 60  # steps from one event to the next, at least
STEPS = GAP * len(EVENTS) + 100


def test_a_seeded_schedule_of_losses(nodes, capsys):
    """Events come in a random order, at random states, to random ranks; the seed is fixed."""
    draw = random.Random(11)
    began = time.monotonic()
    undisturbed = Training(nodes, "whole", steps=STEPS)
    measured = [first_start(undisturbed, began)]
    whole = undisturbed.end()
    training = Training(nodes, "chaos", steps=STEPS)
    try:
        for number, event in enumerate(draw.sample(list(EVENTS.values()), len(EVENTS))):
            training.wait_for_step(GAP * number + draw.randrange(1, 6) * SAVE_EVERY)
            measured.append(suffer(training, event, draw.randrange(2)))
        state = training.end()
    finally:
        with capsys.disabled():
            print(f"\n{table(measured)}\n{training.said[-8000:]}")
    assert differences(state, whole) == []
    assert all(each.step - each.resumed <= SAVE_EVERY for each in measured)
    assert len(set(training.places())) == 2


def test_servers_that_go_away(nodes, s3, tmp_path, capsys):
    """The states are on S3 and the numbers on an MLflow server; each is away for 20 s, then a worker is killed."""
    cable = Cable(s3.address, nodes.host_address)

    def away(server_goes, server_comes):
        def strike(training: Training, rank: int) -> None:
            server_goes()
            time.sleep(20)
            server_comes()

        return strike

    with MlflowServer(tmp_path, nodes.host_address) as mlflow:
        query = f"endpoint_override={cable.address}&scheme=http"
        runs = {
            name: {
                "steps": 400,
                "environment": s3_server.ENVIRONMENT,
                "out": f"s3://bucket/{name}?{query}",
            }
            for name in ("whole", "servers")
        }
        uri = f"tracking.uri={mlflow.uri}"
        whole = Training(nodes, "whole", uri, **runs["whole"]).end()
        training = Training(nodes, "servers", uri, **runs["servers"])
        events = [
            Event("S3 away for 20 s", away(cable.cut, cable.mend)),
            Event("MLflow away for 20 s", away(mlflow.stop, mlflow.start)),
            Event("worker killed", kill_worker),
        ]
        measured = []
        try:
            for number, event in enumerate(events):
                training.wait_for_step(80 * number + SAVE_EVERY)
                measured.append(suffer(training, event, 0))
            state = training.end()
        finally:
            with capsys.disabled():
                print(f"\n{table(measured)}\n{training.said[-8000:]}")
    assert differences(state, whole) == []
