"""Pre-training on points: what is drawn, what is compared, what a run that was killed leaves."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks._host_syncs import HostSyncs
from hcmoco.config import build, merge
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.shards.manifest import About
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.errors import UserError
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.losses import embed, encode
from hcmoco.pretraining.probes.run import probe
from hcmoco.pretraining.probes.views import make_views
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.pretraining.views import to_device
from hcmoco.training.checkpoint import States
from tests.helpers import forked_runs
from tests.helpers import local_pretraining as tiny
from tests.pretraining.test_global_batch import assert_same, done

CPU = torch.device("cpu")
POINTS = {"model": {"depth": {"name": "pointnet2_msg"}}}
SHORT = {**POINTS, "stages": {"stage1_steps": 2, "stage2_steps": 3}, "train": {"save_every": 1, "num_checkpoints": 5}}


def config_of(**over) -> PretrainConfig:
    return build(PretrainConfig, merge(merge(tiny.TINY, POINTS), over), "test")


@pytest.fixture(scope="module")
def feed(sources) -> PretrainLoader:
    return tiny.tiny_feed(config_of(train={"batch_size_per_lane": 5, "window_steps": 1}), sources)


def batch_of(feed: PretrainLoader, lanes=(0, 1), step: int = 0):
    return feed.join([feed._batch(step, [feed.item(step, lane)]) for lane in lanes], step)


@pytest.fixture(scope="module")
def points_batch(feed):
    return batch_of(feed)


def test_points_are_a_function_of_seed_step_lane_and_position(feed, points_batch):
    again = batch_of(feed)
    for name in ("points", "rays", "anchors"):
        assert np.array_equal(getattr(again, name), getattr(points_batch, name)), name
    alone = batch_of(feed, lanes=(1,))
    assert np.array_equal(alone.points, points_batch.points[5:])
    packed = dataclasses.replace(feed, decode="tasks")
    for name in ("points", "rays", "anchors", "depth"):
        assert np.array_equal(getattr(batch_of(packed), name), getattr(points_batch, name)), name
    has = points_batch.has_depth
    assert 3 <= has.sum() <= 7
    assert (points_batch.points[~has] == -1).all()
    assert (points_batch.rays[~has] == 0).all()
    for depth, points, anchors in zip(
        points_batch.depth[has], points_batch.points[has], points_batch.anchors[has], strict=True
    ):
        assert (depth.ravel()[points] > 0).all()
        cells = points // 64 // 4 * 16 + points % 64 // 4
        assert (cells[: len(anchors)] == anchors)[anchors >= 0].all()


@pytest.fixture(scope="module")
def run(feed):
    run = Pretraining(config_of(train={"batch_size_per_lane": 5}), feed.plan, CPU, lanes_here=2)
    run.start_stage2()
    return run


def test_anchors_are_the_points_of_their_cells_and_joints_take_the_nearest(run, points_batch):
    views = to_device(points_batch, CPU, run.model)
    run.model.eval()
    with torch.no_grad():
        features = encode(run.model, views)[0]
        found = embed(run.model, views, stage=2, encoded=(features, views.visible))["dense/depth"]
        of_points = run.model.dense_at(
            "depth", features["depth"], torch.arange(256).expand(len(views.rows["depth"]), -1)
        )
    run.model.train()
    P = points_batch.anchors.shape[1]
    for number, row in enumerate(views.rows["depth"].tolist()):
        assert torch.equal(found[row, :P], of_points[number, :P])
        pixels = np.column_stack([points_batch.points[row] % 64, points_batch.points[row] // 64]) + 0.5
        for joint, (x, y, visible) in enumerate(points_batch.keypoints[row]):
            if visible:
                distance = np.hypot(*(pixels - [x, y]).T)
                close = np.flatnonzero(distance <= distance.min() + 1e-5)
                assert any(torch.equal(found[row, P + joint], of_points[number, k]) for k in close)
    assert (found[~torch.from_numpy(points_batch.has_depth)] == 0).all()


@pytest.mark.parametrize("missing", [(), ("depth",), ("rgb",)])
def test_a_step_waits_for_nothing_and_stays_finite(run, points_batch, missing):
    run.step = 0
    run.train_step(points_batch)
    run.step = 0
    batch = tiny.without(points_batch, *missing)
    if "depth" in missing:
        batch.points[:] = -1
        batch.rays[:] = 0
    with HostSyncs() as syncs:
        values = run.train_step(batch)
    assert syncs.found == []
    assert all(value.isfinite() for value in values.values())
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())


def test_blank_depth_as_released_gives_numbers(sources):
    config = config_of(**tiny.AS_RELEASED, stages={"stage1_steps": 1, "stage2_steps": 2})
    feed = tiny.tiny_feed(config, sources)
    trainer = pretrain(config, feed.plan, tiny.StoppingContext(feed), None)
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


def test_a_run_that_stopped_and_went_on_has_the_same_bits(sources, tmp_path):
    config = config_of(**SHORT)
    feed = tiny.tiny_feed(config, sources)
    whole = pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path / "whole")), None)
    with pytest.raises(tiny.DiedError):
        pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path / "cut"), stop=3), None)
    again = pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path / "cut")), None)
    assert tiny.differences(whole.state_dict(), again.state_dict()) == []
    moved = Pretraining(config, feed.plan, CPU, 2).model.depth.trunk.state_dict()
    last = again.model.depth.trunk.state_dict()
    assert all(not torch.equal(value, last[name]) for name, value in moved.items())


@pytest.mark.slow
@pytest.mark.long
def test_killed_in_the_middle_it_ends_with_the_same_bits(sources, tmp_path):
    """By SIGKILL, before every step."""
    settings = {"sources": [each.uri for each in sources], "over": SHORT, "out": None}
    jobs = [{"call": "train", "world": 1, "arguments": {**settings, "states": str(tmp_path / "whole")}}]
    for stop in range(1, 5):
        fixed = {**settings, "states": str(tmp_path / str(stop))}
        for more in ({"stop": stop, "killed": [0]}, {}):
            jobs.append({"call": "train", "world": 1, "arguments": {**fixed, **more}})
    codes = [code for (code,) in forked_runs.run_jobs(tmp_path, jobs)]
    assert codes == [0, *[-9, 0] * 4]
    whole = States(str(tmp_path / "whole")).newest()
    for stop in range(1, 5):
        assert tiny.differences(whole, States(str(tmp_path / str(stop))).newest()) == []


@pytest.mark.slow
@pytest.mark.long
def test_a_step_over_all_workers_rows_is_the_same_on_any_number_of_them(tmp_path):
    """In float64: the whole step, also where some workers have no depth."""
    steps = {"points": (POINTS, {}), "two workers of four without depth": (POINTS, {"lacking": {"depth": [1, 3]}})}
    for worlds in done(tmp_path, steps, (1, 2, 4)).values():
        assert_same(worlds)


def test_probes_look_at_points(run):
    people = [tiny.blob_person(k, dataset="held", depth=True, seed=9) for k in range(4)]
    kind = {"joints": "mpii-16", "target_joints": "mpii-16", "depth_codec": "png16", "size": 64, "count": 4}
    result = probe(run.model, make_views(people, **kind, num_points=256), run.config.probe)
    assert all(np.isfinite(value) for name, value in result.metrics.items() if "depth" in name)
    people[1].camera = None
    with pytest.raises(UserError, match="'held/1' has depth and no camera"):
        make_views(people, **kind, num_points=256)


def test_a_row_without_a_camera_is_refused_in_one_line(sources, tmp_path):
    people = [tiny.blob_person(k, dataset="room", depth=True) for k in range(40)]
    for person in people:
        person.camera = None
    known = sources[0].manifest
    about = About.model_validate({name: getattr(known, name) for name in About.model_fields})
    write_shards(str(tmp_path / "room"), people, about, part_rows=40)
    feed = tiny.tiny_feed(config_of(), (Shards.open(str(tmp_path / "room")), sources[1]))
    with pytest.raises(UserError, match=r"'room/\d+' has depth and no camera.*intrinsics") as caught:
        batch_of(feed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("over", "key"),
    [
        ({"objective": {"num_anchors": 300}}, "num_anchors = 300"),
        ({"objective": {"release": {"anchors_with_replacement": True}}}, "anchors_with_replacement"),
    ],
)
def test_anchors_are_among_the_points(over, key):
    with pytest.raises(UserError, match=key):
        config_of(**over)
