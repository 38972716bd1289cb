"""Numbers of a training: collected on the device over a stretch of steps, reported in one go."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hcmoco.errors import UserError
from hcmoco.training import distributed
from hcmoco.training.context import TrainContext

_SAY_EVERY = 5.0  # seconds; between two reports the step is news too
# Seconds over which the time left is estimated: a wait in the middle of a run does not count for ever.
_ESTIMATE_OVER = 180.0


class MetricsProcessor:
    """Collects the numbers of a stretch of steps; they stay on the device until they are reported.

    A step's numbers are recorded as `train/<name>`, how fast the stretch was as `perf/<name>`.

    Shape suffixes: T steps of the stretch, N numbers of a step.
    """

    def __init__(self, context: TrainContext[Any], step: int, steps: int):
        self.context, self.steps = context, steps
        self._seen: deque[tuple[int, float]] = deque()  # (step, when) of the last minutes
        self._text, self._said = "", time.monotonic()
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._names: list[str] = []
        self._steps: list[Tensor] = []
        self._since, self._start, self._waited, self._rows = step, time.monotonic(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count the time inside neither as training nor as waiting."""
        start = time.monotonic()
        yield
        self._start += time.monotonic() - start

    def add(self, values: dict[str, Tensor], rows: int) -> None:
        """Add one step's numbers (0-d tensors), the same names in every step of a stretch."""
        self._names = list(values)
        self._steps.append(torch.stack([each.detach().float() for each in values.values()]))
        self._rows += rows
        if time.monotonic() - self._said >= _SAY_EVERY and self.context.rank == 0:
            self._say(self._since + len(self._steps))

    def means(self) -> dict[str, float]:
        """Return the means over the stretch and the workers; UserError that names the first number which is not finite,
        and its step."""
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

    def report(self, step: int, summarize: Callable[[dict[str, float]], tuple[dict[str, float], str]]) -> None:
        """Record the stretch that ends with `step`, show the line of progress and begin the next stretch.

        Args:
            summarize: from the means of the stretch, further numbers to record and what the line of progress says of
                them.
        """
        means = self.means()
        if means and self.context.rank == 0:
            elapsed = max(time.monotonic() - self._start, 1e-9)
            speed, wait = self._rows * self.context.world / elapsed, self._waited / elapsed
            more, text = summarize(means)
            numbers = {f"train/{name}": value for name, value in (means | more).items()}
            self.context.metrics(step, {**numbers, "perf/samples_per_s": speed, "perf/data_wait_share": wait})
            self._text = f"{text}  {speed:.0f} samples/s  waiting {wait:.0%}  "
            self._say(step)
        self._begin(step)

    def _say(self, step: int) -> None:
        """Show where the run is, with the numbers of the last stretch."""
        now = time.monotonic()
        while len(self._seen) > 1 and now - self._seen[0][1] > _ESTIMATE_OVER:
            self._seen.popleft()
        self._seen.append((step, now))
        first, begun = self._seen[0]
        # The first step takes longer than the others: from it alone nothing is estimated.
        left = int((self.steps - step) * (now - begun) / (step - first)) if step > first else None
        text = "" if left is None else f"{left // 60}:{left % 60:02d} left"
        self.context.progress(f"step {step}/{self.steps}  {self._text}{text}".rstrip())
        self._said = time.monotonic()
