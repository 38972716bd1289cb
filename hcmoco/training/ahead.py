"""Work done ahead of who needs it, in threads."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """`map(function, items)` in order, with up to `ahead` results under way in `threads` threads. An error comes up at its place."""
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        source = iter(items)
        pending = [pool.submit(function, item) for item in islice(source, ahead)]
        try:
            while pending:
                result = pending.pop(0).result()
                pending.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for each in pending:
                each.cancel()


def read_ahead(items: Iterable[T], *, ahead: int) -> Iterator[T]:
    """`items`, drawn by a thread that stays up to `ahead` items in front; the thread ends when the iterator is closed."""
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    closed = threading.Event()

    def offer(entry: tuple) -> bool:
        while not closed.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def draw() -> None:
        try:
            if all(offer((True, item)) for item in items):
                offer((False, None))
        except BaseException as error:  # whatever it is, it belongs to the thread that asked for the item
            offer((False, error))

    threading.Thread(target=draw, name="read-ahead", daemon=True).start()
    try:
        while True:
            more, item = ready.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
    finally:
        closed.set()
