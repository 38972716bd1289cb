"""Give tasks something large that each process opens once, however many of its tasks bring it.

Ray Data sends its function with every task, and a process opens it anew for each. A function that holds a data set's
manifest and a plan is large: with 100,000 shards, opening it and permuting the row groups takes 1.5 s of CPU time,
which was spent on every work item.
"""

from typing import Any, Generic, TypeVar

T = TypeVar("T")

_KEPT = 4
_values: dict[str, Any] = {}


class OpenedOnce(Generic[T]):
    """Put a value that nobody changes into Ray's object store.

    A copy is a reference to it. All copies in a process share one value, and with it what the value caches. The store
    keeps it as long as the process that made this lives and a copy exists.

    Args:
        value: anything that pickles; functions, too.
    """

    def __init__(self, value: T):
        import ray

        self.value = value
        self._reference = ray.put(value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self._reference,)


def _open(reference: Any) -> "OpenedOnce[Any]":
    import ray

    key = reference.hex()  # not the reference, which would keep the object in the store
    if key not in _values:
        value = ray.get(reference)
        while len(_values) >= _KEPT:  # of earlier datasets: a process of Ray outlives them
            _values.pop(next(iter(_values)), None)
        _values[key] = value
    opened: OpenedOnce[Any] = object.__new__(OpenedOnce)
    opened.value, opened._reference = _values[key], reference
    return opened
