"""A fine-tuning from its config to its table: the labels, where the encoder starts, the training, the scores on the test data."""

from dataclasses import dataclass
from typing import Any

from hcmoco.shards.plan import Plan
from hcmoco.tasks.feed import EvaluationFeed, TrainingFeed
from hcmoco.tasks.initial import start
from hcmoco.tasks.labels import Subset, split, whole
from hcmoco.tasks.loop import finetune
from hcmoco.tasks.task import Task
from hcmoco.tasks.tasks import make_task, task_class
from hcmoco.training.state import check_identity
from pipelines import _checks, _cluster, _data, _ingest, _interrupts, _recipe, _scores
from pipelines._folder import alone_in, config_there, keep_config, recorded, run_there, say, states_of
from pipelines._home import at_home
from pipelines._recipe import FinetuneRecipe
from pipelines._status import open_status, shown
from pipelines._task_host import RayTaskHost
from pipelines._tracking import Tracker, open_writer, start_run, store_uri
from pipelines._train import Place, train

# Labels of so many rows tell the class frequencies well enough.
_STATISTICS_ROWS = 2000


def run(values: dict, recipe: str) -> int:
    """Runs, resumes or reports what `values`, of the recipe called `recipe`, describe; returns the exit status."""
    config = _recipe.check(FinetuneRecipe, values, recipe)
    store_uri(config.tracking, config.out)
    with alone_in(config.out), _interrupts.heard():
        there = config_there(config)
        if there == config and _scores.finished(config):
            say(f"{config.out} is finished")
            _scores.report(config)
            return 0
        say(_recipe.as_yaml(config))
        saved = states_of(config).newest()
        cls = task_class(config.task.task)
        begun = start(config.init, config.encoder, cls.modality, imagenet_weights=config.imagenet_weights)
        say(f"the encoder starts from {begun.text}")
        cluster = _cluster.start()
        if config.wait_for_nodes:
            say(f"waiting up to {config.wait_for_nodes} s for the cluster to have what {config.train.workers} workers ask for")
            cluster = _cluster.grow(_checks.asked(config), config.wait_for_nodes)
        cluster.refuse_local("out", config.out)
        for key in ("train", "test"):
            cluster.refuse_local(f"data set {key}:", at_home(getattr(config.data, key).path))
        _checks.check_resources(config)
        writer = open_writer(config.tracking, config.out, actor=True)

        train_data = _data.open_data("train", config.data.train, kind=cls.kind)
        test_data = _data.open_data("test", config.data.test, kind=cls.kind, split="test")
        needed = (*cls.inputs, *cls.labels)
        labelled, validation = split(train_data, config, needed, seed=config.seed)
        test = whole(test_data, needed)
        task = make_task(config.task, train_data.manifest)
        statistics = task.fit_statistics(labelled.rows(cls.columns, _STATISTICS_ROWS))
        task.use_statistics(statistics)
        chosen_on = {"validation": validation, "test": test, "last": validation}[config.select]
        plan = make_plan(config, labelled)
        identity = {
            **config.identity(),
            "labels": labelled.digest,
            "chosen_on": chosen_on.digest if chosen_on else "",
            "start": begun.digest,
            "plan": plan.description,
        }
        _describe(config, labelled, validation, test, plan)
        if saved:
            check_identity(saved.identity, identity, config.out)
            say(f"going on from step {saved.step} of {plan.steps}")

        tracker = start_run(
            writer,
            run_id=run_there(config, saved, there),
            name=config.tracking.run_name or config.name,
            params=config.model_dump(mode="json"),
            tags={
                "hcmoco.out": config.out,
                "hcmoco.task": config.task.task,
                "hcmoco.labels": f"{config.text}, {len(labelled)} rows, {labelled.digest}",
                "hcmoco.start": f"{begun.text} {begun.digest}".strip(),
            },
        )
        keep_config(config, tracker)
        with recorded(tracker):
            if saved is None or saved.step < plan.steps:
                del saved  # the training reads it anew, perhaps elsewhere
                _train(config, task, plan, labelled, chosen_on, identity, tracker)
            state = states_of(config).newest()
            assert state is not None
            facts = {"labels": _label_facts(config, labelled), "start": {"text": begun.text, "digest": begun.digest}}
            _scores.close(config, task, statistics, state, test, facts, tracker)
        _scores.report(config)
    return 0


def make_plan(config: FinetuneRecipe, labelled: Subset) -> Plan:
    """The plan of a run over its labelled rows: few rows come again and again, each time augmented anew."""
    train = config.train
    return Plan(
        seed=config.seed,
        sources=(labelled.source_plan("labelled"),),
        lanes=train.lanes,
        rows_per_lane=train.rows_per_lane,
        window_steps=train.window_steps,
        steps=config.total_steps(len(labelled)),
    )


def _label_facts(config: FinetuneRecipe, labelled: Subset) -> dict:
    return {"text": config.text, "rows": len(labelled), "digest": labelled.digest}


def _describe(config: FinetuneRecipe, labelled: Subset, validation: Subset | None, test: Subset, plan: Plan) -> None:
    rows = config.train.lanes * config.train.rows_per_lane
    aside = f"{len(validation)} rows are set aside for validation" if validation else "no rows are set aside for validation"
    say(
        f"labels: {config.text}, {len(labelled)} rows ({labelled.digest[:12]}); {aside}, {len(test)} rows test\n"
        f"{plan.steps} steps of {rows} rows: {plan.steps * rows / len(labelled):.1f} passes over the labelled rows"
    )
    if config.select == "test":
        say("select=test: the model is chosen on the test rows, as the paper does; its test score is optimistic")


@dataclass(frozen=True)
class FinetuneJob:
    """See `_train.Job`."""

    config: FinetuneRecipe
    feed: TrainingFeed
    validation: EvaluationFeed | None
    identity: dict
    tracker: Tracker
    status: Any

    def datasets(self) -> dict:
        made = {"train": _ingest.newest_dataset(self.feed, f"{self.config.out}/states")}
        validation = self.validation
        if validation is not None:
            made["validation"] = lambda: _ingest.evaluation_dataset(validation)
        return made

    def work(self, place: Place) -> None:
        host = RayTaskHost(self.config, self.feed, self.validation, place, self.tracker, self.status)
        finetune(
            self.config,
            self.feed.task,
            self.feed.plan,
            host,
            self.identity,
            validated=self.validation is not None,
            tracking_run=self.tracker.run_id,
        )


def _train(
    config: FinetuneRecipe, task: Task, plan: Plan, labelled: Subset, chosen_on: Subset | None, identity: dict, tracker: Tracker
) -> None:
    workers = config.train.workers
    feed = TrainingFeed(plan, (labelled,), task)
    validation = EvaluationFeed(task, chosen_on, config.evaluation_rows, workers) if chosen_on else None
    status = open_status("starting the training" if workers == 1 else f"starting {workers} workers")
    with shown(status):
        _interrupts.check()
        train(FinetuneJob(config, feed, validation, identity, tracker, status))
