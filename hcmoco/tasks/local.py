"""A task's loops without a cluster: one process, shards read by its own threads, numbers kept in memory."""

from collections.abc import Callable, Iterable, Iterator

import torch

from hcmoco.tasks.feed import EvaluationFeed, TrainingFeed
from hcmoco.tasks.task import TaskBatch
from hcmoco.training.ahead import map_ahead
from hcmoco.training.state import States, TrainState


class LocalTaskHost:
    """See `tasks.loop.TaskHost`.

    Args:
        feed: the labelled rows.
        validation: the rows that choose the model, if there are any.
        states: folder (URI) of the train states, the newest `keep`, or None to keep none.
        device: where to train.
        threads: threads that read and decode.
        show: called with each line of progress.

    Attributes:
        logged: (step, values) of every report.
    """

    rank, world = 0, 1

    def __init__(
        self,
        feed: TrainingFeed,
        validation: EvaluationFeed | None = None,
        states: str | None = None,
        *,
        keep: int = 2,
        device: str = "cpu",
        threads: int = 2,
        show: Callable[[str], None] = lambda line: None,
    ):
        self.feed, self.validation, self.device, self.threads, self.show = feed, validation, torch.device(device), threads, show
        self.states = States(states, keep) if states else None
        self.logged: list[tuple[int, dict[str, float]]] = []

    def batches(self, first_step: int) -> Iterator[TaskBatch]:
        numbers = self.feed.own_items(rank=0, world=1, first_step=first_step)
        items = map_ahead(lambda each: self.feed.item(*each), numbers, threads=self.threads, ahead=self.feed.plan.lanes + self.threads)
        return self.feed.batches(items, rank=0, world=1, first_step=first_step, threads=self.threads, ahead=2 * self.threads)

    def evaluation(self) -> Iterable[TaskBatch]:
        assert self.validation is not None
        return self.validation.batches(self.validation.own_items(0), threads=self.threads, ahead=self.threads)

    def restore(self) -> TrainState | None:
        return self.states.newest() if self.states else None

    def save(self, state: TrainState) -> None:
        if self.states:
            self.states.write(state)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.logged.append((step, values))

    def progress(self, line: str) -> None:
        self.show(line)
