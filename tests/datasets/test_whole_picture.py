import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.body_parts import IGNORE, PART_NAMES, RAW_IDS, train_ids
from hcmoco.data.validation import check_person
from hcmoco.datasets.person_crop import whole_picture

HEIGHT, WIDTH = 424, 512


def picture(height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng(0)
    return {
        "rgb": np.full((height, width, 3), 200, np.uint8),
        "depth": rng.integers(500, 5000, (height, width)).astype(np.uint16),
        "parts": rng.integers(0, 25, (height, width)).astype(np.uint8),
        "camera": np.array([366.5, 366.5, 256.3, 208.5]),
        "keypoints": np.array([[100.5, 30.5, 2], [511.5, 423.5, 1], [10, 10, 0]]),
    }


def whole(size=512, box=None, **changes):
    return whole_picture(id="made/1", dataset="made", split="val", size=size, box=box, **{**picture(), **changes})


def test_the_picture_lies_in_the_middle_and_what_is_outside_is_nothing():
    person, given, top = whole(box=np.array([90, 20, 200, 424])), picture(), (WIDTH - HEIGHT) // 2
    inside = np.s_[top : top + HEIGHT]
    assert check_person(person, 3) == []
    assert person.size == WIDTH
    assert person.crop.tolist() == [0, -top, WIDTH, WIDTH, HEIGHT]
    rgb, depth, parts = (
        codecs.decode_rgb(person.rgb),
        codecs.decode_depth(person.depth, "png16"),
        codecs.decode_labels(person.parts),
    )
    assert np.array_equal(depth[inside], given["depth"])
    assert np.array_equal(parts[inside], given["parts"])
    outside = np.ones(WIDTH, bool)
    outside[inside] = False
    assert not depth[outside].any()
    assert (parts[outside] == IGNORE).all()
    assert rgb[:30].max() < 8
    assert np.abs(rgb[inside][8:-8].astype(int) - 200).max() < 4
    assert person.camera[3] == np.float32(208.5) + top
    assert person.keypoints.tolist() == [[100.5, 30.5 + top, 1], [511.5, 423.5 + top, 1], [0, 0, 0]]
    assert person.box.tolist() == [90, 20 + top, 200, 424 + top]


def test_a_tall_picture_a_square_one_and_one_of_odd_sides():
    for height, width, corner in ((512, 424, (-44, 0)), (64, 64, (0, 0)), (1002, 1000, (-1, 0)), (33, 40, (0, -3))):
        given = picture(height, width)
        person = whole(size=2000, keypoints=None, **{name: given[name] for name in ("rgb", "depth", "parts")})
        assert person.crop.tolist() == [*corner, max(height, width), width, height]
        x0, y0 = -corner[0], -corner[1]
        assert np.array_equal(codecs.decode_labels(person.parts)[y0 : y0 + height, x0 : x0 + width], given["parts"])
        assert person.box is None


def test_a_mirrored_picture_gives_the_mirrored_record():
    given = picture()
    mirrored = whole(depth=given["depth"][:, ::-1].copy(), parts=given["parts"][:, ::-1].copy())
    assert np.array_equal(
        codecs.decode_depth(mirrored.depth, "png16"), codecs.decode_depth(whole().depth, "png16")[:, ::-1]
    )
    assert np.array_equal(codecs.decode_labels(mirrored.parts), codecs.decode_labels(whole().parts)[:, ::-1])


def test_a_larger_picture_shrinks_and_no_label_is_blended():
    person = whole(size=200)
    assert person.size == 200
    parts = codecs.decode_labels(person.parts, 200)
    assert set(np.unique(parts)) <= {*range(25), IGNORE}
    # 44 of 512 rows at 200: the picture begins at 17.2.
    assert (parts[:17] == IGNORE).all()
    assert (parts[18:182] != IGNORE).all()


def test_raw_ids_become_train_ids_and_others_are_named():
    assert np.array_equal(train_ids(np.array([[*RAW_IDS, 255]], np.uint8)), [[*range(len(PART_NAMES)), IGNORE]])
    with pytest.raises(ValueError, match=r"raw part ids \[4, 9, 59\]"):
        train_ids(np.array([0, 9, 4, 59, 4], np.uint8))
