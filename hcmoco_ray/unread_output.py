"""End a program quietly where nobody reads what it prints any more, as in `hcmoco report RESULTS | head`."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import TextIO

STATUS = 128 + signal.SIGPIPE
"""Exit status of such a program: what a shell shows of one that the signal for it ends."""


def end_quietly(program: Callable[[], int]) -> int:
    """Run a program; returns its exit status, STATUS if the reader of its stdout or stderr has gone.

    Raises:
        BrokenPipeError: another pipe or connection broke.
    """
    try:
        try:
            status = program()
        except SystemExit:  # of --help
            _flush()
            raise
        _flush()  # else Python does as it exits, with a message of its own
        return status
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not unread:
            raise
        for stream in unread:
            _discard(stream)
        return STATUS


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by `>&-`
            stream.flush()


def _is_unread(stream: TextIO | None) -> bool:
    """Return whether the other end of a stream is closed."""
    try:
        events = select.poll()
        events.register(stream.fileno() if stream else -1, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in events.poll(0))
    except (OSError, ValueError):  # no file, or none that is open
        return False


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
