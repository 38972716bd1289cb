"""What a stretch of steps did, collected on the device and reported in one go."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from hcmoco.errors import UserError
from hcmoco.training import distributed

_SAY_EVERY = 5.0  # seconds; between two reports the step is news too


class MeterHost(Protocol):
    """Where a loop runs, as far as its numbers go."""

    rank: int
    world: int

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records numbers of one step."""

    def progress(self, line: str) -> None:
        """Shows the one line of progress."""


class MetricsProcessor:
    """Collects what a stretch of steps did and reports it in one go; the numbers stay on the device until then.

    Shape suffixes: T steps of the stretch, N numbers of a step.
    """

    def __init__(self, host: MeterHost, step: int, steps: int):
        self.host, self.steps = host, steps
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

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside counts neither as training nor as waiting."""
        start = time.monotonic()
        yield
        self._start += time.monotonic() - start

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
        numbers_TN = distributed.mean_over_workers(torch.stack(self._steps)).cpu()
        wrong_TN = ~numbers_TN.isfinite()
        if wrong_TN.any():
            first = int(wrong_TN.any(1).nonzero()[0])
            wrong = {
                name: value.item()
                for name, value, bad in zip(self._names, numbers_TN[first], wrong_TN[first], strict=True)
                if bad
            }
            # A sum is as bad as its worst term: the term is what helps.
            name = next((each for each in wrong if each.startswith("loss/")), next(iter(wrong)))
            terms = {
                each: value.item()
                for each, value in zip(self._names, numbers_TN[first], strict=True)
                if each.startswith("loss/")
            }
            largest = max(terms, key=lambda each: abs(terms[each]), default="")
            where = (
                "" if name in terms or not terms else f"; the largest term there is {largest} = {terms[largest]:.3g}"
            )
            raise UserError(
                f"{name} became {wrong[name]} in step {self._since + first + 1}{where}; the last train state is good: "
                "lower optim.lr, set optim.clip_norm, or (in pre-training) raise the temperature of that term"
            )
        return dict(zip(self._names, numbers_TN.mean(0).tolist(), strict=True))

    def report(self, step: int, describe: Callable[[dict[str, float]], tuple[dict[str, float], str]]) -> None:
        """Records the stretch that ends with `step`, shows the line of progress and begins the next stretch.

        Args:
            describe: from the means of the stretch, further numbers to record and what the line of progress says of them.
        """
        means = self.means()
        if means and self.host.rank == 0:
            elapsed = max(time.monotonic() - self._start, 1e-9)
            speed, wait = self._rows * self.host.world / elapsed, self._waited / elapsed
            more, figures = describe(means)
            self.host.metrics(step, {**means, **more, "time/rows_per_s": speed, "time/wait_share": wait})
            self._figures = f"{figures}  {speed:.0f} rows/s  waiting {wait:.0%}  "
            self._say(step)
        self._begin(step)

    def _say(self, step: int) -> None:
        """Shows where the run is, with the figures of the last stretch."""
        first, begun = self._run_start
        left = int((self.steps - step) * (time.monotonic() - begun) / (step - first))
        self.host.progress(f"step {step}/{self.steps}  {self._figures}{left // 60}:{left % 60:02d} left")
        self._said = time.monotonic()
