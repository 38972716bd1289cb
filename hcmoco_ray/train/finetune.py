"""A fine-tuning run: its labels and plan, the work of each worker, and the files of a finished run.

<out>/model/          the model, see hcmoco.finetuning.saved_model
<out>/pictures/       first rows of the test data: input, truth, prediction
<out>/table.md        the scores
<out>/results.json    the same for programs, and what they are of
<out>/FINISHED        checksums of these, written last: the same command again only reports; a file that was changed
                      since is written again
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

import hcmoco
from hcmoco import license_terms
from hcmoco.data.codecs import encode_png
from hcmoco.data.depth_masking import SHOWN
from hcmoco.data.sampler import Plan
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import EncoderInit, check_input_sizes, load_encoder_init
from hcmoco.finetuning.label_subset import STRIDES
from hcmoco.finetuning.loop import finetune
from hcmoco.finetuning.resolve import ResolvedRun, resolve
from hcmoco.finetuning.saved_model import save_model
from hcmoco.finetuning.trainer import first_weights, make_model, select_weights
from hcmoco.results import upgrade_results
from hcmoco.storage import Folder, join
from hcmoco.tasks.base import Result, Task
from hcmoco.tasks.registry import REGISTRY, task_class
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.config import SourceConfig
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.ingest.dataset import EVALUATION, TRAIN, Items, Readers, evaluation_items, plan_items
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking import data_sets
from hcmoco_ray.tracking.client import Tracker
from hcmoco_ray.tracking.config import how_to_see
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.tracking.weights import fine_tuned_model
from hcmoco_ray.train.context import RayTaskContext
from hcmoco_ray.train.evaluate import ScoreConfig, as_json, metric_lines, result_tables, score, sheet
from hcmoco_ray.train.launch import Start, WorkerContext
from hcmoco_ray.train.masking import masking_warnings
from hcmoco_ray.train.run import PlannedRun, Run, execute
from hcmoco_ray.train.run_dir import decide_start, log, states_of
from hcmoco_ray.train.same_data import same_data

RESULTS, TABLE, SHEET, FINISHED = "results.json", "table.md", "pictures/test.png", "FINISHED"
_LEFT = (RESULTS, TABLE, SHEET, "model/config.json", "model/model.safetensors", "model/README.md")


def run(values: dict[str, Any], recipe: str) -> int:
    """Run, resume or report a fine-tuning.

    Args:
        values: the keys of the config, not yet checked.
        recipe: name of the recipe, for messages.

    Returns:
        The exit status of the program.

    Raises:
        UserError: see `execute`.
    """
    if not values.get("init"):
        raise UserError(
            "init is not given: say where the encoder starts, with init=FOLDER of a run of pretrain.py, a weights "
            "file, init=imagenet or init=scratch"
        )
    return execute(FinetuneRun(run_config.check(FinetuneRecipe, values, recipe)))


class FinetuneRun(Run[FinetuneRecipe]):
    """See `Run`."""

    @cached_property
    def encoder_init(self) -> EncoderInit:
        """The first weights of the encoder."""
        config = self.config
        modality = task_class(config.task.name).modality
        init = load_encoder_init(config.init, config.encoder, modality, imagenet_weights=config.imagenet_weights)
        whole = config.task.first_weights()
        return replace(init, text=f"a whole model: {whole}") if whole else init

    def finished(self) -> bool:
        return finished(self.config)

    def report(self) -> None:
        report(self.config)

    def check_config(self, *, resumed: bool) -> None:
        check_input_sizes(self.config.encoder, self.config.task)
        _ = self.encoder_init

    def sources(self) -> Mapping[str, SourceConfig]:
        return {"train": self.config.data.train, "test": self.config.data.test}

    def check_machine(self, nodes: int) -> None:
        log(f"the encoder starts from {self.encoder_init.told}")

    def open_data(self, saved_step: int | None) -> "PlannedFinetuning":
        kind = task_class(self.config.task.name).kind
        train_data = ensure.open_data("train", self.config.data.train, kind=kind)
        test_data = ensure.open_data("test", self.config.data.test, kind=kind, split="test")
        resolved = resolve(self.config, train_data, test_data, self.encoder_init)
        if saved_step is None and self.config.task.first_weights():
            # Before the workers start: it says what does not fit.
            log(f"the model starts from {first_weights(self.config, resolved.task)}")
        _describe(resolved)
        if line := same_data({"data.train": train_data}, {"data.test": test_data}):
            log(line)
        for line in masking_warnings(self.config, train_data, test_data, [self.encoder_init.depth_masking]):
            log(line)
        return PlannedFinetuning(self.config, resolved)


class PlannedFinetuning(PlannedRun):
    """See `PlannedRun`."""

    def __init__(self, config: FinetuneRecipe, resolved: ResolvedRun):
        self.config, self.resolved = config, resolved
        self.plan: Plan = resolved.plan
        self.identity = resolved.identity
        self.tags = {
            "hcmoco.task": config.task.name,
            "hcmoco.labels": f"{config.text}, {len(resolved.train_subset)} rows, {resolved.train_subset.digest}",
            "hcmoco.start": f"{resolved.init['text']} {resolved.init['digest']}".strip(),
        }
        train, test = resolved.train_subset, resolved.test_subset
        labels = {"labels": f"{len(train)} rows, {config.text}", "labels_digest": train.digest}
        self.data_sets = (
            data_sets.describe(train.shards, "train", key="data.train", **labels),
            data_sets.describe(test.shards, "test", key="data.test"),
        )

    def job(self, tracker: Tracker, status: Status) -> "FinetuneJob":
        return FinetuneJob(self.config, self.resolved, tracker, status)

    def close(self, tracker: Tracker) -> dict[str, Any]:
        state = states_of(self.config).newest()
        assert state is not None
        return close(self.config, self.resolved, state, tracker)

    def mark_finished(self, results: dict[str, Any]) -> None:
        folder = Folder(self.config.output_dir)
        folder.write(RESULTS, as_json(results))
        folder.write(FINISHED, json.dumps({name: folder.sha256(name) for name in _LEFT}, indent=1).encode())


@dataclass(frozen=True)
class FinetuneJob:
    """See `launch.Job`."""

    config: FinetuneRecipe
    resolved: ResolvedRun
    tracker: Tracker
    status: Status

    def decide_start(self, workers: int, readers: Readers) -> Start:
        return decide_start(self.config, workers, readers)

    def items(self, start: Start) -> Mapping[str, Items]:
        items = {TRAIN: plan_items(self.resolved.train_loader())}
        validation = self.resolved.eval_loader(start.workers)
        return items if validation is None else {**items, EVALUATION: evaluation_items(validation)}

    def work(self, worker: WorkerContext) -> None:
        resolved = self.resolved
        loader, validation = resolved.train_loader(), resolved.eval_loader(worker.world)
        context = RayTaskContext(self.config, loader, validation, worker, self.tracker, self.status)
        with context.sampled():
            finetune(resolved, context, self.tracker.run_id)


def _describe(resolved: ResolvedRun) -> None:
    config, labeled, plan, validation = resolved.config, resolved.train_subset, resolved.plan, resolved.val_subset
    rows = config.train.lanes * config.train.batch_size_per_lane
    log(
        f"labels: {config.text}, {len(labeled)} rows ({labeled.digest[:12]}); "
        f"{len(validation) if validation else 'no'} rows select the model, {len(resolved.test_subset)} rows test\n"
        f"{plan.steps} steps of {rows} rows: {plan.steps * rows / len(labeled):.1f} passes over the labeled rows"
    )
    if config.subset:
        name = labeled.manifest.dataset
        log(
            f"subset={config.subset}: every {STRIDES[config.subset]}th row of {name!r}, sorted by id; "
            "the published rows if that is ITOP"
        )
    if config.select == "test":
        log("select=test: the model is selected on the test rows, as the paper does; its test score is optimistic")


def close(config: FinetuneRecipe, resolved: ResolvedRun, state: TrainState, tracker: Tracker) -> dict[str, Any]:
    """See `PlannedRun.close`: save the selected model, score it on the test data, and record both."""
    task, test = resolved.task, resolved.test_subset
    selected_step, weights = select_weights(config, (state.step, state.model), (state.history["best_step"], state.best))
    model = make_model(config, task, load=False)
    model.load_state_dict(weights)
    facts = {
        "task": config.task.name,
        "recipe": config.name,
        "seed": config.seed,
        "steps": state.step,
        "selected_step": selected_step,
        "select": config.select,
        **resolved.facts,
        "terms": license_terms.as_json(resolved.terms),
    }
    folder = join(config.output_dir, "model")

    def save(card: str) -> None:
        save_model(folder, model, task, config.encoder, training=facts, card=card)

    save(_card(config, task, facts, None))
    score_config = ScoreConfig(
        name=f"{config.name}-test",
        output_dir=config.output_dir,
        piece_rows=config.eval_batch_size,
        num_threads=config.ingest.num_threads,
        train=config.train,
    )
    result = score(score_config, folder, resolved.test_task, test)
    for note in result.notes:
        log(note)
    save(_card(config, task, facts, result))
    png = encode_png(sheet(folder, resolved.test_task, test))
    out = Folder(config.output_dir)
    out.write(SHEET, png)
    out.write(TABLE, result_tables(result).encode())
    tracker.metrics(state.step, {f"test/{name}": value for name, value in result.metrics.items()})
    tracker.picture(SHEET, png)
    tracker.text(TABLE, result_tables(result))
    tracker.text("model/place.txt", folder)
    measured = [f"test/{name}" for name in result.metrics]
    copied = config.tracking.log_weights
    tracker.model(
        fine_tuned_model(folder, task, config.encoder, facts, metrics=measured, test=test.shards, copied=copied)
    )
    return {
        "hcmoco": hcmoco.__version__,
        "torch": torch.__version__,
        **facts,
        "test": {"rows": result.rows, "digest": test.digest, "metrics": result.metrics},
        "per_class": {"columns": result.columns, "rows": result.per_class},
        "evals": state.history["evals"],
        "primary_metric": task.primary_metric,
    }


def finished(config: FinetuneRecipe) -> bool:
    """Return whether the run in the folder is finished and its files are unchanged since."""
    folder = Folder(config.output_dir)
    try:
        sums = json.loads(folder.read(FINISHED))
        return all(folder.sha256(name) == sums[name] for name in _LEFT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def report(config: FinetuneRecipe) -> None:
    """Print the scores and the paths of all files."""
    results = upgrade_results(json.loads(Folder(config.output_dir).read(RESULTS)))
    test, labels = results["test"], results["labels"]
    metrics = "\n".join(f"  {line}" for line in metric_lines(test["metrics"]))
    log(
        f"\n{results['task']} with {labels['text']} of the labels ({labels['rows']} rows), seed {results['seed']}, "
        f"from {results['init']['text']}\n"
        f"on {test['rows']} test rows, model of step {results['selected_step']} of {results['steps']} "
        f"(select={results['select']}):\n"
        f"{metrics}\n\n"
        f"all metrics   {join(config.output_dir, TABLE)}\n"
        f"picture       {join(config.output_dir, SHEET)}\n"
        f"model         {join(config.output_dir, 'model')}\n"
        f"run           {how_to_see(config.tracking, config.output_dir)}\n"
        f"next          {_commands(results['task'], config.output_dir)[0]}"
    )


def _commands(task: str, folder: str, out: str = "") -> list[str]:
    """Return the commands to try on a model, the first one first: only some tasks predict."""
    weights = shlex.quote(folder)
    evaluate = f"python pipelines/evaluate.py {weights} --data FOLDER_OF_SHARDS"
    predict = f"python pipelines/predict.py {weights} IMAGES{out}"
    return [predict, evaluate] if REGISTRY[task].adapter else [evaluate]


def _card(config: FinetuneRecipe, task: Task, facts: dict[str, Any], result: Result | None) -> str:
    scores = "" if result is None else f"\n## Scores on the test data\n\n{result_tables(result)}"
    labels = f"labeled rows ({facts['labels']['text']}), seed {facts['seed']}."
    if facts.get("depth_masking"):
        labels += f" Their depth is {SHOWN[facts['depth_masking']]}."
    known = license_terms.of_training(facts, "this folder")
    commands = "\n".join(f"    {line}" for line in _commands(task.name, "THIS_FOLDER", " --out predictions"))
    return f"""---
{license_terms.license_lines(known)}
tags: [hcmoco, human-centric, {task.name}]
---

# {task.name}, fine-tuned

An encoder ({config.encoder.name}) with a head for {task.name}, {facts["steps"]} steps on {facts["labels"]["rows"]}
{labels} The encoder started from: {facts["init"]["text"]}. The
model is that of step {facts["selected_step"]} (select={facts["select"]}).

{commands}
{scores}
{license_terms.section(known)}"""
