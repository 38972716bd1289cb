import dataclasses
import pickle

import numpy as np
import pyarrow as pa
import pytest

from hcmoco.data.schema import Batch
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from tests.helpers import local_pretraining as tiny

LANES, ROWS, WINDOW, STEPS = 6, 2, 3, 8


@pytest.fixture(scope="module", params=[False, True], ids=["shared crops", "crops of their own"])
def config(request):
    return tiny.tiny_config(
        train={"lanes": LANES, "batch_size_per_lane": ROWS, "window_steps": WINDOW},
        stages={"stage1_steps": 3, "stage2_steps": STEPS - 3},
        augment={"flip_probability": 0.5, "independent": request.param},
    )


@pytest.fixture(scope="module")
def feed(config, sources):
    return tiny.tiny_feed(config, sources)


def batches_of(feed, *, rank=0, world=1, first_step=0, threads=2, ahead=3) -> list[Batch]:
    numbers = feed.own_items(rank=rank, world=world, first_step=first_step)
    items = (feed.item(*each) for each in numbers)
    return list(feed.batches(items, rank=rank, world=world, first_step=first_step, threads=threads, ahead=ahead))


def assert_same(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        a, b = np.asarray(getattr(one, field.name)), np.asarray(getattr(other, field.name))
        assert a.dtype == b.dtype, field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.fixture(scope="module")
def whole(feed):
    """The batches of one worker."""
    return batches_of(feed)


def test_one_batch_a_step_with_the_rows_of_the_plan(feed, whole, sources):
    assert [each.step for each in whole] == list(range(STEPS))
    firsts = np.array(feed.plan.offsets)
    for batch in whole:
        rows = [row for lane in range(LANES) for row in feed.plan.rows(batch.step, lane)]
        np.testing.assert_array_equal(batch.source, [row.source for row in rows])
        expected = [
            firsts[row.source]
            + sources[row.source].read_group(row.group, ["index"], rows=[row.row])["index"][0].as_py()
            for row in rows
        ]
        np.testing.assert_array_equal(batch.index, expected)
    assert any((batch.has_depth != whole[0].has_depth).any() for batch in whole)
    assert all((batch.anchors[~batch.has_depth] == -1).all() for batch in whole)


@pytest.mark.parametrize("decode", ["worker", "tasks"])
@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_all_workers_together_see_what_one_sees(config, sources, whole, world, decode):
    """The same rows, augmentations and anchors, lane by lane."""
    feed = tiny.tiny_feed(config, sources, decode)
    parts = [batches_of(feed, rank=rank, world=world) for rank in range(world)]
    for step, alone in enumerate(whole):
        per_lane = {}
        for rank in range(world):
            for position, lane in enumerate(range(rank, LANES, world)):
                per_lane[lane] = tiny.rows_of(parts[rank][step], slice(position * ROWS, (position + 1) * ROWS))
        assert_same(Batch.concatenate([per_lane[lane] for lane in range(LANES)]), alone)


@pytest.mark.parametrize("first_step", range(1, STEPS + 1))
def test_it_begins_at_any_step(feed, whole, first_step):
    later = batches_of(feed, first_step=first_step)
    assert len(later) == STEPS - first_step
    for one, other in zip(later, whole[first_step:], strict=True):
        assert_same(one, other)


def test_threads_change_nothing(feed, whole):
    for one, other in zip(batches_of(feed, threads=4, ahead=7), whole, strict=True):
        assert_same(one, other)


def test_batches_differ_from_step_to_step_and_with_the_seed(config, sources, whole):
    pictures = np.concatenate([each.rgb for each in whole])
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)
    other = batches_of(tiny.tiny_feed(config.model_copy(update={"seed": 6}), sources))
    assert any((a.index != b.index).any() for a, b in zip(whole, other, strict=True))


@pytest.mark.parametrize("decode", ["worker", "tasks"])
def test_all_items_have_equally_many_rows_and_say_what_they_are(config, sources, decode):
    feed = tiny.tiny_feed(config, sources, decode)
    items = {(window, lane): feed.item(window, lane) for window in range(feed.plan.windows) for lane in range(LANES)}
    assert feed.plan.windows == 3
    assert {len(table) for table in items.values()} == {WINDOW * ROWS if decode == "worker" else WINDOW}
    assert len({str(table.schema) for table in items.values()}) == 1, (
        "one schema, so that they can be blocks of one dataset"
    )
    for (window, lane), table in items.items():
        assert set(table["window"].to_pylist()) == {window}
        assert set(table["lane"].to_pylist()) == {lane}


def test_items_survive_the_way_through_a_cluster(config, sources, whole):
    """Serialized by Arrow, and the feed itself pickled."""
    for decode in ("worker", "tasks"):
        feed = pickle.loads(pickle.dumps(tiny.tiny_feed(config, sources, decode)))

        def sent(table: pa.Table) -> pa.Table:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            return pa.ipc.open_stream(sink.getvalue()).read_all()

        items = (sent(feed.item(*each)) for each in feed.own_items(rank=0, world=1, first_step=0))
        got = list(feed.batches(items, rank=0, world=1, first_step=0, threads=1, ahead=1))
        for one, other in zip(got, whole, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize(
    ("rank", "world", "items", "line"),
    [
        (0, 1, [(0, 1), (0, 0)], r"worker 0 of 1 was handed item \(window, lane\) = \(0, 1\), the plan says \(0, 0\)"),
        (
            1,
            2,
            [(0, 1), (0, 5), (0, 3)],
            r"worker 1 of 2 was handed item \(window, lane\) = \(0, 5\), the plan says \(0, 3\)",
        ),
        (0, 3, [(1, 0), (1, 3)], r"= \(1, 0\), the plan says \(0, 0\)"),
    ],
)
def test_an_item_out_of_turn_stops_the_worker(feed, rank, world, items, line):
    tables = (feed.item(*each) for each in items)
    with pytest.raises(RuntimeError, match=line):
        next(feed.batches(tables, rank=rank, world=world, first_step=0, threads=1, ahead=1))


def test_items_that_end_too_early_stop_the_worker(feed):
    batches = feed.batches(
        (feed.item(0, lane) for lane in range(LANES)), rank=0, world=1, first_step=0, threads=1, ahead=1
    )
    assert [next(batches).step for _ in range(WINDOW)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"worker 0 of 1 has no item \(window, lane\) = \(1, 0\)"):
        next(batches)


def test_lanes_that_cannot_be_dealt_are_refused(feed):
    with pytest.raises(UserError, match="4 workers cannot share 6 lanes evenly; use 1, 2, 3, 6"):
        next(feed.batches(iter(()), rank=0, world=4, first_step=0, threads=1, ahead=1))


def test_a_shard_that_changed_after_it_was_opened_is_refused_at_its_step(config, tmp_path):
    tiny.write_blobs(tmp_path, "room", 70)
    street = tiny.write_blobs(tmp_path, "street", 50, depth_of=(False,))
    room = Shards.open(str(tmp_path / "room"))
    file = tmp_path / "room" / room.manifest.files[0].name
    data = bytearray(file.read_bytes())
    for start, end in zip(room.manifest.files[0].offsets, room.manifest.files[0].offsets[1:], strict=False):
        data[(start + end) // 2] ^= 255
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"part-00000.parquet is not the file that was written"):
        batches_of(tiny.tiny_feed(config, (room, street)))
