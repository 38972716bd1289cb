"""Taking what the experiments of a program give as they come, each kept before the next is looked at."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hcmoco.storage import Folder, one_line
from hcmoco_ray.cluster import entrypoint, interrupts
from hcmoco_ray.experiments.results import Experiment
from hcmoco_ray.tracking.client import Tracker, TrackingWriter, start_run
from hcmoco_ray.train.run_dir import log

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


def collect(
    waiting: dict[Any, ExperimentT], keep: Callable[[ExperimentT, Any], tuple[dict, str]], out: str
) -> dict[str, str]:
    """Waits for the tasks `waiting`, hands what each returns to `keep`, deletes its work folder below `out`, and says how far it all is.

    Args:
        waiting: the tasks, and the experiment of each.
        keep: stores an experiment's outcome; returns its result and how a line of progress calls the experiment.
    Returns:
        Why those that failed did, by name of the experiment.
    """
    import ray

    failures: dict[str, str] = {}
    waiting, total, begun = dict(waiting), len(waiting), time.monotonic()
    while waiting:
        interrupts.raise_if_interrupted()
        done, _ = ray.wait(list(waiting), timeout=1.0)
        for each in done:
            experiment = waiting.pop(each)
            try:
                outcome = ray.get(each)
            except ray.exceptions.RayError as error:
                failures[experiment.name] = _why(error)
                log(f"failed: {experiment.name}: {failures[experiment.name]}")
                continue
            result, called = keep(experiment, outcome)
            Folder(out).delete_folder(f"work/{experiment.name}")
            left = (time.monotonic() - begun) / (total - len(waiting)) * len(waiting)
            figure = 100 * result["test"]["metrics"][result["primary_metric"]]
            log(
                f"{total - len(waiting)}/{total}  {called}:  {result['primary_metric']} {figure:.1f} %  ({result['seconds']:.0f} s)  "
                f"{int(left) // 60}:{int(left) % 60:02d} left"
            )
    return failures


def _why(error: Exception) -> str:
    mistake = entrypoint.find_user_error(error)
    cause = getattr(
        error, "cause", None
    )  # of a task's error, whose own text begins with the task and not with what happened
    return str(mistake) if mistake else f"{type(cause).__name__}: {one_line(cause)}" if cause else one_line(error)


def record(
    writer: TrackingWriter,
    parent: Tracker,
    experiment: Experiment,
    params: dict,
    tags: Mapping[str, str],
    result: dict,
    png: bytes | None = None,
) -> None:
    """Record a finished experiment as a run of its own below `parent`, with its picture if it has one.

    Its params name the precision that it was computed in.
    """
    params = {**params, "train": {**params["train"], "precision": result["precision"]}}
    tracker = start_run(
        writer,
        name=experiment.name,
        params=params,
        tags={**tags, "hcmoco.key": experiment.key, "mlflow.parentRunId": parent.run_id},
    )
    for step, figures in result["evals"]:
        tracker.metrics(step, {f"val/{name}": value for name, value in figures.items()})
    tracker.metrics(result["steps"], {f"test/{name}": value for name, value in result["test"]["metrics"].items()})
    tracker.text("result.json", json.dumps(result, indent=1))
    if png is not None:
        tracker.picture("pictures/test.png", png)
    tracker.finish()
