"""Resolve a co-training before its first step: its rows, its plan, its class weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.cotraining.loader import CoTrainingLoader, LabeledBatch, fixed_crops
from hcmoco.data.codecs import decode_labels
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP
from hcmoco.data.loader import not_as_prepared
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import Subset, all_rows
from hcmoco.tasks.parsing.config import PARSING_4K_WEIGHTS
from hcmoco.tasks.parsing.loss import class_counts, frequency_weights

# Labels of so many rows tell the class frequencies well enough.
_STATISTICS_ROWS = 2000


@dataclass(frozen=True)
class ResolvedCoTraining:
    """A co-training whose data sets have been read as far as they decide something.

    Attributes:
        unlabeled, labeled: rows that are trained on.
        test: rows of the closing score; `validation` those of scores during training, if there are any.
        class_weights: 25 numbers, None counts all pixels alike.
    """

    config: CoTrainingConfig
    unlabeled: Subset
    labeled: Subset
    test: Subset
    validation: Subset | None
    class_weights: tuple[float, ...] | None

    @property
    def num_points(self) -> int:
        """Points of a crop of depth; 0: depth is read as a picture."""
        return self.config.model.depth.points_at(self.config.augment.size)

    @cached_property
    def loader(self) -> CoTrainingLoader:
        """Return the loader of the training: every lane has rows of both data sets by their weights."""
        config, train = self.config, self.config.train
        sources = tuple(
            replace(each.source_plan(name), weight=getattr(config.data, name).weight)
            for name, each in (("unlabeled", self.unlabeled), ("labeled", self.labeled))
        )
        return CoTrainingLoader(
            Plan(config.seed, sources, train.lanes, train.batch_size_per_lane, train.window_steps, config.steps),
            (self.unlabeled, self.labeled),
            config.augment,
            config.model.joint_set,
            config.objective.num_anchors,
            config.num_background_anchors,
            config.lost,
            self.num_points,
        )

    def identity(self, init_digest: str) -> dict:
        """Return what decides the result: a resumed run must have the same."""
        return {**self.config.identity(), "start": init_digest, "plan": self.loader.plan.description}

    def crops(self, rows: Subset, limit: int | None = None) -> Iterator[LabeledBatch]:
        """Yield rows to be scored, in fixed crops."""
        config = self.config
        return fixed_crops(
            rows,
            config.augment,
            config.model.joint_set,
            limit=limit,
            together=config.eval_batch_size,
            num_points=self.num_points,
        )


def resolve(
    config: CoTrainingConfig, unlabeled: Shards, labeled: Shards, test: Shards, validation: Shards | None
) -> ResolvedCoTraining:
    """Resolve a co-training over opened data sets.

    Raises:
        UserError: they lack what the experiment needs.
    """
    for key, shards in (("labeled", labeled), ("test", test), ("validation", validation)):
        if shards is not None and shards.manifest.label_map != DEFAULT_LABEL_MAP:
            raise UserError(
                f"data.{key}: the parts of {shards.uri} are those of {shards.manifest.label_map}; co-training learns "
                f"{DEFAULT_LABEL_MAP}'s: name another data set"
            )
    source = ("rgb", "depth") if config.supervised == "fused" else (config.supervised,)
    scored = ("rgb", "depth", "parts")
    with_labels = all_rows(labeled, (*source, "parts"))
    named = {
        "none": lambda: None,
        "parsing-4k": lambda: PARSING_4K_WEIGHTS,
        "frequency": lambda: _frequency_weights(with_labels),
    }
    weights = named[config.class_weights]() if isinstance(config.class_weights, str) else config.class_weights
    return ResolvedCoTraining(
        config=config,
        unlabeled=all_rows(unlabeled, ("rgb", "depth", "keypoints")),
        labeled=with_labels,
        test=all_rows(test, scored),
        validation=all_rows(validation, scored) if validation and config.num_evals else None,
        class_weights=weights,
    )


def _frequency_weights(labeled: Subset) -> tuple[float, ...]:
    def maps():
        for row in labeled.rows(("id", "size", "parts"), _STATISTICS_ROWS):
            try:
                yield decode_labels(row["parts"], row["size"])
            except ValueError as error:
                raise not_as_prepared(ValueError(f"record {row['id']!r}: parts: {error}")) from None

    return tuple(frequency_weights(class_counts(maps())).tolist())
