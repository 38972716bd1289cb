"""A fine-tuning from its config to its table: the labels, where the encoder starts, the training, the scores on the test data."""

from dataclasses import dataclass
from typing import Any

from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import start
from hcmoco.finetuning.label_subset import STRIDES
from hcmoco.finetuning.loop import finetune
from hcmoco.finetuning.resolve import Setup, set_up
from hcmoco.tasks.registry import task_class
from hcmoco.training.checkpoint import check_identity
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts, precision, preflight
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.ingest import dataset
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import Tracker, open_writer, start_run, store_uri
from hcmoco_ray.tracking.status import open_status, shown
from hcmoco_ray.train import finetune_results
from hcmoco_ray.train.context import RayTaskHost
from hcmoco_ray.train.launch import Place, asked, train
from hcmoco_ray.train.run_dir import (
    load_saved_config,
    lock_run_dir,
    recorded,
    save_config,
    saved_run_id,
    say,
    states_of,
)


def run(values: dict, recipe: str) -> int:
    """Runs, resumes or reports what `values`, of the recipe called `recipe`, describe; returns the exit status."""
    if not values.get("init"):
        raise UserError(
            "init is not given: say where the encoder starts, with init=FOLDER of a run of pretrain.py, a weights file, "
            "init=imagenet or init=scratch"
        )
    config = run_config.check(FinetuneRecipe, values, recipe)
    store_uri(config.tracking, config.out)
    with lock_run_dir(config.out):
        config, there = load_saved_config(config)
        if there == config and finetune_results.finished(config):
            say(f"{config.out} is finished")
            finetune_results.report(config)
            return 0
        saved = states_of(config).newest()
        cls = task_class(config.task.task)
        begun = start(config.init, config.encoder, cls.modality, imagenet_weights=config.imagenet_weights)
        cluster = preflight.cluster_for(config)
        for key in ("train", "test"):
            cluster.refuse_local(f"data set {key}:", at_home(getattr(config.data, key).path))
        preflight.check_resources(config)
        config = precision.decide(config, asked(config), saved.identity if saved else None)
        say(run_config.as_yaml(config))
        say(f"the encoder starts from {begun.text}")
        writer = open_writer(config.tracking, config.out, actor=True)

        train_data = ensure.open_data("train", config.data.train, kind=cls.kind)
        test_data = ensure.open_data("test", config.data.test, kind=cls.kind, split="test")
        setup = set_up(config, train_data, test_data, begun)
        plan = setup.plan
        _describe(setup)
        if saved:
            check_identity(saved.identity, setup.identity, config.out)
            say(f"going on from step {saved.step} of {plan.steps}")

        tracker = start_run(
            writer,
            run_id=saved_run_id(config, saved, there),
            name=config.tracking.run_name or config.name,
            params=config.model_dump(mode="json"),
            tags={
                "hcmoco.out": config.out,
                "hcmoco.task": config.task.task,
                "hcmoco.labels": f"{config.text}, {len(setup.labeled)} rows, {setup.labeled.digest}",
                "hcmoco.start": f"{begun.text} {begun.digest}".strip(),
            },
        )
        save_config(config, tracker)
        with recorded(tracker):
            if saved is None or saved.step < plan.steps:
                del saved  # the training reads it anew, perhaps elsewhere
                _train(config, setup, tracker)
            state = states_of(config).newest()
            assert state is not None
            results = finetune_results.close(config, setup, state, tracker)
        finetune_results.mark_finished(config, results)
        finetune_results.report(config)
    return 0


def _describe(setup: Setup) -> None:
    config, labeled, plan, aside = setup.config, setup.labeled, setup.plan, setup.chosen_on
    rows = config.train.lanes * config.train.batch_size_per_lane
    say(
        f"labels: {config.text}, {len(labeled)} rows ({labeled.digest[:12]}); {len(aside) if aside else 'no'} rows choose the model, "
        f"{len(setup.test)} rows test\n"
        f"{plan.steps} steps of {rows} rows: {plan.steps * rows / len(labeled):.1f} passes over the labelled rows"
    )
    if config.subset:
        name = labeled.manifest.dataset
        say(
            f"subset={config.subset}: every {STRIDES[config.subset]}th row of {name!r}, sorted by id; the published rows if that is ITOP"
        )
    if config.select == "test":
        say("select=test: the model is chosen on the test rows, as the paper does; its test score is optimistic")


@dataclass(frozen=True)
class FinetuneJob:
    """See `_train.Job`."""

    config: FinetuneRecipe
    setup: Setup
    tracker: Tracker
    status: Any

    def datasets(self) -> dict:
        made = {"train": dataset.newest_dataset(self.setup.train_loader(), f"{self.config.out}/states")}
        validation = self.setup.eval_loader(self.config.train.workers)
        if validation is not None:
            made["validation"] = lambda: dataset.evaluation_dataset(validation)
        return made

    def work(self, place: Place) -> None:
        setup = self.setup
        feed, validation = setup.train_loader(), setup.eval_loader(place.world)
        host = RayTaskHost(self.config, feed, validation, place, self.tracker, self.status)
        run_id = self.tracker.run_id
        finetune(
            self.config,
            setup.task,
            setup.plan,
            host,
            setup.identity,
            validated=setup.chosen_on is not None,
            tracking_run=run_id,
        )


def _train(config: FinetuneRecipe, setup: Setup, tracker: Tracker) -> None:
    workers = config.train.workers
    status = open_status("starting the training" if workers == 1 else f"starting {workers} workers")
    with shown(status):
        interrupts.check()
        train(FinetuneJob(config, setup, tracker, status))
