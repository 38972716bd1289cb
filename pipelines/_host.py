"""A training loop's host on Ray: batches from Ray Data, states in the run's folder, numbers to the one MLflow writer."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch

from hcmoco.schema import Batch
from hcmoco.training import collective
from hcmoco.training.feed import Feed
from hcmoco.training.state import TrainState
from pipelines import _ingest, _interrupts
from pipelines._folder import states_of
from pipelines._recipe import PretrainRecipe
from pipelines._tracking import Tracker
from pipelines._train import Place


class RayHost:
    """See `training.loop.Host`.

    Args:
        place: where this worker is, and the dataset "train" or its share of it.
        tracker, status: the run's record and its line of progress.
    """

    def __init__(self, config: PretrainRecipe, feed: Feed, place: Place, tracker: Tracker, status: Any):
        self.config, self.feed, self.shard, self.tracker, self.status = config, feed, place.shards["train"], tracker, status
        self.rank, self.world, self.device = place.rank, place.world, torch.device(place.device)
        self.states = states_of(config)

    def batches(self, first_step: int) -> Iterator[Batch]:
        ingest = self.config.ingest
        where = {"rank": self.rank, "world": self.world, "first_step": first_step}
        for batch in self.feed.batches(_ingest.items(self.shard), **where, threads=ingest.threads, ahead=ingest.ahead):
            _interrupts.check()
            yield batch

    def restore(self) -> TrainState | None:
        return self.states.newest()

    def save(self, state: TrainState) -> None:
        # What a state has seen is recorded before it can be resumed from. No worker goes on before the state is whole: one that is lost
        # right after must find it, whoever looks.
        if self.rank == 0:
            self.tracker.flush()
            self.states.write(state)
        collective.barrier()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        done, png = cv2.imencode(".png", rgb_HW3[..., ::-1])
        assert done
        self.tracker.picture(f"pictures/{name}.png", png.tobytes())

    def progress(self, line: str) -> None:
        if self.rank == 0:
            self.status.put.remote(line)
