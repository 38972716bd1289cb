"""Taking what the cells of a program give as they come, each kept before the next is looked at."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hcmoco.storage import Folder, first_line
from hcmoco_ray.cluster import interrupts, session
from hcmoco_ray.experiments.results import Cell
from hcmoco_ray.tracking.client import Tracker, start_run
from hcmoco_ray.train.run_dir import say

CellT = TypeVar("CellT", bound=Cell)


def collect(waiting: dict[Any, CellT], keep: Callable[[CellT, Any], tuple[dict, str]], out: str) -> dict[str, str]:
    """Waits for the tasks `waiting`, hands what each returns to `keep`, deletes its work folder below `out`, and says how far it all is.

    Args:
        waiting: the tasks, and the cell of each.
        keep: stores a cell's outcome; returns its result and how a line of progress calls the cell.
    Returns:
        Why those that failed did, by name of the cell.
    """
    import ray

    failures: dict[str, str] = {}
    waiting, total, begun = dict(waiting), len(waiting), time.monotonic()
    while waiting:
        interrupts.check()
        done, _ = ray.wait(list(waiting), timeout=1.0)
        for each in done:
            cell = waiting.pop(each)
            try:
                outcome = ray.get(each)
            except ray.exceptions.RayError as error:
                failures[cell.name] = _why(error)
                say(f"failed: {cell.name}: {failures[cell.name]}")
                continue
            result, called = keep(cell, outcome)
            Folder(out).delete_folder(f"work/{cell.name}")
            left = (time.monotonic() - begun) / (total - len(waiting)) * len(waiting)
            figure = 100 * result["test"]["figures"][result["main"]]
            say(
                f"{total - len(waiting)}/{total}  {called}:  {result['main']} {figure:.1f} %  ({result['seconds']:.0f} s)  "
                f"{int(left) // 60}:{int(left) % 60:02d} left"
            )
    return failures


def _why(error: Exception) -> str:
    mistake = session.find_user_error(error)
    cause = getattr(
        error, "cause", None
    )  # of a task's error, whose own text begins with the task and not with what happened
    return str(mistake) if mistake else f"{type(cause).__name__}: {first_line(cause)}" if cause else first_line(error)


def record(
    writer: Any, parent: Tracker, cell: Cell, params: dict, tags: dict[str, str], result: dict, png: bytes | None = None
) -> None:
    """A finished cell as a run of its own, below `parent`, with its picture if it has one. Its params name the precision it came to."""
    params = {**params, "train": {**params["train"], "precision": result["precision"]}}
    tracker = start_run(
        writer,
        name=cell.name,
        params=params,
        tags={**tags, "hcmoco.key": cell.key, "mlflow.parentRunId": parent.run_id},
    )
    for step, figures in result["validations"]:
        tracker.metrics(step, {f"validation/{name}": value for name, value in figures.items()})
    tracker.metrics(result["steps"], {f"test/{name}": value for name, value in result["test"]["figures"].items()})
    tracker.text("result.json", json.dumps(result, indent=1))
    if png is not None:
        tracker.picture("pictures/test.png", png)
    tracker.finish()
