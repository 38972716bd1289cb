"""What a long run is doing, in one line: said by its workers, shown by the program that started it."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_EVERY = 10.0  # seconds between two lines where there is no terminal to rewrite one on


class Status:
    """Holds the newest line, or another plain value. An actor: workers put, the driver gets. This module stays light, for the actor
    imports it."""

    def __init__(self, value: Any = ""):
        self._value = value

    def put(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        return self._value


def open_status(line: Any) -> Any:
    """The handle of a `Status` actor that takes no CPU."""
    import ray

    return ray.remote(Status).options(num_cpus=0).remote(line)


@contextmanager
def shown(status: Any) -> Iterator[None]:
    """Shows what `status` says while the block runs: rewritten in place on a terminal, else a line every 10 seconds if it is a new one."""
    stop = threading.Event()
    terminal = sys.stderr.isatty()
    thread = threading.Thread(target=_show, args=(status, stop, terminal), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show(status: Any, stop: threading.Event, terminal: bool) -> None:
    import ray

    last, at = "", 0.0
    while not stop.wait(0.5):
        try:
            line = ray.get(status.get.remote(), timeout=5)
        except ray.exceptions.RayError:  # it goes down with the run, which says why itself
            continue
        if line != last and (terminal or time.monotonic() - at >= _EVERY):
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
            last, at = line, time.monotonic()
    if terminal and last:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
