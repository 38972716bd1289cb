"""SIGKILL for training workers at chosen moments."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from hcmoco_ray.tracking.progress import beside


def train_workers() -> list[psutil.Process]:
    """The training workers of the Ray that this process has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::" in (name := " ".join(process.cmdline())) and "TrainWorker" in name:
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def killing(moments: list[tuple[Callable[[], bool], int]]) -> Iterator[list[int]]:
    """Waits for each moment in turn and then kills the worker of that number, oldest first; gives the ids of the
    killed. A moment may be over when it is seen: of a group of workers one is killed."""
    killed: list[int] = []

    def watch(over: threading.Event) -> None:
        earlier = set()
        for moment, number in moments:
            workers = []
            while len(workers) <= number:
                if over.wait(0.001):
                    return
                workers = sorted({each.pid for each in train_workers()} - earlier) if moment() else []
            os.kill(workers[number], signal.SIGKILL)
            killed.append(workers[number])
            earlier |= set(workers)

    with beside(watch):
        yield killed
