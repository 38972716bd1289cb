"""Read and write the result files of experiments, and format metrics over seeds for tables."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hcmoco.config import canonical
from hcmoco.errors import UserError
from hcmoco.results import upgrade_results
from hcmoco.storage import Folder, join
from hcmoco_ray.paths import below_home
from hcmoco_ray.tracking.provenance import made_by

DONE, MISSING = "done", "missing"
EXPERIMENTS = "experiments"
NO_WEIGHTS = "not run: no weight file"
"""Status of an experiment that starts from ImageNet's weights where they are not at hand."""
_EARLIER = {EXPERIMENTS: "cells"}  # folder of results -> what version 0.1 called it


class Experiment(Protocol):
    """Protocol that the experiments of all programs share.

    Attributes:
        name: unique among the program's experiments.
        key: digest of everything that decides the result; "" while that is not known.
    """

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...


def read_results(folder: Folder, below: str, experiments: Sequence[Experiment]) -> dict[str, dict]:
    """Read the results that exist, including those in version 0.1's folder.

    Args:
        folder: the results.
        below: the folder in it that the program writes to.
        experiments: the experiments to look for.

    Returns:
        The results by name of the experiment.

    Raises:
        UserError: a file is not a result, or is another experiment's.
    """
    names = {experiment.name: experiment for experiment in experiments if experiment.key}
    results = {}
    for place in (_EARLIER.get(below), below):
        for file in folder.sizes(place) if place else ():
            experiment = names.get(file.removesuffix(".json"))
            if experiment and file.endswith(".json"):
                results[experiment.name] = read_result(folder, f"{place}/{file}", experiment.key)
    return {name: results[name] for name in names if name in results}


def move_earlier_results(folder: Folder, below: str, results: Mapping[str, dict]) -> None:
    """Copy results that only version 0.1's folder has to today's folder, with today's keys."""
    written = folder.sizes(below)
    for name, result in results.items():
        if f"{name}.json" not in written:
            folder.write(f"{below}/{name}.json", json.dumps(result, indent=1).encode())


def write_result(folder: Folder, below: str, experiment: Experiment, result: Mapping) -> None:
    """Write the result of a finished experiment, with its key and the versions of the program."""
    record = {**result, "key": experiment.key, **made_by()}
    folder.write(f"{below}/{experiment.name}.json", json.dumps(record, indent=1).encode())


def portable(result: dict, **facts: str) -> dict:
    """Return a result that can be shared: its paths are relative to HCMOCO_HOME.

    Args:
        result: as a training returns it.
        facts: added to its `init`.
    """
    init = result["init"]
    return {**result, "init": {**facts, **init, "text": below_home(init["text"])}}


def deciding(config: Any) -> dict:
    """Return what decides a result, in canonical form, so that an experiment's digest survives renamed keys.

    The precision is not part of it: a result that was computed in either precision counts.

    Args:
        config: a config with `identity()`.
    """
    identity = canonical(type(config), config.identity())
    return {**identity, "train": {key: value for key, value in identity["train"].items() if key != "precision"}}


def standing(
    below: str,
    experiment: Experiment,
    results: Mapping[str, dict],
    failures: Mapping[str, str],
    otherwise: str = MISSING,
) -> dict:
    """Return the status of an experiment for the index.

    Args:
        failures: reasons by name of the experiment.
        otherwise: status of an experiment without a result that did not fail.
    """
    if experiment.name in results:
        return {"status": DONE, "result": f"{below}/{experiment.name}.json"}
    failed = failures.get(experiment.name)
    return {"status": f"failed: {failed}" if failed else otherwise, "result": None}


def read_result(folder: Folder, place: str, key: str) -> dict:
    """Read one result.

    Args:
        place: the file's name in `folder`.
        key: the key of the experiment.

    Raises:
        UserError: it is not a result, or is another experiment's.
    """
    again = "delete it, and the same command computes it again"
    try:
        result = upgrade_results(json.loads(folder.read(place)))
        found, _ = result.get("key"), result["test"]["metrics"][result["primary_metric"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{join(folder.uri, place)} is not an experiment's result; {again}") from None
    if found != key:
        raise UserError(
            f"{join(folder.uri, place)} is another experiment's result: its key is {str(found)[:10]}, not {key[:10]}; "
            f"{again}"
        )
    return result


def mean_text(values: list[float]) -> str:
    """Format the mean and, of several values, their standard deviation.

    Returns:
        "-" if there are no values or one of them is undefined (NaN).
    """
    return _with_spread(values, ".1f", 1.0)


def difference_text(values: list[float]) -> str:
    """Format the mean of paired differences and, of several, its standard error.

    Returns:
        "-" if there are no values or one of them is undefined (NaN).
    """
    return _with_spread(values, "+.1f", math.sqrt(max(1, len(values))))


def _with_spread(values: list[float], form: str, divisor: float) -> str:
    if not values or not all(math.isfinite(value) for value in values):
        return "-"
    spread = f" ± {statistics.stdev(values) / divisor:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def write_index(folder: Folder, program: str, index: dict) -> None:
    """Write the status of every experiment of a program, and the program's version.

    The file stays as it is if only the version differs.
    """
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
