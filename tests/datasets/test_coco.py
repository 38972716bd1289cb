import json
from pathlib import Path

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.skeletons import COCO_17, convert
from hcmoco.datasets import coco, keypoints
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.coco import CocoConfig
from hcmoco.datasets.mpii import MpiiConfig
from hcmoco.errors import UserError
from tests.helpers import coco_files
from tests.helpers.real_samples import real_sample


def annotation(id, **changes):
    keypoints = [value for j in range(17) for value in (100 + 3 * j, 50 + 4 * j, j % 3)]
    values = {
        "id": id,
        "image_id": 1,
        "category_id": 1,
        "bbox": [90, 40, 70, 100],
        "area": 3000.0,
        "iscrowd": 0,
        "keypoints": keypoints,
    }
    return {**values, **changes}


def written(tmp_path, people, **changes):
    (tmp_path / "train 2014").mkdir()
    (tmp_path / "train 2014" / "ein Bild.jpg").write_bytes(codecs.encode_rgb(np.full((200, 300, 3), 99, np.uint8)))
    content = {
        "images": [{"id": 1, "file_name": "ein Bild.jpg", "width": 300, "height": 200}],
        "annotations": people,
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        **changes,
    }
    (tmp_path / "people.json").write_text(json.dumps(content))
    return coco.CocoConfig(annotations=str(tmp_path / "people.json"), images=str(tmp_path / "train 2014"), padding=1.0)


def test_keypoints_and_box_are_moved_into_the_crop(tmp_path):
    (person,) = read_all(coco.READER, written(tmp_path, [annotation(7)]))
    assert person.id == "coco/7"
    x0, y0, side, width, height = person.crop
    assert (x0, y0, side, width, height) == (50, 15, 150, 300, 200)
    assert np.allclose(person.box, [40, 25, 110, 125])
    given = np.array(annotation(7)["keypoints"]).reshape(17, 3)
    # v = 1, occluded, counts; a keypoint names a pixel, whose center is half a pixel on.
    assert np.array_equal(person.keypoints[:, 2], given[:, 2] > 0)
    seen = given[:, 2] > 0
    assert np.allclose(person.keypoints[seen, :2], given[seen, :2] + 0.5 - (50, 15), atol=1e-4)
    assert not person.keypoints[~seen].any()


def test_padding_grows_the_box_around_its_center(tmp_path):
    config = written(tmp_path, [annotation(7)])
    (person,) = read_all(coco.READER, coco.CocoConfig(**{**config.model_dump(), "padding": 1.25}))
    x0, y0, side = person.crop[:3]
    assert side == round(1.5 * 125)
    assert np.allclose(
        person.box + np.array([x0, y0, x0, y0]), [125 - 43.75, 90 - 62.5, 125 + 43.75, 90 + 62.5], atol=1e-3
    )


def test_people_whose_joints_lie_outside_the_picture_are_left_out(tmp_path):
    """One joint inside is enough, and the others are invisible."""
    beyond = np.array(annotation(7)["keypoints"]).reshape(17, 3) + np.array([300, 0, 0])
    partly = np.where(np.arange(17)[:, None] == 2, (120, 60, 2), beyond)
    people = [annotation(7, keypoints=beyond.ravel().tolist()), annotation(8, keypoints=partly.ravel().tolist())]
    skipped, person = read_all(coco.READER, written(tmp_path, people))
    assert skipped.reason == "no labeled joint of the person lies in the picture"
    assert person.keypoints[:, 2].tolist() == [0, 0, 1] + [0] * 14


def test_flags_and_coordinates_in_another_convention_are_refused(tmp_path):
    given = np.array(annotation(7)["keypoints"], float).reshape(17, 3)
    confident = [annotation(k, keypoints=(given * (1, 1, 0.4)).ravel().tolist()) for k in (1, 2)]
    config = written(tmp_path, confident)
    for rejected in coco.items(config):
        assert "v = 0.4, which must be 0, 1 or 2; if it is a confidence, the file holds results" in rejected.reason
    shares = [annotation(k, keypoints=(given / (300, 200, 1)).ravel().tolist()) for k in (1, 2)]
    content = json.loads(Path(config.annotations).read_text())
    Path(config.annotations).write_text(json.dumps({**content, "annotations": [annotation(3), shares[0]]}))
    one, other = read_all(coco.READER, config)
    assert one.id == "coco/3"
    assert "as shares of the picture do, and are read as pixels; COCO's are pixels" in other.reason
    Path(config.annotations).write_text(json.dumps({**content, "annotations": shares}))
    with pytest.raises(UserError, match=r"as shares of the .*: give --coordinates normalized, which") as raised:
        coco.items(config)
    # What the line says: the same people, from the corner of the pixels.
    assert "`prepare.py keypoints --format coco`" in str(raised.value)
    options = {"images": config.images, "keypoints": config.annotations, "format": "coco", "joints": "coco-17"}
    found = list(read_all(keypoints.READER, keypoints.KeypointsConfig(**options, coordinates="normalized")))
    assert len(found) == 2
    for person in found:
        places = person.keypoints[:, :2] * (person.crop[2] / person.size) + person.crop[:2]
        seen = given[:, 2] > 0
        assert np.allclose(places[seen], given[seen, :2], atol=1e-3)


