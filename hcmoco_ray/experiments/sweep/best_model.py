"""Keep the encoders of a sweep's best trial, and register them in MLflow's model registry under an alias.

<out>/exports/0007/   the encoders of the best trial so far, see hcmoco.export; only where the sweep registers its best

A trial exports before its record is written, if no finished trial is better. The program deletes the exports of trials
that another one has beaten.
"""

from collections.abc import Mapping

from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.pretraining.loop import STAGE_1, STAGE_2, prefix_of
from hcmoco.storage import Folder, join
from hcmoco_ray.experiments.sweep import report
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import Records
from hcmoco_ray.tracking.client import find_run
from hcmoco_ray.tracking.weights import export_model, measured_on

_EXPORTS = "exports"


def place(records: Records, number: int) -> str:
    """Return the folder of a trial's encoders."""
    return join(records.out, _EXPORTS, f"{number:04d}")


def keep(records: Records, number: int, score: float, model: MultiModalEncoders, training: dict) -> None:
    """Export a trial's encoders, unless a finished trial has a higher score.

    Args:
        records: of the sweep.
        number: of the trial.
        score: of the trial.
        model: that it trained.
        training: what to say of the training, see `export_encoders`.
    """
    best = report.best(list(records.finished().values()))
    if best is None or score >= best["score"]:
        export_encoders(model, place(records, number), training=training, overwrite=True)


def prune(records: Records) -> None:
    """Delete the encoders of finished trials that are not the best."""
    finished = records.finished()
    best = report.best(list(finished.values()))
    for number in finished:
        if (best is None or number != best["number"]) and Folder(place(records, number)).exists("config.json"):
            records.folder.delete_folder(f"{_EXPORTS}/{number:04d}")


def register(job: Job, best: Mapping, held_out: Shards | None, tested: Shards | None) -> str:
    """Log the encoders of the best trial as a model of its run, and register it under the alias.

    Args:
        job: of the sweep, whose config says the name and the alias.
        best: record of the trial.
        held_out: data set of the probes; None if there is none.
        tested: data set that the score was measured on.

    Returns:
        A line that says what was registered.

    Raises:
        UserError: the encoders were not kept, or the store did not take them.
    """
    wanted = job.config.registered_model
    assert wanted is not None
    number = int(best["number"])
    folder = place(job.records, number)
    if not Folder(folder).exists("config.json"):
        raise UserError(
            f"the encoders of trial {number:04d}, the best one, were not kept: it ran before registered_model was "
            f"set; delete {join(job.records.out, 'trials', f'{number:04d}.json')}, and the same command runs it again"
        )
    run_id = find_run(job.writer, job.run_key(number))
    if run_id is None:
        raise UserError(
            f"the tracking store has no run of trial {number:04d}, so its model cannot be registered; set tracking.uri "
            "or MLFLOW_TRACKING_URI to the store that the sweep logged to"
        )
    export = load_export(folder)
    probes = [f"{prefix_of(moment)}{name}" for moment in (STAGE_1, STAGE_2) for name in best["metrics"]]
    model = export_model(folder, export.model, export.training, metrics=probes, held_out=held_out)
    scored = {} if tested is None else {"score": measured_on(tested)}
    model = model.with_metrics(scored)
    version = job.writer.register(run_id, model, wanted.name, wanted.alias)
    return f"models:/{wanted.name}@{wanted.alias} (version {version}: trial {number:04d}, {folder})"


def tested_on(job: Job, held_out: Shards | None) -> Shards | None:
    """Return the data set that the trials' scores were measured on."""
    return job.finetune_data[1] if job.finetune_data else held_out
