from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, draw_anchors, make_micro_batch, row_augmentation
from hcmoco.data.schema import Batch, Person
from hcmoco.data.skeletons import COMMON_13, convert
from hcmoco.data.transforms import AugmentConfig
from hcmoco.rng import make_rng

CONFIG = AugmentConfig(size=64, flip_probability=0.5)
SOURCES = (SourceInfo("people-31", "zstd-delta", 0), SourceInfo("coco-17", "png16", 1000))
STILL = AugmentConfig(size=96, scale=(1.5, 1.5), shift=0, rotation_probability=0, center_scale=1.5)


def person_row(index, joints=31, codec="zstd-delta", size=96, **without):
    rng = np.random.default_rng(index)
    rgb = rng.integers(0, 256, (size // 8, size // 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    depth = np.zeros((size, size), np.uint16)
    depth[20:80, 30:66] = rng.integers(1500, 3000, (60, 36))
    keypoints = np.column_stack([rng.uniform(30, 66, (joints, 2)), np.ones(joints)])
    person = Person(
        f"made/{index}", "made", "train", size,
        rgb=codecs.encode_rgb(rgb), depth=codecs.encode_depth(depth, codec), keypoints=keypoints,
        box=np.array([32, 16, 64, 80]),
    )  # fmt: skip
    return {**person.to_row(index), **without}


def make(rows, numbers=None, **options):
    key = {name: options.pop(name) for name in ("step", "lane", "seed", "view") if name in options}
    train = options.pop("train", True)
    config = CollateConfig(**{"augment": CONFIG, "joint_set": "common-13", "num_anchors": 20, **options})
    key = SampleKey(**{"seed": 0, "step": 5, "lane": 2, **key})
    return make_micro_batch(rows, numbers or [0] * len(rows), SOURCES, config, key, train=train)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_shapes_flags_and_bank_rows():
    rows = [
        person_row(3),
        person_row(4, rgb=None),
        person_row(5, joints=17, codec="png16", depth=None),
        person_row(6, keypoints=None),
    ]
    batch = make(rows, [0, 0, 1, 0])
    assert batch.rgb.shape == (4, 64, 64, 3)
    assert (batch.rgb.dtype, batch.depth.dtype, batch.keypoints.dtype) == (np.uint8, np.uint16, np.float32)
    assert (batch.index.dtype, batch.source.dtype, batch.anchors.dtype) == (np.int64, np.int64, np.int64)
    assert batch.has_rgb.tolist() == [True, False, True, True]
    assert batch.has_depth.tolist() == [True, True, False, True]
    assert batch.has_keypoints.tolist() == [True, True, True, False]
    assert batch.index.tolist() == [3, 4, 1005, 6]
    assert batch.source.tolist() == [0, 0, 1, 0]
    assert not batch.rgb[1].any()
    assert not batch.depth[2].any()
    assert not batch.keypoints[3].any()
    assert (batch.anchors[2] == -1).all()


def test_an_untouched_crop_returns_what_was_stored():
    row = person_row(1)
    batch = make([row], augment=STILL, train=False)
    assert np.array_equal(batch.rgb[0], codecs.decode_rgb(row["rgb"]))
    assert np.array_equal(batch.depth[0], codecs.decode_depth(row["depth"], "zstd-delta"))
    stored = np.asarray(row["keypoints"], np.float32).reshape(31, 3)
    assert np.allclose(batch.keypoints[0], convert(stored, "people-31", "common-13"), atol=1e-4)


def test_draws_depend_on_step_lane_and_position_only():
    rows = [person_row(index) for index in range(3)]
    whole = make(rows)
    assert same(whole, make([dict(row) for row in rows]))
    alone = make([rows[0]])
    assert np.array_equal(whole.rgb[:1], alone.rgb)
    assert np.array_equal(whole.anchors[:1], alone.anchors)
    for change in ({"step": 6}, {"lane": 3}, {"seed": 1}, {"view": 1}):
        assert not np.array_equal(whole.rgb, make(rows, **change).rgb), change
    assert not np.array_equal(make([rows[0]] * 2).rgb[0], make([rows[0]] * 2).rgb[1])


def test_threads_give_the_same_batches():
    rows = [person_row(index) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda lane: make(rows, lane=lane), range(8)))
    assert all(same(batch, make(rows, lane=lane)) for lane, batch in enumerate(threaded))


def test_the_matrix_of_a_row_is_the_one_that_was_used():
    row = person_row(0)
    joints = convert(np.asarray(row["keypoints"], np.float32).reshape(31, 3), "people-31", "common-13")
    for view in (0, 1, 2):
        batch = make([row], view=view)
        used = row_augmentation(row, CONFIG, SampleKey(0, 5, 2, view=view))
        moved = joints[:, :2] @ used.matrix_23[:, :2].T + used.matrix_23[:, 2]
        moved = moved[COMMON_13.flip] if used.flipped else moved
        seen = batch.keypoints[0, :, 2] > 0
        assert seen.any()
        assert np.allclose(batch.keypoints[0, seen, :2], moved[seen], atol=1e-3)


def test_anchors_are_distinct_valid_cells():
    rng = np.random.default_rng(0)
    depth = rng.integers(0, 3, (64, 64)).astype(np.uint16)
    valid = [16 * (r // 4) + c // 4 for r in range(0, 64, 4) for c in range(0, 64, 4) if depth[r, c]]
    few = draw_anchors(depth, 20, make_rng(0, "anchors", 1))
    assert len(set(few)) == 20
    assert set(few) <= set(valid)
    assert few.tolist() == draw_anchors(depth, 20, make_rng(0, "anchors", 1)).tolist()
    every = draw_anchors(depth, 300, make_rng(0, "anchors", 1))
    assert every[: len(valid)].tolist() == valid
    assert (every[len(valid) :] == -1).all()
    # Each cell is as likely as another.
    hits = np.bincount(
        np.concatenate([draw_anchors(depth, 20, make_rng(0, "anchors", i)) for i in range(2000)]), minlength=256
    )
    assert hits[valid].min() > 0.6 * 2000 * 20 / len(valid)


def test_anchors_with_replacement_are_as_many_as_asked_for():
    depth = np.zeros((64, 64), np.uint16)
    depth[8, 12] = depth[20, 40] = depth[60, 60] = 900
    depth[5:8, 1:4] = 900  # between the cells' pixels
    drawn = draw_anchors(depth, 600, make_rng(0, "anchors", 1), replace=True)
    cells, hits = np.unique(drawn, return_counts=True)
    assert cells.tolist() == [2 * 16 + 3, 5 * 16 + 10, 15 * 16 + 15]
    assert hits.min() > 150
    assert (draw_anchors(np.zeros((64, 64), np.uint16), 5, make_rng(0, "anchors", 1), replace=True) == -1).all()
    rows = [person_row(1), person_row(2, depth=None)]
    distinct, repeated = make(rows), make(rows, num_anchors=256, anchors_with_replacement=True)
    assert len(set(distinct.anchors[0])) == 20
    assert len(set(repeated.anchors[0])) < 256
    assert repeated.depth[0, ::4, ::4].ravel()[repeated.anchors[0]].all()
    assert (repeated.anchors[1] == -1).all()


def test_a_crop_that_shows_nothing_of_a_modality_has_no_flag_for_it():
    empty = codecs.encode_depth(np.zeros((96, 96), np.uint16), "zstd-delta")
    corner = np.tile(np.float32([1, 1, 1]), 31)
    far = AugmentConfig(size=64, scale=(0.5, 0.5), shift=0, rotation_probability=0)
    batch = make([person_row(0, depth=empty, keypoints=corner)], augment=far)
    assert not batch.has_depth[0]
    assert not batch.has_keypoints[0]
    assert batch.has_rgb[0]


def test_micro_batches_join():
    joined = Batch.concatenate([make([person_row(1)]), make([person_row(2)], lane=3)])
    assert joined.index.tolist() == [1, 2]


@pytest.mark.parametrize(
    "broken",
    [
        {"rgb": b""},
        {"rgb": b"\xff\xd8\xff"},
        {"rgb": codecs.encode_rgb(np.zeros((32, 96, 3), np.uint8))},
        {"depth": b"hcd1"},
        {"depth": codecs.encode_depth(np.zeros((96, 96), np.uint16), "png16")},
        {"keypoints": np.zeros(6, np.float32)},
        {"keypoints": np.zeros(7, np.float32)},
    ],
)
def test_a_row_that_does_not_decode_is_named(broken):
    with pytest.raises(ValueError, match="record 'made/7': "):
        make([person_row(1), person_row(7, **broken)])
