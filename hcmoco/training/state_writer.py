"""Write train states beside the training: from a copy, in a thread, one at a time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import torch

from hcmoco.training.checkpoint import States, TrainState


class StateWriter:
    """Writes states while the steps go on.

    A state that is being written when the process ends was never complete, and so never seen.

    Args:
        states: of the run.
        before: called in the thread before a state is written.
    """

    def __init__(self, states: States, before: Callable[[], None] = lambda: None):
        self._states, self._before = states, before
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="train-state")
        self._under_way: Future[None] | None = None

    def begin(self, state: TrainState) -> None:
        """Copy a state and begin to write it, once the one before is written.

        Raises:
            Exception: what writing the state before raised.
        """
        self.wait()
        self._under_way = self._thread.submit(self._write, _copied(state))

    def check(self) -> None:
        """Raise what the writing of the last state raised, if it is over; does not wait."""
        if self._under_way is not None and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Return once the state that was begun is complete.

        Raises:
            Exception: what writing it raised.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _write(self, state: TrainState) -> None:
        self._before()
        self._states.write(state)


def _copied(state: TrainState) -> TrainState:
    """Return a state that the next steps do not change."""
    return replace(
        state,
        model=_on_cpu(state.model),
        optimizer=_on_cpu(state.optimizer),
        bank=_on_cpu(state.bank),
        best=_on_cpu(state.best),
        history=deepcopy(state.history),
    )


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
