"""Resolve a fine-tuning before its first step: its rows, its plan, its identity."""

from dataclasses import dataclass
from functools import cached_property

from hcmoco.data.depth_masking import masking_of
from hcmoco.data.loader import not_as_prepared
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import EncoderInit
from hcmoco.finetuning.label_subset import Subset, all_rows, split
from hcmoco.finetuning.loader import EvalLoader, TrainLoader
from hcmoco.license_terms import Terms, of_data, of_first_weights
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.fusion import with_fusion
from hcmoco.tasks.base import Task
from hcmoco.tasks.registry import make_task, task_class

# Class frequencies are estimated from this many rows.
_STATISTICS_ROWS = 2000


@dataclass(frozen=True)
class ResolvedRun:
    """A fine-tuning with everything decided that its data sets decide. Small to pickle.

    Attributes:
        config: of the run.
        train_subset: labeled rows that are trained on.
        val_subset: rows that the model is scored on during training; None if there are none.
        test_subset: rows of the final score.
        task: over the training data.
        test_task: the same over the test data.
        init: `text` and `digest` of the encoder's first weights.
        terms: license terms of the training data, and of the data behind the encoder's first weights.
    """

    config: FinetuneConfig
    train_subset: Subset
    val_subset: Subset | None
    test_subset: Subset
    task: Task
    test_task: Task
    init: dict[str, str]
    terms: tuple[Terms, ...]

    @cached_property
    def plan(self) -> Plan:
        """Return the order of the labeled rows. Rows repeat, each time with another augmentation."""
        train = self.config.train
        return Plan(
            seed=self.config.seed,
            sources=(self.train_subset.source_plan("labeled"),),
            lanes=train.lanes,
            batch_size_per_lane=train.batch_size_per_lane,
            window_steps=train.window_steps,
            steps=self.config.total_steps(len(self.train_subset)),
        )

    @property
    def identity(self) -> dict:
        """Return the values that decide the result: a resumed run must have the same."""
        return {
            **self.config.identity(),
            "labels": self.train_subset.digest,
            "chosen_on": self.val_subset.digest if self.val_subset else "",
            "start": self.init["digest"],
            "plan": self.plan.description,
        }

    @property
    def facts(self) -> dict:
        """Return facts for the record of the run: its precision, its labels, its encoder's first weights, and whether
        its depth is masked."""
        masking = masking_of(self.task.about) if self.task.modality == "depth" else ""
        return {
            **({"depth_masking": masking} if masking else {}),
            "precision": self.config.train.precision,
            "labels": {
                "text": self.config.text,
                "rows": len(self.train_subset),
                "digest": self.train_subset.digest,
                "content": self.train_subset.manifest.content,
            },
            "init": self.init,
        }

    def train_loader(self) -> TrainLoader:
        """Return the loader of the labeled rows in the plan's order."""
        return TrainLoader(self.plan, (self.train_subset,), self.task)

    def eval_loader(self, world: int = 1) -> EvalLoader | None:
        """Return the loader of the rows that the model is scored on during training."""
        if self.val_subset is None:
            return None
        task = self.test_task if self.config.select == "test" else self.task
        return EvalLoader(task, self.val_subset, self.config.eval_batch_size, world)

    def test_loader(self, world: int = 1) -> EvalLoader:
        """Return the loader of the rows of the final score."""
        return EvalLoader(self.test_task, self.test_subset, self.config.eval_batch_size, world)


def recorded(encoder: EncoderConfig, encoder_init: EncoderInit) -> EncoderConfig:
    """Return the encoder's config as a run records it: with the fusion that its first weights decided."""
    return with_fusion(encoder, encoder_init.encoder.config.fusion)


def resolve(config: FinetuneConfig, train: Shards, test: Shards, encoder_init: EncoderInit) -> ResolvedRun:
    """Resolve a fine-tuning over opened data sets.

    Raises:
        UserError: the data sets lack labels, labels of the two mean different things, or no row is left to train on.
    """
    config = config.model_copy(update={"encoder": recorded(config.encoder, encoder_init)})
    cls = task_class(config.task.name)
    needed = (*cls.inputs, *cls.labels)
    train_subset, val_subset = split(train, config, needed, seed=config.seed)
    test_subset = all_rows(test, needed)
    try:
        rows = train_subset.rows(cls.columns, _STATISTICS_ROWS)
        statistics = cls.fit_statistics(config.task, rows, train.manifest)
    except ValueError as error:
        raise not_as_prepared(error) from None
    task = make_task(config.task, train.manifest, statistics, config.encoder)
    return ResolvedRun(
        config=config,
        train_subset=train_subset,
        val_subset=test_subset if config.select == "test" else val_subset,
        test_subset=test_subset,
        task=task,
        test_task=task.over(test.manifest),
        init={"text": encoder_init.text, "digest": encoder_init.digest},
        terms=(of_data(train.manifest), *encoder_init.terms, *of_first_weights(config.task.first_weights())),
    )
