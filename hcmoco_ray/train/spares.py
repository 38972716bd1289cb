"""Processes that wait to become training workers: with one ready, a worker that is lost is replaced seconds sooner.

Most of a worker's start is spent importing PyTorch. A spare has done it: Ray starts a process for an environment, which
imports what the environment names, and the next worker of the same environment on that node is started in it.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from hcmoco_ray.cluster import idle_processes
from hcmoco_ray.cluster.session import joined_address
from hcmoco_ray.compat import IMPORTS
from hcmoco_ray.tracking.progress import beside
from hcmoco_ray.train.pulse import Pulse

_KEPT_S, _FIRST_S = 7 * 24 * 3600.0, 3600.0
_STEPS, _LOOK_S = 2, 1.0  # a spare is made after so many steps, for its imports would delay the workers' own start


def wanted(chosen: bool | None) -> bool:
    """Return whether spares are kept.

    Args:
        chosen: `spare_workers` of the config; None: on a cluster that the program joins.
    """
    return bool(joined_address()) if chosen is None else chosen


def environment(module: str) -> dict[str, Any]:
    """Return the runtime environment of training workers that import a module ahead."""
    return {"env_vars": {IMPORTS: module}}


def start_first(count: int, module: str, variables: Mapping[str, str]) -> None:
    """Have the processes of a program's first workers start while it prepares their work.

    Only where it has a Ray of its own: of a cluster it is not known yet on which nodes they will be.

    Args:
        count: of workers.
        module: that they import ahead.
        variables: what Ray Train will put into their environment besides.
    """
    if not joined_address():
        with suppress(RuntimeError):  # they start when they are needed
            idle_processes.start_idle_processes(count, _FIRST_S, {**variables, **environment(module)["env_vars"]})


@contextmanager
def kept_ready(pulse: Pulse, *, wanted: bool) -> Iterator[None]:
    """Have this worker's node make a spare like this process while the block runs, once the worker has trained.

    Args:
        pulse: of this worker.
        wanted: False makes none.
    """

    def make(over: threading.Event) -> None:
        first = pulse.step
        while not over.wait(_LOOK_S):
            first = pulse.step if first < 0 else first
            if first >= 0 and pulse.step >= first + _STEPS:
                try:
                    idle_processes.start_idle_processes(1, _KEPT_S)
                except RuntimeError as error:
                    pulse.tell(f"no process is kept ready for a lost worker: {error}")
                return

    with beside(make) if wanted else nullcontext():
        yield
