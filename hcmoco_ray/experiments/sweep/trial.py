"""One trial: a pre-training in one process, which tells Tune how good it is on the way.

It goes on from its own newest train state whenever it is started again, in this run of the sweep or the next.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import filelock
import numpy as np
import torch

from hcmoco.config import merge
from hcmoco.data.codecs import encode_png
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.finetuning.run import run_cell
from hcmoco.pretraining.loop import STAGE_1, STAGE_2, pretrain
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.storage import Folder, is_local
from hcmoco.tasks.registry import REGISTRY, Entry, register_all, task_class
from hcmoco.training.checkpoint import States, TrainState, check_identity
from hcmoco.training.local import LocalContext
from hcmoco.training.precision import with_precision
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.experiments.sweep.config import CHANGEABLE, FinetuneScore, SweepConfig, Value, nested
from hcmoco_ray.experiments.sweep.records import DONE, FAILED, Progress, Records
from hcmoco_ray.tracking.client import Tracker, TrackingWriter, find_run, start_run
from hcmoco_ray.train.pretrain import make_loader, make_plan, terms_of

LINEAGE = "lineage.json"


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep are given.

    Attributes:
        base: the recipe's keys with everything that all trials have, paths as the user wrote them.
        key: the sweep's id.
        parent: its tracking run.
        views: object reference of the held-out people as the probes see them, or None.
        finetune_data: training and test data of the scoring fine-tuning, or None.
        asked: what a trial asks the cluster for.
        tasks: those of the driver, which a worker need not have registered.
    """

    config: SweepConfig
    base: dict
    records: Records
    key: str
    parent: Tracker
    sources: tuple[Shards, ...]
    views: Any
    finetune_data: tuple[Shards, Shards] | None
    writer: TrackingWriter
    asked: ResourceRequest
    tasks: dict[str, Entry] = field(default_factory=REGISTRY.copy)

    @property
    def device(self) -> str:
        return "cuda" if self.asked.gpus else "cpu"

    @property
    def exchange(self) -> bool:
        """Whether trials go on from each other's states."""
        return self.config.population is not None


def trial_values(base: dict, values: Mapping[str, Value]) -> dict:
    """The keys of a trial's recipe: one worker, whatever the recipe has."""
    return merge(merge(base, nested(dict(values))), {"train": {"workers": 1, "gpu": False}})


def trial_config(base: dict, values: Mapping[str, Value], place: str) -> PretrainRecipe:
    """The config of a trial, checked, its paths placed. It keeps a state with every probe."""
    config = run_config.check(PretrainRecipe, merge(trial_values(base, values), {"output_dir": place}), "of the trial")
    every = min(config.probe.every or config.train.save_every, config.train.save_every)
    return config.model_copy(
        update={"train": config.train.model_copy(update={"save_every": every, "num_checkpoints": 1})}
    )


def finetune_config(score: FinetuneScore, init: str, place: str, config: PretrainRecipe) -> FinetuneRecipe:
    """The scoring fine-tuning of a trial, its encoder that of the trial, and its precision where its recipe has auto."""
    encoder = getattr(config.model, task_class(score.task).modality).model_copy(update={"init": "scratch"})
    own = {
        **score.labels,
        "init": init,
        "seed": score.seed,
        "output_dir": place,
        "encoder": encoder.model_dump(mode="json"),
    }
    values = merge(cli.task_values(score.task, score.recipe, []), nested(score.fixed))
    tuned = run_config.check(FinetuneRecipe, merge(values, own), f"{score.task}/{score.recipe}")
    return with_precision(tuned, config.train.precision) if tuned.train.precision == "auto" else tuned


def run_key(sweep: str, number: int) -> str:
    """What a trial's tracking run is found by."""
    return f"{sweep}/{number:04d}"


