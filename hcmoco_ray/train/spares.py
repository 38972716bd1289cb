"""Processes that wait to become training workers: with one ready, a worker that is lost is replaced seconds sooner.

Most of a worker's start is spent importing PyTorch. A spare has done it: Ray starts a process for an environment, which
imports what the environment names, and the next worker of the same environment on that node is started in it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from hcmoco_ray import compat
from hcmoco_ray.cluster.session import IMPORTS, joined_address
from hcmoco_ray.tracking.progress import beside
from hcmoco_ray.train.pulse import Pulse

_KEPT_S = 7 * 24 * 3600.0
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
                    compat.start_idle_process(_KEPT_S)
                except RuntimeError as error:
                    pulse.tell(f"no process is kept ready for a lost worker: {error}")
                return

    with beside(make) if wanted else nullcontext():
        yield
