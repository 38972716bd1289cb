"""Prefetch in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch_map(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order, computed in advance.

    Exceptions from `function` or `items` are raised in order.

    Args:
        function: called in threads.
        items: iterated in the caller's thread.
        threads: number of threads.
        ahead: largest number of results that are computed or waiting.
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
            for future in pending:
                future.cancel()


def _submitted(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[Future]:
    """A future for each item. An error of `items` is the last future, so that earlier results are still yielded."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future = Future()
        failed.set_exception(error)
        yield failed
