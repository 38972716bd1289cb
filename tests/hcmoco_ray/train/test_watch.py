"""Whether a group of workers stands still, from their beats; the clock is given."""

import pytest

from hcmoco_ray.train.pulse import BETWEEN, DATA, STEP, Beat
from hcmoco_ray.train.watch import Stalls

NODES = {0: "10.0.0.1", 1: "10.0.0.2"}


class Run:
    """Two workers that beat once a second; a step takes a second."""

    def __init__(self):
        self.stalls, self.now, self.number = Stalls(), 100.0, 0

    def look(self, one: tuple[int, str], other: tuple[int, str], *, silent: bool = False):
        """A second passes; `silent`: the second worker has no pulse."""
        self.now += 1
        self.number += 1
        beats = {0: Beat(*one, self.number), 1: Beat(*other, self.last if silent else self.number)}
        self.last = beats[1].number
        return self.stalls.look(beats, self.now)

    def steps(self, count: int) -> int:
        for step in range(count):
            assert self.look((step, STEP), (step, STEP)) is None
        return count - 1


@pytest.mark.parametrize(
    ("one", "other", "silent", "line"),
    [
        (STEP, DATA, False, "rank 1 on 10.0.0.2 waits for data"),
        (DATA, DATA, False, "ranks 0, 1 on 10.0.0.1 and 10.0.0.2 wait for data"),
        (STEP, STEP, True, "rank 1 on 10.0.0.2 does not answer"),
        (STEP, STEP, False, "all workers are in it"),
    ],
)
def test_a_step_of_twenty_times_the_median_is_said_with_its_reason(one, other, silent, line):
    run = Run()
    step = run.steps(10)
    found = [run.look((step, one), (step, other), silent=silent) for _ in range(30)]
    assert found[:18] == [None] * 18  # 20 s are the least
    assert found[-1].line(NODES) == f"step {step} has taken 30 s so far, the usual is 1.0 s: {line}"
    assert run.look((step + 1, STEP), (step + 1, STEP)) is None


def test_a_worker_that_is_behind_is_named():
    run = Run()
    step = run.steps(10)
    stall = [run.look((step + 1, STEP), (step, STEP)) for _ in range(30)][-1]
    assert "rank 1 on 10.0.0.2 has not come to this step" in stall.line(NODES)


def test_an_evaluation_is_no_stall_but_a_worker_that_is_lost_in_it_is():
    run = Run()
    step = run.steps(10)
    assert [run.look((step, BETWEEN), (step, STEP)) for _ in range(200)] == [None] * 200
    run = Run()
    step = run.steps(10)
    stall = [run.look((step, BETWEEN), (step, STEP), silent=True) for _ in range(200)][-1]
    assert "rank 1 on 10.0.0.2 does not answer" in stall.line(NODES)


def test_the_first_steps_may_take_two_minutes():
    run = Run()
    found = [run.look((0, DATA), (0, STEP)) for _ in range(140)]
    assert found[:119] == [None] * 119
    assert found[-1].line(NODES) == "step 0 has taken 2 min 19 s so far: rank 0 on 10.0.0.1 waits for data"


def test_workers_that_do_not_start():
    stalls = Stalls()
    found = [stalls.look({}, float(now)) for now in range(140)]
    assert found[:120] == [None] * 120
    assert found[-1].line({}) == "the workers have been starting for 2 min 19 s"