def changed(state: TrainState, identity: dict, where: str) -> TrainState:
    """The state as one of a run that goes on with other values of keys in CHANGEABLE. UserError for any other difference."""
    was = json.loads(json.dumps(state.identity))
    for key in CHANGEABLE:
        group, name = key.split(".")
        if name in was.get(group, {}) and name in identity[group]:
            was[group][name] = identity[group][name]
    check_identity(was, identity, where)
    return replace(state, identity=identity, tracking_run="")  # the loop fills in the trial's own


class TrialContext(LocalContext):
    """A context whose probes go to Tune.

    Args:
        state: the train state to go on from, or None.
    """

    def __init__(
        self,
        feed: PretrainLoader,
        job: Job,
        number: int,
        progress: Progress,
        tracker: Tracker,
        state: TrainState | None,
    ):
        super().__init__(
            feed, job.records.states(number, progress.generation), num_checkpoints=1, device=job.device, threads=1
        )
        self.job, self.number, self.progress_there, self.tracker, self.state = job, number, progress, tracker, state
        self.figures: dict[int, float] = {}
        self.since = time.monotonic()

    def restore(self) -> TrainState | None:
        return self.state

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)
        figure = values.get(f"probe/{self.job.config.score.probe}")
        if figure is not None:
            self.figures[step] = figure

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.tracker.picture(f"pictures/{name}.png", encode_png(rgb_HW3))

    def save(self, state: TrainState) -> None:
        # The report is noted before the state: who goes on from a state has reported all that led to it.
        self.tracker.flush()
        figure = self.figures.pop(state.step, None)
        if figure is not None:
            self.progress_there.report(state.step, figure)
        self.note()
        assert self.states
        self.states.write(state)
        if figure is not None:
            self._tell(state, figure)

    def note(self) -> None:
        """Keeps what the trial has done so far."""
        now = time.monotonic()
        self.progress_there.seconds += now - self.since
        self.since = now
        self.job.records.keep(self.number, self.progress_there)

    def _tell(self, state: TrainState, figure: float) -> None:
        from ray import tune

        values = {"step": state.step, "figure": figure, "last": 0}
        if not self.job.exchange:
            tune.report(values)
            return
        with tempfile.TemporaryDirectory() as folder:
            States(f"{folder}/states", 1).write(state)
            lineage = {"number": self.number, "schedule": self.progress_there.schedule}
            Folder(folder).write(LINEAGE, json.dumps(lineage).encode())
            tune.report(values, checkpoint=tune.Checkpoint.from_directory(folder))


def run_trial(point: dict, job: Job) -> None:
    """Carries a trial out, or on. What is wrong with its values is its result; what is wrong with the machine is raised."""
    from ray import tune

    register_all(job.tasks)
    torch.set_num_threads(job.asked.threads)
    cv2.setNumThreads(1)
    # The number in `point` is another trial's where this one goes on from its state.
    number = int(tune.get_context().get_trial_name())
    values = {key: value for key, value in point.items() if key != "number"}
    lock = filelock.FileLock(f"{job.records.out}/.lock-{number:04d}") if is_local(job.records.out) else None
    if lock:
        # A process of a killed sweep may live on for a moment; two must not write the same states.
        lock.acquire(timeout=120)
    tracker = None
    try:
        tracker = _tracker(job, number, values)
        record = _carry_out(job, number, values, tracker)
    except UserError as error:
        job.records.end(number, f"{FAILED}: {error}", steps=_last_step(job, number))
        if tracker:
            tracker.text("failure.txt", str(error))
            tracker.finish("FAILED")
        return
    finally:
        if lock:
            lock.release()
    tracker.finish()
    tune.report({"step": record["steps"], "figure": _or(record["metrics"].get(job.config.score.probe)), "last": 1})


