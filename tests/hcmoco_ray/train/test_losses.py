"""What was lost, from the errors that Ray Train raises."""

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError

from hcmoco.errors import UserError
from hcmoco.training.context import WorkersLeave
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.train.losses import explain
from hcmoco_ray.train.pulse import LEAVE, STEP, Beat, nodes_of

LOST = WorkerHealthCheckFailedError("poll failed", RayActorError())
BROKEN = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.3]:4711")


@pytest.fixture
def status(ray_session):
    """Two ranks on this node, at step 12."""
    (here,) = (node["NodeManagerAddress"] for node in alive_nodes())
    status = Status("")
    for rank in range(2):
        status.note(f"node/{rank}", here)
    status.note("rank/0", Beat(12, STEP, 7))
    status.facts()  # its process has started
    return status


def here() -> str:
    (address,) = (node["NodeManagerAddress"] for node in alive_nodes())
    return address


def test_a_lost_process(status):
    loss = explain(WorkerGroupError("", {1: LOST, 0: BROKEN}), status)
    assert (loss.text(), loss.outside, loss.silent) == (f"worker 1 on {here()} was lost at step 12", True, ())
    assert loss.text(20) == f"worker 1 on {here()} was lost at step 20"  # a state says more than the last beat


def test_a_lost_node(status):
    status.note("node/1", "10.0.0.7")  # of which Ray knows nothing any more
    loss = explain(WorkerGroupError("", {0: BROKEN}), status)
    assert (loss.text(), loss.outside) == ("node 10.0.0.7 was lost at step 12", True)


def test_a_broken_connection_and_no_lost_node(status):
    loss = explain(WorkerGroupError("", {0: BROKEN}), status)
    assert (loss.text(), loss.outside) == ("worker 0 lost its connection to another one at step 12", True)


def test_an_error_of_the_program_is_told_from_a_loss(status):
    loss = explain(WorkerGroupError("", {1: ZeroDivisionError("division by zero")}), status)
    assert (loss.text(), loss.outside) == ("worker 1 failed (division by zero) at step 12", False)


def test_no_room(status):
    loss = explain(ControllerError(WorkerGroupStartupTimeoutError(2)), status)
    assert (loss.text(), loss.outside) == (
        "there was no room for the workers, or they were lost while they started",
        True,
    )


def test_workers_that_leave_because_they_were_asked_to(status):
    status.note("ask", LEAVE)
    left = WorkersLeave("a worker had to end; the train state of step 13 is complete")
    with pytest.raises(interrupts.SavedAndStopped, match="the train state of step 13 is complete"):
        explain(WorkerGroupError("", {0: left, 1: left}), status)


def test_workers_that_leave_a_node_that_is_taken_away(status):
    loss = explain(WorkerGroupError("", {0: WorkersLeave("step 13"), 1: BROKEN}), status)
    assert (loss.announced, loss.text(13)) == (True, "a node was about to be taken away at step 13")


def test_workers_that_leave_a_node_that_is_gone_by_now(status):
    status.note("node/1", "10.0.0.7")  # of which Ray knows nothing any more
    loss = explain(WorkerGroupError("", {0: WorkersLeave("step 13"), 1: BROKEN}), status)
    assert (loss.announced, loss.text(13)) == (True, "node 10.0.0.7 was about to be taken away at step 13")


def test_a_mistake_of_the_user_ends_the_run(status):
    with pytest.raises(UserError, match="the disk is full"):
        explain(ControllerError(UserError("the disk is full")), status)


def test_an_error_that_is_not_ray_train_s_passes(status):
    with pytest.raises(KeyError):
        explain(KeyError("x"), status)


def test_facts_are_forgotten_before_a_new_start(status):
    assert list(nodes_of(status.facts()).values()) == [here()] * 2
    status.clear_facts()
    assert status.facts() == {}
