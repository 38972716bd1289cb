"""`train.micro_rows`: where no row sees another in a layer, loss and gradient are those of the whole batch."""

import copy

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.pretraining.micro_batches import micro_batches
from hcmoco.pretraining.trainer import Pretraining
from tests.helpers import local_pretraining as tiny
from tests.helpers.global_batch import assert_same_step, step_in_float64

CPU = torch.device("cpu")
CONVNEXT = {
    each: {"name": "test_convnext", "args": {"drop_path_rate": 0.5, "drop_rate": 0.2}} for each in ("rgb", "depth")
}
# What a step is -> what it changes of the tiny run, and what else the call is given.
STEPS = {
    "frozen statistics": ({}, {"frozen": True}),
    "no batch norm, layers that draw": ({"model": CONVNEXT}, {"frozen": True, "lacking": {"depth": [0]}}),
    "crops of their own": ({"augment": {"independent": True}}, {"frozen": True}),
    "MMV": ({"objective": {"method": "mmv"}}, {"frozen": True, "full": False}),
}


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_that_of_the_whole_batch(float64, sources, tmp_path, name):
    over, more = STEPS[name]
    stages = {"stage1_steps": 0, "stage2_steps": 2} if more.get("full", True) else None
    found = {}
    # 6 rows do not divide the lanes evenly: the lanes have 4 each.
    for rows in (None, 8, 6, 4, 3, 2, *([] if name == "MMV" else [1])):
        train = {"lanes": 2, "batch_size_per_lane": 4, "micro_rows": rows}
        base = {"stages": stages} if stages else {}
        config = tiny.merge({**base, "train": {key: value for key, value in train.items() if value}}, over)
        out = str(tmp_path / str(rows))
        step_in_float64(0, 1, sources=[each.uri for each in sources], over=config, out=out, **more)
        found[rows] = torch.load(f"{out}/1-0.pt")
    whole = found.pop(None)
    assert max(each.abs().max() for each in whole["gradients"].values()) > 1e-3
    assert whole["values"]["loss"] > 1
    for each in found.values():
        assert_same_step(each, whole)


def test_statistics_are_of_a_micro_batch_and_move_once_by_their_mean(sources, batch):
    """Depth is in one of three micro-batches: the others leave its statistics where they were."""
    config = tiny.tiny_config(train={"lanes": 1, "batch_size_per_lane": 9, "micro_rows": 3})
    batch = copy.deepcopy(batch).part(slice(0, 9))
    batch.has_depth[:] = [True] * 3 + [False] * 6
    batch.depth[3:], batch.anchors[3:] = 0, -1
    run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=1)
    before = copy.deepcopy(run.model)
    run.train_step(batch)
    sums = {name: torch.zeros_like(each) for name, each in before.state_dict().items() if "running" in name}
    for first in (0, 3, 6):
        model = copy.deepcopy(before)
        part = batch.part(slice(first, first + 3))
        model.encode_rgb(model.prepare_rgb(torch.from_numpy(part.rgb)))
        if part.has_depth.all():
            model.encode_depth(model.prepare_depth(torch.from_numpy(part.depth)))
        keypoints = torch.from_numpy(part.keypoints)
        model.encode_keypoints(model.prepare_keypoints(keypoints), keypoints[..., 2] > 0)
        for name in sums:
            sums[name] += model.state_dict()[name]
    after = run.model.state_dict()
    for name, total in sums.items():
        torch.testing.assert_close(after[name], total / 3, msg=name)
        assert not torch.equal(after[name], before.state_dict()[name])
        assert (
            after[name.replace("running_mean", "num_batches_tracked").replace("running_var", "num_batches_tracked")]
            == 1
        )


def test_a_bfloat16_step_trains_all_that_the_whole_batch_trains(sources, batch):
    """Casts of weights that autocast kept from the pass without a graph would keep gradients from these weights."""
    reached = []
    for rows in (None, 5):
        config = tiny.tiny_config(
            stages={"stage1_steps": 0, "stage2_steps": 2},
            train={"precision": "bfloat16", "batch_size_per_lane": 5, **({"micro_rows": rows} if rows else {})},
        )
        run = Pretraining(config, tiny.tiny_plan(config, sources), CPU, lanes_here=2)
        run.train_step(batch)
        reached.append({name for name, each in run.model.named_parameters() if each.grad.any()})
    assert reached[0] == reached[1]
    assert any(name.startswith("depth.") for name in reached[0])


@pytest.mark.parametrize("lanes", [1, 2, 3, 8])
@pytest.mark.parametrize("rows_per_lane", [1, 3, 4, 7])
@pytest.mark.parametrize("micro_rows", [1, 2, 3, 5, 8, 100])
def test_micro_batches_are_small_in_order_and_cut_lanes_alike(lanes, rows_per_lane, micro_rows):
    parts = micro_batches(lanes, rows_per_lane, micro_rows)
    sizes = [part.stop - part.start for part in parts]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(lanes * rows_per_lane))
    assert 1 <= min(sizes) <= max(sizes) <= micro_rows
    if micro_rows <= rows_per_lane:
        assert sizes == [part.stop - part.start for part in micro_batches(1, rows_per_lane, micro_rows)] * lanes
        assert max(sizes) - min(sizes) <= 1
    else:
        assert all(part.start % rows_per_lane == part.stop % rows_per_lane == 0 for part in parts)


def test_without_a_limit_there_is_one():
    assert micro_batches(3, 4, None) == [slice(0, 12)]


def test_what_micro_batches_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"micro_rows = 4 .*batch_size_per_lane = 3: .*within a lane"):
        tiny.tiny_config(train={"global_batch": True, "micro_rows": 4})
    with pytest.raises(UserError, match="micro_rows"):
        tiny.tiny_config(train={"micro_rows": 0})
    with pytest.raises(UserError, match=r"raise train.batch_size_per_lane or train.micro_rows"):
        tiny.tiny_config(objective={"method": "mmv"}, train={"micro_rows": 2})
