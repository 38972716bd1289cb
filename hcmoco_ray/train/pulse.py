"""The pulse of a training worker: once a second it tells the driver where it is, and hears what the driver asks for.

A thread of its own does this, so that a worker that waits for data or for other workers still has a pulse; one whose
machine or process stands still has none.
"""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.tracking.progress import Status, say

EVERY_S = 1.0
# What a worker is doing.
STARTING, DATA, STEP, BETWEEN = "starting", "waiting for data", "in the step", "between two steps"
# What the driver asks for: to save a state and leave, because the user wants it or for more workers; to end at once.
LEAVE, GROW, END = "leave", "grow", "end"
_STALLED_STATUS = 70
_TOLD = "told/"


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


def nodes_of(facts: Mapping[str, Any]) -> dict[int, str]:
    """Return the node's address of each rank that has noted it, in the order of the ranks."""
    return _by_rank(facts, "node/")


def beats_of(facts: Mapping[str, Any]) -> dict[int, Beat]:
    """Return the newest beat of each rank that has a pulse, in the order of the ranks."""
    return _by_rank(facts, "rank/")


def told_by(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that workers have told, each under a name of its own."""
    return {name: fact for name, fact in facts.items() if name.startswith(_TOLD)}


def _by_rank(facts: Mapping[str, Any], kind: str) -> dict[int, Any]:
    found = {int(name.removeprefix(kind)): fact for name, fact in facts.items() if name.startswith(kind)}
    return dict(sorted(found.items()))


class Pulse:
    """Beats inside a `with` block.

    Args:
        status: of the run.
        rank: of this worker.
    """

    def __init__(self, status: Status, rank: int):
        self._status, self._rank = status, rank
        self._step, self._phase = -1, STARTING
        self._leaving, self._over = threading.Event(), threading.Event()
        self._told = 0
        self._thread = threading.Thread(target=self._beat, daemon=True, name="pulse")

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A beat after the cluster's end would start another one: Ray does that at any call.
        self._over.set()
        self._thread.join(5 * EVERY_S)

    def enter(self, phase: str, step: int | None = None) -> None:
        """Say what this worker does from now on; the step stays the same if none is given."""
        self._step, self._phase = self._step if step is None else step, phase

    @property
    def step(self) -> int:
        """Number of the step that this worker is in, or waits for the data of; -1 before the first."""
        return self._step

    def tell(self, line: str) -> None:
        """Have the driver print a line."""
        if self._status.here:
            say(line)
        else:
            self._told += 1
            self._status.note(f"{_TOLD}{self._rank}/{self._told}", f"rank {self._rank}: {line}")

    def leaving(self) -> bool:
        """Return whether this worker should save a state and end: its node is being taken away, or the driver asks."""
        return self._leaving.is_set() or interrupts.save_asked()  # the latter where the driver itself trains

    def _beat(self) -> None:
        import ray

        here, number = ray.get_runtime_context().get_node_id(), 0
        while not self._over.is_set() and ray.is_initialized():
            number += 1
            try:
                self._status.note(f"rank/{self._rank}", Beat(self._step, self._phase, number))
                request = self._status.facts(timeout=5).get("ask")
                if request == END:
                    os._exit(_STALLED_STATUS)
                if request in (LEAVE, GROW) or here in compat.draining_nodes():
                    self._leaving.set()
            except ray.exceptions.RayError:
                pass  # the driver has gone, or does not answer: Ray ends this process, or the next beat gets through
            self._over.wait(EVERY_S)
