"""What is decided of a fine-tuning before its first step: which rows, which plan, and what makes the run the one that it is."""

from dataclasses import dataclass
from functools import cached_property

from hcmoco.data.loader import not_as_prepared
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import Start
from hcmoco.finetuning.label_subset import Subset, split, whole
from hcmoco.finetuning.loader import EvalLoader, TrainLoader
from hcmoco.license_terms import Terms, of_data
from hcmoco.tasks.base import Task
from hcmoco.tasks.registry import make_task, task_class

# Labels of so many rows tell the class frequencies well enough.
_STATISTICS_ROWS = 2000


@dataclass(frozen=True)
class Setup:
    """A fine-tuning, decided. Small to pickle.

    Attributes:
        labelled: rows that are trained on.
        chosen_on: rows that the model is scored on during training; None if there are none.
        test: rows of the closing score.
        task: over the training data; `tested` is the same over the test data.
        statistics: what `Task.fit_statistics` gave.
        start: `text` and `digest` of where the encoder starts.
        terms: of the training data, and of what the encoder's first weights were made from.
    """

    config: FinetuneConfig
    labeled: Subset
    chosen_on: Subset | None
    test: Subset
    task: Task
    tested: Task
    statistics: dict
    start: dict[str, str]
    terms: tuple[Terms, ...]

    @cached_property
    def plan(self) -> Plan:
        """The order of the labelled rows: few rows come again and again, each time augmented anew."""
        train = self.config.train
        return Plan(
            seed=self.config.seed,
            sources=(self.labeled.source_plan("labeled"),),
            lanes=train.lanes,
            batch_size_per_lane=train.batch_size_per_lane,
            window_steps=train.window_steps,
            steps=self.config.total_steps(len(self.labeled)),
        )

    @property
    def identity(self) -> dict:
        """What decides the result: a resumed run must have the same."""
        return {
            **self.config.identity(),
            "labels": self.labeled.digest,
            "chosen_on": self.chosen_on.digest if self.chosen_on else "",
            "start": self.start["digest"],
            "plan": self.plan.description,
        }

    @property
    def facts(self) -> dict:
        """For the record of the run: its precision, which labels, and where the encoder started."""
        return {
            "precision": self.config.train.precision,
            "labels": {"text": self.config.text, "rows": len(self.labeled), "digest": self.labeled.digest},
            "start": self.start,
        }

    def train_loader(self) -> TrainLoader:
        """The labelled rows in the plan's order."""
        return TrainLoader(self.plan, (self.labeled,), self.task)

    def eval_loader(self, world: int = 1) -> EvalLoader | None:
        """The rows that the model is scored on during training."""
        if self.chosen_on is None:
            return None
        task = self.tested if self.config.select == "test" else self.task
        return EvalLoader(task, self.chosen_on, self.config.eval_batch_size, world)

    def test_feed(self, world: int = 1) -> EvalLoader:
        """The rows of the closing score."""
        return EvalLoader(self.tested, self.test, self.config.eval_batch_size, world)


def set_up(config: FinetuneConfig, train: Shards, test: Shards, begun: Start) -> Setup:
    """Decides a fine-tuning over opened data sets. UserError where they lack labels, or the share of the labels leaves nothing."""
    cls = task_class(config.task.task)
    needed = (*cls.inputs, *cls.labels)
    labeled, validation = split(train, config, needed, seed=config.seed)
    tested_on = whole(test, needed)
    task = make_task(config.task, train.manifest)
    try:
        statistics = task.fit_statistics(labeled.rows(cls.columns, _STATISTICS_ROWS))
    except ValueError as error:
        raise not_as_prepared(error) from None
    task.use_statistics(statistics)
    return Setup(
        config=config,
        labeled=labeled,
        chosen_on=tested_on if config.select == "test" else validation,
        test=tested_on,
        task=task,
        tested=make_task(config.task, test.manifest, statistics),
        statistics=statistics,
        start={"text": begun.text, "digest": begun.digest},
        terms=(of_data(train.manifest), *begun.terms),
    )
