"""The training contexts of a trial: rank 0 reports its probes to Tune."""

import time

import numpy as np

from hcmoco.data.codecs import encode_png
from hcmoco.data.loader import PretrainLoader
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.local import LocalContext
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import Progress
from hcmoco_ray.experiments.sweep.trial_state import tune_checkpoint
from hcmoco_ray.tracking.client import Tracker


class TrialContext(LocalContext):
    """A `TrainContext` of a trial's own process, rank 0, that reports the probe to Tune.

    Args:
        loader: carries out the plan.
        job: the sweep's.
        number: of the trial.
        progress_record: how far the trial has come; updated here and kept in the sweep's folder.
        tracker: the trial's tracking run.
        state: the train state to resume from, or None.
    """

    def __init__(
        self,
        loader: PretrainLoader,
        job: Job,
        number: int,
        progress_record: Progress,
        tracker: Tracker,
        state: TrainState | None,
    ):
        states = job.records.states(number, progress_record.generation)
        super().__init__(loader, states, num_checkpoints=1, device=job.device, threads=1, world=job.resources.workers)
        self.job, self.number, self.progress_record = job, number, progress_record
        self.tracker, self.state = tracker, state
        self.probe_metrics: dict[int, float] = {}  # step -> value, not yet reported
        self.since = time.monotonic()

    def restore(self) -> TrainState | None:
        return self.state

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.tracker.metrics(step, values)
        value = values.get(f"probe/{self.job.config.score.probe}")
        if value is not None:
            self.probe_metrics[step] = value

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        self.tracker.picture(f"pictures/{name}.png", encode_png(rgb_HW3))

    def save(self, state: TrainState) -> None:
        # The report is recorded before the state is: a run resumed from a state has then reported all that led to it.
        self.tracker.flush()
        value = self.probe_metrics.pop(state.step, None)
        if value is not None:
            self.progress_record.report(state.step, value)
        self.record_progress()
        assert self.states
        self.states.write(state)
        if value is not None:
            self._report(state, value)

    def record_progress(self) -> None:
        """Write how far the trial has come to the sweep's folder."""
        now = time.monotonic()
        self.progress_record.seconds += now - self.since
        self.since = now
        self.job.records.keep(self.number, self.progress_record)

    def _report(self, state: TrainState, value: float) -> None:
        from ray import tune

        report = {"step": state.step, "figure": value, "last": 0}
        if not self.job.exchange:
            tune.report(report)
            return
        with tune_checkpoint(state, self.number, self.progress_record.schedule) as checkpoint:
            tune.report(report, checkpoint=checkpoint)


class OtherContext(LocalContext):
    """A `TrainContext` of another rank of a trial.

    Args:
        loader: carries out the plan.
        state: the train state that rank 0 resumes from, or None.
        device: where to train.
        rank: of this process.
        world: number of workers of the trial.
    """

    def __init__(self, loader: PretrainLoader, state: TrainState | None, *, device: str, rank: int, world: int):
        super().__init__(loader, device=device, threads=1, rank=rank, world=world)
        self.state = state

    def restore(self) -> TrainState | None:
        return self.state
