"""Work done ahead of who needs it, in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch_map(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """`map(function, items)` in order, with up to `ahead` results under way in `threads` threads.

    An error, of `function` or of `items` itself, comes up at its place.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        source = _submitted(pool, function, items)
        pending = deque(islice(source, ahead))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(islice(source, 1))
                yield result
        finally:
            for each in pending:
                each.cancel()


def _submitted(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[Future]:
    """A future for each item. An error of `items` is the last one: what was drawn before it is still handed out."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future = Future()
        failed.set_exception(error)
        yield failed
