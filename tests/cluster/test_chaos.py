"""Whatever is lost on the way, the weights are those of an undisturbed run, bit for bit."""

import random

import pytest

from tests.helpers.chaos import EVENTS, SAVE_EVERY, STEPS, Training, suffer, table
from tests.helpers.pretrain_program import differences

pytestmark = pytest.mark.cluster


def test_a_seeded_schedule_of_losses(nodes, capsys):
    """Events come in a random order, at random states, to random ranks; the seed is fixed."""
    draw = random.Random(11)
    whole = Training(nodes, "whole").end()
    training = Training(nodes, "chaos")
    measured = []
    events = draw.sample(list(EVENTS.values()), len(EVENTS))
    for number, event in enumerate(events):
        training.wait_for_step((STEPS * number // len(events) + draw.randrange(20)) // SAVE_EVERY * SAVE_EVERY + 4)
        measured.append(suffer(training, event, draw.randrange(2)))
    state = training.end()
    with capsys.disabled():
        print(f"\n{table(measured)}\n{training.said[-6000:]}")
    assert differences(state, whole) == []
    assert all(each.step - each.resumed <= SAVE_EVERY for each in measured)
    assert len(set(training.places())) == 2
