"""Run or resume a sweep: its checks, its data, its trials, and its table, picture and best recipe."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo
from hcmoco.pretraining.probes.run import ProbeViews, probe
from hcmoco.storage import Folder, base_name, join
from hcmoco.tasks.registry import REGISTRY, task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts, precision, preflight, session
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.sweep import best_model, report
from hcmoco_ray.experiments.sweep.config import SweepConfig, check_probe, check_space, nested, sweep_identity
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import DONE, FAILED, Records
from hcmoco_ray.experiments.sweep.trial_config import finetune_config, finetune_workers
from hcmoco_ray.experiments.sweep.tune import Queue, run_trials
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker, find_run, open_writer, start_run
from hcmoco_ray.tracking.config import described, how_to_see, store_uri
from hcmoco_ray.tracking.data_sets import CONTEXTS, describe, describe_mixture
from hcmoco_ray.train.masking import depth_masking_of, masking_warnings
from hcmoco_ray.train.pretrain import data_warnings, make_plan, probe_views
from hcmoco_ray.train.run_dir import lock_run_dir, log, tracked_run
from hcmoco_ray.train.same_data import same_data

SWEEPS = cli.RECIPES / "sweeps"
TABLE, PICTURE, BEST = "table.md", "response.png", "best.yaml"


def run(sweep: str, overrides: Sequence[str], *, cpus: float, gpus: float, threads: int) -> int:
    """Run the missing trials of a sweep, then write its table, picture and best recipe.

    Args:
        sweep: name in recipes/sweeps/, or the path of a YAML file.
        overrides: dotted keys of every trial's recipe; `output_dir=...` is the sweep's.
        cpus: that each worker of a trial requests of the cluster.
        gpus: that each worker of a trial requests.
        threads: of a worker's CPU arithmetic.

    Returns:
        The exit status: 1 if the machine brought a trial down, or no trial was finished.

    Raises:
        UserError: the sweep's file or an override is bad, a trial could not run, or the sweep runs already.
    """
    own = [override for override in overrides if override.partition("=")[0] in ("out", "output_dir")]
    if any(override.startswith("out=") for override in own):
        raise UserError("'out' is now called 'output_dir'; give output_dir=...")
    given = [override for override in overrides if override not in own]
    values = merge(load_recipe(cli.recipe_file(sweep, SWEEPS)), parse_overrides(own))
    config = build(SweepConfig, values, f"sweep {sweep}")
    base = cli.with_overrides(merge(cli.values(config.recipe, []), nested(config.fixed)), given)
    check_space(config, base, sweep)
    if config.score.finetune and config.score.finetune.task not in REGISTRY:
        raise UserError(
            f"sweep {sweep}: score.finetune.task: {config.score.finetune.task!r} is not a task; allowed are "
            f"{', '.join(REGISTRY)}"
        )
    recipe = run_config.check(PretrainRecipe, base, config.recipe)
    resources = ResourceRequest("trial", cpus, gpus, threads, recipe.train.max_workers)
    out = resolve_path(config.output_dir)
    store_uri(recipe.tracking, out)
    with lock_run_dir(out, "output_dir=..."):
        Folder(out).check_writable()
        cluster = session.connect()
        import ray

        cluster.require_shared_storage(("output_dir", out))
        resources.at_once()
        log(described(recipe.tracking, out))
        records = Records(out)
        # Decided once for all trials, or their scores would depend on the node that each ran on.
        saved = records.saved()
        recipe = precision.decide(recipe, resources.bundle, saved[1].get("pretrain") if saved else None)
        recipe, _ = recipe.with_settled_fusions()
        trials = merge(base, {"train": {"precision": recipe.train.precision}})
        trials["tracking"] = recipe.tracking.model_dump(mode="json")  # a trial's node may have another environment
        sources, held_out, views, finetune_data, identity = _data_of(config, recipe, out)
        cluster.require_shared_storage(
            data=[each.uri for each in (*sources, *(finetune_data or ()))], weights=recipe.initial_weights()
        )
        key = records.open(sweep_identity(config, recipe, *identity))
        writer = open_writer(recipe.tracking, out, actor=True)
        if config.registered_model:
            writer.check_registry(config.registered_model.name)  # now, not after hours
        parent = start_run(
            writer,
            run_id=find_run(writer, key),
            key=key,
            name=recipe.tracking.run_name or f"sweep {Path(base_name(sweep)).stem}",
            params={"sweep": config.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")},
            tags={"hcmoco.out": out},
        )
        parent.inputs(
            [
                *describe_mixture(recipe.data.sources, sources, held_out),
                *(
                    describe(shards, context, key=f"score.finetune data.{context}")
                    for shards, context in zip(finetune_data or (), CONTEXTS, strict=False)
                ),
            ]
        )
        with tracked_run(parent):
            job = Job(
                config=config,
                base=trials,
                records=records,
                key=key,
                parent=parent,
                sources=sources,
                views=None if views is None else ray.put(views),
                finetune_data=finetune_data,
                writer=writer,
                resources=resources,
                placement=recipe.train.placement,
            )
            lost = _trials(job, recipe)
            first = _report(config, base, records, sweep, parent)
        if config.registered_model and first is not None:
            log(f"model   {best_model.register(job, first, held_out, best_model.tested_on(job, held_out))}")
        log(f"run     {how_to_see(recipe.tracking, out)}")
    return 1 if lost or first is None else 0


def _data_of(config: SweepConfig, recipe: PretrainRecipe, out: str) -> tuple:
    """Open everything that trials read, creating synthetic data that does not exist.

    Returns:
        The sources, the probe's data set and its views, the fine-tuning's data, and what identifies all of them.

    Raises:
        UserError: a trial could not run.
    """
    sources = tuple(ensure.open_data(f"sources.{name}", source) for name, source in recipe.data.sources.items())
    held_out = ensure.open_data("held_out", recipe.data.held_out, split="held-out") if recipe.data.held_out else None
    preflight.check_mixture(recipe, make_plan(recipe, sources), sources)
    preflight.check_model(recipe, load=True)
    lines = data_warnings(recipe, sources, held_out)
    views = probe_views(recipe, held_out) if held_out else None
    if views is not None:
        check_probe(config.score.probe, _probe_metrics(recipe, views))
    contents = {name: shards.manifest.content for name, shards in zip(recipe.data.sources, sources, strict=True)}
    contents |= {"held_out": held_out.manifest.content} if held_out else {}
    score, finetune, data = config.score.finetune, None, None
    if score:
        tuned = finetune_config(score, "scratch", out, recipe)
        workers = finetune_workers(tuned, recipe.train.max_workers)
        if workers < tuned.train.max_workers:
            log(
                f"the fine-tuning that scores a trial has {workers} of the {tuned.train.max_workers} workers of its "
                f"recipe: a trial has {recipe.train.max_workers}"
            )
        kind = task_class(score.task).kind
        data = (
            ensure.open_data("train", tuned.data.train, kind=kind),
            ensure.open_data("test", tuned.data.test, kind=kind, split="test"),
        )
        lines.append(same_data({"data.train": data[0]}, {"data.test": data[1]}))
        # An encoder of a trial is trained on the sweep's own sources.
        lines += masking_warnings(tuned, *data, [depth_masking_of(recipe, sources)])
        finetune = tuned.identity()
        contents |= {"finetune train": data[0].manifest.content, "finetune test": data[1].manifest.content}
    for line in filter(None, lines):
        log(line)
    return sources, held_out, views, data, (contents, finetune)


def _probe_metrics(recipe: PretrainRecipe, views: ProbeViews) -> list[str]:
    """Return the names of the metrics that the probe computes for these people."""
    model = HCMoCo(recipe.model, seed=recipe.seed, load=False)
    return list(probe(model, views.first(min(8, len(views))), recipe.probe).metrics)


def _trials(job: Job, recipe: PretrainRecipe) -> list[str]:
    """Run the missing trials and print the progress. Returns a line for each that the machine brought down."""
    config, records, workers = job.config, job.records, job.resources.workers
    num_finished, queue = len(records.finished()), Queue(config, records)
    log(
        f"{config.num_trials} trials of {recipe.stages.steps} steps in {recipe.train.precision}, {num_finished} "
        f"finished, {len(queue.unfinished)} to resume, {len(queue.new)} new; {job.resources.at_once()} at a time"
        f"{f' with {workers} workers each' if workers > 1 else ''}; score: {_score_name(config)}"
    )
    count = [num_finished]

    def on_finished(record: dict) -> None:
        interrupts.raise_if_interrupted()
        count[0] += 1
        if config.registered_model:
            best_model.prune(records)
        values = ", ".join(f"{name} {report.text(value)}" for name, value in record["values"].items())
        score = "" if record["score"] is None else f"{record['score']:.2f} %"
        log(
            f"{count[0]}/{max(config.num_trials, count[0])}  trial {record['number']:04d}  {score or '-'}  {values}  "
            f"({record['status']})"
        )
        best = report.best(list(records.finished().values()))
        if best and record["status"] == DONE:
            job.parent.metrics(count[0], {"best score": best["score"], "score": record["score"]})

    return run_trials(job, max_restarts=recipe.max_restarts, on_finished=on_finished)


def _report(config: SweepConfig, base: dict, records: Records, sweep: str, parent: Tracker) -> Any:
    """Write and print the results of the trials. Returns the record of the best one, or None."""
    finished, what = list(records.finished().values()), _score_name(config)
    folder = Folder(records.out)
    text = report.table(finished, config.space, what)
    image = report.picture(finished, config.space, what)
    first = report.best(finished)
    folder.write(TABLE, f"{text}\n".encode())
    folder.write(PICTURE, image)
    parent.text(TABLE, text)
    parent.picture(PICTURE, image)
    log(
        f"\n{text}\n\ntable   {join(records.out, TABLE)}\npicture {join(records.out, PICTURE)}\n"
        f"trials  {join(records.out, 'trials')} ({len(finished)})"
    )
    num_failed = sum(record["status"].startswith(FAILED) for record in finished)
    if num_failed:
        log(f"{num_failed} of {len(finished)} trials failed; the table says why")
    if first is None:
        log("no trial ran to its end, so there is no best one")
        return None
    best = report.recipe(base, first, config, Path(base_name(sweep)).stem, what)
    folder.write(BEST, best.encode())
    parent.text(BEST, best)
    log(f"best    python pipelines/pretrain.py --recipe {shlex.quote(join(records.out, BEST))}")
    return first


def _score_name(config: SweepConfig) -> str:
    score = config.score.finetune
    if score is None:
        return config.score.probe
    labels = ", ".join(f"{key} {value}" for key, value in score.labels.items())
    return f"{score.task} ({labels}) {task_class(score.task).primary_metric}"
