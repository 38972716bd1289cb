"""Ctrl-C and SIGTERM end a program within seconds, with everything that it has started.

On the first signal two things happen. The main thread gets a KeyboardInterrupt and unwinds: runs are closed, files are
flushed. A second thread, which learns of the signal through a pipe whatever the main thread is doing, waits GRACE_S for
that. Then it calls what `at_stop` registered, kills every process below this one, and ends it. Further signals change
nothing.

Ray's compiled code drops a KeyboardInterrupt that arrives inside a call. So a program raises it again, and the signal
is also recorded for the next call of `raise_if_interrupted`. This module imports the standard library only: programs
import it first.
"""

import _thread
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 5.0
_LAST_WORDS_S, _SAYING_S, _KILLING_S = 2.0, 0.5, 2.0  # with GRACE_S less than 10 seconds
_ENDING_S = 15.0  # more than the second thread takes to end the process
_PR_SET_CHILD_SUBREAPER = 36

SAVE_SIGNAL = signal.SIGUSR1
"""Asks a program to save a train state and to end, for a batch system that takes its machines away."""

SAVED_STATUS = 75  # "try again later", as in sysexits.h

_save_asked = threading.Event()
_noted = 0  # number of the signal since the innermost `handle_signals` began
_unwound = threading.Event()  # set while the main thread has nothing to close
_unwound.set()
_ended_by = 0  # number of the signal that the second thread received
_received = threading.Event()  # set once that is known
_said = False
_listening = False  # whether the second thread runs
_depth = 0  # of nested `handle_signals`
_last_words: list[Callable[[], object]] = []


class SavedAndStopped(Exception):  # noqa: N818 - the user asked for it
    """A training has ended early, with a train state, because `SAVE_SIGNAL` asked for it; the text names the step."""


def save_asked() -> bool:
    """Return whether `SAVE_SIGNAL` came to this process."""
    return _save_asked.is_set()


