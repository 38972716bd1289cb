"""Train states that are written beside the steps."""

import threading

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.training.checkpoint import States, TrainState
from hcmoco.training.state_writer import StateWriter


def state(step: int, weight: torch.Tensor) -> TrainState:
    return TrainState(step, 1, {}, {"weight": weight}, {"slot": weight}, history={"steps": [step]})


def test_the_state_is_that_of_its_step_whatever_the_next_steps_do(tmp_path):
    go_on, states = threading.Event(), States(str(tmp_path))
    writer = StateWriter(states, before=go_on.wait)
    weight = torch.zeros(3)
    begun = state(1, weight)
    writer.begin(begun)
    weight += 1  # the next step
    begun.history["steps"].append(2)
    assert states.complete() == []
    go_on.set()
    writer.wait()
    assert states.newest().model["weight"].equal(torch.zeros(3))
    assert states.newest().optimizer["slot"].equal(torch.zeros(3))
    assert states.newest().history == {"steps": [1]}


def test_never_more_than_one_is_under_way(tmp_path):
    states = States(str(tmp_path), 9)
    seen = []
    writer = StateWriter(states, before=lambda: seen.append(states.newest_step))
    for step in (1, 2, 3):
        writer.begin(state(step, torch.ones(2)))
    writer.wait()
    assert seen == [0, 1, 2]  # each begins when the one before is complete


def test_a_failure_comes_up_at_the_next_check(tmp_path):
    uri = str(tmp_path)
    old = States(uri, 2, States(uri).begin_attempt())
    States(uri).begin_attempt()
    failed, writer = threading.Event(), StateWriter(old)
    writer.begin(state(1, torch.ones(2)))
    writer._under_way.add_done_callback(lambda future: failed.set())
    assert failed.wait(60)
    with pytest.raises(UserError, match="the run was started again"):
        writer.check()
    writer.check()  # it is said once
    writer.wait()
