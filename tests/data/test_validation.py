"""Faults of scenes: each is found and named, and no damage crashes; and depth in another unit than millimeters."""

from dataclasses import replace

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Instance, Person, Scene
from hcmoco.data.validation import check_person, check_scene

WIDTH, HEIGHT = 60, 40


def scene(**changes) -> Scene:
    """Two people, one of them without labels of the surface, and a crowd; `changes` are to the scene."""
    rng = np.random.default_rng(0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:30, 10:25] = 255
    points = np.column_stack(
        [rng.uniform(10, 25, 9), rng.uniform(5, 30, 9), rng.integers(1, 25, 9), rng.random((9, 2))]
    ).astype(np.float32)
    instances = [
        Instance(np.array([10, 5, 25, 30], np.float32), codecs.encode_labels(mask), points),
        Instance(np.array([-3, 0, 8.5, 44], np.float32)),
        Instance(np.array([40, 0, 60, 40], np.float32), crowd=True),
    ]
    rgb = codecs.encode_rgb(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return Scene(**{**vars(Scene("a/1", "a", "val", rgb, WIDTH, HEIGHT, instances)), **changes})


def with_first(**changes) -> Scene:
    first, *others = scene().instances
    return scene(instances=[replace(first, **changes), *others])


def points(column: int, value: float) -> np.ndarray:
    changed = scene().instances[0].dp_points.copy()
    changed[4, column] = value
    return changed


def test_a_good_scene_has_no_fault():
    assert check_scene(scene()) == []
    assert check_scene(scene(instances=[])) == []
    row = scene().to_row(3)
    assert row["index"] == 3
    assert check_scene(Scene.from_row(row)) == []


FAULTS = {
    "id": (scene(id=" "), "the id ' ' is empty"),
    "split": (scene(split="\udcff"), "not valid Unicode"),
    "size": (scene(width=0), "the size 0 x 40 is not of whole numbers"),
    "another size": (scene(width=61, instances=[]), "RGB: the image is 60 x 40 pixels, 61 x 40 are declared"),
    "truncated": (scene(rgb=scene().rgb[:-40]), "RGB: the JPEG is truncated"),
    "no RGB": (scene(rgb=None), "RGB: "),
    "box": (with_first(box=np.array([25, 5, 10, 30], np.float32)), "instance 0: box: .* no area"),
    "box of nan": (with_first(box=np.array([np.nan, 5, 10, 30], np.float32)), "instance 0: box: .* not 4 finite"),
    "box outside": (
        with_first(box=np.array([60, 5, 70, 30], np.float32)),
        "instance 0: box: .* no area in the picture",
    ),
    "box too large": (
        with_first(box=np.array([0, 0, 30, 90], np.float32)),
        "instance 0: box: .* larger than the 60 x 40",
    ),
    "mask of another size": (
        with_first(mask=codecs.encode_labels(np.full((60, 40), 255, np.uint8))),
        "instance 0: mask: the image is 40 x 60",
    ),
    "mask of ones": (
        with_first(mask=codecs.encode_labels(np.ones((40, 60), np.uint8))),
        "instance 0: mask: there is a value 1",
    ),
    "empty mask": (
        with_first(mask=codecs.encode_labels(np.zeros((40, 60), np.uint8))),
        "instance 0: mask: it is empty",
    ),
    "colored mask": (with_first(mask=scene().rgb), "instance 0: mask: the label image"),
    "chart 0": (with_first(dp_points=points(2, 0)), "instance 0: surface points: there is a chart 0"),
    "chart 25": (with_first(dp_points=points(2, 25)), "there is a chart 25"),
    "half a chart": (with_first(dp_points=points(2, 2.5)), "there is a chart 2.5"),
    "U": (with_first(dp_points=points(3, 1.5)), "there is a U or V outside"),
    "V of nan": (with_first(dp_points=points(4, np.nan)), "not finite"),
    "point outside": (with_first(dp_points=points(1, 40.5)), "there is a point outside the picture"),
    "no points": (with_first(dp_points=np.zeros((0, 5), np.float32)), "surface points: there is none"),
    "points of four numbers": (with_first(dp_points=points(2, 1)[:, :4]), "the shape is"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_is_found_and_named(name):
    broken, words = FAULTS[name]
    reasons = check_scene(broken)
    assert len(reasons) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(reasons[0])


def test_all_faults_are_named():
    both = scene(id="", instances=[Instance(np.zeros(4, np.float32)), Instance(np.zeros(3, np.float32), mask=b"")])
    assert [reason.split(" ")[0:2] for reason in check_scene(both)] == [
        ["the", "id"],
        ["instance", "0:"],
        ["instance", "1:"],
        ["instance", "1:"],
    ]


def test_damaged_bytes_never_crash():
    whole = scene()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        data = bytearray(whole.rgb if seed % 2 else whole.instances[0].mask)
        for at in rng.integers(0, len(data), rng.integers(1, 9)):
            data[at] ^= 1 << int(rng.integers(8))
        data = bytes(data[: rng.integers(len(data))] if seed % 3 == 0 else data)
        reasons = check_scene(scene(rgb=data) if seed % 2 else with_first(mask=data))
        assert all(isinstance(reason, str) for reason in reasons)
        assert reasons or seed % 3 != 0


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (2, "depth: half of the readings are nearer than 2 mm; the unit must be millimeters"),  # whole meters
        (2000, None),
        (20001, "depth: 100% of the readings are beyond 20 m; the unit must be millimeters"),  # tenths of a millimeter
    ],
)
def test_no_readers_depth_is_in_another_unit(reading, reason):
    depth = codecs.encode_depth(np.full((32, 32), reading, np.uint16), "png16")
    assert check_person(Person("a/1", "a", "train", 32, depth=depth), 17) == ([reason] if reason else [])
