"""`augment.independent`: each modality of a row in a crop of its own, and cells, joints and points matched through the
crops. The pictures here say of every pixel where in the source it comes from."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hcmoco.config import build, fingerprint, load_recipe
from hcmoco.data import codecs
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, draw_anchors, make_micro_batch, row_crops
from hcmoco.data.crop_pairs import between, cell_centers, matched_cells
from hcmoco.data.points import crop_rays, draw_points
from hcmoco.data.schema import Batch, Person
from hcmoco.data.skeletons import joint_set
from hcmoco.data.transforms import AugmentConfig, crop_matrix
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco_ray.config import PretrainRecipe
from tests.data.test_collate import SOURCES as BLOCKS
from tests.data.test_collate import person_row
from tests.helpers import local_cotraining

ROOT = Path(__file__).resolve().parents[2]
SIDE, SIZE, GRID = 96, 64, 16
CAMERA = np.float32([100, 110, 47, 49])
RANGES = {"size": SIZE, "scale": (0.7, 1.2), "shift": 0.15, "rotation": 40.0, "rotation_probability": 1.0}
CONFIG = AugmentConfig(**RANGES, flip_probability=0.5, independent=True)
SHARED = CONFIG.model_copy(update={"independent": False})
STILL = AugmentConfig(size=SIZE, scale=(1.1, 1.1), shift=0, rotation_probability=0)
SOURCES = (SourceInfo("mpii-16"),)
JOINTS = joint_set("mpii-16")


def painted_row(index: int = 0, **without) -> dict:
    """RGB is (20 + 2x, 20 + 2y, 255) at column x and row y; depth is 1000 + 96 y + x; a joint is anywhere on it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rgb = np.stack([20 + 2 * x, 20 + 2 * y, np.full_like(x, 255)], -1).astype(np.uint8)
    joints = np.random.default_rng(index).uniform(8, 88, (len(JOINTS), 2))
    person = Person(
        f"painted/{index}", "painted", "train", SIDE,
        rgb=codecs.encode_png(rgb), depth=codecs.encode_depth((1000 + SIDE * y + x).astype(np.uint16), "png16"),
        keypoints=np.column_stack([joints, np.ones(len(joints))]).astype(np.float32), camera=CAMERA,
        box=np.array([18, 18, 78, 78]),
    )  # fmt: skip
    return {**person.to_row(index), **without}


def make(rows, augment=CONFIG, *, step=0, seed=0, sources=SOURCES, train=True, **options) -> Batch:
    config = CollateConfig(**{"augment": augment, "joint_set": "mpii-16", "num_anchors": 60, **options})
    return make_micro_batch(rows, [0] * len(rows), sources, config, SampleKey(seed, step, 1), train=train)


def source_of_rgb(rgb_SS3: np.ndarray, places_N2: np.ndarray) -> np.ndarray:
    """float64 [N, 2]: x, y in the source picture that the colors at places of the crop (cell middles) tell, NaN where
    a place is outside the source."""
    column, row = places_N2.astype(int).T
    around = np.stack([rgb_SS3[row + dy, column + dx] for dy, dx in product((-1, 0), (-1, 0))]).astype(np.float64)
    found = (around[..., :2].mean(0) - 20) / 2 + 0.5
    return np.where((around[..., 2] == 255).all(0)[:, None], found, np.nan)


