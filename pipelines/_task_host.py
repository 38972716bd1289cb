"""A task's loops on Ray: batches and evaluations from Ray Data, states in the run's folder, numbers to the one MLflow writer."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from hcmoco.tasks.feed import EvaluationFeed, TrainingFeed
from hcmoco.tasks.task import TaskBatch
from hcmoco.training import collective
from hcmoco.training.state import TrainState
from pipelines import _ingest, _interrupts
from pipelines._folder import states_of
from pipelines._recipe import FinetuneRecipe
from pipelines._tracking import Tracker
from pipelines._train import Place


class RayTaskHost:
    """See `tasks.loop.TaskHost`.

    Args:
        validation: the rows that choose the model, whose pieces are the dataset "validation"; None if there are none.
        place: where this worker is, and the datasets "train" and "validation", or its shares of them.
        tracker, status: the run's record and its line of progress.
    """

    def __init__(
        self,
        config: FinetuneRecipe,
        feed: TrainingFeed,
        validation: EvaluationFeed | None,
        place: Place,
        tracker: Tracker,
        status: Any,
    ):
        self.config, self.feed, self.validation, self.place = config, feed, validation, place
        self.tracker, self.status = tracker, status
        self.rank, self.world, self.device = place.rank, place.world, torch.device(place.device)
        self.states = states_of(config)

    def batches(self, first_step: int) -> Iterator[TaskBatch]:
        ingest = self.config.ingest
        where = {"rank": self.rank, "world": self.world, "first_step": first_step}
        items = _ingest.items(self.place.shards["train"])
        for batch in self.feed.batches(items, **where, threads=ingest.threads, ahead=ingest.ahead):
            _interrupts.check()
            yield batch

    def evaluation(self) -> Iterable[TaskBatch]:
        assert self.validation is not None
        items = _ingest.items(self.place.shards["validation"])
        for batch in self.validation.batches(items, threads=self.config.ingest.threads, ahead=2):
            _interrupts.check()
            yield batch

    def restore(self) -> TrainState | None:
        return self.states.newest()

    def save(self, state: TrainState) -> None:
        # As in pre-training: what a state has seen is recorded first, and no worker goes on before it is whole.
        if self.rank == 0:
            self.tracker.flush()
            self.states.write(state)
        collective.barrier()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)

    def progress(self, line: str) -> None:
        if self.rank == 0:
            self.status.put.remote(line)
