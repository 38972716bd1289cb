"""A host without a cluster: one process, shards read by its own threads, numbers kept in memory.

It is how a step is timed, tested and run on a machine that has nothing but PyTorch.
"""

from collections.abc import Callable, Iterator
from typing import Generic

import numpy as np
import torch

from hcmoco.data.loader import BatchT, PlanLoader
from hcmoco.data.prefetch import prefetch_map
from hcmoco.training.checkpoint import States, TrainState


class LocalHost(Generic[BatchT]):
    """See `training.loop.Host`.

    Args:
        feed: carries out the plan.
        states: folder (URI) of the train states, the newest `keep`, or None to keep none.
        device: where to train.
        threads: threads that read and decode.
        show: called with each line of progress.

    Attributes:
        logged: (step, values) of every report.
        pictures: name -> uint8 [H, W, 3].
    """

    rank, world = 0, 1

    def __init__(
        self,
        feed: PlanLoader[BatchT],
        states: str | None = None,
        *,
        keep: int = 2,
        device: str = "cpu",
        threads: int = 2,
        show: Callable[[str], None] = lambda line: None,
    ):
        self.feed, self.device, self.threads, self.show = feed, torch.device(device), threads, show
        self.states = States(states, keep) if states else None
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.pictures: dict[str, np.ndarray] = {}

    def batches(self, first_step: int) -> Iterator[BatchT]:
        numbers = self.feed.own_items(rank=0, world=1, first_step=first_step)
        # Enough items under way to have the next window when this one ends.
        items = prefetch_map(
            lambda each: self.feed.item(*each), numbers, threads=self.threads, ahead=self.feed.plan.lanes + self.threads
        )
        return self.feed.batches(
            items, rank=0, world=1, first_step=first_step, threads=self.threads, ahead=2 * self.threads
        )

    def restore(self) -> TrainState | None:
        return self.states.newest() if self.states else None

    def save(self, state: TrainState) -> None:
        if self.states:
            self.states.write(state)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.logged.append((step, values))

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.pictures[name] = rgb_HW3

    def progress(self, line: str) -> None:
        self.show(line)