def source_of_depth(depth_SS: np.ndarray, places_N2: np.ndarray) -> np.ndarray:
    """The same from the readings; off by up to a pixel, since the nearest is taken."""
    column, row = places_N2.astype(int).T
    reading = depth_SS[row, column].astype(np.float64) - 1000
    return np.stack([reading % SIDE, reading // SIDE], -1) + 0.5


@pytest.mark.parametrize("num_points", [0, 300])
def test_matched_cells_show_the_same_place_of_the_source(num_points):
    """Within a cell: half its diagonal, and what the nearest reading is off."""
    middles, off, shared_off, entered = cell_centers(SIZE), [], [], 0
    for step in range(12):
        rows = [painted_row()]
        batch = make(rows, step=step, num_points=num_points)
        anchors, rgb_anchors = batch.anchors[0], batch.rgb_anchors[0]
        assert ((anchors < 0) == (rgb_anchors < 0)).all()
        valid = anchors >= 0
        entered += valid.sum()
        from_rgb = source_of_rgb(batch.rgb[0], middles[rgb_anchors[valid]])
        from_depth = source_of_depth(batch.depth[0], middles[anchors[valid]])
        zoom = np.sqrt(abs(np.linalg.det(row_crops(rows[0], CONFIG, SampleKey(0, step, 1)).rgb.matrix_23[:, :2])))
        off.append(np.linalg.norm(from_rgb - from_depth, axis=1) - 2 * np.sqrt(2) / zoom)
        # Were the crops shared, the same cell would be the same place; here it is another one.
        shared_off.append(np.linalg.norm(source_of_rgb(batch.rgb[0], middles[anchors[valid]]) - from_depth, axis=1))
    assert entered > 500
    assert np.nanmax(np.concatenate(off)) < 1.3
    assert np.isfinite(np.concatenate(off)).mean() > 0.8
    assert np.nanmedian(np.concatenate(shared_off)) > 6


def test_anchors_are_distinct_readings_that_the_rgb_crop_shows():
    batch = make([painted_row(n) for n in range(8)])
    for depth, anchors in zip(batch.depth, batch.anchors, strict=True):
        valid = anchors[anchors >= 0]
        assert len(set(valid)) == len(valid) > 20
        assert depth[valid // GRID * 4, valid % GRID * 4].all()
    repeated = make([painted_row()], anchors_with_replacement=True, num_anchors=400)
    assert (repeated.rgb_anchors >= 0).all()


def test_as_many_anchors_as_the_two_crops_share():
    """Cells that RGB does not show are left out before the draw, not after it."""
    for step in range(6):
        crops = row_crops(painted_row(), CONFIG, SampleKey(0, step, 1))
        batch = make([painted_row()], step=step, num_anchors=GRID * GRID)
        partner = matched_cells(crops.depth.matrix_23, crops.rgb.matrix_23, SIZE)
        shown = np.flatnonzero((partner >= 0) & (batch.depth[0, ::4, ::4].ravel() > 0))
        assert set(batch.anchors[0]) - {-1} == set(shown)


def test_cells_by_hand():
    """Every middle taken to the source and back by itself."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        first, second = (
            crop_matrix(tuple(rng.uniform(40, 56, 2)), rng.uniform(40, 70), SIZE, rng.uniform(-60, 60), bool(mirror))
            for mirror in rng.integers(0, 2, 2)
        )
        found = matched_cells(first, second, SIZE)
        for cell in range(GRID * GRID):
            middle = np.array([cell % GRID * 4 + 2, cell // GRID * 4 + 2])
            source = np.linalg.solve(first[:, :2], middle - first[:, 2])
            x, y = second[:, :2] @ source + second[:, 2]
            inside = 0 <= x < SIZE and 0 <= y < SIZE
            assert found[cell] == (int(y // 4) * GRID + int(x // 4) if inside else -1)


def test_there_and_back_is_the_same_place():
    first, second = crop_matrix((44, 51), 60, SIZE, 33), crop_matrix((50, 40), 48, SIZE, -20, flip=True)
    there, back = between(first, second), between(second, first)
    places = np.random.default_rng(0).uniform(0, SIZE, (50, 2))
    moved = places @ there[:, :2].T + there[:, 2]
    assert np.abs(moved - places).max() > 10
    assert np.allclose(moved @ back[:, :2].T + back[:, 2], places, atol=1e-10)
    assert np.allclose(between(first, first), np.eye(2, 3), atol=1e-12)
    assert np.array_equal(matched_cells(first, first, SIZE), np.arange(GRID * GRID))
    # The roles exchanged: a partner's partner is the cell itself or one that touches it.
    forth, home = matched_cells(first, second, SIZE), matched_cells(second, first, SIZE)
    known = forth >= 0
    again = home[forth[known]]
    cells = np.flatnonzero(known)[again >= 0]
    again = again[again >= 0]
    assert len(cells) > 50
    assert np.abs(again // GRID - cells // GRID).max() <= 1
    assert np.abs(again % GRID - cells % GRID).max() <= 1


def test_joints_are_found_at_their_coordinates_in_both_crops():
    seen = {"rgb": 0, "depth": 0}
    for step in range(16):
        row = painted_row(step)
        batch = make([row], step=step)
        stored = np.asarray(row["keypoints"]).reshape(-1, 3)[:, :2]
        crops = row_crops(row, CONFIG, SampleKey(0, step, 1))
        truth = stored[JOINTS.flip] if crops.rgb.flipped else stored  # a mirrored left wrist is a right one
        for name, crop in (("rgb", crops.rgb), ("depth", crops.depth)):
            joints = getattr(batch, f"{name}_keypoints")[0]
            moved = truth @ crop.matrix_23[:, :2].T + crop.matrix_23[:, 2]
            inside = ((moved >= 0) & (moved < SIZE)).all(1)
            assert (joints[:, 2] > 0).tolist() == inside.tolist(), "visibility is each crop's own"
            assert not joints[~inside].any()
            inner = inside & ((moved >= 2) & (moved < SIZE - 2)).all(1)
            seen[name] += inner.sum()
            if name == "rgb":
                found = source_of_rgb(batch.rgb[0], np.round(joints[inner, :2]))
                assert np.nanmax(np.abs(found - truth[inner])) < 1.6
            else:
                found = source_of_depth(batch.depth[0], joints[inner, :2])
                assert np.abs(found - truth[inner]).max() < 1.6
    assert min(seen.values()) > 100


def test_visibility_differs_by_crop():
    batch = make([painted_row(n) for n in range(16)])
    shown = [each[..., 2] > 0 for each in (batch.rgb_keypoints, batch.depth_keypoints, batch.keypoints)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (shown[one] & ~shown[other]).any()
        assert (shown[other] & ~shown[one]).any()


def test_one_mirror_for_all_modalities():
    """A mirrored person's left is their right, in every modality: sides would be exchanged between them."""
    mirrored = []
    for step in range(40):
        crops = row_crops(painted_row(), CONFIG, SampleKey(0, step, 1))
        flags = [each.flipped for each in (crops.rgb, crops.depth, crops.keypoints)]
        signs = [np.linalg.det(each.matrix_23[:, :2]) < 0 for each in (crops.rgb, crops.depth, crops.keypoints)]
        assert flags == signs
        assert len(set(flags)) == 1
        mirrored.append(flags[0])
    assert 8 < sum(mirrored) < 32
    assert not any(crops.flipped for crops in vars(row_crops(painted_row(), STILL, SampleKey(0, 0))).values())


def test_crops_are_of_their_own_and_a_function_of_seed_step_lane_and_position():
    rows = [painted_row(n) for n in range(3)]
    batch, again = make(rows), make([dict(row) for row in rows])
    assert differing(batch, again) == []
    alone = make(rows[:1])
    assert differing(batch.part(slice(0, 1)), alone) == []
    for change in ({"step": 1}, {"seed": 1}):
        other = make(rows, **change)
        for name in ("rgb", "depth", "keypoints", "rgb_to_depth"):
            assert not np.array_equal(getattr(batch, name), getattr(other, name)), (change, name)
    matrices = [vars(row_crops(rows[0], CONFIG, SampleKey(0, step))).values() for step in range(50)]
    turns = np.array([[np.arctan2(*each.matrix_23[1, :2]) for each in crops] for crops in matrices])
    assert np.abs(np.corrcoef(turns.T)[np.triu_indices(3, 1)]).max() < 0.4


def differing(one: Batch, other: Batch) -> list[str]:
    names = [field.name for field in dataclasses.fields(Batch)]
    return [name for name in names if not np.array_equal(getattr(one, name), getattr(other, name))]


def test_rgb_is_cropped_as_without_the_key_and_rows_of_one_picture_as_a_whole():
    rows = [painted_row(n) for n in range(4)]
    own, shared = make(rows), make(rows, SHARED)
    assert {"rgb", "rgb_keypoints"}.isdisjoint(differing(own, shared))
    assert {"depth", "depth_keypoints", "keypoints", "rgb_anchors", "rgb_to_depth"} <= set(differing(own, shared))
    for lacking in ("rgb", "depth"):
        rows = [painted_row(n, **{lacking: None}) for n in range(4)]
        assert differing(make(rows), make(rows, SHARED)) == []
    rows = [painted_row(n) for n in range(4)]
    assert differing(make(rows, train=False), make(rows, SHARED, train=False)) == [], "fixed crops are one crop"


@pytest.mark.parametrize("num_points", [0, 300])
def test_equal_affines_give_the_shared_batch(num_points):
    rows = [painted_row(n) for n in range(3)]
    own = make(rows, STILL.model_copy(update={"independent": True}), num_points=num_points)
    shared = make(rows, STILL, num_points=num_points)
    found = differing(own, shared)
    assert set(found) <= {"rgb_to_depth"}
    assert np.allclose(own.rgb_to_depth, shared.rgb_to_depth, atol=1e-6)


def test_points_keep_their_anchors_and_their_rays_are_those_of_the_depth_crop():
    for step in range(6):
        row = painted_row()
        batch = make([row], step=step, num_points=300)
        crops = row_crops(row, CONFIG, SampleKey(0, step, 1))
        points, anchors = batch.points[0], batch.anchors[0]
        cells = points // SIZE // 4 * GRID + points % SIZE // 4
        valid = anchors >= 0
        assert valid.sum() > 20
        assert (cells[: len(anchors)][valid] == anchors[valid]).all()
        assert batch.depth[0].ravel()[points].all()
        assert np.allclose(batch.rays[0], crop_rays(CAMERA, crops.depth.matrix_23), atol=1e-6)


def test_draws_among_some_cells_alone():
    depth = np.full((SIZE, SIZE), 900, np.uint16)
    among = np.zeros(GRID * GRID, bool)
    among[[3, 40, 41, 200]] = True
    assert set(draw_anchors(depth, 10, make_rng(0, "anchors"), among_G=among)) == {3, 40, 41, 200, -1}
    points, anchors = draw_points(depth, 2000, 10, make_rng(0, "points"), among_G=among)
    assert set(anchors) == {3, 40, 41, 200, -1}
    assert len(set(points)) == 2000, "all points are read, wherever they lie"


def test_shared_crops_are_drawn_as_they_always_were():
    """Literals of the code before there was the key: a paper run resumes."""
    config = AugmentConfig(size=64, flip_probability=0.5)
    rows = [person_row(index) for index in range(3)]
    key = SampleKey(3, 5, 2)
    batch = make_micro_batch(rows, [0] * 3, BLOCKS, CollateConfig(config, "common-13", 6), key)
    assert batch.anchors.tolist() == [
        [105, 54, 231, 137, 149, 202], [248, 39, 221, 104, 201, 170], [203, 233, 182, 248, 180, 68]
    ]  # fmt: skip
    assert batch.rgb_anchors.tolist() == batch.anchors.tolist()
    joints = [
        [[17.544, 46.53, 1], [20.087, 29.485, 1]],
        [[21.373, 18.26, 1], [32.396, 36.789, 1]],
        [[44.751, 27.351, 1], [41.082, 48.952, 1]],
    ]
    assert np.allclose(batch.keypoints[:, :2], joints, atol=6e-4)
    for name in ("rgb_keypoints", "depth_keypoints"):
        assert np.array_equal(getattr(batch, name), batch.keypoints)
    assert np.array_equal(batch.rgb_to_depth, np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1)))
    rows = [{**row, "camera": np.float32([100, 100, 48, 48])} for row in rows]
    batch = make_micro_batch(rows, [0] * 3, BLOCKS, CollateConfig(config, "common-13", 6, num_points=9), key)
    assert batch.points[1].tolist() == [2452, 740, 1554, 2086, 2926, 2907, 2835, 3099, 3417]
    assert batch.anchors[1].tolist() == [149, 41, 100, 137, 187, 182]


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        ("paper-w18", "3f35700d0e23355cf090982d4be2ac454f25de9e3d39d946cef7a93d8c66ac67"),
        ("as-released", "49e90e4eb62aaa7fb802eea2ef38d47010a6c865a1db5fe9b86b884fc426b7d7"),
    ],
)
def test_a_recipe_without_the_key_has_the_identity_that_it_had(recipe, digest):
    values = load_recipe(ROOT / f"recipes/{recipe}.yaml")
    assert fingerprint(build(PretrainRecipe, values, recipe).identity()) == digest
    own = {**values, "augment": {**values.get("augment", {}), "independent": True}}
    assert fingerprint(build(PretrainRecipe, own, recipe).identity()) != digest


def test_a_co_training_has_one_crop():
    with pytest.raises(UserError, match=r"augment.independent: .*set it to false"):
        local_cotraining.tiny_config({"augment": {"size": 64, "independent": True}})
