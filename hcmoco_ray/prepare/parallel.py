"""Run Ray tasks with a bounded number in flight."""

from collections.abc import Callable, Iterable
from typing import Any

from hcmoco.errors import UserError, one_line
from hcmoco_ray.cluster import interrupts, session

_CANCEL_WAIT_S = 2.0


def run_tasks(
    task: Callable[..., Any],
    calls: Iterable[tuple],
    collect: Callable[[Any], object],
    idle: Callable[[], object],
) -> None:
    """Call `task` with the arguments of each of `calls` on the cluster, whose nodes may come and go meanwhile.

    Args:
        task: takes one CPU.
        calls: arguments; read as tasks are started. Two tasks for each CPU that the cluster has are in flight.
        collect: called here with each result, in the order in which tasks end.
        idle: called here between results, at least twice a second.

    Raises:
        UserError: a worker process died several times over the same call, or a task raised it.
    """
    import ray

    remote = ray.remote(num_cpus=1)(task)
    waiting = iter(calls)
    pending: list[Any] = []
    try:
        while True:
            allowed = 2 * max(1, int(ray.cluster_resources().get("CPU", 0)))
            while len(pending) < allowed and (call := next(waiting, None)) is not None:
                pending.append(remote.remote(*call))
            if not pending:
                return
            done, pending = ray.wait(pending, num_returns=1, timeout=0.5)
            for result in ray.get(done):
                collect(result)
            idle()
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise UserError(
            f"a worker process died several times over the same files ({one_line(error)}); what was finished stays. "
            "Give it more memory, or look for a damaged file with --check"
        ) from None
    finally:
        # A signal ends a Ray of this program's own, with all its tasks. Cancelling them first would be worse than
        # needless: where a task ends in the same moment, Ray aborts the program ("Tried to complete task that was not
        # pending"), and its processes are left.
        if session.joined_address() or not interrupts.is_ending():
            _cancel(pending)


def _cancel(pending: list[Any]) -> None:
    """End tasks: one that still writes would overwrite the files of a next run, which may begin at once."""
    import ray

    for force in (False, True):
        for reference in pending:
            ray.cancel(reference, force=force)
        if pending:
            _, pending = ray.wait(pending, num_returns=len(pending), timeout=_CANCEL_WAIT_S)
