"""Watch a group of training workers from the driver: where they are, and whether they stand still."""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.tracking.progress import Status, beside, format_duration, say
from hcmoco_ray.train.pulse import BETWEEN, DATA, END, EVERY_S, GROW, LEAVE, Beat, beats_of, nodes_of, told_by

# A step is a stall if it takes this many times the median, and never before _AT_LEAST_S.
_TIMES = 20
_AT_LEAST_S = 20.0
_STALE_S = 10.0
# Before this many steps are known, the workers' start and the first steps may take this long.
_KNOWN, _FIRST_S = 3, 120.0
_SAY_EVERY_S = 60.0
_GROW_EVERY_S = 30.0


def watched(
    status: Status, workers: int, wait_minutes: float, grow: Callable[[], int | None] = lambda: None
) -> AbstractContextManager[None]:
    """Say on which nodes the workers are and when they stand still, while the block runs; end them if it lasts.

    They are also asked to leave, with a train state, when the user wants it or when there is room for more of them.

    Args:
        status: of the run.
        workers: how many there are.
        wait_minutes: of standing still before the workers are ended.
        grow: returns a larger number of workers that there is room for.
    """
    return beside(_Watch(status, workers, 60 * wait_minutes, grow).run)


class _Watch:
    def __init__(self, status: Status, workers: int, patience_s: float, grow: Callable[[], int | None]):
        self.status, self.workers, self.patience_s, self.grow = status, workers, patience_s, grow
        self.grown_at = time.monotonic()
        self.nodes: dict[int, str] = {}
        self.stalls = Stalls()
        self.said = float("-inf")
        self.stalled = False
        self.heard: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        import ray

        while not stop.wait(EVERY_S):
            try:
                facts = self.status.facts(timeout=5)
                if not self.nodes:
                    self._say_nodes(nodes_of(facts))
                for name, line in told_by(facts).items():
                    if name not in self.heard:
                        self.heard.add(name)
                        say(line)
                if interrupts.save_asked():
                    self.status.note("ask", LEAVE)
                elif self.stalls.step >= 0:
                    self._grow(time.monotonic())
            except ray.exceptions.RayError:
                continue
            self._look(beats_of(facts), time.monotonic())

    def _grow(self, now: float) -> None:
        """Ask the workers to leave where there is room for more of them; looked for now and then."""
        if now - self.grown_at >= _GROW_EVERY_S:
            self.grown_at = now
            if self.grow() is not None:
                self.status.note("ask", GROW)

    def _say_nodes(self, nodes: dict[int, str]) -> None:
        if len(nodes) < self.workers:
            return
        self.nodes = nodes
        if len(alive_nodes()) > 1:
            say("workers: " + "; ".join(f"{_ranks(ranks)} on {node}" for node, ranks in _by_node(nodes).items()))

    def _look(self, beats: dict[int, Beat], now: float) -> None:
        stalled = self.stalls.look(beats, now)
        if stalled is None:
            if self.stalled:
                say(f"step {self.stalls.step} has begun, the training goes on")
            self.stalled, self.said = False, float("-inf")
            return
        self.stalled = True
        if now - self.said >= _SAY_EVERY_S:
            self.said = now
            say(stalled.line(self.nodes))
        if stalled.seconds > self.patience_s:
            say(f"the training has stood still for {format_duration(stalled.seconds)}: its workers are ended")
            self.status.note("ask", END)


class Stalls:
    """Finds out whether a group of workers stands still."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=100)  # of a step, as seen between two looks
        self._heard: dict[int, tuple[int, float]] = {}  # rank -> number of its last beat, and when it came
        self.step = -1
        self._since: float | None = None

    def look(self, beats: dict[int, Beat], now: float) -> "Stall | None":
        """Take in the newest beats.

        Args:
            beats: by rank.
            now: seconds on a clock that only goes forward.

        Returns:
            What stands still; None if nothing does.
        """
        for rank, beat in beats.items():
            if self._heard.get(rank, (0, 0.0))[0] != beat.number:
                self._heard[rank] = beat.number, now
        step = max((beat.step for beat in beats.values()), default=-1)
        if step != self.step or self._since is None:
            if self._since is not None and 0 <= self.step < step:
                self._seconds.append((now - self._since) / (step - self.step))
            self.step, self._since = step, now
            return None
        silent = [rank for rank in beats if now - self._heard[rank][1] > _STALE_S]
        if any(beat.phase == BETWEEN for beat in beats.values()) and not silent:
            self._since = now  # an evaluation takes its time
            return None
        usual = statistics.median(self._seconds) if len(self._seconds) >= _KNOWN else None
        seconds = now - self._since
        if seconds < (_FIRST_S if usual is None else max(_AT_LEAST_S, _TIMES * usual)):
            return None
        waiting = [rank for rank, beat in beats.items() if beat.phase == DATA and rank not in silent]
        behind = [rank for rank, beat in beats.items() if beat.step < step and rank not in silent]
        return Stall(step, seconds, usual, silent, waiting, behind)


@dataclass(frozen=True)
class Stall:
    """A step that takes far too long.

    Attributes:
        step: which.
        seconds: that it has taken.
        usual: seconds of the median step; None if too few steps are known.
        silent: ranks without a pulse.
        waiting: ranks that wait for data.
        behind: ranks that are at an earlier step.
    """

    step: int
    seconds: float
    usual: float | None
    silent: list[int]
    waiting: list[int]
    behind: list[int]

    def line(self, nodes: dict[int, str]) -> str:
        """Return the line that says what stands still and where.

        Args:
            nodes: address of each rank's node.
        """
        reasons = [
            (self.silent, "does not answer", "do not answer"),
            (self.waiting, "waits for data", "wait for data"),
            (self.behind, "has not come to this step", "have not come to this step"),
        ]
        took = format_duration(self.seconds)
        if self.step < 0 and not self.silent:
            return f"the workers have been starting for {took}"
        ranks, one, many = next((each for each in reasons if each[0]), ([], "", ""))
        places = " and ".join(sorted({nodes.get(rank, "an unknown node") for rank in ranks}))
        what = f"{_ranks(ranks)} on {places} {one if len(ranks) == 1 else many}" if ranks else "all workers are in it"
        usual = "" if self.usual is None else f", the usual is {self.usual:.1f} s"
        return f"step {self.step} has taken {took} so far{usual}: {what}"


def _by_node(nodes: dict[int, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for rank, node in nodes.items():
        found.setdefault(node, []).append(rank)
    return found


def _ranks(ranks: list[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
