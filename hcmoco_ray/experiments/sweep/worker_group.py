"""The workers of a trial: its own process is rank 0, and an actor in each further place of its placement group another.

Tune reserves the places of all workers at once, so a trial that has started lacks none. It takes them back with the
trial's process, however that ends: done, stopped by the scheduler, failed, or lost. The actors are children of that
process, and Ray ends them with it.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import cv2
import torch
import torch.distributed as dist

from hcmoco.errors import UserError, one_line
from hcmoco.tasks.registry import Entry, register_all
from hcmoco_ray.cluster.entrypoint import find_line, find_user_error
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.tracking.progress import beside
from hcmoco_ray.train.process_group import Meeting, joined, open_meeting

T = TypeVar("T")
Other = Callable[[int], Any]

_LOOK_EVERY_S = 0.5
_CAUSE_S = 10.0
_LEAVE_S = 30.0
_STUCK_STATUS = 70


def prepare_process(threads: int, tasks: Mapping[str, Entry]) -> None:
    """Prepare a process of a trial.

    Args:
        threads: of its CPU arithmetic.
        tasks: those of the driver.
    """
    register_all(dict(tasks))
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)  # images are decoded in threads of the loader


class WorkerGroup:
    """The processes of one trial; call `run` inside a `with` block, in the trial's own process.

    Args:
        request: what the trial requests of the cluster.
        tasks: those of the driver.
    """

    def __init__(self, request: ResourceRequest, tasks: Mapping[str, Entry]):
        self._request, self._tasks = request, tasks
        self._others: list[Any] = []

    def __enter__(self) -> "WorkerGroup":
        """Start the other processes; `run` waits for them."""
        if self._request.workers == 1:
            return self
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.get_current_placement_group()
        assert group is not None  # Tune starts every trial in one
        remote: Any = ray.remote(_Worker)
        for rank in range(1, self._request.workers):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            actor = remote.options(num_cpus=self._request.cpus, num_gpus=self._request.gpus, scheduling_strategy=place)
            self._others.append(actor.remote(self._request.threads, dict(self._tasks)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        _end(self._others)

    def run(self, world: int, own: Callable[[], T], other: Other) -> T:
        """Run a piece of work in the first `world` processes, which are a torch.distributed group meanwhile.

        Args:
            world: number of processes, 1 to all of them.
            own: the work of rank 0, done here.
            other: the work of another rank, called with it in that rank's process. It is pickled.

        Returns:
            What `own` returns.

        Raises:
            UserError: the work of a process does.
            Exception: another error of this process, or the one that ended another process.
        """
        if world == 1:
            return own()
        import ray

        others = self._others[: world - 1]
        # Before this process waits for them inside PyTorch, where a loss would not be noticed.
        ray.get([each.ready.remote() for each in others])
        store, meeting = open_meeting(world, gpu=bool(self._request.gpus))
        sent = ray.put(other)
        calls = [each.run.remote(meeting, rank, sent) for rank, each in enumerate(others, 1)]
        watch = _Watch(calls, others)
        with beside(watch.run):
            try:
                with joined(meeting, 0, store):
                    result = own()
                    ray.get(calls)
                return result
            except UserError:
                raise
            except Exception as error:
                raise watch.cause(error) from None
            finally:
                if dist.is_initialized():  # after an error; this process may be a group again
                    dist.destroy_process_group()


class _Worker:
    """The process of another rank than 0."""

    def __init__(self, threads: int, tasks: Mapping[str, Entry]):
        prepare_process(threads, tasks)

    def ready(self) -> None:
        """Return once the process is there."""

    def run(self, meeting: Meeting, rank: int, work: Other) -> None:
        """Join the group and work. After an error the process stays until rank 0, which hears of it, ends it.

        Args:
            meeting: where the group meets.
            rank: of this process.
            work: called with the rank.
        """
        with joined(meeting, rank):
            work(rank)


def _end(actors: list[Any]) -> None:
    import ray

    for each in actors:
        ray.kill(each)


class _Watch:
    """Looks after the other processes while this one works, perhaps waiting for them inside PyTorch.

    Args:
        calls: the works of the others.
        others: the actors.
    """

    def __init__(self, calls: list[Any], others: list[Any]):
        self._calls, self._others = calls, others
        self._failed = threading.Event()
        self._failure: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Wait for a failure and end all others: this process then loses its connection to them, which is an error.

        A node that is cut off closes no connection. So this process ends if it has not left after a while, and Tune
        starts the trial again.
        """
        import ray

        waiting = self._calls
        while waiting and self._failure is None:
            if stop.wait(0):
                return
            done, waiting = ray.wait(waiting, timeout=_LOOK_EVERY_S)
            for call in done:
                try:
                    ray.get(call)
                except Exception as error:
                    self._failure = error
        if self._failure is None:
            return
        self._failed.set()
        _end(self._others)
        if not stop.wait(_LEAVE_S):
            line = one_line(find_line(self._failure) or self._failure)
            print(f"a worker of the trial was lost ({line}): the trial's process ends", file=sys.stderr, flush=True)
            os._exit(_STUCK_STATUS)

    def cause(self, error: Exception) -> Exception:
        """Return why the group has ended: the failure of another process, or this one's own `error`."""
        if not self._failed.wait(_CAUSE_S) or self._failure is None:
            return error
        if mistake := find_user_error(self._failure):
            return mistake
        return self._failure if isinstance(self._failure, Exception) else error
