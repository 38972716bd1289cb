import numpy as np
import pytest

from hcmoco.cotraining.loader import LABELED, UNLABELED, CoTrainingLoader
from hcmoco.data.body_parts import FLIP, IGNORE
from hcmoco.errors import UserError
from tests.helpers import local_cotraining as tiny


@pytest.mark.parametrize(
    ("experiment", "lost"), [("rgb-to-depth", "depth"), ("depth-to-rgb", "rgb"), ("missing-modality", None)]
)
def test_labeled_rows_lose_the_tested_modality_and_nobody_else_does(sources, experiment, lost):
    batch = tiny.one_batch(tiny.tiny_resolved(sources, {"experiment": experiment}))
    rows = batch.batch
    np.testing.assert_array_equal(batch.labeled, rows.source == LABELED)
    assert (rows.source == UNLABELED).sum() == batch.labeled.sum() == 4, "half of each"
    for name in ("rgb", "depth", "keypoints"):
        has = getattr(rows, f"has_{name}")
        assert has[~batch.labeled].all()
        assert has[batch.labeled].all() == (name != lost)
        assert has[batch.labeled].any() == (name != lost)
    assert (rows.anchors[batch.labeled] >= 0).any() == (lost != "depth")
    if lost:
        assert not getattr(rows, lost)[batch.labeled].any()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_parts_are_cut_as_the_images_are(sources, flip):
    batch = tiny.one_batch(
        tiny.tiny_resolved(
            sources, {"experiment": "depth-to-rgb", "augment": {"flip_probability": flip, "shift": 0.02}}
        )
    )
    depth, parts = batch.batch.depth[batch.labeled], batch.parts_BSS[batch.labeled]
    body = depth > 0
    assert body.mean() > 0.3
    told = (depth[body] - tiny.NEAR).astype(np.uint8)
    np.testing.assert_array_equal(parts[body], FLIP[told] if flip else told)
    assert set(np.unique(parts[~body])) <= {0, IGNORE}
    assert (batch.parts_BSS[~batch.labeled] == IGNORE).all(), "unlabelled rows have parts too, which nobody may see"


def test_background_anchors_are_cells_without_a_reading(sources):
    plain = tiny.one_batch(tiny.tiny_resolved(sources)).batch
    rows = tiny.one_batch(tiny.tiny_resolved(sources, {"num_background_anchors": 9})).batch
    np.testing.assert_array_equal(rows.anchors[:, :12], plain.anchors)
    added = rows.anchors[:, 12:]
    assert (added[~rows.has_depth] == -1).all()
    for depth_SS, cells in zip(rows.depth[rows.has_depth], added[rows.has_depth], strict=True):
        empty = np.flatnonzero(depth_SS[::4, ::4] == 0)
        assert set(cells[cells >= 0]) <= set(empty)
        assert len(set(cells[cells >= 0])) == min(9, len(empty))
    assert len({tuple(each) for each in added[rows.has_depth]}) > 1, "each row has draws of its own"


def test_banks_number_whole_data_sets(tmp_path):
    """Rows keep their numbers though some of their neighbors lack labels and are left out."""
    some = [tiny.block_person(number, "some", parts=number >= 3) for number in range(6)]
    shards = tiny.write(tmp_path, "some", some)
    sources = tiny.write_sources(tmp_path)
    setup = tiny.tiny_resolved(tiny.Sources(sources.unlabeled, shards, sources.test))
    assert len(setup.labeled) == 3
    assert isinstance(setup.loader, CoTrainingLoader)
    assert setup.loader.bank_offsets == (0, 14, 20)
    seen = {int(i) for step in range(4) for i in _indices(setup, step)}
    assert {i - 14 for i in seen if i >= 14} == {row["index"] for row in setup.labeled.rows(("index",))}
    assert max(seen) < 20


def _indices(setup, step):
    loader = setup.loader
    window, t = divmod(step, loader.plan.window_steps)
    for lane in range(loader.plan.lanes):
        rows = loader.plan.batch_size_per_lane
        yield from loader.make(loader.item(window, lane).slice(t * rows, rows).to_pylist(), step, lane).batch.index


def test_evaluations_see_the_same_crops_however_many_at_a_time(sources):
    pieces = {}
    for rows in (1, 2, 64):
        setup = tiny.tiny_resolved(sources, {"eval_batch_size": rows})
        batches = list(setup.crops(setup.test))
        assert [len(each) for each in batches] == [min(rows, 5 - k) for k in range(0, 5, rows)]
        pieces[rows] = [
            np.concatenate([get(each) for each in batches]) for get in (lambda b: b.batch.rgb, lambda b: b.parts_BSS)
        ]
    for rows in (1, 2):
        for one, other in zip(pieces[rows], pieces[64], strict=True):
            np.testing.assert_array_equal(one, other)
    setup = tiny.tiny_resolved(sources)
    assert sum(len(each) for each in setup.crops(setup.test, 4)) == 4


def test_a_data_set_without_parts_is_one_line(sources, tmp_path):
    bare = tiny.write(tmp_path, "bare", [tiny.block_person(k, "bare", parts=False) for k in range(3)])
    with pytest.raises(UserError, match="bare has no parts"):
        tiny.tiny_resolved(tiny.Sources(sources.unlabeled, bare, sources.test))
    tiny.tiny_resolved(tiny.Sources(bare, sources.labeled, sources.test))
    with pytest.raises(UserError, match="bare has no parts"):
        tiny.tiny_resolved(tiny.Sources(sources.unlabeled, sources.labeled, bare))
