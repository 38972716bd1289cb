"""Read long lists of a large JSON file element by element, and keep only what is needed of each element.

Python's own parser would hold all of a file at once, four to five times its size. Here it is the file's bytes and what
is kept.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hcmoco.errors import UserError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
        data = path.read_bytes().removeprefix(_BYTE_ORDER_MARK)
        try:
            return _lists(data, keep)
        except (msgspec.DecodeError, RecursionError):
            # Python's parser accepts what JSON does not have and programs write nevertheless, such as NaN; and its
            # message names the line.
            values = json.loads(data)
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not valid JSON ({error}); download or write it again") from None
    found = values if isinstance(values, dict) else {}
    return {
        key: [kept(value) for value in found[key]] for key, kept in keep.items() if isinstance(found.get(key), list)
    }


def _lists(data: bytes, keep: Mapping[str, Callable[[Any], Any]]) -> dict[str, list]:
    lists: dict[str, list] = {}
    for key, raw in _decode_object(data).items():
        if key in keep and bytes(memoryview(raw)[:1]) == b"[":
            lists[key] = [keep[key](_decode(element)) for element in _decode_list(raw)]
    return lists
