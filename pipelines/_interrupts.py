"""Ctrl-C is not lost.

A KeyboardInterrupt that meets Ray's compiled code inside a call is printed and dropped there. So it is noted as well, and raised again
at the next place that asks.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_pressed = threading.Event()


@contextmanager
def heard() -> Iterator[None]:
    """Notes interrupts while the block runs; afterwards the handler is the one from before. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    _pressed.clear()
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    except SystemExit:
        # Ray Train puts a handler of its own in place, which ends the workers and then the program, with status 0.
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
        _pressed.clear()


def check() -> None:
    """KeyboardInterrupt if there was one since `heard` began."""
    if _pressed.is_set():
        raise KeyboardInterrupt


def _note(number: int, frame: object) -> None:
    _pressed.set()
    raise KeyboardInterrupt
