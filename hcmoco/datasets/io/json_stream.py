"""Read long lists of a large JSON file element by element, and keep only what is needed of each element.

Python's own parser would hold all of a file at once, four to five times its size. Here it is the text and what is kept.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hcmoco.errors import UserError

_SPACE = re.compile(r"[ \t\n\r]*")


def read_lists(path: str | Path, what: str, keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, list]:
    """Read lists of the file's object.

    Args:
        path: the file.
        what: what messages call it.
        keep: for each wanted key, the function that returns what to keep of an element of its list.

    Returns:
        For each key of `keep` that holds a list, what was kept of its elements. A key that the file lacks, or that
        holds another type, is absent.

    Raises:
        UserError: the file is missing or not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist; check the path")
    try:
        return _lists(path.read_bytes().decode("utf-8-sig"), keep)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not valid JSON ({error}); download or write it again") from None


def _lists(text: str, keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, list]:
    decode = json.JSONDecoder().raw_decode

    def after_space(at: int) -> int:
        return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches everywhere

    def separator(at: int, allowed: str) -> tuple[str, int]:
        """One of the characters `allowed` at the next place that is no space, and the next such place behind it."""
        at = after_space(at)
        if text[at : at + 1] not in tuple(allowed):
            raise json.JSONDecodeError(f"Expecting one of {' '.join(allowed)}", text, at)
        return text[at], after_space(at + 1)

    def elements(at: int, kept: Callable[[Any], Any]) -> tuple[list, int]:
        _, at = separator(at, "[")
        found: list = []
        if text[at : at + 1] == "]":
            return found, at + 1
        mark = ","
        while mark == ",":
            value, at = decode(text, at)
            found.append(kept(value))
            mark, at = separator(at, ",]")
        return found, at

    lists: dict[str, list] = {}
    at = after_space(0)
    if text[at : at + 1] != "{":
        decode(text, at)
        return lists
    at = after_space(at + 1)
    mark = "}" if text[at : at + 1] == "}" else ","
    at += mark == "}"
    while mark == ",":
        key, at = decode(text, at)
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting a name in quotes", text, at)
        _, at = separator(at, ":")
        lists.pop(key, None)
        if key in keep and text[at : at + 1] == "[":
            lists[key], at = elements(at, keep[key])
        else:
            _, at = decode(text, at)
        mark, at = separator(at, ",}")
    if after_space(at) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return lists
