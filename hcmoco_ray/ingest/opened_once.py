"""Give tasks something large that each process opens once, however many of its tasks bring it.

Ray Data sends its function with every task, and a process opens it anew for each. A function that holds a data set's
manifest and a plan is large: with 100,000 shards it took 0.7 s of CPU time to open it and to permute the row groups
again, for every work item.
"""

import pickle
import uuid
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_KEPT = 4
_values: dict[str, Any] = {}


class OpenedOnce(Generic[T]):
    """Hold a value that nobody changes. Copies by pickle have one value in each process, and with it what it caches.

    Args:
        value: anything that pickles; functions, too.
    """

    def __init__(self, value: T, key: str = ""):
        self.value = value
        self._key = key or uuid.uuid4().hex

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        import ray.cloudpickle

        data = ray.cloudpickle.dumps(self.value)
        # A buffer stays where it is, in Ray's object store: bringing it costs a task nothing.
        return _open, (self._key, pickle.PickleBuffer(data) if protocol >= 5 else data)


def _open(key: str, data: Any) -> "OpenedOnce[Any]":
    if key not in _values:
        value = pickle.loads(data)
        while len(_values) >= _KEPT:  # of earlier datasets: a process of Ray outlives them
            _values.pop(next(iter(_values)), None)
        _values[key] = value
    return OpenedOnce(_values[key], key)
