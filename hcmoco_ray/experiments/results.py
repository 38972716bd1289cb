"""The files that cells leave, and how tables write figures over seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco_ray.paths import home
from hcmoco_ray.tracking.provenance import made_by

DONE, MISSING = "done", "missing"


class Cell(Protocol):
    """What the cells of all programs have: a name that is unique among them, and a digest of all that decides the result, "" while
    that is not known."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...


def read_results(folder: Folder, below: str, cells: Sequence[Cell]) -> dict[str, dict]:
    """The results that are there, by name of the cell. UserError for a file that is no result, or another cell's."""
    there = folder.sizes(below)
    return {
        cell.name: read_result(folder, f"{below}/{cell.name}.json", cell.key)
        for cell in cells
        if cell.key and f"{cell.name}.json" in there
    }


def write_result(folder: Folder, below: str, cell: Cell, result: Mapping, **facts: str) -> None:
    """Keeps the result of a finished cell, with `facts` about it."""
    folder.write(
        f"{below}/{cell.name}.json", json.dumps({**result, **facts, "key": cell.key, **made_by()}, indent=1).encode()
    )


def portable(result: dict) -> dict:
    """`result`, for a file that may be handed on: it says where a run lies under its home, and not on whose disk."""
    start = result["start"]
    return {**result, "start": {**start, "text": start["text"].replace(f"{home()}/", "")}}


def deciding(config: Any) -> dict:
    """What decides a result, of a config with `identity()`: all of it but the precision, as what was computed in either counts."""
    identity = config.identity()
    return {**identity, "train": {key: value for key, value in identity["train"].items() if key != "precision"}}


def standing(
    below: str, cell: Cell, results: Mapping[str, dict], failures: Mapping[str, str], otherwise: str = MISSING
) -> dict:
    """Where a cell stands, for the index; `failures` by name of the cell."""
    if cell.name in results:
        return {"status": DONE, "cell": f"{below}/{cell.name}.json"}
    return {"status": f"failed: {failures[cell.name]}" if cell.name in failures else otherwise, "cell": None}


def read_result(folder: Folder, place: str, key: str) -> dict:
    """The result in the file `place` of the cell whose digest is `key`. UserError for a file that is none, or another cell's."""
    again = "delete it, and the same command makes it again"
    try:
        result = json.loads(folder.read(place))
        found, _ = result.get("key"), result["test"]["figures"][result["main"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder.uri}/{place} is not a cell's result; {again}") from None
    if found != key:
        raise UserError(
            f"{folder.uri}/{place} is another cell's result: its key is {str(found)[:10]}, not {key[:10]}; {again}"
        )
    return result


def mean_text(values: list[float]) -> str:
    """Mean and, of several, standard deviation; "-" of none, and where one of them is undefined (NaN)."""
    return _with_spread(values, ".1f", 1.0)


def difference_text(values: list[float]) -> str:
    """Mean of paired differences and, of several, its standard error; "-" of none, and where one of them is undefined (NaN)."""
    return _with_spread(values, "+.1f", math.sqrt(max(1, len(values))))


def _with_spread(values: list[float], form: str, divisor: float) -> str:
    if not values or not all(math.isfinite(value) for value in values):
        return "-"
    spread = f" ± {statistics.stdev(values) / divisor:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def write_index(folder: Folder, program: str, index: dict) -> None:
    """Keeps where every cell of a program stands, with the program's state; left alone where nothing else has changed."""
    name = f"{program}.json"
    index = {"program": program, **index}
    try:
        before = json.loads(folder.read(name)) if folder.exists(name) else {}
    except ValueError:
        before = {}
    if isinstance(before, dict) and {**before, "hcmoco": "", "commit": ""} == {**index, "hcmoco": "", "commit": ""}:
        return
    by = made_by()
    folder.write(name, json.dumps({**index, "hcmoco": by["hcmoco"], "commit": by["commit"]}, indent=1).encode())
