"""Collect the outcomes of experiments that run on the cluster, and record each of them before the next."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hcmoco.errors import one_line
from hcmoco.storage import Folder
from hcmoco_ray.cluster import entrypoint, interrupts
from hcmoco_ray.cluster.busy import BusyShare
from hcmoco_ray.experiments.results import Experiment
from hcmoco_ray.tracking.client import Tracker, TrackingWriter, start_run
from hcmoco_ray.train.run_dir import log

ExperimentT = TypeVar("ExperimentT", bound=Experiment)


def collect(
    tasks: Mapping[Any, ExperimentT], keep: Callable[[ExperimentT, Any], tuple[dict, str]], out: str
) -> dict[str, str]:
    """Wait for tasks, keep what each returns, delete its work folder, and print the progress.

    Args:
        tasks: object reference of a task -> its experiment.
        keep: stores an experiment's outcome; returns its result, and the experiment's name in a line of progress.
        out: folder of the work folders.

    Returns:
        The reasons of the experiments that failed, by name of the experiment.
    """
    import ray

    failures: dict[str, str] = {}
    waiting, total, start_time = dict(tasks), len(tasks), time.monotonic()
    busy = BusyShare()
    while waiting:
        interrupts.raise_if_interrupted()
        done, _ = ray.wait(list(waiting), timeout=1.0)
        if len(waiting) > len(done):
            busy.sample()
        for reference in done:
            experiment = waiting.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                failures[experiment.name] = _why(error)
                log(f"failed: {experiment.name}: {failures[experiment.name]}")
                continue
            result, title = keep(experiment, outcome)
            Folder(out).delete_folder(f"work/{experiment.name}")
            num_done = total - len(waiting)
            left = (time.monotonic() - start_time) / num_done * len(waiting)
            metric = result["primary_metric"]
            log(
                f"{num_done}/{total}  {title}:  {metric} {100 * result['test']['metrics'][metric]:.1f} %  "
                f"({result['seconds']:.0f} s)  {int(left) // 60}:{int(left) % 60:02d} left"
            )
    if busy.text:
        log(busy.text)
    return failures


def _why(error: Exception) -> str:
    mistake = entrypoint.find_line(error)
    if mistake:
        return str(mistake)
    # The text of a task's error begins with the task; its cause says what happened.
    cause = getattr(error, "cause", None)
    return f"{type(cause).__name__}: {one_line(cause)}" if cause else one_line(error)


def record(
    writer: TrackingWriter,
    parent: Tracker,
    experiment: Experiment,
    params: dict,
    tags: Mapping[str, str],
    result: dict,
    png: bytes | None = None,
) -> None:
    """Record a finished experiment as a tracking run.

    Args:
        writer: of the tracking store.
        parent: the program's run, in which this one is nested.
        experiment: the finished one.
        params: its config; its precision is replaced by the one that the result was computed in.
        tags: of the run.
        result: of the experiment.
        png: an encoded picture, or None.
    """
    params = {**params, "train": {**params["train"], "precision": result["precision"]}}
    tracker = start_run(
        writer,
        name=experiment.name,
        params=params,
        tags={**tags, "hcmoco.key": experiment.key, "mlflow.parentRunId": parent.run_id},
    )
    for step, metrics in result["evals"]:
        tracker.metrics(step, {f"val/{name}": value for name, value in metrics.items()})
    tracker.metrics(result["steps"], {f"test/{name}": value for name, value in result["test"]["metrics"].items()})
    tracker.text("result.json", json.dumps(result, indent=1))
    if png is not None:
        tracker.picture("pictures/test.png", png)
    tracker.finish()
