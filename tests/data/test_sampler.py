import dataclasses
import json
import pickle
import time
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from hcmoco.data.mixture import MAX_UNITS, Mixture, units_of
from hcmoco.data.sampler import MIX_GROUPS, Plan, SourcePlan
from hcmoco.errors import UserError


def source(name, rows, group=16, weight=1.0):
    sizes = (group,) * (rows // group) + ((rows % group,) if rows % group else ())
    return SourcePlan(name, rows, sizes, weight)


def plan(*sources, seed=3, lanes=4, batch_size_per_lane=6, window_steps=5, steps=60):
    return Plan(seed, sources, lanes, batch_size_per_lane, window_steps, steps)


SHAPES = {
    "one source": plan(source("a", 333)),
    "smaller than a step": plan(source("a", 7, group=3), lanes=2, batch_size_per_lane=8),
    "smaller than a window": plan(source("a", 40, group=16), source("b", 500, weight=3)),
    "three sources": plan(
        source("a", 200, weight=0.5), source("b", 90, group=32, weight=0.3), source("c", 61, weight=0.2), lanes=3
    ),
    "rare sources": plan(
        source("a", 300),
        *(source(f"r{k}", 20 + k, group=5, weight=0.03) for k in range(4)),
        lanes=2,
        batch_size_per_lane=3,
    ),
    "single-row groups": plan(source("a", 50, group=1), lanes=8, batch_size_per_lane=1, window_steps=1),
    "one step windows": plan(source("a", 128), source("b", 65, weight=2), window_steps=1),
}


@pytest.fixture(params=SHAPES, ids=list(SHAPES))
def shape(request):
    return SHAPES[request.param]


def draws_of(plan, d):
    """(step, (group, row)) of every draw of data set d, by step."""
    return [
        (step, row[1:])
        for step in range(plan.steps)
        for lane in range(plan.lanes)
        for row in plan.rows(step, lane)
        if row.source == d
    ]


@pytest.mark.parametrize(
    "weights",
    [(1,), (1, 2), (0.5, 0.3, 0.2), (1, 1, 1), (10, 0.1, 0.1, 0.1, 0.1), (3, 3, 3, 1, 1, 1), (38119, 25013, 7)],
)
@pytest.mark.parametrize("rows", [1, 2, 7, 32])
def test_composition_follows_the_weights_within_one_row(weights, rows):
    mixture = Mixture(weights, rows)
    units = mixture.units
    shares = [Fraction(each, sum(units)) for each in units]
    cum = [mixture.cumulative(step) for step in range(700)]
    for step, (before, after) in enumerate(pairwise(cum), start=1):
        assert (after - before).min() >= 0
        assert (after - before).sum() == rows
        assert all(abs(int(count) - share * rows * step) < 1 for count, share in zip(after, shares, strict=True))


def test_random_mixtures_keep_the_bound():
    rng = np.random.default_rng(0)
    for _ in range(60):
        weights = tuple(rng.integers(1, 60, rng.integers(3, 9)).tolist())
        rows = int(rng.integers(1, 9))
        mixture = Mixture(weights, rows)
        cum = np.stack([mixture.cumulative(step) for step in range(mixture.period + 2)])
        exact = np.outer(np.arange(len(cum)) * rows, weights)
        assert (np.abs(cum * sum(weights) - exact) < sum(weights)).all()
        assert (np.diff(cum, axis=0) >= 0).all()
        assert (cum.sum(1) == np.arange(len(cum)) * rows).all()


def test_weights_are_exact_decimals_and_bounded():
    assert units_of((0.5, 0.3, 0.2)) == (5, 3, 2)
    assert units_of((2.0, 4.0)) == (1, 2)
    odd = (1.0, 0.123456789012, 1e-9)
    units = units_of(odd)
    assert sum(units) <= MAX_UNITS
    assert min(units) >= 1
    assert abs(units[0] / sum(units) - 1 / sum(odd)) < 1e-4


@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), float("inf")])
def test_a_bad_weight_is_named(weight):
    with pytest.raises(UserError, match=r"weight .*above 0"):
        plan(source("a", 10, weight=weight))


def test_every_micro_batch_has_the_composition(shape):
    for step in range(shape.steps):
        for lane in range(shape.lanes):
            rows = shape.rows(step, lane)
            assert len(rows) == shape.batch_size_per_lane
            assert tuple(
                Counter(row.source for row in rows)[d] for d in range(len(shape.sources))
            ) == shape.composition(step)


def test_a_pass_draws_every_row_once_and_none_earlier_than_the_pass_before(shape):
    for d, each in enumerate(shape.sources):
        draws = draws_of(shape, d)
        everything = {(group, row) for group, size in enumerate(each.group_rows) for row in range(size)}
        assert {place for _, place in draws} <= everything
        # The k-th draw of a row belongs to pass k: passes are told apart without looking into the plan. Draws of one
        # step have no order.
        seen, passes = Counter(), {}
        for step, place in draws:
            passes.setdefault(seen[place], []).append((step, place))
            seen[place] += 1
        for p, members in passes.items():
            if p + 1 in passes:
                assert {place for _, place in members} == everything
                assert max(step for step, _ in members) <= min(step for step, _ in passes[p + 1])


