"""The training context on Ray: batches from Ray Data, states in the output directory, metrics to the MLflow writer."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic

import numpy as np
import torch

from hcmoco.data import transfer
from hcmoco.data.codecs import encode_png
from hcmoco.data.loader import BatchT, PlanLoader
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.tasks.base import TaskBatch
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.state_writer import StateWriter
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.ingest.dataset import EVALUATION, TRAIN, first_item
from hcmoco_ray.tracking import system_metrics
from hcmoco_ray.tracking.client import Tracker
from hcmoco_ray.tracking.gauges import Gauges
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.train.launch import WorkerContext
from hcmoco_ray.train.pulse import BETWEEN, DATA, STEP
from hcmoco_ray.train.run_dir import states_of


class RayContext(Generic[BatchT]):
    """A `TrainContext` of a worker.

    Args:
        config: of the run.
        loader: carries out the plan.
        worker: this worker's rank and device, and what it reads.
        tracker: of the run.
        status: its line of progress.
    """

    def __init__(
        self,
        config: PretrainRecipe | FinetuneRecipe,
        loader: PlanLoader[BatchT],
        worker: WorkerContext,
        tracker: Tracker,
        status: Status,
    ):
        self.config, self.loader, self.worker, self.tracker, self.status = config, loader, worker, tracker, status
        self.rank, self.world, self.device = worker.rank, worker.world, torch.device(worker.device)
        self.states = states_of(config, worker.start.attempt)
        # Metrics are written before the state that they led to.
        self.writer = StateWriter(self.states, before=tracker.flush)
        self.pulse = worker.pulse
        self.gauges = Gauges(config.name, tracker.run_id)

    def batches(self, first_step: int) -> Iterator[BatchT]:
        ingest = self.config.ingest
        where = {"rank": self.rank, "world": self.world, "first_step": first_step}
        # A run that has taken its last step reads nothing more.
        items = self.worker.read(TRAIN, first_item(self.loader.plan, first_step))
        batches = self.loader.batches(
            items,
            **where,
            threads=ingest.num_threads,
            ahead=ingest.prefetch,
            then=partial(transfer.begin, device=self.device),
        )
        self.pulse.enter(DATA, first_step)
        for step, batch in enumerate(batches, first_step):
            interrupts.raise_if_interrupted()
            self.writer.check()
            self.pulse.enter(STEP, step)
            yield batch
            self.pulse.enter(DATA, step + 1)

    def evaluation(self) -> Iterable[BatchT]:
        raise NotImplementedError("this run has no validation rows")

    def restore(self) -> TrainState | None:
        return self.states.at(self.worker.start.step)

    def save(self, state: TrainState) -> None:
        if self.rank == 0:
            self.writer.begin(state)

    def wait_until_saved(self) -> None:
        self.writer.wait()
        distributed.barrier()

    def sampled(self) -> AbstractContextManager[None]:
        """Log what this worker's node does while the block runs, if this worker is the one that does so."""
        node, interval = self.worker.samples_node, self.config.tracking.system_metrics_interval
        return system_metrics.logged(self.tracker, node, interval if node else 0)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)
        self.gauges.set(step, values)

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.tracker.picture(f"pictures/{name}.png", encode_png(rgb_HW3))

    def leaving(self) -> bool:
        return self.pulse.leaving()

    def pause(self) -> None:
        self.pulse.enter(BETWEEN)

    def progress(self, line: str) -> None:
        if self.rank == 0:
            self.status.put(line)


class RayTaskContext(RayContext[TaskBatch]):
    """A `TrainContext` of a worker of a fine-tuning.

    Args:
        config: of the run.
        loader: carries out the plan.
        validation: loader of the rows that select the model; None if there are none.
        worker: this worker's rank and device, and what it reads.
        tracker: of the run.
        status: its line of progress.
    """

    def __init__(
        self,
        config: FinetuneRecipe,
        loader: PlanLoader[TaskBatch],
        validation: EvalLoader | None,
        worker: WorkerContext,
        tracker: Tracker,
        status: Status,
    ):
        super().__init__(config, loader, worker, tracker, status)
        self.validation = validation

    def evaluation(self) -> Iterable[TaskBatch]:
        assert self.validation is not None
        items = self.worker.read(EVALUATION)
        for batch in self.validation.batches(items, threads=self.config.ingest.num_threads, ahead=2):
            interrupts.raise_if_interrupted()
            yield batch