def test_what_the_rules_drop_is_left_out_with_the_rule(tmp_path):
    nothing = [0] * 51
    annotations = [
        annotation(1, iscrowd=1, keypoints=[]),
        annotation(2, category_id=2, keypoints=[]),
        annotation(3, area=0),
        annotation(4, bbox=[90, 40, 0, 100]),
        annotation(5, bbox=[400, 40, 20, 100]),
        annotation(6, keypoints=nothing),
        annotation(7),
        annotation(8, bbox=[-50, -20, 500, 500]),
    ]
    found = coco.items(written(tmp_path, annotations))
    kept = [item for item in found if not isinstance(item, Skipped)]
    assert [item.id for item in kept] == ["coco/7", "coco/8"]
    assert kept[1].box == (0, 0, 300, 200)
    # The dog is no record of persons; everybody else is counted.
    assert {each.id: each.reason for each in found if isinstance(each, Skipped)} == {
        "coco/1": "it is a crowd, not one person", "coco/3": "the person has no area",
        "coco/4": "the person's box has no area in the picture",
        "coco/5": "the person's box has no area in the picture",
        "coco/6": "no joint of the person is labeled",
    }  # fmt: skip


LEFT_OUT = {
    "no joint of the person is labeled": [
        {"keypoints": []},
        {"keypoints": None},
        {"keypoints": [0.0] * 51, "area": "unknown", "bbox": [1]},
        {"keypoints": [], "area": None, "bbox": None, "image_id": None},
        {"keypoints": [5, 5, 0]},
        {"id": None, "keypoints": []},
    ],
    "it is a crowd, not one person": [{"iscrowd": 1, "keypoints": "none", "bbox": None}, {"iscrowd": True, "area": -1}],
    "the person has no area": [{"area": 0, "bbox": [1, 2]}, {"area": -3.0, "keypoints": [1, 2, 3]}],
    "the person has no box": [{"bbox": None}, {"bbox": []}],
    "no labeled joint of the person lies in the picture": [
        {"keypoints": [value for j in range(17) for value in (400 + j, -20, 2)]},
        {"keypoints": [310, 10, 2] + [0] * 48},
    ],
}


@pytest.mark.parametrize(("reason", "changes"), [(key, each) for key, every in LEFT_OUT.items() for each in every])
def test_a_rule_comes_before_the_form(tmp_path, reason, changes):
    """Whoever is left out anyway is not broken, whatever is missing of the annotation."""
    (found,) = read_all(coco.READER, written(tmp_path, [{**annotation(1), **changes}]))
    assert isinstance(found, Skipped)
    assert found.reason == reason


def test_what_is_missing_of_a_person_who_is_kept_is_not_needed(tmp_path):
    without_area = {key: value for key, value in annotation(1).items() if key not in ("area", "iscrowd")}
    people = [without_area, annotation(2, area=None, iscrowd=None)]
    one, two = read_all(coco.READER, written(tmp_path, people))
    assert np.array_equal(one.keypoints, two.keypoints)


def test_joints_beyond_the_picture_are_not_visible(tmp_path):
    keypoints = annotation(1)["keypoints"]
    keypoints[3:6], keypoints[6:9] = [-3, 50, 2], [90, 199, 2]
    (person,) = read_all(coco.READER, written(tmp_path, [annotation(1, keypoints=keypoints, bbox=[0, 40, 160, 160])]))
    assert person.crop[0] < -3, "the square reaches over the picture's edge"
    assert person.keypoints[1].tolist() == [0, 0, 0]
    assert person.keypoints[2, 2] == 1


CONVENTIONS = {
    "all inside with x and y exchanged; in COCO's file x comes first": {
        "keypoints": [value for j in range(17) for value in (80, 205 + 4 * j, 2)]
    },
    "there are 52 numbers, not three for each joint": {"keypoints": [100, 50, 2] * 17 + [1]},
    "it has 18 joints, the category person lists 17": {"keypoints": [100, 50, 2] * 18},
}


@pytest.mark.parametrize("words", CONVENTIONS)
def test_numbers_of_another_convention_are_refused_with_what_they_probably_are(tmp_path, words):
    (found,) = read_all(coco.READER, written(tmp_path, [annotation(1, **CONVENTIONS[words])]))
    assert isinstance(found, Rejected)
    assert words in found.reason


