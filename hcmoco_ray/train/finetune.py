"""A fine-tuning run: its labels and plan, the part of each worker, and what a finished run leaves.

<out>/model/          the model, see hcmoco.finetuning.saved_model
<out>/pictures/       first rows of the test data: input, truth, prediction
<out>/table.md        the scores
<out>/results.json    the same for programs, and what they are of
<out>/FINISHED        checksums of these, written last: the same command again only reports; a file changed since is written again
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

import hcmoco
from hcmoco import license_terms
from hcmoco.data.codecs import encode_png
from hcmoco.data.sampler import Plan
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import EncoderInit, load_encoder_init
from hcmoco.finetuning.label_subset import STRIDES
from hcmoco.finetuning.loop import finetune
from hcmoco.finetuning.resolve import ResolvedRun, resolve
from hcmoco.finetuning.saved_model import save_model
from hcmoco.finetuning.trainer import make_model, select_weights
from hcmoco.results import upgrade_results
from hcmoco.storage import Folder
from hcmoco.tasks.base import Result, Task
from hcmoco.tasks.registry import task_class
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.config import SourceConfig
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.ingest import dataset
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker, store_uri
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.train.context import RayTaskContext
from hcmoco_ray.train.evaluate import ScoreConfig, as_json, figure_lines, markdown, score, sheet
from hcmoco_ray.train.launch import WorkerContext
from hcmoco_ray.train.run import PlannedRun, Run, execute
from hcmoco_ray.train.run_dir import log, states_of

RESULTS, TABLE, SHEET, FINISHED = "results.json", "table.md", "pictures/test.png", "FINISHED"
_LEFT = (RESULTS, TABLE, SHEET, "model/config.json", "model/model.safetensors", "model/README.md")


def run(values: dict[str, Any], recipe: str) -> int:
    """Run, resume or report a fine-tuning.

    Args:
        values: the keys of the config, not yet checked.
        recipe: what messages call the recipe.
    Returns:
        The exit status of the program.
    """
    if not values.get("init"):
        raise UserError(
            "init is not given: say where the encoder starts, with init=FOLDER of a run of pretrain.py, a weights file, "
            "init=imagenet or init=scratch"
        )
    return execute(FinetuneRun(run_config.check(FinetuneRecipe, values, recipe)))


class FinetuneRun(Run[FinetuneRecipe]):
    """See `Run`."""

    @cached_property
    def encoder_init(self) -> EncoderInit:
        """The first weights of the encoder."""
        config = self.config
        modality = task_class(config.task.name).modality
        return load_encoder_init(config.init, config.encoder, modality, imagenet_weights=config.imagenet_weights)

    def finished(self) -> bool:
        return finished(self.config)

    def report(self) -> None:
        report(self.config)

    def check_config(self, *, resumed: bool) -> None:
        _ = self.encoder_init

    def sources(self) -> Mapping[str, SourceConfig]:
        return {"train": self.config.data.train, "test": self.config.data.test}

    def check_machine(self, nodes: int) -> None:
        log(f"the encoder starts from {self.encoder_init.text}")

    def open_data(self, saved_step: int | None) -> "PlannedFinetuning":
        kind = task_class(self.config.task.name).kind
        train_data = ensure.open_data("train", self.config.data.train, kind=kind)
        test_data = ensure.open_data("test", self.config.data.test, kind=kind, split="test")
        setup = resolve(self.config, train_data, test_data, self.encoder_init)
        _describe(setup)
        return PlannedFinetuning(self.config, setup)


class PlannedFinetuning(PlannedRun):
    """See `PlannedRun`."""

    def __init__(self, config: FinetuneRecipe, setup: ResolvedRun):
        self.config, self.setup = config, setup
        self.plan: Plan = setup.plan
        self.identity = setup.identity
        self.tags = {
            "hcmoco.task": config.task.name,
            "hcmoco.labels": f"{config.text}, {len(setup.train_subset)} rows, {setup.train_subset.digest}",
            "hcmoco.start": f"{setup.init['text']} {setup.init['digest']}".strip(),
        }

    def job(self, tracker: Tracker, status: Status) -> "FinetuneJob":
        return FinetuneJob(self.config, self.setup, tracker, status)

    def close(self, tracker: Tracker) -> dict[str, Any]:
        state = states_of(self.config).newest()
        assert state is not None
        return close(self.config, self.setup, state, tracker)

    def mark_finished(self, results: dict[str, Any]) -> None:
        folder = Folder(self.config.output_dir)
        folder.write(RESULTS, as_json(results))
        folder.write(FINISHED, json.dumps({name: folder.sha256(name) for name in _LEFT}, indent=1).encode())


@dataclass(frozen=True)
class FinetuneJob:
    """See `launch.Job`."""

    config: FinetuneRecipe
    setup: ResolvedRun
    tracker: Tracker
    status: Status

    def datasets(self) -> Mapping[str, Callable[[], Any]]:
        made = {"train": dataset.newest_dataset(self.setup.train_loader(), f"{self.config.output_dir}/states")}
        validation = self.setup.eval_loader(self.config.train.workers)
        if validation is not None:
            made["validation"] = lambda: dataset.evaluation_dataset(validation)
        return made

    def work(self, worker: WorkerContext) -> None:
        setup = self.setup
        feed, validation = setup.train_loader(), setup.eval_loader(worker.world)
        context = RayTaskContext(self.config, feed, validation, worker, self.tracker, self.status)
        finetune(setup, context, self.tracker.run_id)


def _describe(setup: ResolvedRun) -> None:
    config, labeled, plan, aside = setup.config, setup.train_subset, setup.plan, setup.val_subset
    rows = config.train.lanes * config.train.batch_size_per_lane
    log(
        f"labels: {config.text}, {len(labeled)} rows ({labeled.digest[:12]}); {len(aside) if aside else 'no'} rows choose the model, "
        f"{len(setup.test_subset)} rows test\n"
        f"{plan.steps} steps of {rows} rows: {plan.steps * rows / len(labeled):.1f} passes over the labelled rows"
    )
    if config.subset:
        name = labeled.manifest.dataset
        log(
            f"subset={config.subset}: every {STRIDES[config.subset]}th row of {name!r}, sorted by id; the published rows if that is ITOP"
        )
    if config.select == "test":
        log("select=test: the model is chosen on the test rows, as the paper does; its test score is optimistic")


def close(config: FinetuneRecipe, setup: ResolvedRun, state: TrainState, tracker: Tracker) -> dict[str, Any]:
    """See `PlannedRun.close`: save the selected model, score it on the test data, and record both."""
    task, test = setup.task, setup.test_subset
    chosen_step, weights = select_weights(config, (state.step, state.model), (state.history["best_step"], state.best))
    model = make_model(config, task, load=False)
    model.load_state_dict(weights)
    facts = {
        "task": config.task.name,
        "recipe": config.name,
        "seed": config.seed,
        "steps": state.step,
        "selected_step": chosen_step,
        "select": config.select,
        **setup.facts,
        "terms": license_terms.as_json(setup.terms),
    }
    folder = f"{config.output_dir}/model"
    save_model(
        folder,
        model,
        task,
        config.encoder,
        training=facts,
        card=_card(config, task, facts, None),
    )
    how = ScoreConfig(
        name=f"{config.name}-test",
        output_dir=config.output_dir,
        piece_rows=config.eval_batch_size,
        num_threads=config.ingest.num_threads,
        train=config.train,
    )
    result = score(how, folder, setup.test_task, test)
    save_model(
        folder,
        model,
        task,
        config.encoder,
        training=facts,
        card=_card(config, task, facts, result),
    )
    png = encode_png(sheet(folder, setup.test_task, test))
    out = Folder(config.output_dir)
    out.write(SHEET, png)
    out.write(TABLE, markdown(result).encode())
    tracker.metrics(state.step, {f"test/{name}": value for name, value in result.metrics.items()})
    tracker.picture(SHEET, png)
    tracker.text(TABLE, markdown(result))
    tracker.text("model/place.txt", folder)
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
    """Return whether the run in the folder is finished, and all its files are as it wrote them."""
    folder = Folder(config.output_dir)
    try:
        sums = json.loads(folder.read(FINISHED))
        return all(folder.sha256(name) == sums[name] for name in _LEFT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def report(config: FinetuneRecipe) -> None:
    """Print the scores, and where all files are."""
    results = upgrade_results(json.loads(Folder(config.output_dir).read(RESULTS)))
    test, labels = results["test"], results["labels"]
    figures = "\n".join(f"  {line}" for line in figure_lines(test["metrics"]))
    log(
        f"\n{results['task']} with {labels['text']} of the labels ({labels['rows']} rows), seed {results['seed']}, from "
        f"{results['init']['text']}\n"
        f"on {test['rows']} test rows, model of step {results['selected_step']} of {results['steps']} (select={results['select']}):\n"
        f"{figures}\n\n"
        f"all figures   {config.output_dir}/{TABLE}\n"
        f"picture       {config.output_dir}/{SHEET}\n"
        f"model         {config.output_dir}/model\n"
        f"run           mlflow ui --backend-store-uri {store_uri(config.tracking, config.output_dir)}\n"
        f"next          python pipelines/predict.py IMAGES --weights {config.output_dir}"
    )


def _card(config: FinetuneRecipe, task: Task, facts: dict[str, Any], result: Result | None) -> str:
    scores = "" if result is None else f"\n## Scores on the test data\n\n{markdown(result)}"
    known = license_terms.of_training(facts, "this folder")
    return f"""---
{license_terms.license_lines(known)}
tags: [hcmoco, human-centric, {task.name}]
---

# {task.name}, fine-tuned

An encoder ({config.encoder.name}) with a head for {task.name}, {facts["steps"]} steps on {facts["labels"]["rows"]} labelled rows
({facts["labels"]["text"]}), seed {facts["seed"]}. The encoder started from: {facts["init"]["text"]}.
The model is that of step {facts["selected_step"]} (select={facts["select"]}).

    python pipelines/predict.py IMAGES --weights THIS_FOLDER --out predictions
    python pipelines/evaluate.py THIS_FOLDER --data FOLDER_OF_SHARDS
{scores}
{license_terms.section(known)}"""
