"""Whatever is lost on the way, the weights are those of an undisturbed run, bit for bit."""

import random

import pytest

from tests.helpers.chaos import EVENTS, SAVE_EVERY, Training, suffer, table
from tests.helpers.pretrain_program import differences

pytestmark = pytest.mark.cluster

GAP = 120  # steps from one event to the next, at least
STEPS = GAP * len(EVENTS) + 280


def test_a_seeded_schedule_of_losses(nodes, capsys):
    """Events come in a random order, at random states, to random ranks; the seed is fixed."""
    draw = random.Random(11)
    whole = Training(nodes, "whole", steps=STEPS).end()
    training = Training(nodes, "chaos", steps=STEPS)
    measured = []
    try:
        for number, event in enumerate(draw.sample(list(EVENTS.values()), len(EVENTS))):
            training.wait_for_step(GAP * number + draw.randrange(1, 6) * SAVE_EVERY)
            measured.append(suffer(training, event, draw.randrange(2)))
        state = training.end()
    finally:
        with capsys.disabled():
            print(f"\n{table(measured)}\n{training.said[-8000:]}")
    assert differences(state, whole) == []
    assert all(each.step - each.resumed <= SAVE_EVERY for each in measured)
    assert len(set(training.places())) == 2
