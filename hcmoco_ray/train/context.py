"""A loop's host on Ray: batches from Ray Data, states in the run's folder, numbers to the one MLflow writer."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic

import numpy as np
import torch

from hcmoco.data.codecs import encode_png
from hcmoco.data.loader import BatchT, PlanLoader
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.tasks.base import TaskBatch
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.ingest import dataset
from hcmoco_ray.tracking.client import Tracker
from hcmoco_ray.train.launch import Place
from hcmoco_ray.train.run_dir import states_of


class RayHost(Generic[BatchT]):
    """See `training.loop.Host`.

    Args:
        place: where this worker is, and the dataset "train" or its share of it.
        tracker, status: the run's record and its line of progress.
    """

    def __init__(
        self,
        config: PretrainRecipe | FinetuneRecipe,
        feed: PlanLoader[BatchT],
        place: Place,
        tracker: Tracker,
        status: Any,
    ):
        self.config, self.feed, self.place, self.tracker, self.status = config, feed, place, tracker, status
        self.rank, self.world, self.device = place.rank, place.world, torch.device(place.device)
        self.states = states_of(config)

    def batches(self, first_step: int) -> Iterator[BatchT]:
        ingest = self.config.ingest
        where = {"rank": self.rank, "world": self.world, "first_step": first_step}
        items = dataset.items(self.place.shards["train"])
        for batch in self.feed.batches(items, **where, threads=ingest.threads, ahead=ingest.ahead):
            interrupts.check()
            yield batch

    def restore(self) -> TrainState | None:
        return self.states.newest()

    def save(self, state: TrainState) -> None:
        # What a state has seen is recorded before it can be resumed from. No worker goes on before the state is whole: one that is lost
        # right after must find it, whoever looks.
        if self.rank == 0:
            self.tracker.flush()
            self.states.write(state)
        distributed.barrier()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.tracker.picture(f"pictures/{name}.png", encode_png(rgb_HW3))

    def progress(self, line: str) -> None:
        if self.rank == 0:
            self.status.put.remote(line)


class RayTaskHost(RayHost[TaskBatch]):
    """See `tasks.loop.EvalContext`.

    Args:
        validation: the rows that choose the model, whose pieces are the dataset "validation" of `place`; None if there are none.
    """

    def __init__(
        self,
        config: FinetuneRecipe,
        feed: PlanLoader[TaskBatch],
        validation: EvalLoader | None,
        place: Place,
        tracker: Tracker,
        status: Any,
    ):
        super().__init__(config, feed, place, tracker, status)
        self.validation = validation

    def evaluation(self) -> Iterable[TaskBatch]:
        assert self.validation is not None
        items = dataset.items(self.place.shards["validation"])
        for batch in self.validation.batches(items, threads=self.config.ingest.threads, ahead=2):
            interrupts.check()
            yield batch
