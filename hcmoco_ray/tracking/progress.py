"""One quiet line about something long."""

import sys
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 05 s, 2 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """Done of total, rate and time left: one line rewritten on a terminal, a line every `every` seconds elsewhere."""

    def __init__(self, what: str, total: int, unit: str, *, every: float = 15.0, stream: TextIO | None = None):
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._every = 0.5 if self._tty else every
        self._begun = self._shown = time.monotonic()
        self._done = self._free = 0

    def add(self, count: int, *, free: bool = False, note: str = "") -> None:
        """`count` more are done; `free` ones were there before and do not count for the rate."""
        self._done += count
        self._free += count if free else 0
        self.show(note)

    def show(self, note: str = "") -> None:
        now = time.monotonic()
        if now - self._shown >= self._every:
            self._shown = now
            self._print(note, end="" if self._tty else "\n")

    def close(self, note: str = "") -> None:
        """Erases the line of a terminal; what follows is the program's own summary."""
        if self._tty:
            print("\r\x1b[K", end="", file=self._stream, flush=True)

    def _print(self, note: str, end: str) -> None:
        rate = (self._done - self._free) / max(1e-9, time.monotonic() - self._begun)
        left = f", {duration((self._total - self._done) / rate)} left" if rate > 0 else ""
        text = (
            f"{self._what}: {self._done} of {self._total} {self._unit}, {rate:.0f}/s{left}{', ' + note if note else ''}"
        )
        print(f"\r\x1b[K{text}" if self._tty else text, end=end, file=self._stream, flush=True)
