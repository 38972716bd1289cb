"""The files that cells leave, and how tables write figures over seeds."""

import json
import math
import statistics

import hcmoco
from hcmoco.errors import UserError
from hcmoco.shards.storage import Folder
from pipelines._commit import commit


def read_result(folder: Folder, place: str, key: str) -> dict:
    """The result in the file `place` of the cell whose digest is `key`. UserError for a file that is none, or another cell's."""
    again = "delete it, and the same command makes it again"
    try:
        result = json.loads(folder.read(place))
        found, _ = result.get("key"), result["test"]["figures"][result["main"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder.uri}/{place} is not a cell's result; {again}") from None
    if found != key:
        raise UserError(f"{folder.uri}/{place} is another cell's result: its key is {str(found)[:10]}, not {key[:10]}; {again}")
    return result


def mean_text(values: list[float]) -> str:
    """Mean and, of several, standard deviation; "-" of none. A figure that is not a number makes both so."""
    if not values:
        return "-"
    if not all(math.isfinite(value) for value in values):
        return "nan"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def difference_text(values: list[float]) -> str:
    """Mean of paired differences and, of several, its standard error; "-" of none."""
    if not values:
        return "-"
    if not all(math.isfinite(value) for value in values):
        return "nan"
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.1f}{error}"


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
    made_by = {"hcmoco": hcmoco.__version__, "commit": commit()}
    folder.write(name, json.dumps({**index, **made_by}, indent=1).encode())
