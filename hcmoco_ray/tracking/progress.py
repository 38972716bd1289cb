"""Show the progress of a long run in one line: what this process counts, or what workers report."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TextIO

from hcmoco.masking import masked

_EVERY = 10.0  # seconds between two lines of a status where no terminal rewrites one


def format_duration(seconds: float) -> str:
    """Format seconds for people: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """Show done of total, rate and time left: one line, rewritten on a terminal, elsewhere printed again now and then.

    Args:
        what: name of the work.
        total: number of all units.
        unit: name of the units, in the plural.
        every: seconds between two lines where there is no terminal.
        stream: where to write; None: stderr.
    """

    def __init__(self, what: str, total: int, unit: str, *, every: float = 15.0, stream: TextIO | None = None):
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._every = 0.5 if self._tty else every
        self._started = self._shown = time.monotonic()
        self._done = self._free = 0

    def add(self, count: int, *, free: bool = False, note: str = "") -> None:
        """Count units that are done.

        Args:
            count: number of units done since the last call.
            free: they were done before this process began, and do not count for the rate.
            note: added to the line.
        """
        self._done += count
        self._free += count if free else 0
        self.show(note)

    def show(self, note: str = "") -> None:
        """Print the line, if the last one is old enough."""
        now = time.monotonic()
        if now - self._shown >= self._every:
            self._shown = now
            self._print(note, end="" if self._tty else "\n")

    def close(self) -> None:
        """Erase the line of a terminal; what follows is the program's own summary."""
        if self._tty:
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    def _print(self, note: str, end: str) -> None:
        rate = (self._done - self._free) / max(1e-9, time.monotonic() - self._started)
        left = f", {format_duration((self._total - self._done) / rate)} left" if rate > 0 else ""
        text = (
            f"{self._what}: {self._done} of {self._total} {self._unit}, {rate:.0f}/s{left}{', ' + note if note else ''}"
        )
        print(f"\r\x1b[K{text}" if self._tty else text, end=end, file=self._stream, flush=True)


class _Holder:
    """The actor of a `Status`."""

    def __init__(self, value: Any):
        self._value = value
        self._facts: dict[str, Any] = {}

    def put(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        return self._value

    def note(self, name: str, fact: Any) -> None:
        self._facts[name] = fact

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def clear_facts(self) -> None:
        self._facts = {}


class Status:
    """The newest line about a run, or another plain value. Workers put it; the program that started them gets it.

    A Ray actor that takes no CPU holds it; this module imports little, because the actor imports it. Where the program
    does the work itself, it holds the value, and starts no actor.

    Args:
        value: the first value.
        here: whether all who use it are in this process.
    """

    def __init__(self, value: Any = "", *, here: bool = False):
        self._own = _Holder(value) if here else None
        self._actor: Any = None if here else _start_holder(value)

    def __getstate__(self) -> dict[str, Any]:
        if self._own is not None:
            raise TypeError("a Status that is made with here=True stays in its process")
        return self.__dict__

    @property
    def here(self) -> bool:
        """Whether this process holds the value."""
        return self._own is not None

    def put(self, value: Any, *, wait: bool = False) -> None:
        """Replace the value; with `wait`, return once `get` gives it."""
        self._send("put", value, wait=wait)

    def get(self, timeout: float | None = None) -> Any:
        """Return the newest value.

        Raises:
            ray.exceptions.RayError: no answer within `timeout` seconds, or the cluster has gone.
        """
        return self._send("get", wait=True, timeout=timeout)

    def note(self, name: str, fact: Any) -> None:
        """Keep a small fact under a name, for `facts`. Does not wait."""
        self._send("note", name, fact)

    def clear_facts(self) -> None:
        """Forget the facts, those on the way included."""
        self._send("clear_facts", wait=True)

    def facts(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the newest fact of each name.

        Raises:
            ray.exceptions.RayError: no answer within `timeout` seconds, or the cluster has gone.
        """
        return self._send("facts", wait=True, timeout=timeout)

    def _send(self, method: str, *arguments: Any, wait: bool = False, timeout: float | None = None) -> Any:
        if self._own is not None:
            return getattr(self._own, method)(*arguments)
        import ray

        done = getattr(self._actor, method).remote(*arguments)
        return ray.get(done, timeout=timeout) if wait else None


def _start_holder(value: Any) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # On the driver's node: it must not be lost with a node whose loss it is asked about.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Holder).options(num_cpus=0, scheduling_strategy=here).remote(value)


def say(line: str) -> None:
    """Print a line that stays, above the line of progress."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{masked(line)}\n")  # in one call, since another thread writes the line of progress
    sys.stderr.flush()


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do `work` in a thread while the block runs. The event that it is given is set at the end of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def shown(status: Status) -> AbstractContextManager[None]:
    """Show a status while the block runs.

    The line is rewritten in place on a terminal, else printed every 10 seconds if it changed.
    """
    return beside(partial(_show, status))


def _show(status: Status, stop: threading.Event) -> None:
    import ray

    last, at, terminal = "", 0.0, sys.stderr.isatty()
    while not stop.wait(0.5):
        try:
            line = status.get(timeout=5)
        except ray.exceptions.RayError:  # the cluster ends with the run, which reports the reason
            continue
        if line != last and (terminal or time.monotonic() - at >= _EVERY):
            shown = masked(line)
            print(f"\r\x1b[K{shown}" if terminal else shown, end="" if terminal else "\n", file=sys.stderr, flush=True)
            last, at = line, time.monotonic()
    if terminal and last:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