def test_passes_differ_and_rows_are_mixed():
    shape = plan(source("a", 64 * 16), lanes=1, batch_size_per_lane=64, window_steps=4, steps=32)
    first, second = ([row for step in range(p * 16, p * 16 + 16) for row in shape.rows(step, 0)] for p in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second
    for chunk in range(16):  # 64 groups of 16 rows: a chunk is 64 rows of exactly 4 groups, and they are interleaved
        groups = [row.group for row in first[chunk * 64 : chunk * 64 + 64]]
        assert len(set(groups)) == MIX_GROUPS
        assert len(set(groups[:16])) > 1


def test_group_order_of_a_pass_is_uniform():
    """Chi-square over the place of group 0 in 4 x 3 groups: the first chunk holds it in a third of the passes."""
    shape = plan(source("a", 12, group=1), lanes=1, batch_size_per_lane=12, window_steps=1, steps=3000)
    hits = sum((0, 0, 0) in shape.rows(step, 0)[:4] for step in range(3000))
    assert abs(hits - 1000) < 4 * np.sqrt(3000 / 3 * 2 / 3)


def test_items_equal_rows_and_any_order_of_asking(shape):
    windows = range(shape.windows)
    forward = {(w, lane): shape.item(w, lane) for w in windows for lane in range(shape.lanes)}
    fresh = pickle.loads(pickle.dumps(shape))
    for w, lane in sorted(forward, key=lambda key: hash((key, 1)), reverse=True):
        assert fresh.item(w, lane) == forward[w, lane]
        assert sum(map(len, forward[w, lane])) == shape.window_steps * shape.batch_size_per_lane
    far = 10**9 + 1
    assert shape.rows(far, 0) == fresh.item(far // shape.window_steps, 0)[far % shape.window_steps]


def test_the_same_global_step_for_every_world_size(shape):
    for world in (each for each in range(1, shape.lanes + 1) if shape.lanes % each == 0):
        for step in (0, 7, 31):
            dealt = [
                row for rank in range(world) for lane in shape.lanes_of(rank, world) for row in shape.rows(step, lane)
            ]
            assert sorted(dealt) == sorted(row for lane in range(shape.lanes) for row in shape.rows(step, lane))


def test_a_world_that_does_not_divide_the_lanes_is_refused():
    with pytest.raises(UserError, match="3 workers cannot share 8 lanes evenly; use 1, 2, 4, 8"):
        plan(source("a", 10), lanes=8).lanes_of(0, 3)


def test_a_contiguous_run_touches_few_groups():
    shape = plan(
        source("a", 32 * 64, group=32), lanes=4, batch_size_per_lane=16, window_steps=8, steps=16
    )  # items of 128 rows = one chunk
    assert (
        max(len({row.group for rows in shape.item(w, lane) for row in rows}) for w in range(2) for lane in range(4))
        == MIX_GROUPS
    )


def test_identity_changes_with_whatever_decides_the_order():
    base = plan(source("a", 100), source("b", 50))
    a, b = base.sources
    changes = (
        {"name": "c"},
        {"weight": 2.0},
        {"content": "f00"},
        {"rows": 51, "group_rows": (*b.group_rows[:-1], 3)},
        {"group_rows": (25, 25)},
    )
    others = [
        dataclasses.replace(base, seed=4),
        dataclasses.replace(base, lanes=2),
        dataclasses.replace(base, batch_size_per_lane=5),
        dataclasses.replace(base, window_steps=4),
        dataclasses.replace(base, sources=(b, a)),
        dataclasses.replace(base, sources=(a,)),
        *(dataclasses.replace(base, sources=(a, dataclasses.replace(b, **change))) for change in changes),
    ]
    assert len({json.dumps(each.description) for each in [base, *others]}) == len(others) + 1
    longer = dataclasses.replace(base, steps=999)
    assert longer.description == base.description
    assert longer.rows(40, 1) == base.rows(40, 1)


def test_reports_count_epochs():
    shape = plan(source("a", 100), source("b", 50, weight=2), lanes=4, batch_size_per_lane=6)
    assert shape.epochs_at(25) == {"a": 2.0, "b": 8.0}
    assert shape.offsets == (0, 100, 150)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lanes": 0}, "lanes = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"sources": ()}, "at least one"),
        ({"batch_size_per_lane": -1}, "batch_size_per_lane"),
    ],
)
def test_bad_shapes_are_named(change, line):
    with pytest.raises(UserError, match=line):
        dataclasses.replace(plan(source("a", 10)), **change)


def test_groups_must_add_up():
    with pytest.raises(UserError, match="data set a: 10 rows"):
        SourcePlan("a", 10, (4, 4))


def test_a_million_rows_and_steps_stay_cheap():
    big = plan(
        source("a", 1_000_000, group=32, weight=38119),
        source("b", 40_000, weight=25013),
        lanes=8,
        batch_size_per_lane=32,
        window_steps=8,
        steps=10**6,
    )
    big.item(0, 0)
    windows = [*range(100, 110), *range(124_900, 124_910)]
    start = time.process_time()
    for window in windows:
        for lane in range(8):
            big.item(window, lane)
    assert (time.process_time() - start) / (8 * len(windows)) < 0.005