def test_boxes_of_corners_are_refused(tmp_path):
    def moved(id, by):
        keypoints = annotation(id)["keypoints"]
        keypoints[::3] = [value + by for value in keypoints[::3]]
        return annotation(id, keypoints=keypoints, bbox=[90 + by, 40, 160 + by, 140])

    people = [moved(number, 30 * number) for number in (1, 2, 3)]
    config = written(tmp_path, people)
    with pytest.raises(UserError, match="bbox is x0, y0, x1, y1; COCO's is left, top, width, height"):
        coco.items(config)
    for each in people:
        x0, y0, x1, y1 = each["bbox"]
        each["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    content = json.loads((tmp_path / "people.json").read_text())
    (tmp_path / "people.json").write_text(json.dumps({**content, "annotations": people}))
    assert not any(isinstance(each, Rejected) for each in read_all(coco.READER, config)), "what it says helps"


HUMAN_ART = {
    "as its category may list it": {
        "categories": [
            {
                "id": 1,
                "name": "person",
                "keypoints": [*COCO_17.joints, "left_finger", "right_finger", "left_toe", "right_toe"],
            }
        ]
    },
    "as its page has it": {"categories": []},
    "other spellings": {
        "categories": [{"id": 1, "name": "Person", "keypoints": [each.replace("_", " ") for each in COCO_17.joints]}]
    },
}


@pytest.mark.parametrize("name", HUMAN_ART)
def test_sets_whose_first_joints_are_cocos_are_read(tmp_path, name):
    """Human-Art has COCO's 17 in `keypoints` and 21 in `keypoints_21` (https://github.com/IDEA-Research/HumanArt)."""
    people = [annotation(1, keypoints_21=[1, 2, 2] * 21, self_contact=[], num_keypoints_21=21)]
    (person,) = read_all(coco.READER, written(tmp_path, people, **HUMAN_ART[name]))
    assert person.keypoints[:, 2].sum() == 11


def test_all_joints_of_a_longer_list_may_be_given(tmp_path):
    categories = HUMAN_ART["as its category may list it"]["categories"]
    keypoints = [*annotation(1)["keypoints"], *[100, 60, 2] * 4]
    (person,) = read_all(coco.READER, written(tmp_path, [annotation(1, keypoints=keypoints)], categories=categories))
    assert person.keypoints.shape == (17, 3)


@pytest.mark.parametrize(
    ("names", "images"),
    [
        ("train2014/{}", ""),
        ("images/train2014/{}", ""),
        ("train2014/{}", "images"),
        ("{}", "images/train2014"),
        ("coco für alle/images/train2014/{}", ""),
    ],
)
def test_names_may_have_their_folder(tmp_path, names, images):
    root = tmp_path / "coco für alle"
    coco_files.write_keypoints(root)
    path = root / "annotations" / "person_keypoints_train2014.json"
    content = json.loads(path.read_text())
    for each in content["images"]:
        each["file_name"] = names.format(each["file_name"])
    path.write_text(json.dumps(content))
    config = coco.CocoConfig(source=str(root), images=images)
    assert coco.inventory(config).faults == []
    assert not any(isinstance(each, Rejected) for each in read_all(coco.READER, config))


def test_faults_become_reasons(tmp_path):
    annotations = [
        annotation(1),
        annotation(1),
        annotation(2, image_id=99),
        annotation(3, keypoints=[1, 2, 3]),
        annotation(4, bbox=[0, 0, float("nan"), 3]),
        {"category_id": 1, "keypoints": annotation(1)["keypoints"], "bbox": [90, 40, 70, 100]},
        "no object",
        annotation(5, image_id=2),
        annotation(6, image_id=3),
        annotation(7, image_id=4),
        annotation(8, category_id=[1]),
        annotation([8]),
    ]
    images = [
        {"id": 1, "file_name": "ein Bild.jpg", "width": 300, "height": 200},
        {"id": 2, "file_name": "ein Bild.jpg", "width": 200, "height": 300},
        {"id": 3, "file_name": "../people.json", "width": 300, "height": 200},
        {"id": 4, "file_name": "ein Bild.jpg", "width": "wide", "height": 200},
    ]
    results = list(read_all(coco.READER, written(tmp_path, annotations, images=images)))
    expected = {
        "coco/1": "same id", "coco/2": "image 99 is not", "coco/3": "keypoints: ",
        "coco/4": "bbox.2: ", "coco/entry 5": "id: ",
        "coco/entry 6": "the record: ", "coco/5": "is 300 x 200, the annotation says 200 x 300",
        "coco/6": "leaves the folder",
        "coco/7": "image 4 is not", "coco/entry 11": "id: ",
    }  # fmt: skip
    assert [each.id for each in results if not isinstance(each, Rejected)] == ["coco/1"]
    reasons = {each.id: each.reason for each in results if isinstance(each, Rejected)}
    assert set(reasons) == set(expected)
    assert all(words in reasons[id] for id, words in expected.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": None}, "no list annotations"),
        ({"categories": [{"id": 1, "name": "dog"}]}, "no category person"),
        (
            {"categories": [{"id": 1, "name": "person", "keypoints": [*reversed(COCO_17.joints)]}]},
            "lists other keypoints",
        ),
    ],
)
def test_another_kind_of_file_is_one_line(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        coco.items(written(tmp_path, [], **changes))


def test_real_people_are_read():
    config = coco.CocoConfig(
        source=str(real_sample("coco-keypoints")), annotations="person_keypoints_subset.json", images="images"
    )
    found = list(read_all(coco.READER, config))
    assert coco.inventory(config).faults == []
    # Six annotated people, one of them without a labeled joint.
    people = [each for each in found if not isinstance(each, Skipped)]
    assert [each.reason for each in found if isinstance(each, Skipped)] == ["no joint of the person is labeled"]
    assert [int(person.keypoints[:, 2].sum()) for person in people] == [17, 15, 15, 12, 17]
    skier = people[0]
    assert skier.crop[3:].tolist() == [640, 425]
    left, right = (skier.keypoints[COCO_17.index(f"{side}_shoulder"), 0] for side in ("left", "right"))
    assert left > right, "a person who faces the camera has the left shoulder at the right"


def test_what_was_put_in_comes_back(tmp_path):
    root = tmp_path / "COCO für alle"
    people = coco_files.write_keypoints(root)
    config = coco.CocoConfig(source=str(root))
    results = list(read_all(coco.READER, config))
    kept = [each for each in results if not isinstance(each, Skipped)]
    assert [each.id for each in kept] == ["coco/100", "coco/101", "coco/102"]
    assert [(each.id, each.reason) for each in results if isinstance(each, Skipped)] == [
        ("coco/200", "it is a crowd, not one person"), ("coco/201", "no joint of the person is labeled"),
    ]  # fmt: skip
    for read, true in zip(kept, people, strict=True):
        x0, y0, side = read.crop[:3]
        zoom = read.size / side
        joints = convert(true.keypoints, "people-31", "coco-17")
        assert np.array_equal(read.keypoints[:, 2], joints[:, 2])
        seen = joints[:, 2] > 0
        assert np.allclose(read.keypoints[seen, :2] / zoom + (x0, y0), joints[seen, :2], atol=1e-3)
        assert np.allclose(read.box.reshape(2, 2) / zoom + (x0, y0), true.box.reshape(2, 2), atol=1e-3)
    found = coco.inventory(config)
    assert (found.faults, found.counts) == ([], {"people": 3, "pictures": 3})
    assert found.notes == [
        "1 of the people skipped: it is a crowd, not one person",
        "1 of the people skipped: no joint of the person is labeled",
    ]


def test_pictures_are_found_by_their_release(tmp_path):
    coco_files.write_keypoints(tmp_path / "new", release="val2017")
    name = "annotations/person_keypoints_val2017.json"
    assert coco.inventory(coco.CocoConfig(source=str(tmp_path / "new"), annotations=name)).faults == []
    (tmp_path / "new" / "images" / "val2017").rename(tmp_path / "new" / "val2017")
    assert coco.inventory(coco.CocoConfig(source=str(tmp_path / "new"), annotations=name)).faults == []
    (tmp_path / "new" / "val2017").rename(tmp_path / "new" / "pictures")
    with pytest.raises(
        UserError, match=r"pictures of val2017 does not exist \(tried .*images/val2017, .*new/val2017\); unpack it"
    ):
        coco.items(coco.CocoConfig(source=str(tmp_path / "new"), annotations=name))
    config = coco.CocoConfig(source=str(tmp_path / "new"), annotations=name, images="pictures")
    assert coco.inventory(config).faults == []
    assert [Path(each.path).name for each in coco.inventory(coco.CocoConfig(source=str(tmp_path))).faults] == [
        "person_keypoints_train2014.json"
    ]


@pytest.mark.parametrize(
    ("values", "split"),
    [
        ({}, "train"),
        ({"annotations": "annotations/person_keypoints_val2017.json"}, "val"),
        ({"annotations": "annotations/person_keypoints_train2017.json"}, "train"),
        ({"annotations": "validation/people.json"}, "train"),
        ({"annotations": "interval.json"}, "train"),
        ({"annotations": "annotations/person_keypoints_val2017.json", "split": "train"}, "train"),
    ],
)
def test_the_split_is_that_of_the_annotation_file(values, split):
    assert CocoConfig(**values).split == split
    assert MpiiConfig(annotations="annot/valid.json").split == "val"
    assert MpiiConfig(annotations="annot/test.json").split == "test"
