"""A training that needs no Ray: shards are read by its process's own threads, and numbers are kept in memory."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, Protocol

import numpy as np
import pyarrow as pa
import torch

from hcmoco.data import transfer
from hcmoco.data.loader import BatchT, PlanLoader
from hcmoco.data.prefetch import prefetch_map
from hcmoco.training.checkpoint import States, TrainState
from hcmoco.training.context import BatchT_co


class EvalBatches(Protocol[BatchT_co]):
    """The loader of a run's validation rows."""

    def own_items(self, rank: int) -> Iterator[pa.Table]:
        """Yield the work items of worker `rank`."""

    def batches(self, items: Iterable[pa.Table], *, threads: int, ahead: int) -> Iterator[BatchT_co]:
        """Yield the batches of these work items, in order."""


class LocalContext(Generic[BatchT]):
    """A `TrainContext` of one process, alone or one of a process group.

    Args:
        loader: carries out the plan.
        states: folder (URI) of the train states, None to keep none; of a group rank 0 alone writes them.
        validation: loader of the validation rows, if the run has some.
        num_checkpoints: how many of the newest train states to keep.
        device: where to train.
        threads: threads that read and decode.
        show: called with each line of progress.
        rank: of this process, 0 to `world` - 1.
        world: number of processes that train together.

    Attributes:
        logged: (step, values) of every report.
        pictures: name -> uint8 [H, W, 3].
    """

    def __init__(
        self,
        loader: PlanLoader[BatchT],
        states: str | None = None,
        *,
        validation: EvalBatches[BatchT] | None = None,
        num_checkpoints: int = 2,
        device: str = "cpu",
        threads: int = 2,
        show: Callable[[str], None] = lambda line: None,
        rank: int = 0,
        world: int = 1,
    ):
        self.rank, self.world = rank, world
        self.loader, self.validation, self.threads, self.show = loader, validation, threads, show
        self.device = torch.device(device)
        self.states = States(states, num_checkpoints) if states else None
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.pictures: dict[str, np.ndarray] = {}

    def batches(self, first_step: int) -> Iterator[BatchT]:
        numbers = self.loader.own_items(rank=self.rank, world=self.world, first_step=first_step)
        # Enough items under way to have the next window when this one ends.
        items = prefetch_map(
            lambda number: self.loader.item(*number),
            numbers,
            threads=self.threads,
            ahead=self.loader.plan.lanes // self.world + self.threads,
        )
        return self.loader.batches(
            items,
            rank=self.rank,
            world=self.world,
            first_step=first_step,
            threads=self.threads,
            ahead=2 * self.threads,
            then=partial(transfer.begin, device=self.device),
        )

    def evaluation(self) -> Iterable[BatchT]:
        assert self.validation is not None
        return self.validation.batches(self.validation.own_items(self.rank), threads=self.threads, ahead=self.threads)

    def restore(self) -> TrainState | None:
        return self.states.newest() if self.states else None

    def save(self, state: TrainState) -> None:
        if self.states and self.rank == 0:
            self.states.write(state)

    def wait_until_saved(self) -> None:
        pass  # `save` returns when the state is complete

    def leaving(self) -> bool:
        return False

    def pause(self) -> None:
        pass

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.logged.append((step, values))

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.pictures[name] = rgb_HW3

    def progress(self, line: str) -> None:
        self.show(line)
