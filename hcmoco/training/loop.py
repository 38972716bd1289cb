"""The training loop, from the first step to the last, and what it needs from where it runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from hcmoco.errors import UserError
from hcmoco.probes.run import ProbeResult, ProbeViews, feature_picture, probe
from hcmoco.schema import Batch
from hcmoco.shards.plan import Plan
from hcmoco.training import collective
from hcmoco.training.config import PretrainConfig
from hcmoco.training.pretraining import Pretraining
from hcmoco.training.state import TrainState

STAGE_1, STAGE_2 = "after stage 1", "after stage 2"
_SAY_EVERY = 5.0  # seconds; between two reports the step is news too


class Host(Protocol):
    """Where a loop runs: one process, or a worker of a cluster. Rank 0 alone records; all ranks call `save`."""

    rank: int
    world: int
    device: torch.device

    def batches(self, first_step: int) -> Iterator[Batch]:
        """This worker's batch of each step from `first_step` on."""

    def restore(self) -> TrainState | None:
        """The newest train state of this run, if there is one."""

    def save(self, state: TrainState) -> None:
        """Keeps `state` so that a restart finds it."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records numbers of one step."""

    def picture(self, name: str, step: int, rgb_HW3) -> None:
        """Records a picture, uint8."""

    def progress(self, line: str) -> None:
        """Shows the one line of progress."""


def pretrain(config: PretrainConfig, plan: Plan, host: Host, held_out: ProbeViews | None, tracking_run: str = "") -> Pretraining:
    """Runs or resumes a pre-training to its last step.

    Raises:
        UserError: a loss term or the gradient is no longer finite, or the newest state belongs to another config.
        RuntimeError: the workers do not go on from the same step.
    """
    saved = host.restore()
    run = Pretraining(config, plan, host.device, plan.lanes // host.world, load_init=saved is None)
    if saved:
        run.load(saved, where=config.out)
    collective.check_same_step(run.step)
    run.tracking_run = tracking_run or run.tracking_run
    resumed_at = run.step if saved else None
    steps, boundary = plan.steps, config.stages.sample
    meter = Meter(config, plan, host, run.step)
    batches = host.batches(run.step)
    while run.step < steps:
        if run.step == boundary and not run.full:
            # The state between the stages holds the probes of stage 1: who goes on from it has both behind them.
            if run.step and run.step != resumed_at:
                meter.report(run)
                _look(run, host, held_out, STAGE_1)
                host.save(run.state())
            run.enter_full_stage()
        with meter.waiting():
            batch = next(batches)
        meter.add(run.advance(batch), len(batch))
        last, between = run.step == steps, run.step == boundary and not run.full
        save = run.step % config.train.save_every == 0 and not (last or between)
        # A stretch of numbers ends with every state, so that a run that goes on from it reports the same ones.
        if run.step % config.train.log_every == 0 or last or save:
            meter.report(run)
        if config.probe.every and run.step % config.probe.every == 0 and not last and held_out and host.rank == 0:
            host.metrics(run.step, probe(run.model, held_out.first(config.probe.people_during), config.probe).flat())
        if save:
            host.save(run.state())
    if run.step != resumed_at:
        _look(run, host, held_out, STAGE_2 if run.full else STAGE_1)
        host.save(run.state())
    return run


def _look(run: Pretraining, host: Host, held_out: ProbeViews | None, moment: str) -> None:
    """The full probe at a moment that the closing table names; on rank 0, since the weights are the same everywhere."""
    if held_out is None or host.rank != 0:
        return
    host.progress(f"step {run.step}: probing on {len(held_out)} held-out people")
    result: ProbeResult = probe(run.model, held_out, run.config.probe)
    run.history[moment] = result.to_json()
    host.metrics(run.step, {f"{moment.replace(' ', '-')}/{name}": value for name, value in result.metrics.items()})
    host.picture(f"features-{moment.replace(' ', '-')}", run.step, feature_picture(run.model, held_out))


class Meter:
    """Collects what a stretch of steps did and reports it in one go; the numbers stay on the device until then.

    Shape suffixes: T steps of the stretch, N numbers of a step.
    """

    def __init__(self, config: PretrainConfig, plan: Plan, host: Host, step: int):
        self.config, self.plan, self.host = config, plan, host
        self._run_start = (step, time.monotonic())
        self._figures, self._said = "", time.monotonic()
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._names: list[str] = []
        self._steps: list[Tensor] = []
        self._since, self._start, self._waited, self._rows = step, time.monotonic(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def add(self, values: dict[str, Tensor], rows: int) -> None:
        """Adds one step's numbers (0-d tensors), the same names in every step of a stretch."""
        self._names = list(values)
        self._steps.append(torch.stack([each.detach().float() for each in values.values()]))
        self._rows += rows
        if time.monotonic() - self._said >= _SAY_EVERY and self.host.rank == 0:
            self._say(self._since + len(self._steps))

    def means(self) -> dict[str, float]:
        """Means over the stretch and the workers; UserError that names the first number which is not finite, and its step."""
        if not self._steps:
            return {}
        numbers_TN = collective.mean_over_workers(torch.stack(self._steps)).cpu()
        wrong_TN = ~numbers_TN.isfinite()
        if wrong_TN.any():
            first = int(wrong_TN.any(1).nonzero()[0])
            wrong = {name: value.item() for name, value, bad in zip(self._names, numbers_TN[first], wrong_TN[first], strict=True) if bad}
            # A sum is as bad as its worst term: the term is what helps.
            name = next((each for each in wrong if each.startswith("loss/")), next(iter(wrong)))
            terms = {each: value.item() for each, value in zip(self._names, numbers_TN[first], strict=True) if each.startswith("loss/")}
            largest = max(terms, key=lambda each: abs(terms[each]))
            where = "" if name in terms else f"; the largest term there is {largest} = {terms[largest]:.3g}"
            raise UserError(
                f"{name} became {wrong[name]} in step {self._since + first + 1}{where}; the last train state is good: "
                "lower optim.lr, set optim.clip_norm, or raise the temperature of that term"
            )
        return dict(zip(self._names, numbers_TN.mean(0).tolist(), strict=True))

    def report(self, run: Pretraining) -> None:
        """Records the stretch that ends here, shows the line of progress and begins the next stretch."""
        means = self.means()
        if means and self.host.rank == 0:
            elapsed = max(time.monotonic() - self._start, 1e-9)
            speed, wait = self._rows * self.host.world / elapsed, self._waited / elapsed
            passes = {f"passes/{name}": value for name, value in self.plan.drawn(run.step).items()}
            self.host.metrics(run.step, {**means, **passes, "time/rows_per_s": speed, "time/wait_share": wait, "stage": 1.0 + run.full})
            levels = "  ".join(f"{level} {means[f'level/{level}']:.3f}" for level in ("g", "d", "s") if f"level/{level}" in means)
            self._figures = f"stage {1 + run.full}  loss {means['loss']:.3f}  {levels}  {speed:.0f} rows/s  waiting {wait:.0%}  "
            self._say(run.step)
        self._begin(run.step)

    def _say(self, step: int) -> None:
        """Shows where the run is, with the figures of the last stretch."""
        first, begun = self._run_start
        left = int((self.plan.steps - step) * (time.monotonic() - begun) / (step - first))
        self.host.progress(f"step {step}/{self.plan.steps}  {self._figures}{left // 60}:{left % 60:02d} left")
        self._said = time.monotonic()
