"""A sweep from its file to its picture: what has to hold first, the data, the trials, the record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo
from hcmoco.pretraining.probes.run import ProbeViews, probe
from hcmoco.storage import Folder
from hcmoco.tasks.registry import REGISTRY, task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts, precision, preflight, session
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.sweep import report
from hcmoco_ray.experiments.sweep.config import SweepConfig, check_probe, check_space, nested, sweep_identity
from hcmoco_ray.experiments.sweep.records import DONE, FAILED, Records
from hcmoco_ray.experiments.sweep.trial import Job, finetune_config
from hcmoco_ray.experiments.sweep.tune import Queue, carry_out
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker, find_run, open_writer, start_run, store_uri
from hcmoco_ray.train.pretrain import make_plan, probe_views
from hcmoco_ray.train.run_dir import lock_run_dir, log, tracked_run

SWEEPS = cli.RECIPES / "sweeps"
TABLE, PICTURE, BEST = "table.md", "response.png", "best.yaml"


def run(sweep: str, overrides: Sequence[str], *, cpus: float, gpus: float, threads: int) -> int:
    """Does what is missing of a sweep; see sweep.py for the arguments. Returns the exit status: 1 where a trial was lost or none came to
    its end."""
    config = build(
        SweepConfig,
        load_recipe(sweep if sweep.endswith((".yaml", ".yml")) else SWEEPS / f"{sweep}.yaml"),
        f"sweep {sweep}",
    )
    asked = ResourceRequest("trial", cpus, gpus, threads)
    own = [override for override in overrides if override.partition("=")[0] in ("out", "output_dir")]
    if any(override.startswith("out=") for override in own):
        raise UserError("'out' is now called 'output_dir'; give output_dir=...")
    given = parse_overrides([override for override in overrides if override not in own])
    config = config.model_copy(update=parse_overrides(own))
    base = merge(merge(cli.values(config.recipe, []), nested(config.fixed)), given)
    check_space(config, base, sweep)
    if config.score.finetune and config.score.finetune.task not in REGISTRY:
        raise UserError(
            f"sweep {sweep}: score.finetune.task: {config.score.finetune.task!r} is not a task; allowed are {', '.join(REGISTRY)}"
        )
    recipe = run_config.check(PretrainRecipe, base, config.recipe)
    out = resolve_path(config.output_dir)
    store_uri(recipe.tracking, out)
    with lock_run_dir(out, "output_dir=..."):
        cluster = session.connect()
        import ray

        cluster.require_shared_storage("output_dir", out)
        asked.at_once()
        records = Records(out)
        # Once for all trials, or their scores would differ by where each ran.
        there = records.there()
        recipe = precision.decide(
            recipe, {"CPU": asked.cpus, "GPU": asked.gpus}, there[1].get("pretrain") if there else None
        )
        trials = merge(base, {"train": {"precision": recipe.train.precision}})
        sources, views, finetune_data, identity = _data_of(config, recipe, out)
        key = records.open(sweep_identity(config, recipe, *identity))
        writer = open_writer(recipe.tracking, out, actor=True)
        parent = start_run(
            writer,
            run_id=find_run(writer, key),
            key=key,
            name=recipe.tracking.run_name or f"sweep {Path(sweep).stem}",
            params={"sweep": config.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")},
            tags={"hcmoco.out": out},
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
                asked=asked,
            )
            lost = _trials(job, recipe)
            first = _report(config, base, records, sweep, parent)
        log(f"run     mlflow ui --backend-store-uri {store_uri(recipe.tracking, out)}")
    return 1 if lost or first is None else 0


def _data_of(config: SweepConfig, recipe: PretrainRecipe, out: str) -> tuple:
    """All that trials read, made where it is not there yet: sources, probe views, the fine-tuning's data, and what identifies them.
    UserError where a trial could not run."""
    sources = tuple(ensure.open_data(f"sources.{name}", each) for name, each in recipe.data.sources.items())
    held_out = ensure.open_data("held_out", recipe.data.held_out, split="held-out") if recipe.data.held_out else None
    preflight.check_mixture(recipe, make_plan(recipe, sources), sources)
    preflight.check_model(recipe, load=True)
    views = probe_views(recipe, held_out) if held_out else None
    if views is not None:
        check_probe(config.score.probe, _figures(recipe, views))
    contents = {name: shards.manifest.content for name, shards in zip(recipe.data.sources, sources, strict=True)}
    contents |= {"held_out": held_out.manifest.content} if held_out else {}
    score, finetune, data = config.score.finetune, None, None
    if score:
        tuned = finetune_config(score, "scratch", out, recipe)
        kind = task_class(score.task).kind
        data = (
            ensure.open_data("train", tuned.data.train, kind=kind),
            ensure.open_data("test", tuned.data.test, kind=kind, split="test"),
        )
        finetune = tuned.identity()
        contents |= {"finetune train": data[0].manifest.content, "finetune test": data[1].manifest.content}
    return sources, views, data, (contents, finetune)


def _figures(recipe: PretrainRecipe, views: ProbeViews) -> list[str]:
    """Names of the figures that these people give."""
    return list(
        probe(HCMoCo(recipe.model, seed=recipe.seed, load=False), views.first(min(8, len(views))), recipe.probe).metrics
    )


def _trials(job: Job, recipe: PretrainRecipe) -> list[str]:
    """Runs what is missing, and says what ends; returns a line for each trial that was lost."""
    config, records = job.config, job.records
    over, queue = records.over(), Queue(config, records)
    log(
        f"{config.num_trials} trials of {recipe.stages.steps} steps in {recipe.train.precision}, {len(over)} over, "
        f"{len(queue.begun)} to go on with, {len(queue.new)} new; {job.asked.at_once()} at a time; score: {_what(config)}"
    )
    count = [len(over)]

    def ended(record: dict) -> None:
        interrupts.raise_if_interrupted()
        count[0] += 1
        values = ", ".join(f"{name} {report.text(value)}" for name, value in record["values"].items())
        score = "" if record["score"] is None else f"{record['score']:.2f} %"
        log(
            f"{count[0]}/{max(config.num_trials, count[0])}  trial {record['number']:04d}  {score or '-'}  {values}  ({record['status']})"
        )
        best = report.best(list(records.over().values()))
        if best and record["status"] == DONE:
            job.parent.metrics(count[0], {"best score": best["score"], "score": record["score"]})

    return carry_out(job, restarts=recipe.max_restarts, ended=ended)


def _report(config: SweepConfig, base: dict, records: Records, sweep: str, parent: Tracker) -> Any:
    """Writes and shows what the trials have shown; returns the record of the best one, or None."""
    over, what = list(records.over().values()), _what(config)
    folder = Folder(records.out)
    text = report.table(over, config.space, what)
    image = report.picture(over, config.space, what)
    first = report.best(over)
    folder.write(TABLE, f"{text}\n".encode())
    folder.write(PICTURE, image)
    parent.text(TABLE, text)
    parent.picture(PICTURE, image)
    log(
        f"\n{text}\n\ntable   {records.out}/{TABLE}\npicture {records.out}/{PICTURE}\ntrials  {records.out}/trials ({len(over)})"
    )
    failed = sum(each["status"].startswith(FAILED) for each in over)
    if failed:
        log(f"{failed} of {len(over)} trials failed; the table says why")
    if first is None:
        log("no trial came to its end, so there is no best one")
        return None
    best = report.recipe(base, first, config, Path(sweep).stem, what)
    folder.write(BEST, best.encode())
    parent.text(BEST, best)
    log(f"best    python pipelines/pretrain.py --recipe {records.out}/{BEST}")
    return first


def _what(config: SweepConfig) -> str:
    """Name of the score."""
    score = config.score.finetune
    if score is None:
        return config.score.probe
    labels = ", ".join(f"{key} {value}" for key, value in score.labels.items())
    return f"{score.task} ({labels}) {task_class(score.task).primary_metric}"
