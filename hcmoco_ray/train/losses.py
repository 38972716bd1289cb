"""Find out what was lost when a group of training workers fails: a process, a node, or a connection."""

import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from hcmoco.errors import UserError, one_line
from hcmoco.training.context import WorkersLeave
from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts, network
from hcmoco_ray.cluster.entrypoint import find_user_error
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.tracking.progress import Status, say
from hcmoco_ray.train.pulse import GROW, LEAVE, beats_of, nodes_of

# A node that was lost stays in Ray's list until its health checks have failed. Workers that were started before that
# could be placed on it.
_SETTLE_S = 150.0
_ANSWER_S = 2.0
# What gloo, NCCL and PyTorch say on a worker whose peer has gone.
_BROKEN = re.compile(
    r"closed by peer|[Cc]onnection reset|[Bb]roken pipe|[Cc]onnection refused|Timed out waiting|remote process|"
    r"Socket Timeout|ncclRemoteError|NCCL.*(timeout|aborted)|Network is unreachable|No route to host"
)
_MEMORY = re.compile(r"running low on memory|OutOfMemory")


@dataclass(frozen=True)
class Loss:
    """Why a group of workers ended before its training.

    Attributes:
        what: was lost, and where: one phrase.
        step: that the training was at; -1 if it had not begun.
        error: that was raised.
        outside: whether something outside the program was lost, so that starting again helps.
        announced: whether it was known before, and a train state was saved for it.
        silent: addresses of nodes that do not answer but that Ray still counts as alive.
    """

    what: str
    step: int
    error: Exception
    outside: bool = True
    announced: bool = False
    silent: tuple[str, ...] = ()

    def text(self, step: int = -1) -> str:
        """Return the phrase with the step.

        Args:
            step: of the newest train state, which the training has reached, whatever was heard of it.
        """
        reached = max(step, self.step)
        return f"{self.what} at step {reached}" if reached >= 0 else self.what


def explain(error: Exception, status: Status) -> Loss:
    """Return what was lost.

    Args:
        error: that a group of workers ended with.
        status: where the workers have noted their nodes, and rank 0 its step.

    Raises:
        UserError: `error` is a mistake of the user's, which starting again does not mend.
        SavedAndStopped: the workers have ended because the user asked for it.
        Exception: `error` itself, if it is neither Ray Train's nor the loss of its controller.
    """
    import ray
    import ray.train

    controller = getattr(error, "controller_failure", None)
    mistake = find_user_error(error)
    if mistake:
        raise mistake from None
    if not isinstance(error, ray.train.TrainingFailedError | ray.exceptions.RayActorError):
        raise error
    if isinstance(error, ray.exceptions.RayActorError) and "creation task" in str(error):
        reason = str(error).strip().splitlines()[-1][:300]
        raise UserError(
            f"Ray Train could not start ({reason}); if this is about the storage, every node needs its keys: set them "
            "where `ray start` runs (docs/storage.md)"
        ) from None
    facts = _facts(status)
    nodes = nodes_of(facts)
    dead, silent = _lost_nodes(set(nodes.values()))
    step = max((beat.step for beat in beats_of(facts).values()), default=-1)
    failures = getattr(error, "worker_failures", {})
    if any(isinstance(each, WorkersLeave) for each in failures.values()):
        if facts.get("ask") == LEAVE:
            raise interrupts.SavedAndStopped(one_line(next(iter(failures.values())))) from None
        if facts.get("ask") == GROW:
            return Loss("there is room for more workers", step, error, announced=True)
        # Ray may have taken the node off its list by now.
        return Loss(_are(_draining() or dead, "about to be taken away"), step, error, announced=True)
    if dead or silent:
        return Loss(_are(dead | silent, "lost"), step, error, silent=tuple(sorted(silent)))
    meeting = network.failed_meeting(str(controller or error), list(_alive()))
    if meeting and step < 0:
        raise UserError(meeting) from None
    if compat.is_failed_start(controller):
        return Loss("there was no room for the workers, or they were lost while they started", -1, error)
    return _lost_workers(failures, nodes, step, error)


def _are(nodes: set[str], what: str) -> str:
    """Return "node A was <what>", for one node or several."""
    if not nodes:
        return f"a node was {what}"
    names = " and ".join(sorted(nodes))
    return f"node {names} was {what}" if len(nodes) == 1 else f"nodes {names} were {what}"


def _draining() -> set[str]:
    """Return the addresses of the nodes that are about to be taken away."""
    draining = compat.draining_nodes()
    return {address for address, node in _alive().items() if node["NodeID"] in draining}


def _lost_workers(failures: dict[int, Exception], nodes: dict[int, str], step: int, error: Exception) -> Loss:
    lost = sorted(rank for rank, failure in failures.items() if compat.is_lost_worker(failure))
    if lost:
        where = " and ".join(f"{rank} on {nodes.get(rank, 'an unknown node')}" for rank in lost)
        what = f"worker {where} was lost" if len(lost) == 1 else f"workers {where} were lost"
        out_of_memory = any(_MEMORY.search(str(failures[rank])) for rank in lost)
        return Loss(f"{what}{' because memory ran out' if out_of_memory else ''}", step, error)
    if not failures:
        return Loss(f"the process that watches the workers was lost ({one_line(error)})", step, error)
    rank, failure = min(failures.items())
    if all(_BROKEN.search(str(each)) for each in failures.values()):
        return Loss(f"worker {rank} lost its connection to another one", step, error)
    return Loss(f"worker {rank} failed ({one_line(failure)})", step, error, outside=False)


def wait_until_settled(loss: Loss) -> None:
    """Return when Ray has struck the silent nodes off its list, or they answer again; waits a bounded time."""
    until, said = time.monotonic() + _SETTLE_S, time.monotonic() - 50
    waiting = set(loss.silent)
    while waiting and time.monotonic() < until:
        interrupts.raise_if_interrupted()
        alive = _alive()
        waiting = {each for each in waiting if each in alive and not _answers(alive[each])}
        if waiting and time.monotonic() - said > 60:
            said = time.monotonic()
            say(f"waiting until Ray gives up {' and '.join(sorted(waiting))}, which does not answer")
        time.sleep(0.5)


def _alive() -> dict[str, dict[str, Any]]:
    return {node["NodeManagerAddress"]: node for node in alive_nodes()}


def _facts(status: Status) -> dict[str, Any]:
    import ray

    try:
        return status.facts(timeout=10)
    except ray.exceptions.RayError:
        return {}


def _lost_nodes(addresses: set[str]) -> tuple[set[str], set[str]]:
    """Return those of the addresses that Ray knows to be dead, and those that do not answer although it does not."""
    alive = _alive()
    return addresses - alive.keys(), {each for each in addresses & alive.keys() if not _answers(alive[each])}


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True
