"""The pulse of a training worker: once a second it tells the driver where it is, and hears what the driver asks for.

A thread of its own does this, so that a worker that waits for data or for other workers still has a pulse; one whose
machine or process stands still has none.
"""

import os
import threading
import time
from dataclasses import dataclass

from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.tracking.progress import Status

EVERY_S = 1.0
# What a worker is doing.
STARTING, DATA, STEP, BETWEEN = "starting", "waiting for data", "in the step", "between two steps"
LEAVE, END = "leave", "end"
_STALLED_STATUS = 70


@dataclass(frozen=True)
class Beat:
    """Where a worker is.

    Attributes:
        step: number of the step that it is in, or waits for the data of; -1 before the first.
        phase: STARTING, DATA, STEP, or BETWEEN (an evaluation, a picture).
        number: counts the beats of this worker.
    """

    step: int
    phase: str
    number: int


class Pulse:
    """Beats until the process ends.

    Args:
        status: of the run.
        rank: of this worker.
    """

    def __init__(self, status: Status, rank: int):
        self._status, self._rank = status, rank
        self._step, self._phase = -1, STARTING
        self._leaving = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="pulse").start()

    def enter(self, phase: str, step: int | None = None) -> None:
        """Say what this worker does from now on; the step stays the same if none is given."""
        self._step, self._phase = self._step if step is None else step, phase

    def leaving(self) -> bool:
        """Return whether this worker should save a state and end: its node is being taken away, or the driver asks."""
        return self._leaving.is_set() or interrupts.save_asked()  # the latter where the driver itself trains

    def _beat(self) -> None:
        import ray

        here, number = ray.get_runtime_context().get_node_id(), 0
        while True:
            number += 1
            try:
                self._status.note(f"rank/{self._rank}", Beat(self._step, self._phase, number))
                asked = self._status.facts(timeout=30).get("ask")
                if asked == END:
                    os._exit(_STALLED_STATUS)
                if asked == LEAVE or here in compat.draining_nodes():
                    self._leaving.set()
            except ray.exceptions.RayError:
                pass  # the driver has gone, or does not answer: Ray ends this process, or the next beat gets through
            time.sleep(EVERY_S)
