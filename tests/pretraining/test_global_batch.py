"""With `train.global_batch` a step in float64 is the same on 1, 2 and 4 workers: all that it leaves."""

import json
from pathlib import Path

import pytest
import torch

from hcmoco.objectives import ObjectiveConfig
from hcmoco.training.checkpoint import States
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny
from tests.helpers.global_batch import assert_same_step

BASE = {
    "data": {"sources": {"room": {"weight": 2}, "street": {"weight": 1}}},
    "objective": {"release": {"bank_start": "random"}},
    "train": {"lanes": 4, "batch_size_per_lane": 3, "global_batch": True},
    "optim": {"warmup_steps": 0, "lr": 0.5},
}
RELEASED = {**ObjectiveConfig.released().model_dump(mode="json"), "num_negatives": 24, "num_anchors": 12}


def encoders(name: str, **args) -> dict:
    return {each: {"name": name, "args": args} for each in ("rgb", "depth")}


# What a step is -> what it changes of BASE, and what else the call is given.
STEPS = {
    "each lacks something": ({}, {"lacking": {"rgb": [0], "depth": [1, 2], "keypoints": [3]}}),
    "micro-batches": ({"train": {"micro_rows": 2}}, {"lacking": {"depth": [1, 3]}}),
}
MORE_STEPS = {
    "stage 1": ({}, {"full": False}),
    "stage 2": ({}, {}),
    "two workers of four without depth": ({}, {"lacking": {"depth": [1, 3]}}),
    "no depth anywhere": ({}, {"lacking": {"depth": [0, 1, 2, 3]}}),
    "norms with activations": ({"model": encoders("test_efficientnet")}, {"lacking": {"depth": [1, 3]}}),
    "stochastic depth, no norms": (
        {"model": encoders("test_convnext", drop_path_rate=0.5)},
        {"lacking": {"depth": [1, 3]}},
    ),
    "as released": ({"objective": RELEASED}, {}),
    "MMV": ({"objective": {"method": "mmv"}}, {"full": False, "lacking": {"rgb": [0], "depth": [1, 3]}}),
    "micro-batches of a lane": ({"train": {"micro_rows": 3}}, {}),
}
Steps = dict[str, dict[int, list[dict]]]  # step -> world size -> what each worker has


def done(folder: Path, steps: dict, worlds: tuple[int, ...]) -> Steps:
    sources = [
        tiny.write_blobs(folder, "room", 30).uri,
        tiny.write_blobs(folder, "street", 20, depth_of=(False,)).uri,
    ]
    jobs = []
    for name, (over, more) in steps.items():
        full = more.get("full", True)
        arguments = {"sources": sources, "over": merged(over, full), "out": str(folder / name), **more}
        jobs += [{"call": "step_in_float64", "world": world, "arguments": arguments} for world in worlds]
    forked_runs.run_jobs(folder, jobs)
    return {
        name: {world: [torch.load(folder / name / f"{world}-{rank}.pt") for rank in range(world)] for world in worlds}
        for name in steps
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Steps:
    return done(tmp_path_factory.mktemp("steps"), STEPS, (1, 4))


@pytest.fixture(scope="module")
def more_found(tmp_path_factory) -> Steps:
    return done(tmp_path_factory.mktemp("more-steps"), MORE_STEPS, (1, 2, 4))


def merged(over: dict, full: bool = True) -> dict:
    steps = {"stage1_steps": 0, "stage2_steps": 2} if full else {"stage1_steps": 2, "stage2_steps": 0}
    return tiny.merge({**BASE, "stages": steps}, over)


def assert_same(worlds: dict[int, list[dict]]) -> None:
    (alone,), *others = worlds.values()
    assert alone["values"]["loss"].dtype == torch.float64
    assert alone["values"]["loss"] > 1
    assert max(each.abs().max().item() for each in alone["gradients"].values()) > 1e-3
    for workers in others:
        for worker in workers:
            assert_same_step(worker, alone)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_same_on_any_number_of_workers(found, name):
    assert_same(found[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_STEPS)
def test_other_steps_are_the_same_on_any_number_of_workers(more_found, name):
    assert_same(more_found[name])


@pytest.mark.slow
def test_the_steps_are_what_they_say(more_found):
    """Depth is trained where some worker has it, and nowhere else; statistics move likewise; losses differ."""
    nowhere = "no depth anywhere"

    def trains_depth(name: str) -> bool:
        gradients = more_found[name][1][0]["gradients"]
        return any(each.any() for key, each in gradients.items() if key.startswith("depth."))

    assert [name for name in more_found if not trains_depth(name)] == [nowhere]
    batches = "depth.trunk.bn1.num_batches_tracked"
    assert more_found["two workers of four without depth"][4][1]["model"][batches] == 1
    assert more_found[nowhere][4][0]["model"][batches] == 0
    losses = [each[1][0]["values"]["loss"].item() for each in more_found.values()]
    assert len(set(losses)) == len(losses)


@pytest.mark.slow
def test_a_whole_run_passes_both_stages_and_starts_as_on_one_worker(tmp_path):
    """In float32: equal where it starts, the same on all workers at its end."""
    over = {**BASE, "stages": {"stage1_steps": 2, "stage2_steps": 2}, "probe": {"every": 1}}
    over = tiny.merge(over, {"train": {"log_every": 1}, "data": {"sources": {"room": {"weight": 1}}}})
    sources = [each.uri for each in tiny.write_sources(tmp_path)]
    jobs = []
    for world in (1, 4):
        arguments = {"sources": sources, "states": str(tmp_path / f"s{world}"), "out": str(tmp_path / f"out{world}")}
        jobs.append({"call": "train", "world": world, "arguments": {**arguments, "over": over}})
    forked_runs.run_jobs(tmp_path, jobs)
    logs = [json.loads((tmp_path / f"out{world}" / "log.json").read_text()) for world in (1, 4)]
    one, other = ({step: values for step, values in log if "train/loss" in values} for log in logs)
    assert sorted(one) == sorted(other) == [1, 2, 3, 4]
    names = [name for name in one[1] if name.startswith(("train/loss", "train/level", "train/grad_norm"))]
    assert len(names) > 8
    for name in names:
        assert other[1][name] == pytest.approx(one[1][name], rel=1e-4), name
    states = [States(str(tmp_path / "out4" / f"rank-{rank}")).newest() for rank in range(4)]
    # Rank 0 alone has the probes in its history.
    assert [tiny.differences(states[0], each) for each in states[1:]] == [["history"]] * 3
