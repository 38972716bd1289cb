"""What was lost, from the errors that Ray Train raises."""

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError

from hcmoco.errors import UserError
from hcmoco_ray.cluster import room
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.train.losses import explain

LOST = WorkerHealthCheckFailedError("poll failed", RayActorError())
BROKEN = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.3]:4711")


@pytest.fixture
def status(ray_session):
    """Two ranks on this node, at step 12."""
    (here,) = room.alive_nodes()
    status = Status("")
    for rank in range(2):
        status.note(f"node/{rank}", here)
    status.note("step", 12)
    return status


def here() -> str:
    (address,) = room.alive_nodes()
    return address


def test_a_lost_process(status):
    loss = explain(WorkerGroupError("", {1: LOST, 0: BROKEN}), status)
    assert (loss.text, loss.outside, loss.silent) == (f"worker 1 on {here()} was lost at step 12", True, [])


def test_a_lost_node(status):
    status.note("node/1", "10.0.0.7")  # of which Ray knows nothing any more
    loss = explain(WorkerGroupError("", {0: BROKEN}), status)
    assert (loss.text, loss.outside) == ("node 10.0.0.7 was lost at step 12", True)


def test_a_broken_connection_and_no_lost_node(status):
    loss = explain(WorkerGroupError("", {0: BROKEN}), status)
    assert (loss.text, loss.outside) == ("worker 0 lost its connection to another one at step 12", True)


def test_an_error_of_the_program_is_told_from_a_loss(status):
    loss = explain(WorkerGroupError("", {1: ZeroDivisionError("division by zero")}), status)
    assert (loss.text, loss.outside) == ("worker 1 failed at step 12: division by zero", False)


def test_no_room(status):
    loss = explain(ControllerError(WorkerGroupStartupTimeoutError(2)), status)
    assert (loss.text, loss.outside) == ("the workers found no room, or were lost while they started", True)


def test_a_mistake_of_the_user_ends_the_run(status):
    with pytest.raises(UserError, match="the disk is full"):
        explain(ControllerError(UserError("the disk is full")), status)


def test_an_error_that_is_not_ray_train_s_passes(status):
    with pytest.raises(KeyError):
        explain(KeyError("x"), status)


def test_facts_are_forgotten_before_a_new_start(status):
    assert status.nodes(2) == [here()] * 2
    status.clear_facts()
    assert status.facts() == {}
