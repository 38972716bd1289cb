"""What a training loop needs from where it runs: one process, a worker of a cluster, or a trial of a sweep."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
import torch

from hcmoco.training.checkpoint import TrainState

BatchT_co = TypeVar("BatchT_co", covariant=True)


class WorkersLeave(Exception):  # noqa: N818 - nothing is wrong
    """The workers end before the last step, with a train state, since the machine of one is about to be taken away."""


class TrainContext(Protocol[BatchT_co]):
    """Where a loop runs. Rank 0 alone records numbers and pictures; all ranks read batches, evaluate and call `save`.

    Attributes:
        rank, world: which of how many workers this is.
        device: where the models live.
    """

    rank: int
    world: int
    device: torch.device

    def batches(self, first_step: int) -> Iterator[BatchT_co]:
        """Yield this worker's batch of each step from `first_step` on."""

    def evaluation(self) -> Iterable[BatchT_co]:
        """Return this worker's share of the validation rows. Only a run that has such rows calls it."""

    def restore(self) -> TrainState | None:
        """Return the newest train state of this run, None if there is none."""

    def save(self, state: TrainState) -> None:
        """Keep `state` so that a restart finds it. It may be written beside the next steps, from a copy."""

    def wait_until_saved(self) -> None:
        """Return once the last state is complete."""

    def leaving(self) -> bool:
        """Return whether this worker has to end soon. Asked once a step."""

    def pause(self) -> None:
        """Note that what follows, up to the next batch, may take longer than a step."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record the numbers of one step."""

    def picture(self, name: str, step: int, rgb_HW3: np.ndarray) -> None:
        """Record a picture, uint8."""

    def progress(self, line: str) -> None:
        """Show the one line of progress."""