def listen(meant: Callable[[int], bool] = lambda number: True, *, grace: float = GRACE_S, quiet: bool = False) -> None:
    """Let a signal end this process from now on, with status 128 + its number: 130 or 143.

    Args:
        meant: called in the second thread with the number of each signal; returns False if it is not to end this
            process.
        grace: seconds that the main thread has for unwinding.
        quiet: whether the second thread prints nothing.
    """
    global _said, _listening
    _said, _listening = quiet, True
    if not quiet:
        sys.unraisablehook = _raise_again
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to whoever's Python handler is in place
    os.register_at_fork(after_in_child=_forget)
    for each in SIGNALS:
        signal.signal(each, _note)
    threading.Thread(target=_end, args=(reader, meant, grace), daemon=True).start()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt at a signal while the block runs, and restore the earlier handlers afterwards.

    Does nothing outside the main thread.
    """
    global _noted, _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outermost = _depth == 0
    before = {each: signal.getsignal(each) for each in (*SIGNALS, SAVE_SIGNAL)}
    _depth, _noted = _depth + 1, 0
    _unwound.clear()
    _save_asked.clear()
    try:
        for each in SIGNALS:
            signal.signal(each, _note)
        signal.signal(SAVE_SIGNAL, lambda number, frame: _save_asked.set())
        yield
    finally:
        _depth -= 1
        if outermost:
            _unwound.set()  # from here on a signal raises nothing
        for each, handler in before.items():
            signal.signal(each, handler)
        came, _noted = _noted, 0
        if outermost:
            _leave(came)


def _leave(came: int) -> None:
    """Wait until the second thread ends the process, if a signal came."""
    _unwound.set()
    if _listening and (_ended_by or came):
        threading.Event().wait(_ENDING_S)


def stopped_outside() -> int:
    """End a program whose signal came while `handle_signals` was entered or left; returns its exit status."""
    status = say_stopped()
    if not _depth:
        _leave(status - 128)
    return status


@contextmanager
def kept() -> Iterator[None]:
    """Restore the signal handlers that code of Ray's in the block replaces. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        yield
    except SystemExit:  # Ray's own handlers leave the program with a status of theirs
        raise KeyboardInterrupt from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def at_stop(work: Callable[[], object]) -> Iterator[None]:
    """Call `work` before the process ends if a signal stops the block and it does not unwind in time."""
    _last_words.append(work)
    try:
        yield
    finally:
        _last_words.remove(work)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal came since `handle_signals` began."""
    if noted():
        raise KeyboardInterrupt


def noted() -> int:
    """Return the number of the signal since `handle_signals` began, 0 if there was none."""
    # A KeyboardInterrupt that is raised again counts as a Ctrl-C; the second thread knows the real signal.
    return _ended_by or _noted


def is_ending() -> bool:
    """Return whether a signal has come that ends this process, with every process below it."""
    return bool(_ended_by)


def say_stopped(instead: str = "") -> int:
    """Print the one line of a stopped program, and return its exit status."""
    global _said
    _said = True
    if _listening and not _noted:  # Ray's own handler took the signal; the second thread learns of it in a moment
        _received.wait(_SAYING_S)
    # One call, so that the line stays in one piece whatever else is written.
    sys.stderr.write(f"\nstopped; {instead or 'the same command resumes from what is saved'}\n")
    sys.stderr.flush()
    return 128 + (noted() or signal.SIGINT)


def end_children() -> None:
    """Kill every process below this one. Whoever calls it leaves the process right afterwards.

    All are stopped before the first is killed, and the children of this process are killed last: Ray's compiled code
    ends the process at once, with a status of its own, when it sees that the raylet is gone.
    """
    import psutil

    me = psutil.Process()
    stopped: dict[int, psutil.Process] = {}
    until, is_complete = time.monotonic() + _KILLING_S / 2, False
    while not is_complete and time.monotonic() < until:  # until none was started meanwhile
        found = {each.pid: each for each in me.children(recursive=True)}
        is_complete = found.keys() <= stopped.keys()
        for pid in found.keys() - stopped.keys():
            stopped[pid] = found[pid]
            with suppress(psutil.Error):
                found[pid].suspend()
    own = {each.pid for each in me.children()}
    for process in sorted(stopped.values(), key=lambda each: each.pid in own):
        with suppress(psutil.Error):
            process.kill()


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    first, _noted = not _noted, _noted or number
    # The handler that Ray Train puts in place for a Ctrl-C ends its workers.
    other = signal.getsignal(signal.SIGINT)
    if first and number == signal.SIGTERM and callable(other) and other is not _note:
        other(number, frame)
    if first and not _unwound.is_set():
        raise KeyboardInterrupt


def _raise_again(dropped: Any) -> None:
    """Handle exceptions that Python cannot raise: raise a signal's again as soon as possible, and print others."""
    global _noted
    if issubclass(dropped.exc_type, KeyboardInterrupt | SystemExit):
        _noted = 0
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(dropped)


def _forget() -> None:
    """Restore the default handlers in a forked child: the pipe is its parent's."""
    signal.set_wakeup_fd(-1)
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)


def _end(reader: int, meant: Callable[[int], bool], grace: float) -> None:
    global _ended_by
    number = 0
    while number not in SIGNALS or not meant(number):
        number = os.read(reader, 1)[0]
    _ended_by = number
    _received.set()
    try:
        if sys.platform == "linux":  # what loses its parent while the main thread unwinds becomes this one's child
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if not _unwound.wait(grace):
            _within(_LAST_WORDS_S, lambda: [each() for each in reversed(_last_words)])
        if not _said:
            _within(_SAYING_S, say_stopped)
        _within(_SAYING_S, sys.stdout.flush)
        nowhere = os.open(os.devnull, os.O_WRONLY)  # Ray logs that its processes are lost
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        _within(_KILLING_S, end_children)  # its import waits for ever where the main thread's does
    finally:
        os._exit(128 + number)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Call `work`, and return without it if it takes longer or fails."""

    def quietly() -> None:
        with suppress(Exception):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(seconds)
