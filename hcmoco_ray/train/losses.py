"""Find out what was lost when a group of training workers fails: a process, a node, or a connection."""

import re
import socket
import time
from dataclasses import dataclass
from typing import Any

from hcmoco.errors import UserError, one_line
from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts, network, room
from hcmoco_ray.cluster.entrypoint import find_user_error
from hcmoco_ray.tracking.progress import Status, say

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
        text: what was lost, and where and when: one phrase.
        outside: whether something outside the program was lost, so that starting again helps.
        silent: addresses of nodes that do not answer but that Ray still counts as alive.
        error: that was raised.
    """

    text: str
    outside: bool
    silent: list[str]
    error: Exception


def explain(error: Exception, status: Status) -> Loss:
    """Return what was lost.

    Args:
        error: that a group of workers ended with.
        status: where the workers have noted their nodes, and rank 0 its step.

    Raises:
        UserError: `error` is a mistake of the user's, which starting again does not mend.
        Exception: `error` itself, if it is neither Ray Train's nor the loss of its controller.
    """
    import ray
    import ray.train

    controller = getattr(error, "controller_failure", None)
    mistake = find_user_error(controller) or find_user_error(error)
    if mistake:
        raise mistake from None
    if not isinstance(error, ray.train.TrainingFailedError | ray.exceptions.RayActorError):
        raise error
    facts = _facts(status)
    nodes = {name.removeprefix("node/"): address for name, address in facts.items() if name.startswith("node/")}
    dead, silent = _lost_nodes(set(nodes.values()))
    steps = [beat.step for name, beat in facts.items() if name.startswith("rank/") and beat.step >= 0]
    at = f" at step {max(steps)}" if steps else ""
    if dead or silent:
        lost = sorted(dead | silent)
        what = f"node {lost[0]} was lost" if len(lost) == 1 else f"nodes {' and '.join(lost)} were lost"
        return Loss(f"{what}{at}", True, sorted(silent), error)
    meeting = network.failed_meeting(str(controller or error), list(room.alive_nodes()))
    if meeting and not at:
        raise UserError(meeting) from None
    if compat.is_failed_start(controller):
        return Loss("the workers found no room, or were lost while they started", True, [], error)
    return _lost_workers(getattr(error, "worker_failures", {}), nodes, at, error)


def _lost_workers(failures: dict[int, Exception], nodes: dict[str, str], at: str, error: Exception) -> Loss:
    lost = sorted(rank for rank, failure in failures.items() if compat.is_lost_worker(failure))
    if lost:
        where = " and ".join(f"{rank} on {nodes.get(str(rank), 'an unknown node')}" for rank in lost)
        what = f"worker {where} was lost" if len(lost) == 1 else f"workers {where} were lost"
        out_of_memory = any(_MEMORY.search(str(failures[rank])) for rank in lost)
        return Loss(f"{what}{at}{' because memory ran out' if out_of_memory else ''}", True, [], error)
    if not failures:
        return Loss(f"the process that watches the workers was lost{at} ({one_line(error)})", True, [], error)
    rank, failure = min(failures.items())
    if all(_BROKEN.search(str(each)) for each in failures.values()):
        return Loss(f"worker {rank} lost its connection to another one{at}", True, [], error)
    return Loss(f"worker {rank} failed{at}: {one_line(failure)}", False, [], error)


def wait_until_settled(loss: Loss) -> None:
    """Return when Ray has struck the silent nodes off its list, or they answer again; waits a bounded time."""
    until, said = time.monotonic() + _SETTLE_S, time.monotonic() - 50
    waiting = set(loss.silent)
    while waiting and time.monotonic() < until:
        interrupts.raise_if_interrupted()
        alive = room.alive_nodes()
        waiting = {each for each in waiting if each in alive and not _answers(alive[each])}
        if waiting and time.monotonic() - said > 60:
            said = time.monotonic()
            say(f"waiting until Ray gives up {' and '.join(sorted(waiting))}, which does not answer")
        time.sleep(0.5)


def _facts(status: Status) -> dict[str, Any]:
    import ray

    try:
        return status.facts(timeout=10)
    except ray.exceptions.RayError:
        return {}


def _lost_nodes(addresses: set[str]) -> tuple[set[str], set[str]]:
    """Return those of the addresses that Ray knows to be dead, and those that do not answer although it does not."""
    alive = room.alive_nodes()
    return addresses - alive.keys(), {each for each in addresses & alive.keys() if not _answers(alive[each])}


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True