def _carry_out(job: Job, number: int, values: dict[str, Value], tracker: Tracker) -> dict:
    config = trial_config(job.base, values, job.records.place(number))
    plan = make_plan(config, job.sources)
    feed = make_loader(config, plan, job.sources)
    progress = job.records.progress(number)
    state = _newest(job, number, progress, values, {**config.identity(), "plan": plan.description})
    step = state.step if state else 0
    progress.starts.append({"step": step, "time": time.time()})
    if job.exchange:
        tracker.metrics(
            step, {f"value/{key}": value for key, value in values.items() if isinstance(value, (int, float))}
        )
    job.records.keep(number, progress)
    context = TrialContext(feed, job, number, progress, tracker, state)
    views = _views(job)
    run = pretrain(config, plan, context, views, tracker.run_id)
    metrics = run.history.get(STAGE_2 if run.stage == 2 else STAGE_1, {}).get("metrics", {})
    more: dict = {}
    if job.config.score.finetune:
        more["finetuning"] = _finetune(job, number, config, run)
        score = 100 * more["finetuning"]["test"]["metrics"][more["finetuning"]["primary_metric"]]
    elif job.config.score.probe in metrics:
        score = metrics[job.config.score.probe]
    else:
        raise UserError(
            f"none of the held-out people could take the probe {job.config.score.probe}; take another score.probe"
        )
    context.note()
    tracker.metrics(run.step, {"score": score})
    tracker.flush()
    return job.records.end(number, DONE, score=score, steps=run.step, metrics=metrics, **more)


def _newest(job: Job, number: int, progress: Progress, values: dict[str, Value], identity: dict) -> TrainState | None:
    """The state to go on from: the trial's own, or the one of another trial that Tune hands over, which then becomes its own."""
    from ray import tune

    records = job.records
    given = tune.get_checkpoint() if job.exchange else None
    if not progress.schedule:
        progress.schedule.append({"step": 0, "values": values})
    if given is not None:
        with given.as_directory() as folder:
            lineage = json.loads(Folder(folder).read(LINEAGE))
            other = States(f"{folder}/states", 1).newest() if lineage["number"] != number else None
        if other is not None:
            state = changed(other, identity, records.place(number))
            # Written beside the old states, then named as its own: a kill in between leaves the trial as it was.
            States(records.states(number, progress.generation + 1), 1).write(state)
            progress.generation += 1
            progress.schedule = [
                *lineage["schedule"],
                {"step": state.step, "from": lineage["number"], "values": values},
            ]
            records.keep(number, progress)
            Folder(records.place(number)).delete_folder(f"states-{progress.generation - 1}")
            return state
    own = States(records.states(number, progress.generation), 1).newest()
    return changed(own, identity, records.place(number)) if own and job.exchange else own


def _finetune(job: Job, number: int, config: PretrainRecipe, run: Pretraining) -> dict:
    assert job.config.score.finetune
    assert job.finetune_data
    place = job.records.place(number)
    training = {"recipe": config.name, "steps": run.step, "stage": run.stage, "seed": config.seed}
    training["terms"] = terms_of(config, job.sources)
    export = export_encoders(run.model.eval(), f"{place}/export", training=training, overwrite=True)
    cell = finetune_config(job.config.score.finetune, export, f"{place}/finetune", config)
    result = run_cell(cell, *job.finetune_data, states=f"{place}/finetune/states", device=job.device, threads=1)
    result["init"]["text"] = result["init"]["text"].replace(f"{job.records.out}/", "")
    return result


def _tracker(job: Job, number: int, values: dict[str, Value]) -> Tracker:
    """The trial's own tracking run, nested in the sweep's; the one that it had where it goes on."""
    key = run_key(job.key, number)
    return start_run(
        job.writer,
        run_id=find_run(job.writer, key),
        key=key,
        parent=job.parent.run_id,
        name=f"trial {number:04d}",
        params=trial_config(job.base, values, job.records.place(number)).model_dump(mode="json"),
        tags={"hcmoco.trial": f"{number:04d}"},
    )


def _views(job: Job) -> Any:
    import ray

    return ray.get(job.views) if job.views is not None else None


def _last_step(job: Job, number: int) -> int:
    reports = job.records.progress(number).reports
    return int(reports[-1][0]) if reports else 0


def _or(figure: float | None) -> float:
    return float("nan") if figure is None else figure
