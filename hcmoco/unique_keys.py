"""Load JSON in which no object has a key twice. Python's parser takes the last one without a word."""

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not valid, or an object has a key twice.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        places = [number for number, name in enumerate(names, start=1) if names.count(name) > 1]
        twice = names[places[0] - 1]
        first, second = [number for number in places if names[number - 1] == twice][:2]
        raise ValueError(f"the key {twice!r} appears twice, as entries {first} and {second}; keep one of them")
    return values
