"""Run one trial of a sweep: a pre-training in one process or several, which reports its probe to Tune on the way.

A trial resumes from its newest train state whenever it is started again, in this run of the sweep or the next.
"""

import time
from functools import partial
from typing import Any

import filelock

from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.finetuning.run import finetune_and_score
from hcmoco.pretraining.loop import STAGE_1, STAGE_2, pretrain
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.storage import is_local, join
from hcmoco.training.checkpoint import TrainState
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.experiments.sweep import best_model
from hcmoco_ray.experiments.sweep.config import Value
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import DONE, FAILED
from hcmoco_ray.experiments.sweep.trial_config import finetune_config, finetune_workers, trial_config
from hcmoco_ray.experiments.sweep.trial_context import OtherContext, TrialContext
from hcmoco_ray.experiments.sweep.trial_state import newest_state
from hcmoco_ray.experiments.sweep.worker_group import WorkerGroup, prepare_process
from hcmoco_ray.tracking.client import Tracker, find_run, start_run
from hcmoco_ray.tracking.provenance import commit
from hcmoco_ray.train.pretrain import make_loader, make_plan, terms_of

_LOCK_TIMEOUT_S = 120


def run_trial(point: dict[str, Any], job: Job) -> None:
    """Run or resume a trial and record its result. The function that Tune calls.

    A UserError, which the trial's values cause, is recorded as the trial's result. Any other error is raised: the
    machine causes it, and Tune starts the trial again.

    Args:
        point: the trial's values by key, and under "number" a number, which is another trial's where this one resumes
            from that trial's state.
        job: the sweep's.
    """
    from ray import tune

    prepare_process(job.resources.threads, job.tasks)
    number = int(tune.get_context().get_trial_name())
    values = {key: value for key, value in point.items() if key != "number"}
    out = job.records.out
    lock = filelock.FileLock(f"{out}/.lock-{number:04d}") if is_local(out) else None
    if lock:
        # A process of a killed sweep may live on for a moment; two must not write the same states.
        lock.acquire(timeout=_LOCK_TIMEOUT_S)
    tracker = None
    try:
        tracker = _start_run(job, number, values)
        with WorkerGroup(job.resources, job.tasks) as group:
            record = _train_and_score(job, number, values, tracker, group)
    except UserError as error:
        step = _last_reported_step(job, number)
        job.records.end(number, f"{FAILED}: {error}", steps=step)
        if tracker:
            tracker.text("failure.txt", str(error))
            tracker.finish("FAILED")
        # With early stopping Tune ends the whole sweep at a trial that ends without a report.
        tune.report({"step": step, "figure": float("nan"), "last": 1})
        return
    finally:
        if lock:
            lock.release()
    tracker.finish()
    probe = record["metrics"].get(job.config.score.probe)
    tune.report({"step": record["steps"], "figure": float("nan") if probe is None else probe, "last": 1})


def _train_and_score(
    job: Job, number: int, values: dict[str, Value], tracker: Tracker, group: WorkerGroup
) -> dict[str, Any]:
    """Return the record of the trial, which is written too."""
    config = trial_config(job.base, values, job.records.place(number))
    plan = make_plan(config, job.sources)
    loader = make_loader(config, plan, job.sources)
    progress = job.records.progress(number)
    state = newest_state(job, number, progress, values, {**config.identity(), "plan": plan.description})
    step = state.step if state else 0
    progress.starts.append({"step": step, "time": time.time()})
    if job.exchange:
        numbers = {key: value for key, value in values.items() if isinstance(value, (int, float))}
        tracker.metrics(step, {f"value/{key}": value for key, value in numbers.items()})
    job.records.keep(number, progress)
    context = TrialContext(loader, job, number, progress, tracker, state)
    run = group.run(
        job.resources.workers,
        lambda: pretrain(config, plan, context, _views(job), tracker.run_id),
        partial(_pretrain_beside, config, plan, loader, job.device, job.resources.workers, state),
    )
    metrics = run.history.get(STAGE_2 if run.stage == 2 else STAGE_1, {}).get("metrics", {})
    more: dict[str, Any] = {}
    if job.config.score.finetune:
        more["finetuning"] = _finetune(job, number, config, run, group)
        score = 100 * more["finetuning"]["test"]["metrics"][more["finetuning"]["primary_metric"]]
    elif job.config.score.probe in metrics:
        score = metrics[job.config.score.probe]
    else:
        raise UserError(
            f"none of the held-out people could take the probe {job.config.score.probe}; take another score.probe"
        )
    context.record_progress()
    if job.config.registered_model:
        training = {**_training(job, config, run), "trial": number, "values": values, "score": score}
        training |= {"data": {name: each.path for name, each in config.data.sources.items()}, "commit": commit()}
        best_model.keep(job.records, number, score, run.model.eval(), training)
    tracker.metrics(run.step, {"score": score})
    tracker.flush()
    return job.records.end(number, DONE, score=score, steps=run.step, metrics=metrics, **more)


def _pretrain_beside(
    config: PretrainRecipe,
    plan: Plan,
    loader: PretrainLoader,
    device: str,
    world: int,
    state: TrainState | None,
    rank: int,
) -> None:
    """Train as another rank than 0, which alone probes, reports and writes states."""
    pretrain(config, plan, OtherContext(loader, state, device=device, rank=rank, world=world), None)


def _finetune(job: Job, number: int, config: PretrainRecipe, run: Pretraining, group: WorkerGroup) -> dict[str, Any]:
    """Export the trial's encoders, fine-tune from them, and return the result of the fine-tuning."""
    assert job.config.score.finetune
    assert job.finetune_data
    place = job.records.place(number)
    training = _training(job, config, run)
    export = export_encoders(run.model.eval(), join(place, "export"), training=training, overwrite=True)
    finetuning = finetune_config(job.config.score.finetune, export, join(place, "finetune"), config)
    world = finetune_workers(finetuning, job.resources.workers)
    work = partial(_finetune_cell, finetuning, job.finetune_data, join(place, "finetune", "states"), job.device, world)
    result = group.run(world, partial(work, 0), work)
    result["init"]["text"] = result["init"]["text"].replace(export, f"work/{number:04d}/export")
    return result


def _training(job: Job, config: PretrainRecipe, run: Pretraining) -> dict[str, Any]:
    """What an export of a trial says of its training."""
    facts = {"recipe": config.name, "steps": run.step, "stage": run.stage, "seed": config.seed}
    return {**facts, "terms": terms_of(config, job.sources)}


def _finetune_cell(
    config: FinetuneRecipe, data: tuple[Shards, Shards], states: str, device: str, world: int, rank: int
) -> dict[str, Any]:
    return finetune_and_score(config, *data, states=states, device=device, threads=1, rank=rank, world=world)


def _start_run(job: Job, number: int, values: dict[str, Value]) -> Tracker:
    """Start the trial's tracking run, nested in the sweep's, or continue it where the trial is resumed."""
    key = job.run_key(number)
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


def _last_reported_step(job: Job, number: int) -> int:
    reports = job.records.progress(number).reports
    return int(reports[-1][0]) if reports else 0
