import contextlib
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, make_micro_batch
from hcmoco.data.schema import Person
from hcmoco.data.transforms import AugmentConfig
from hcmoco.data.validation import check_person
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person, crop_square

HEIGHT, WIDTH = 200, 300


def source(seed=0):
    """One synthetic picture in all modalities; the color of a pixel tells its column and row, its depth both."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ids = (rows * WIDTH + columns).astype(np.uint16) // 4 + 500
    return {
        "rgb": np.stack([columns * 255 // WIDTH, rows * 255 // HEIGHT, np.full_like(rows, 90)], -1).astype(np.uint8),
        "depth": ids,
        "parts": rng.integers(0, 25, (HEIGHT, WIDTH)).astype(np.uint8),
        "iuv": rng.integers(0, 25, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        "mask": np.where(columns > 100, 255, 0).astype(np.uint8),
        "camera": np.array([400.0, 410.0, 150.0, 100.0]),
        "keypoints": np.column_stack([rng.uniform(120, 180, (17, 2)) - (0, 60), np.ones(17)]),
        "joints3d": rng.normal(0, 1, (25, 3)),
        "dp_points": np.column_stack(
            [rng.uniform(120, 180, (5, 2)) - (0, 60), rng.integers(1, 25, 5), rng.random((5, 2))]
        ),
    }


def crop(box=(100.0, 40.0, 200.0, 160.0), size=320, **changes):
    values = {**source(), **changes}
    codec = values.pop("depth_codec", "png16")
    images = PersonImages(**{field.name: values.pop(field.name, None) for field in fields(PersonImages)})
    return crop_person(Person("made/1", "made", "train", size, box=np.array(box), **values), images, codec)


def test_a_good_record_has_no_fault():
    for codec in codecs.DEPTH_CODECS:
        for box in ((100.0, 40.0, 200.0, 160.0), (-30.0, -20.0, 120.0, 250.0), (10.5, 10.5, 14.5, 12.5)):
            assert check_person(crop(box, depth_codec=codec), 17, codec) == []
    row = crop().to_row(3)
    assert check_person(Person.from_row(row), 17) == []


def test_a_crop_smaller_than_size_is_a_copy():
    person = crop()
    x0, y0, side, width, height = person.crop
    assert (x0, y0, side, width, height) == (60, 10, 180, WIDTH, HEIGHT)
    assert person.size == 180
    given = source()
    window = np.s_[10:190, 60:240]
    assert np.array_equal(codecs.decode_depth(person.depth, "png16"), given["depth"][window])
    assert np.array_equal(codecs.decode_labels(person.parts), given["parts"][window])
    assert np.array_equal(codecs.decode_iuv(person.iuv), given["iuv"][window])
    assert np.array_equal(codecs.decode_labels(person.mask), given["mask"][window])
    assert np.abs(codecs.decode_rgb(person.rgb).astype(int) - given["rgb"][window]).mean() < 2
    assert np.allclose(person.keypoints[:, :2], given["keypoints"][:, :2] - (60, 10), atol=1e-4)
    assert np.allclose(person.dp_points[:, :2], given["dp_points"][:, :2] - (60, 10), atol=1e-4)
    assert person.camera.tolist() == [400, 410, 90, 90]
    assert person.box.tolist() == [40, 30, 140, 150]
    assert np.allclose(person.joints3d, given["joints3d"])


def test_a_larger_crop_shrinks_to_size_with_everything_in_it():
    person = crop(size=64)
    zoom = 64 / 180
    given = source()
    assert person.size == 64
    assert np.allclose(person.keypoints[:, :2], (given["keypoints"][:, :2] - (60, 10)) * zoom, atol=1e-4)
    assert np.allclose(person.camera, [400 * zoom, 410 * zoom, 90 * zoom, 90 * zoom])
    # A 3D point projects to the same place of the body before and after.
    point = np.array([0.3, -0.2, 2.0])
    before = np.array([400 * point[0] / 2 + 150, 410 * point[1] / 2 + 100])
    fx, fy, cx, cy = person.camera
    assert np.allclose([fx * point[0] / 2 + cx, fy * point[1] / 2 + cy], (before - (60, 10)) * zoom, atol=1e-4)
    # RGB and depth of a pixel both tell where it came from.
    depth, rgb = codecs.decode_depth(person.depth, "png16"), codecs.decode_rgb(person.rgb).astype(float)
    origin = (np.arange(64) + 0.5) / zoom
    ids = (depth.astype(int) - 500) * 4
    assert np.abs(ids // WIDTH + 0.5 - (origin + 10)[:, None]).max() <= 1.0
    assert np.abs(rgb[..., 0] * WIDTH / 255 - (origin + 60)[None])[:, 2:-2].mean() < 2.5
    assert set(np.unique(codecs.decode_labels(person.parts))) <= set(np.unique(given["parts"]))


def test_outside_the_picture_is_black_and_without_depth():
    person = crop((-40.0, 20.0, 60.0, 180.0))
    x0, y0 = person.crop[:2].astype(int)
    assert x0 < 0
    assert codecs.decode_rgb(person.rgb)[:, : -x0 - 8].max() < 8
    assert not codecs.decode_depth(person.depth, "png16")[:, :-x0].any()
    assert not codecs.decode_labels(person.parts)[:, :-x0].any()
    assert y0 == -20


def test_joints_beyond_the_picture_are_invisible_though_the_square_shows_that_place():
    keypoints = np.array([[-4.0, 20, 2], [0.0, 20, 2], [99.9, 20, 1], [100.0, 20, 2], [50, 99.99, 2]])
    given = Person("a/1", "a", "val", 300, box=np.array([0.0, 0, 100, 100]), keypoints=keypoints)
    person = crop_person(given, PersonImages(rgb=np.zeros((100, 100, 3), np.uint8)))
    assert person.crop.tolist() == [-25, -25, 150, 100, 100]
    assert person.keypoints[:, 2].tolist() == [0, 1, 1, 0, 1]
    assert not person.keypoints[[0, 3]].any()


def test_joints_outside_the_square_or_invisible_become_zero():
    keypoints = np.zeros((17, 3))
    keypoints[0] = 150, 100, 2
    keypoints[1] = 20, 100, 1
    keypoints[2] = 150, 100, 0
    keypoints[3] = np.nan, np.nan, 0
    person = crop(keypoints=keypoints)
    assert person.keypoints[0].tolist() == [90, 90, 1]
    assert not person.keypoints[1:].any()
    assert check_person(person, 17) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_joint_that_is_not_finite_survives_cropping_and_is_found(bad):
    keypoints = source()["keypoints"]
    keypoints[4, 1] = bad
    assert check_person(crop(keypoints=keypoints), 17) == ["keypoints: joint 4 is not finite"]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10, 10, 10, 20), "no area"),
        ((10, 10, np.nan, 20), "no area"),
        ((400, 10, 500, 20), "outside the 300 x 200 picture"),
        ((0, 0, 1e7, 10), "too large"),
    ],
)
def test_a_box_that_cannot_be_cropped_says_why(box, words):
    with pytest.raises(ValueError, match=words):
        crop_square(np.array(box), WIDTH, HEIGHT)


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="rgb 300 x 200, depth 300 x 100"):
        crop(depth=source()["depth"][:100])
    with pytest.raises(ValueError, match="no picture"):
        crop(rgb=None, depth=None, parts=None, iuv=None, mask=None)


def blank(shape, dtype=np.uint8, value=0):
    return np.full(shape, value, dtype)


FAULTS = {
    "truncated RGB": (lambda p: {"rgb": p.rgb[: len(p.rgb) // 2]}, "RGB: the JPEG is truncated"),
    "RGB cut with an end marker missing": (lambda p: {"rgb": p.rgb[:-2]}, "RGB: the JPEG is truncated"),
    "RGB empty": (lambda p: {"rgb": b""}, "RGB: the image is empty"),
    "RGB is not an image": (lambda p: {"rgb": b"<html>" * 50}, "RGB: the image is neither"),
    "RGB of another size": (lambda p: {"rgb": codecs.encode_rgb(blank((90, 90, 3)))}, "RGB: the image is 90 x 90"),
    "truncated depth": (lambda p: {"depth": p.depth[:-20]}, "depth: the PNG is truncated"),
    "8-bit depth": (
        lambda p: {"depth": codecs.encode_labels(blank((180, 180)))},
        "depth: the depth image is a PNG of 8 bits",
    ),
    "depth in tenths": (
        lambda p: {"depth": codecs.encode_depth(blank((180, 180), np.uint16, 25000), "png16")},
        "depth: 100% .* millimeters",
    ),
    "no depth": (
        lambda p: {"depth": codecs.encode_depth(blank((180, 180), np.uint16), "png16")},
        "depth: there is no reading",
    ),
    "a part 25": (
        lambda p: {"parts": codecs.encode_labels(blank((180, 180), value=25))},
        r"parts: there are labels \[25\]",
    ),
    "a chart 200": (lambda p: {"iuv": codecs.encode_iuv(blank((180, 180, 3), value=200))}, "IUV: there is a chart 200"),
    "colored mask": (lambda p: {"mask": codecs.encode_iuv(blank((180, 180, 3)))}, "mask: the label image"),
    "a joint too few": (lambda p: {"keypoints": p.keypoints[1:]}, r"keypoints: the shape is \[16, 3\]"),
    "visibility 2": (lambda p: {"keypoints": p.keypoints * (1, 1, 2)}, "keypoints: there is a visibility 2"),
    "3D joint": (lambda p: {"joints3d": p.joints3d * np.inf}, "3D joints: there is a value that is not finite"),
    "surface points": (lambda p: {"dp_points": p.dp_points[:, :4]}, "surface points: the shape"),
    "camera": (lambda p: {"camera": p.camera * (-1, 1, 1, 1)}, "camera: .* above 0"),
    "crop": (lambda p: {"crop": p.crop[:4]}, "crop: .* not 5 finite"),
    "box": (lambda p: {"box": p.box[::-1]}, "box: .* no area"),
    "box beside": (lambda p: {"box": p.box + 180}, "box: .* no area in the picture"),
    "huge box": (lambda p: {"box": np.float32([0, 0, 1e30, 50])}, "box: .* larger than the 180 x 180"),
    "id": (lambda p: {"id": "  "}, "the id '  ' is empty"),
    "id surrogate": (lambda p: {"id": "made/\udcff"}, "the id .* is not valid Unicode"),
    "size": (lambda p: {"size": 0}, "the size 0 is not"),
    "no modality": (lambda p: {"rgb": None, "depth": None, "keypoints": p.keypoints * 0}, "no modality"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_is_found_and_named(name):
    change, words = FAULTS[name]
    person = crop()
    reasons = check_person(replace(person, **change(person)), 17)
    assert len(reasons) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(reasons[0])


def test_keypoints_alone_are_a_modality():
    assert check_person(replace(crop(), rgb=None, depth=None), 17) == []


def mutate(person: Person, rng: np.random.Generator) -> Person:
    """One field damaged: bytes with flipped bits, cut, doubled or swapped for another field's; numbers replaced by
    hostile ones.
    """
    name = str(rng.choice([each.name for each in fields(Person) if getattr(person, each.name) is not None]))
    value = getattr(person, name)
    if isinstance(value, bytes):
        kind = rng.integers(5)
        if kind == 0:
            value = value[: rng.integers(len(value))]
        elif kind == 1:
            array = bytearray(value)
            for at in rng.integers(0, len(array), rng.integers(1, 9)):
                array[at] ^= 1 << int(rng.integers(8))
            value = bytes(array)
        elif kind == 2:
            at = rng.integers(min(len(value), 64))
            value = value[:at] + rng.bytes(4) + value[at + 4 :]
        elif kind == 3:
            at = rng.integers(len(value))
            value = value[:at] + value[at + rng.integers(1, 200) :]
        else:
            value = getattr(person, str(rng.choice(["rgb", "depth", "parts", "iuv", "mask"])))
    elif isinstance(value, np.ndarray):
        value = value.copy()
        value.flat[rng.integers(value.size)] = rng.choice([np.nan, np.inf, -1e30, 1e30, -5, 0])
    elif isinstance(value, int):
        value = int(rng.choice([-1, 0, 1, 179, 2**31, 16384]))
    else:
        value = str(rng.choice(["", "\x00", "\ud800", "x" * 10000]))
    return replace(person, **{name: value})


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("codec", codecs.DEPTH_CODECS)
def test_damaged_records_are_rejected_or_load_and_never_crash(codec):
    person = crop(depth_codec=codec)
    config = AugmentConfig(size=64)
    rejected = 0
    for seed in range(150):
        broken = mutate(person, np.random.default_rng(seed))
        reasons = check_person(broken, 17, codec)
        rejected += bool(reasons)
        rows, sources = [broken.to_row(0)], [SourceInfo("coco-17", codec)]
        draws = CollateConfig(config, "coco-17", 10), SampleKey(0, 0)
        if not reasons:
            assert np.isfinite(make_micro_batch(rows, [0], sources, *draws).keypoints).all(), seed
            continue
        with contextlib.suppress(ValueError):
            make_micro_batch(rows, [0], sources, *draws)
    assert rejected > 75


def test_checked_turns_faults_into_one_line():
    def broken():
        raise ValueError("two\nlines")

    assert checked("made/1", 17, broken) == Rejected("made/1", "two lines")
    assert checked("made/1", 16, crop) == Rejected("made/1", "keypoints: the shape is [17, 3], [16, 3] is needed")
    assert isinstance(checked("made/1", 17, crop), Person)
    assert len(Rejected("made/1", "9" * 4000).reason) <= 500
    assert Rejected("made/\ud800", "x").id == "made/\\ud800"


def test_a_large_picture_is_cropped_without_an_enlarged_copy():
    rgb = np.zeros((4000, 6000, 3), np.uint8)
    cv2.circle(rgb, (3000, 2000), 500, (255, 0, 0), -1)
    given = Person("a/1", "a", "train", 128, box=np.array([2500.0, 1500, 3500, 2500]))
    person = crop_person(given, PersonImages(rgb=rgb))
    seen = codecs.decode_rgb(person.rgb)[..., 0] > 128
    assert seen.sum() == pytest.approx(np.pi * (128 / 3) ** 2, rel=0.02)
