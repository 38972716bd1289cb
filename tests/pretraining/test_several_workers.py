"""One, two and three workers (gloo): the same samples and draws for all, the same bits after a death on as many workers
as before."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.checkpoint import States
from hcmoco.training.lr_schedule import learning_rate
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny

pytestmark = pytest.mark.slow

LANES, ROWS, KILLED = 6, 2, -9
BUCKET = 1 << 18  # bytes: the gradients travel in a dozen buckets
# Stage 1 is steps 0 to 3, stage 2 steps 4 to 8; a state every 3 steps, at 4 and at 9.
OVER = {
    "train": {"lanes": LANES, "batch_size_per_lane": ROWS, "log_every": 1},
    "optim": {"name": "adamw", "lr": 0.01, "restart": False},
}


class Runs:
    """What the runs of all worlds left."""

    def __init__(self, folder: Path):
        self.folder = folder

    def states(self, world: int, name: str = "whole"):
        return [States(str(self.folder / f"{world}-{name}-out" / f"rank-{rank}")).newest() for rank in range(world)]

    def log(self, world: int, name: str = "whole") -> list:
        return tiny.without_times(json.loads((self.folder / f"{world}-{name}-out" / "log.json").read_text()))


# name -> (step, ranks that die then); in stage 1 inside a window, at the boundary before and after its state, in stage
# 2.
DEATHS = {
    2: {"a": (2, [1]), "b": (4, [0]), "c": (5, [0, 1]), "d": (7, [1])},
    3: {"a": (3, [2]), "b": (4, [0, 1]), "c": (8, [1])},
}


@pytest.fixture(scope="module")
def runs(sources, tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("workers")
    jobs = []
    for world in (1, 2, 3):
        for name, death in {"whole": None, **DEATHS.get(world, {})}.items():
            fixed = {"sources": [each.uri for each in sources], "states": str(folder / f"{world}-{name}"), "over": OVER}
            fixed["bucket"] = BUCKET
            fixed["out"] = str(folder / f"{world}-{name}-out")
            if death:
                jobs.append(
                    {"call": "train", "world": world, "arguments": {**fixed, "stop": death[0], "killed": death[1]}}
                )
            jobs.append({"call": "train", "world": world, "arguments": fixed})
    at_once = {"sources": [each.uri for each in sources], "states": str(folder / "2-at-once"), "over": OVER}
    at_once |= {"bucket": 1 << 40, "out": str(folder / "2-at-once-out")}
    jobs.append({"call": "train", "world": 2, "arguments": at_once})
    for world in (1, 2):
        bounded = {"sources": [each.uri for each in sources], "states": str(folder / f"{world}-bounded")}
        over = {**OVER, "objective": {"bank_rows": 40}}
        arguments = {**bounded, "over": over, "out": str(folder / f"{world}-bounded-out")}
        jobs.append({"call": "train", "world": world, "arguments": arguments})
    # Begun by two, gone on with by three.
    moved = {
        "sources": [each.uri for each in sources],
        "states": str(folder / "moved"),
        "over": OVER,
        "out": str(folder / "3-moved-out"),
    }
    jobs.append({"call": "train", "world": 2, "arguments": {**moved, "stop": 5, "killed": [0, 1]}})
    jobs.append({"call": "train", "world": 3, "arguments": moved})
    codes = forked_runs.run_jobs(folder, jobs)
    for job, each in zip(jobs, codes, strict=True):
        if "stop" in job["arguments"]:
            died = [code == KILLED for code in each]
            assert died == [rank in job["arguments"]["killed"] for rank in range(job["world"])]
            assert 0 not in each, "a worker that lost another one does not go on"
    return Runs(folder)


def test_all_workers_hold_the_same_bits_at_the_end(runs):
    for world in (2, 3):
        first, *others = runs.states(world)
        for other in others:
            assert tiny.differences(first, other) == []
        assert tiny.differences(first, States(str(runs.folder / f"{world}-whole")).newest()) == []


@pytest.mark.parametrize(("world", "name"), [(world, name) for world, deaths in DEATHS.items() for name in deaths])
def test_a_death_changes_no_bit_and_no_number(runs, world, name):
    for whole, again in zip(runs.states(world), runs.states(world, name), strict=True):
        assert tiny.differences(whole, again) == []
    log = runs.log(world, name)
    assert log == runs.log(world)[-len(log) :]
    assert log[0][0] <= DEATHS[world][name][0] + 1


def test_buckets_change_no_bit_between_two_workers(runs):
    """a + b is b + a. Between three, the bits are those of one cut of the vector alone."""
    assert tiny.differences(runs.states(2)[0], runs.states(2, "at-once")[0]) == []


def test_samples_and_order_are_those_of_one_worker(runs):
    """The bank keeps the order of first visits: it is the order in which samples came."""
    (alone,) = runs.states(1)
    for world in (2, 3):
        state = runs.states(world)[0]
        for name, value in alone.bank.items():
            assert name.endswith(".rows") or torch.equal(value, state.bank[name]), name
        for step, values in runs.log(world):
            one = dict(runs.log(1))[step]
            for name, value in one.items():
                if name.startswith(("train/num_anchors/", "train/rows/")) and not name.endswith("inter"):
                    assert values[name] * world == pytest.approx(value, rel=1e-5), (world, step, name)


def test_a_bounded_bank_holds_the_same_people_for_any_number_of_workers(runs):
    (whole,), (alone,) = runs.states(1), runs.states(1, "bounded")
    first, second = runs.states(2, "bounded")
    assert tiny.differences(first, second) == []
    for name, value in alone.bank.items():
        assert name.endswith(".rows") or torch.equal(value, first.bank[name]), name
    assert alone.bank["rgb.rows"].shape[0] == 40
    assert 0 < alone.bank["rgb.count"] < whole.bank["rgb.count"]


def test_a_run_may_go_on_with_another_number_of_workers(runs):
    """Batch norm then sees other rows, so bits differ; the samples and their order do not."""
    (alone,) = runs.states(1)
    first, *others = runs.states(3, "moved")
    assert all(tiny.differences(first, other) == [] for other in others)
    for name, value in alone.bank.items():
        assert name.endswith(".rows") or torch.equal(value, first.bank[name]), name
    log = runs.log(3, "moved")
    assert [step for step, _ in log] == [5, 6, 7, 8, 9]
    for step, values in log:
        assert values["train/num_anchors/g/rgb-depth"] * 3 == pytest.approx(
            dict(runs.log(1))[step]["train/num_anchors/g/rgb-depth"], rel=1e-5
        )
        assert values["train/lr"] == pytest.approx(dict(runs.log(1))[step]["train/lr"], rel=1e-6)


def test_other_worlds_give_other_numbers(runs):
    """Batch norm and in-batch negatives are of a worker's own rows; were the weights equal, the tests above would prove
    little."""
    alone = runs.states(1)[0]
    for world in (2, 3):
        assert any(not torch.equal(value, runs.states(world)[0].model[name]) for name, value in alone.model.items())


def test_some_worker_had_no_depth_at_some_step(sources):
    """What the runs above went through."""
    feed = tiny.tiny_feed(tiny.tiny_config(**OVER), sources)
    seen = []
    for rank in range(3):
        items = (feed.item(*each) for each in feed.own_items(rank=rank, world=3, first_step=0))
        seen.append(
            [
                int(each.has_depth.sum())
                for each in feed.batches(items, rank=rank, world=3, first_step=0, threads=1, ahead=1)
            ]
        )
    counts = np.array(seen)
    assert ((counts == 0).any(0) & (counts > 0).any(0)).any()


@pytest.mark.parametrize(("world", "concurrent"), [(2, False), (3, False), (2, True)])
def test_the_first_step_takes_the_mean_of_the_workers_gradients(sources, tmp_path, world, concurrent):
    over = {
        **OVER,
        "train": {**OVER["train"], "concurrent_encoders": concurrent},
        "stages": {"stage1_steps": 1, "stage2_steps": 0},
        "optim": {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.5, "warmup_steps": 0},
    }
    arguments = {
        "sources": [each.uri for each in sources],
        "states": str(tmp_path / "s"),
        "out": str(tmp_path / "out"),
        "over": over,
    }
    forked_runs.run_jobs(tmp_path, [{"call": "train", "world": world, "arguments": arguments}])
    got = States(str(tmp_path / "out" / "rank-0")).newest().model

    config = tiny.tiny_config(**over)
    feed = tiny.tiny_feed(config, sources)
    gradients, statistics = [], []
    for rank in range(world):
        run = Pretraining(config, feed.plan, torch.device("cpu"), lanes_here=LANES // world)
        before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        items = (feed.item(0, lane) for lane in range(rank, LANES, world))
        run.train_step(next(feed.batches(items, rank=rank, world=world, first_step=0, threads=1, ahead=1)))
        gradients.append({name: value.grad for name, value in run.model.named_parameters()})
        statistics.append({name: value for name, value in run.model.state_dict().items() if "running" in name})
    rate = learning_rate(config.optim, 0, 1)
    for name, value in before.items():
        mean = torch.stack([each[name] for each in gradients]).mean(0)
        torch.testing.assert_close(got[name], value - rate * mean, rtol=1e-5, atol=1e-6, msg=name)
    for name in statistics[0]:
        torch.testing.assert_close(
            got[name], torch.stack([each[name] for each in statistics]).mean(0), rtol=1e-5, atol=1e-6
        )


def test_collectives(tmp_path):
    forked_runs.run_jobs(
        tmp_path,
        [
            {"call": "collectives", "world": world, "arguments": {"lanes": 6, "out": str(tmp_path)}}
            for world in (1, 2, 3)
        ],
    )
    for world in (1, 2, 3):
        results = [json.loads((tmp_path / f"{world}-{rank}.json").read_text()) for rank in range(world)]
        for each in results:
            assert each["indices"] == list(range(12)), "lane by lane, whoever served the lane"
            np.testing.assert_allclose(
                each["rows"], np.arange(12)[:, None, None] + np.broadcast_to(np.arange(3) / 10, (12, 2, 3)), rtol=1e-6
            )
            np.testing.assert_allclose(each["mean"], [(world - 1) / 2, 1])
            assert each["same step"] == (
                "fine"
                if world == 1
                else f"the workers found train states of different steps: {list(range(4, 4 + world))}; "
                "start the run again"
            )
            # Rank 0 has no gradient for the first parameter: that is a 0 in the mean.
            sums = [sum(rank + number for rank in range(world) if number or rank) for number in range(6)]
            np.testing.assert_allclose(each["gradients"], [[total / world] for total in sums], rtol=1e-6)
            np.testing.assert_allclose(each["running mean"], [(world - 1) / 2] * 2)
            assert each["batches"] == (5 if world == 1 else 6), "one batch more wherever a worker had one"
