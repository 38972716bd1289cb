"""Log what each node of a training does: its CPUs, memory, disk and GPUs, under the names that MLflow itself uses.

MLflow's own sampling would give every process a client that writes. Here a thread of a process that is there anyway
takes the samples: of the program on its own node, of one worker on every other. The one writer logs them.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hcmoco_ray import compat
from hcmoco_ray.cluster.cpus import allowed_cpus, cpu_limit
from hcmoco_ray.tracking.client import Tracker

# A driver of a GPU that hangs must not hold up the end of a run.
_JOIN_S = 5.0
_MB = 1e6


class NodeUsage:
    """Measures the node that this process runs on, or the container around it.

    Args:
        root: of the file system that has `proc` and `sys`.
    """

    def __init__(self, root: Path = Path("/")):
        allowed, limit = len(allowed_cpus()), cpu_limit(root)
        self._limit = limit if limit and limit.cpus < allowed and limit.used_seconds() is not None else None
        self._gpus = compat.Gpus()
        self._before: tuple[float, float] | None = None
        self._cpu_percent()  # what the next sample is compared with

    def sample(self) -> dict[str, float]:
        """Return the metrics by name. What this machine does not tell is left out.

        CPUs are the mean since the last sample, in % of those that this process may use.
        """
        values: dict[str, float] = {}
        if (busy := self._cpu_percent()) is not None:
            values["cpu_utilization_percentage"] = busy
        with suppress(OSError, ValueError):
            used, total = compat.node_memory()
            values["system_memory_usage_megabytes"] = used / _MB
            values["system_memory_usage_percentage"] = 100 * used / total
        with suppress(OSError):
            disk = psutil.disk_usage("/")
            values["disk_usage_percentage"] = disk.percent
            values["disk_usage_megabytes"] = disk.used / _MB
            values["disk_available_megabytes"] = disk.free / _MB
        for number, (computing, held, size) in enumerate(self._gpus.usage()):
            if computing is not None:
                values[f"gpu_{number}_utilization_percentage"] = computing
            if held is not None and size:
                values[f"gpu_{number}_memory_usage_megabytes"] = held / _MB
                values[f"gpu_{number}_memory_usage_percentage"] = 100 * held / size
        return values

    def _cpu_percent(self) -> float | None:
        if self._limit is None:
            each = psutil.cpu_percent(percpu=True)
            own = [each[number] for number in allowed_cpus() if number < len(each)] or each
            return sum(own) / len(own) if own else None
        used, now, before = self._limit.used_seconds(), time.monotonic(), self._before
        if used is None:
            return None
        self._before = now, used
        return None if before is None else 100 * (used - before[1]) / ((now - before[0]) * self._limit.cpus)


@contextmanager
def logged(tracker: Tracker, node: str, interval: int) -> Iterator[None]:
    """Log metrics of this node while the block runs, from a thread of this process. A short block has one sample.

    Args:
        tracker: of the run.
        node: address of this node.
        interval: seconds between two samples; 0: nothing is logged.
    """
    if not interval:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_log, args=(tracker, node, interval, over), daemon=True, name="system metrics")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN_S)


def _log(tracker: Tracker, node: str, interval: int, over: threading.Event) -> None:
    import ray

    usage, taken, ended = NodeUsage(), False, False
    while not ended:
        ended = over.wait(interval)
        # A call after the cluster's end would start another one.
        if (ended and taken) or not ray.is_initialized():
            return
        tracker.system_metrics(node, usage.sample())
        taken = True
