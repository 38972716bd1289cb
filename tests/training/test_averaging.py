"""Gradients that are sent while the backward pass goes on are those that are sent after it, whatever a worker lacks."""

import pytest
import torch

from hcmoco.training.averaging import Averaging
from hcmoco.training.flat_grads import FlatParameters
from hcmoco_ray.train.losses import _BROKEN
from tests.helpers import forked_runs
from tests.helpers.averaging import LACKS, make

pytestmark = pytest.mark.slow
CASES = [f"{name}, {passes}" for name in LACKS for passes in (1, 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two and three workers left."""
    folder = tmp_path_factory.mktemp("averaging")
    jobs = [{"call": "averaged", "world": world, "arguments": {"out": str(folder)}} for world in (2, 3)]
    failing = {"out": str(folder), "stop": 0}
    jobs += [{"call": "fails_in_backward", "world": world, "arguments": failing} for world in (2, 3)]
    codes = forked_runs.run_jobs(folder, jobs)
    assert codes[2:] == [[1, 1], [1, 1, 1]], "no worker goes on without the others"
    return folder


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_mean_is_that_of_one_exchange_after_the_backward_pass(folder, world, case):
    found = [torch.load(folder / f"{world}-{rank}.pt")[case] for rank in range(world)]
    lacks = LACKS[case.rpartition(",")[0]]
    for rank, each in enumerate(found):
        assert torch.equal(each["mean"], found[0]["mean"])
        # Between two workers there is one order of summation only.
        torch.testing.assert_close(each["mean"], each["plain"], **({"rtol": 0, "atol": 0} if world == 2 else {}))
        assert each["mean"].abs().max() > 1e-3
        assert each["flag"] == sum(range(world)) / world
        assert each["batches"] == 2 or case.endswith("2"), "two steps, counted wherever a worker had rows"
        # A worker without any gradient has no backward pass; the others wait for nothing.
        assert each["buckets"] >= 5
        assert each["sent"] == (0 if len(lacks.get(rank, ())) == 2 else each["buckets"])


@pytest.mark.parametrize("world", [2, 3])
def test_a_second_backward_pass_is_refused_while_gradients_are_sent(folder, world):
    for rank in range(world):
        assert "came after it was sent" in torch.load(folder / f"{world}-{rank}.pt")["after it was sent"]


@pytest.mark.parametrize("world", [2, 3])
def test_what_was_replaced_leaves_nothing_on_the_model(folder, world):
    assert torch.load(folder / f"{world}-0.pt")["what an old one leaves"] == (False, 1)


@pytest.mark.parametrize("world", [2, 3])
def test_a_worker_that_fails_in_between_is_lost_to_the_others_as_ever(folder, world):
    *others, failed = [(folder / f"{world}-{rank}.txt").read_text() for rank in range(world)]
    sent, _, error = failed.partition(" ")
    assert int(sent) > 0
    assert error == "ZeroDivisionError: division by zero"
    for each in others:
        assert _BROKEN.search(each), each


def test_one_worker_alone_has_nothing_to_send():
    model = make()
    flat = FlatParameters(model)
    mean = Averaging(flat, model)
    mean.begin()
    with mean.overlapping():
        model.last.weight.sum().backward()
    before = flat.gradients.clone()
    assert mean.finish(0.25) == 0.25
    assert torch.equal(flat.gradients, before)
    assert not any(each._post_accumulate_grad_hooks for each in model.parameters())
