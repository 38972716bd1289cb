"""With `train.global_batch` a step is the same function on 1, 2 and 4 workers, and with `train.micro_rows` its gradient
is that of the whole batch: in float64."""

from pathlib import Path

import pytest
import torch

from hcmoco.objectives import ObjectiveConfig
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny
from tests.helpers.tolerances import FLOAT64

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
    "stage 1": ({}, {"full": False}),
    "stage 2": ({}, {}),
    "two workers of four without depth": ({}, {"lacking": {"depth": [1, 3]}}),
    "each lacks something": ({}, {"lacking": {"rgb": [0], "depth": [1, 2], "keypoints": [3]}}),
    "no depth anywhere": ({}, {"lacking": {"depth": [0, 1, 2, 3]}}),
    "norms with activations": ({"model": encoders("test_efficientnet")}, {"lacking": {"depth": [1, 3]}}),
    "stochastic depth, no norms": (
        {"model": encoders("test_convnext", drop_path_rate=0.5)},
        {"lacking": {"depth": [1, 3]}},
    ),
    "as released": ({"objective": RELEASED}, {}),
    "MMV": ({"objective": {"method": "mmv"}}, {"full": False, "lacking": {"rgb": [0], "depth": [1, 3]}}),
    "micro-batches": ({"train": {"micro_rows": 2}}, {"lacking": {"depth": [1, 3]}}),
    "micro-batches of a lane": ({"train": {"micro_rows": 3}}, {}),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Step -> world size -> what each worker has."""
    folder = tmp_path_factory.mktemp("steps")
    sources = [
        tiny.write_blobs(folder, "room", 30).uri,
        tiny.write_blobs(folder, "street", 20, depth_of=(False,)).uri,
    ]
    jobs = []
    for number, (over, more) in enumerate(STEPS.values()):
        full = more.get("full", True)
        arguments = {"sources": sources, "over": merged(over, full), "out": str(folder / str(number)), **more}
        jobs += [{"call": "step_in_float64", "world": world, "arguments": arguments} for world in (1, 2, 4)]
    forked_runs.run_jobs(folder, jobs)
    return {
        name: {world: read(folder / str(number), world) for world in (1, 2, 4)} for number, name in enumerate(STEPS)
    }


def merged(over: dict, full: bool = True) -> dict:
    steps = {"stage1_steps": 0, "stage2_steps": 2} if full else {"stage1_steps": 2, "stage2_steps": 0}
    return tiny.merge({**BASE, "stages": steps}, over)


def read(folder: Path, world: int) -> list[dict]:
    return [torch.load(folder / f"{world}-{rank}.pt") for rank in range(world)]


def assert_same_step(one: dict, other: dict) -> None:
    """All that a step leaves, to FLOAT64 of the largest value of its kind."""
    assert one.keys() == other.keys()
    for kind, tensors in one.items():
        assert tensors.keys() == other[kind].keys()
        floating = {name: each for name, each in tensors.items() if each.is_floating_point()}
        largest = max([each.abs().max().item() for each in floating.values()], default=0)
        for name, value in tensors.items():
            limit = FLOAT64 * largest if name in floating else 0
            torch.testing.assert_close(other[kind][name], value, rtol=0, atol=limit, msg=f"{kind}: {name}")


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_same_on_any_number_of_workers(found, name):
    (alone,) = found[name][1]
    assert alone["values"]["loss"].dtype == torch.float64
    assert alone["values"]["loss"] > 1
    assert max(each.abs().max().item() for each in alone["gradients"].values()) > 1e-3
    for world in (2, 4):
        for worker in found[name][world]:
            assert_same_step(alone, worker)


def test_the_steps_are_what_they_say(found):
    """Depth is trained where some worker has it, and nowhere else; running statistics move, micro-batches differ."""

    def depth(name: str) -> dict:
        return {key: each for key, each in found[name][1][0]["gradients"].items() if key.startswith("depth.")}

    assert all(any(each.any() for each in depth(name).values()) for name in STEPS if name != "no depth anywhere")
    assert not any(each.any() for each in depth("no depth anywhere").values())
    batches = "depth.trunk.bn1.num_batches_tracked"
    assert found["stage 2"][4][0]["model"][batches] == 1
    assert found["no depth anywhere"][4][0]["model"][batches] == 0
    losses = {name: found[name][1][0]["values"]["loss"].item() for name in STEPS}
    assert len(set(losses.values())) == len(losses)
