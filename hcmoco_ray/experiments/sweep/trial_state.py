"""Resume a trial from its own train state, or from the one of another trial that Tune hands over."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hcmoco.storage import Folder
from hcmoco.training.checkpoint import States, TrainState, check_identity
from hcmoco_ray.experiments.sweep.config import CHANGEABLE, Value
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import Progress

LINEAGE = "lineage.json"
"""File beside the states of a Tune checkpoint: the number of the trial that wrote them, and its schedule."""


@contextmanager
def tune_checkpoint(state: TrainState, number: int, schedule: list[dict]) -> Iterator[Any]:
    """Write a train state as a Tune checkpoint, which exists while the block runs.

    Args:
        number: of the trial that trained it.
        schedule: of that trial, see `Progress`.
    """
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        States(f"{folder}/states", 1).write(state)
        Folder(folder).write(LINEAGE, json.dumps({"number": number, "schedule": schedule}).encode())
        yield tune.Checkpoint.from_directory(folder)


def with_identity(state: TrainState, identity: dict, where: str) -> TrainState:
    """Return a state as one of a run whose keys in CHANGEABLE have other values.

    Args:
        identity: of that run.
        where: how the message names the folder of the state.

    Raises:
        UserError: any other key differs.
    """
    saved = json.loads(json.dumps(state.identity))
    for key in CHANGEABLE:
        group, name = key.split(".")
        if name in saved.get(group, {}) and name in identity[group]:
            saved[group][name] = identity[group][name]
    check_identity(saved, identity, where)
    return replace(state, identity=identity, tracking_run="")  # the loop fills in the trial's own


def newest_state(
    job: Job, number: int, progress: Progress, values: dict[str, Value], identity: dict
) -> TrainState | None:
    """Return the state that a trial resumes from; None at its start.

    It is the trial's own newest state, or the state of another trial that Tune hands over. The latter becomes the
    trial's own on disk, and `progress` says so.

    Args:
        progress: of the trial; changed here.
        values: of the trial from now on.
        identity: of the trial's run with these values.

    Raises:
        UserError: the state is of a run that differs in more than CHANGEABLE allows.
    """
    if not progress.schedule:
        progress.schedule.append({"step": 0, "values": values})
    adopted = _adopt(job, number, progress, values, identity) if job.exchange else None
    if adopted is not None:
        return adopted
    own = States(job.records.states(number, progress.generation), 1).newest()
    return with_identity(own, identity, job.records.place(number)) if own and job.exchange else own


def _adopt(job: Job, number: int, progress: Progress, values: dict[str, Value], identity: dict) -> TrainState | None:
    """Make another trial's state this trial's own; None if Tune hands over none."""
    from ray import tune

    records, given = job.records, tune.get_checkpoint()
    if given is None:
        return None
    with given.as_directory() as folder:
        lineage = json.loads(Folder(folder).read(LINEAGE))
        other = States(f"{folder}/states", 1).newest() if lineage["number"] != number else None
    if other is None:
        return None
    state = with_identity(other, identity, records.place(number))
    # Written beside the old states, then named as its own: a kill in between leaves the trial as it was.
    States(records.states(number, progress.generation + 1), 1).write(state)
    progress.generation += 1
    progress.schedule = [*lineage["schedule"], {"step": state.step, "from": lineage["number"], "values": values}]
    records.keep(number, progress)
    Folder(records.place(number)).delete_folder(f"states-{progress.generation - 1}")
    return state
