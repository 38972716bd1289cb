"""Keypoints as tools write them: the same people come back at the same pixels; other conventions are refused with the
option that helps, and it helps.
"""

import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import PEOPLE_31
from hcmoco.datasets import coco, keypoints
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.keypoints.azure_kinect import Calibration
from hcmoco.datasets.keypoints.config import KeypointsConfig
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from tests.helpers import keypoint_files as files
from tests.helpers.keypoint_files import WRITTEN, assert_are
from tests.helpers.real_samples import real_sample


def config(images, path, **options):
    return build(KeypointsConfig, {"images": str(images), "keypoints": str(path), **options}, "prepare keypoints")


def people(images, path, **options):
    """What is read, by kind: persons by id, rejected and skipped reasons with their counts."""
    found = list(read_all(keypoints.READER, config(images, path, **options)))
    persons = {each.id: each for each in found if isinstance(each, Person)}
    rejected = Counter(each.reason for each in found if isinstance(each, Rejected))
    skipped = Counter(each.reason for each in found if isinstance(each, Skipped))
    return persons, rejected, skipped


@pytest.mark.parametrize("name", WRITTEN)
def test_people_come_back_as_they_were_written(tmp_path, name):
    written, taken = WRITTEN[name], files.shots()
    images = files.write_pictures(tmp_path, taken)
    path = written.write(tmp_path, taken)
    asked = written.ask(tmp_path)
    resolved, lines = keypoints.resolve(config(images, path, **asked))
    assert (resolved.format, resolved.joints) == (written.format, written.joints)
    assert f"format {written.format}, joints {written.joints} (recognized)" in lines[0]
    assert "--min-confidence" in lines[1]
    persons, rejected, skipped = people(images, path, **asked)
    assert not rejected
    assert_are(persons, taken, written.joints)
    assert len(skipped) == sum(skipped.values()) == 1
    assert {*skipped} <= {"the tool found nobody in the picture", "the keypoints say nothing of the picture"}
    # The same with nothing left to be recognized.
    again, _, _ = people(images, path, **{**asked, "format": written.format, "joints": written.joints})
    assert set(again) == set(persons)


@pytest.mark.parametrize("name", ["detectron2", "mmpose results", "yolo labels"])
def test_a_number_of_joints_that_several_sets_have_is_asked_for(tmp_path, name):
    written, taken = WRITTEN[name], files.shots()
    images, path = files.write_pictures(tmp_path, taken), written.write(tmp_path, taken)
    asked = {key: value for key, value in written.ask(tmp_path).items() if key != "joints"}
    with pytest.raises(UserError, match="17 joints a person, and 2 sets have; say which: --joints coco-17 or h36m-17"):
        people(images, path, **asked)
    with pytest.raises(UserError, match="17 joints a person, --joints body-25 has 25; sets of 17 are coco-17, h36m-17"):
        people(images, path, **asked, joints="body-25")


def test_a_file_that_lists_its_joints_is_not_read_as_another_set(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.annotations(tmp_path, taken, "aic-14")
    with pytest.raises(UserError, match="lists the keypoints of aic-14, --joints says crowdpose-14; leave it out"):
        people(images, path, joints="crowdpose-14")
    assert_are(people(images, path)[0], taken, "aic-14")
    content = json.loads(path.read_text())
    # The same joints in another order: left for right, say. Whatever --joints says, it would be wrong.
    content["categories"][0]["keypoints"] = [
        name.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        for name in content["categories"][0]["keypoints"]
    ]
    path.write_text(json.dumps(content))
    for given in ("", "aic-14"):
        with pytest.raises(UserError, match="lists the joints of aic-14 in another order; write them in this one"):
            people(images, path, joints=given)
    content["categories"][0]["keypoints"] = [f"point {k}" for k in range(14)]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"which are no known set.*say which: --joints crowdpose-14 or aic-14"):
        people(images, path)
    assert_are(people(images, path, joints="aic-14")[0], taken, "aic-14")


def test_what_the_reader_of_coco_refuses_is_read_as_it_says(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.annotations(tmp_path, taken, "halpe-26")
    with pytest.raises(UserError, match="other keypoints") as raised:
        coco.items(coco.CocoConfig(source=str(tmp_path), annotations=str(path), images=str(images)))
    advice = re.search("--format (\\S+) --keypoints (.*)`", str(raised.value))
    assert_are(people(images, advice[2], format=advice[1])[0], taken, "halpe-26")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("{0: dog, 1: person}", "its class is not a person"),
        ("[dog, person]", "its class is not a person"),
        ("[person, no]", None),
        ("{0: dog, 1: cat}", "of the classes dog, cat none is called person"),
        ("{a: person, b: dog}", "names must be a list of the classes, or have their numbers as keys"),
    ],
)
def test_yolo_says_which_class_is_people(tmp_path, names, found):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.yolo(tmp_path, taken)
    path.write_text(path.read_text().replace("names:\n  0: person\n", f"names: {names}\n"))
    assert names in path.read_text()
    if found and "class is not" not in found:
        assert found in refused(images, path, joints="coco-17", format="yolo")
        return
    persons, _, skipped = people(images, path, joints="coco-17", format="yolo")
    assert len(persons) == (0 if found else 3)
    assert skipped[found or "the tool found nobody in the picture"]


def test_yolo_flips_must_be_those_of_the_joints(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.yolo(tmp_path, taken)
    with pytest.raises(UserError, match=r"flip_idx .* is not that of h36m-17"):
        people(images, path, joints="h36m-17")
    for given in (path, path.parent / "labels", path.parent):  # data.yaml, its folder, or the labels beside it
        assert_are(people(images, given, joints="coco-17", format="yolo")[0], taken, "coco-17")
    (path.parent / "labels" / "classes.txt").write_text("person\n")
    assert not people(images, path, joints="coco-17")[1]
    path.unlink()
    with pytest.raises(UserError, match="does not say how many joints it has; say which: --joints coco-17"):
        people(images, path.parent / "labels")


# --- which format, which picture


def test_what_is_not_recognized_is_asked_for(tmp_path):
    images = files.write_pictures(tmp_path, files.shots())
    other = tmp_path / "other.json"
    for content, line in (("{}", "is not recognized; say which format it is: --format openpose, coco-results, coco"),
                          ("[]", "has nobody in any file"), ("{", "is not valid JSON")):  # fmt: skip
        other.write_text(content)
        with pytest.raises(UserError, match=line):
            people(images, other)
    with pytest.raises(UserError, match="gone does not exist"):
        people(images, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.json and no \.txt file"):
        people(images, tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").write_text("")
    (tmp_path / "empty" / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds \.json and \.txt files; say which format it is"):
        people(images, tmp_path / "empty")
    np.savez(tmp_path / "positions.npz", positions=np.zeros((5, 17, 2)))
    with pytest.raises(UserError, match=r"arrays .* are not read, .*; write the people as COCO results"):
        people(images, tmp_path / "positions.npz")
    path = files.openpose(tmp_path, files.shots(), "itop-15")
    with pytest.raises(UserError, match="15 joints a person, and OpenPose is read with 25 or 18; write one of body-25"):
        people(images, path)


def test_pictures_are_found_by_path_name_and_stem_and_never_guessed(tmp_path):
    taken = files.shots(("a/0000.jpg", "b/0000.jpg", "b/0001.png"))
    images = files.write_pictures(tmp_path, taken)
    path = files.results(tmp_path, taken, "halpe-26")
    _, rejected, _ = people(images, path)
    assert dict(rejected) == {
        "the name '0000.jpg' fits several pictures: a/0000.jpg, b/0000.jpg; rename them": 3,
    }
    entries = json.loads(path.read_text())
    for entry, name in zip(entries, ("a/0000.jpg", "a/0000.jpg", "data\\b\\0001.png"), strict=False):
        entry["image_id"] = name
    entries[-1]["image_id"] = "gone.jpg"
    path.write_text(json.dumps(entries[:2] + entries[-1:]))
    persons, rejected, _ = people(images, path)
    assert list(persons) == ["keypoints/a/0000.jpg/0", "keypoints/a/0000.jpg/1"]
    assert list(rejected) == [f"its picture 'gone.jpg' does not exist in {images}"]


def test_numbered_pictures_need_their_list(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, ids=True)
    with pytest.raises(UserError, match=r"numbers its pictures \(image_id 31\).*give --image-list with the JSON file"):
        people(images, path, joints="coco-17")
    listed = {"joints": "coco-17", "image_list": str(tmp_path / "image_list.json")}
    assert_are(people(images, path, **listed)[0], taken, "coco-17")
    # COCO's own pictures are named by their numbers.
    named = files.shots(("COCO/000000000031.jpg", "COCO/000000000032.jpg", "COCO/000000000033.jpg"))
    images = files.write_pictures(tmp_path / "coco", named)
    assert_are(people(images, files.results(tmp_path, named, ids=True), joints="coco-17")[0], named, "coco-17")
    # A list of pictures of another size than they have.
    small = files.shots(size=(640, 480))
    images = files.write_pictures(tmp_path / "large", small)
    files.results(tmp_path, taken, ids=True)
    _, rejected, _ = people(images, path, **listed)
    (reason,) = {re.sub(r"'.*?'", "NAME", each) for each in rejected}
    assert reason == "NAME is 640 x 480, the file says 320 x 240; if it was resized, give --keypoint-size 320,240"
    doubled = [files.Shot(each.name, (640, 480), [2 * person for person in each.people]) for each in taken]
    assert_are(people(images, path, **listed, keypoint_size=(320, 240))[0], doubled, "coco-17")


# --- confidence


def test_confidence_becomes_visibility_at_a_threshold(tmp_path):
    taken = files.shots()
    images = files.write_pictures(tmp_path, taken)
    folder = files.openpose(tmp_path, taken)
    path = folder / "0001_keypoints.json"
    content = json.loads(path.read_text())
    values = np.array(content["people"][0]["pose_keypoints_2d"]).reshape(-1, 3)
    values[:5] = [[0, 0, 0], [100, 100, 0.02], [100, 100, 0.049], [100, 100, 0.05], [100, 100, 0.3]]
    content["people"][0]["pose_keypoints_2d"] = values.ravel().tolist()
    path.write_text(json.dumps(content))
    default = people(images, folder)[0]["keypoints/0001.png/0"]
    assert default.keypoints[:5, 2].tolist() == [0, 0, 0, 1, 1]
    assert default.keypoints[:3].tolist() == [[0, 0, 0]] * 3
    strict = people(images, folder, min_confidence=0.3)[0]["keypoints/0001.png/0"]
    assert strict.keypoints[:5, 2].tolist() == [0, 0, 0, 0, 1]
    given = config(images, folder, min_confidence=0.3)
    assert "3 of 74 joints have a confidence below 0.3, and are invisible: see --min-confidence" in (
        keypoints.READER.inventory(given).notes
    )
    everything = people(images, folder, min_confidence=0)[0]["keypoints/0001.png/0"]
    assert everything.keypoints[:5, 2].tolist() == [0, 1, 1, 1, 1], "zero is absent at any threshold"
    _, _, skipped = people(images, folder, min_confidence=0.9)
    assert skipped["no joint of the person is confident enough and in the picture"] == 3


def test_people_of_a_low_score_are_left_out_and_counted(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, "halpe-26", score=0.2)
    persons, _, skipped = people(images, path)
    assert not persons
    assert skipped == {"the person's score is below 0.3": 3, "the keypoints say nothing of the picture": 1}
    assert len(people(images, path, min_score=0.1)[0]) == 3


# --- other conventions, and the option that each message names


def option(message: str, flag: str) -> str:
    """What the message says to give for a flag."""
    return re.search(rf"--{flag} (\S+)", message)[1].rstrip(";.,")


def refused(images, path, **options) -> str:
    with pytest.raises(UserError) as raised:
        people(images, path, **options)
    line = str(raised.value)
    assert "\n" not in line
    return line


def rewritten(path, change):
    """The joints of COCO results, each [J, 3], replaced by change(joints)."""
    entries = json.loads(path.read_text())
    for entry in entries:
        entry["keypoints"] = change(np.array(entry["keypoints"]).reshape(-1, 3)).ravel().tolist()
        entry.pop("bbox", None)
    path.write_text(json.dumps(entries))


@pytest.fixture
def halpe(tmp_path):
    taken = files.shots()
    return files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, "halpe-26"), taken


def test_shares_of_the_picture_where_pixels_are_expected(halpe):
    images, path, taken = halpe
    rewritten(path, lambda joints: (joints + np.array([0.5, 0.5, 0])) / (320, 240, 1))
    line = refused(images, path)
    assert "as shares of the picture do, and are read as pixels: give --coordinates normalized" in line
    persons, rejected, _ = people(images, path, coordinates=option(line, "coordinates"))
    assert not rejected
    assert_are(persons, taken, "halpe-26")


def test_pixels_where_shares_are_expected(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.mediapipe(tmp_path, taken)
    for file in path.iterdir():
        content = json.loads(file.read_text())
        for landmark in [each for person in content["pose_landmarks"] for each in person]:
            landmark["x"], landmark["y"] = landmark["x"] * 320, landmark["y"] * 240
        file.write_text(json.dumps(content))
    line = refused(images, path)
    assert "as pixels do, and are read as shares of the picture, 0 to 1: give --coordinates pixels" in line
    assert_are(people(images, path, coordinates=option(line, "coordinates"))[0], taken, "mediapipe-33")


def test_coordinates_around_the_middle_are_neither(halpe):
    images, path, taken = halpe
    whole = path.read_text()
    rewritten(path, lambda joints: (joints + np.array([0.5, 0.5, 0])) / (160, 120, 1) - (1, 1, 0))
    assert "as OpenPose's --keypoint_scale 4 writes them, and are read as pixels: run it with --keypoint_scale 0" in (
        refused(images, path)
    )
    path.write_text(whole)  # as with --keypoint_scale 0
    assert_are(people(images, path)[0], taken, "halpe-26")


def test_exchanged_axes(halpe):
    images, path, taken = halpe
    rewritten(path, lambda joints: joints[:, [1, 0, 2]])
    line = refused(images, path)
    assert "outside the picture, and all inside with x and y exchanged: give --axes yx" in line
    assert_are(people(images, path, axes=option(line, "axes"))[0], taken, "halpe-26")
    # Who says that they are right is believed, and is told which people are not.
    persons, rejected, skipped = people(images, path, axes="xy")
    assert len(persons) + sum(skipped.values()) + sum(rejected.values()) == 4


def test_one_person_with_exchanged_axes_among_many(halpe):
    images, path, _ = halpe
    entries = json.loads(path.read_text())
    entries += [{**each, "image_id": "0000.jpg"} for each in entries * 20]
    joints = np.array([[20.0 + k, 250 + k, 0.9] for k in range(26)])  # in 320 x 240: a column of a person at the right
    entries.append({"image_id": "0001.png", "category_id": 1, "score": 1, "keypoints": joints.ravel().tolist()})
    path.write_text(json.dumps(entries))
    _, rejected, _ = people(images, path)
    assert dict(rejected) == {
        "joints lie outside the picture, and all inside with x and y exchanged: give --axes yx": 1
    }


@pytest.mark.parametrize(("confidence", "full"), [(80, "100"), (4.7, "5")])
def test_confidences_on_another_scale(halpe, confidence, full):
    images, path, taken = halpe
    rewritten(path, lambda joints: np.column_stack([joints[:, :2], np.full(len(joints), confidence)]))
    line = refused(images, path)
    assert f"confidences reach {confidence}, and 1 means certain" in line
    assert option(line, "full-confidence") == full
    assert_are(people(images, path, full_confidence=float(full))[0], taken, "halpe-26")
    persons, _, skipped = people(images, path, full_confidence=float(full), min_confidence=0.95)
    assert skipped["no joint of the person is confident enough and in the picture"] == 3
    assert not persons


def test_scores_without_a_scale(halpe):
    images, path, taken = halpe
    whole = path.read_text()
    rewritten(path, lambda joints: np.column_stack([joints[:, :2], np.resize([-3.0, 1.2], len(joints))]))
    assert "confidences reach down to -3; they are scores without a scale (logits): write them as 0 to 1" in (
        refused(images, path)
    )
    path.write_text(whole)
    assert_are(people(images, path)[0], taken, "halpe-26")


@pytest.mark.parametrize("ratio", [1.5, 2, 3, 6])
def test_pixels_of_larger_pictures(tmp_path, ratio):
    """People who reach the lower right corner."""
    rng = make_rng(0, "larger pictures")
    taken = [files.Shot("0.png", (320, 240), [rng.uniform((100, 80), (319, 239), (31, 2)) for _ in range(3)])]
    for person in taken[0].people:
        person[PEOPLE_31.index("left_ankle")] = 319, 239
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, "halpe-26")
    rewritten(path, lambda joints: (joints + np.array([0.5, 0.5, 0])) * (ratio, ratio, 1) - (0.5, 0.5, 0))
    line = refused(images, path)
    assert re.search(
        r"of the joints lie outside their pictures, up to x = \d+ and y = \d+ in pictures such as 320", line
    )
    width, height = option(line, "keypoint-size").split(",")
    assert (int(width), int(height)) == (320 * ratio, 240 * ratio)
    assert_are(people(images, path, keypoint_size=(int(width), int(height)))[0], taken, "halpe-26")


def test_a_few_people_outside_their_pictures_are_left_out_and_counted(halpe):
    images, path, _ = halpe
    entries = json.loads(path.read_text())
    joints = np.array(entries[-1]["keypoints"]).reshape(-1, 3)
    half = np.where(np.arange(26)[:, None] < 20, joints + np.array([400, 0, 0]), joints)
    entries[-1] = {**entries[-1], "keypoints": half.ravel().tolist()}
    below = (joints + np.array([0, 500, 0])).ravel().tolist()
    entries.append({**entries[0], "image_id": "0002.jpg", "keypoints": below})
    path.write_text(json.dumps(entries))
    persons, rejected, skipped = people(images, path)
    assert (len(persons), dict(rejected)) == (3, {})
    assert skipped == {"no joint of the person is confident enough and in the picture": 1}
    assert persons["keypoints/0001.png/0"].keypoints[:, 2].tolist() == [0] * 20 + [1] * 6


def test_flags_that_are_not_coco_s(tmp_path):
    taken = files.shots()
    images = files.write_pictures(tmp_path, taken)
    files.annotations(tmp_path, taken, "aic-14", flags=(1, 3))
    _, rejected, _ = people(images, tmp_path / "annotations.json")
    (reason,) = rejected
    assert "v = 3, as AI Challenger's own files have it for what is not labeled: convert them to COCO's form" in reason
    files.annotations(tmp_path, taken, "aic-14", flags=(0.8, 0.2))
    _, rejected, _ = people(images, tmp_path / "annotations.json")
    (reason,) = rejected
    assert "v = 0.8; if it is a confidence, the file holds results: give --format coco-results" in reason


# --- what stands beside the joints


def test_depth_of_the_same_names_is_taken_and_masked(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, "halpe-26")
    mask = np.zeros((240, 320), np.uint8)
    mask[50:150, 60:200] = 255
    for name in ("0000.png", "0001.png"):
        (tmp_path / "mask").mkdir(exist_ok=True)
        (tmp_path / "mask" / name).write_bytes(codecs.encode_labels(mask))
    beside = {"depth": str(tmp_path / "depth"), "depth_unit": "0.5mm", "mask": str(tmp_path / "mask")}
    persons, rejected, _ = people(images, path, **beside)
    assert not rejected
    for person in persons.values():
        depth = codecs.decode_depth(person.depth, "png16")
        assert set(np.unique(depth)) == {0, 1000}
        assert np.array_equal(depth > 0, codecs.decode_labels(person.mask) > 0)
    _, rejected, _ = people(images, path, **{**beside, "depth_unit": "m"})
    assert rejected
    for reason in rejected:
        assert "the person's median depth is 2 km with the depth unit m" in reason
        assert "mm was probably meant (then 2 m away), give --depth-unit mm" in reason
    assert not people(images, path, **{**beside, "depth_unit": "mm"})[1]
    (tmp_path / "depth" / "0001.png").unlink()
    _, rejected, _ = people(images, path, **beside)
    assert list(rejected) == [f"'0001.png' does not exist in {tmp_path / 'depth'}"]


def test_the_box_is_the_files_else_around_the_joints(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.results(tmp_path, taken, "halpe-26")
    truth = taken[1].people[0]

    def box():
        person = people(images, path)[0]["keypoints/0001.png/0"]
        return person.box * (person.crop[2] / person.size) + np.tile(person.crop[:2], 2)

    assert box() == pytest.approx([*truth.min(0), *truth.max(0)], abs=1e-3)
    rewritten(path, lambda joints: joints)  # without the boxes
    joints = files.joints_of(truth, "halpe-26")
    margin = 0.1 * np.ptp(joints, axis=0).max()
    assert box() == pytest.approx([*(joints.min(0) - margin), *(joints.max(0) + margin)], abs=1e-3)


def test_a_photograph_that_is_stored_turned_is_asked_for(tmp_path):
    """Tools turn a photograph by its EXIF orientation, or do not: both give their own pixels."""
    upright = np.full((240, 320, 3), 40, np.uint8)
    upright[:60, :80] = 250
    taken = files.shots()
    images = files.write_pictures(tmp_path, taken)
    stored = cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE)  # orientation 6: turn it clockwise to see it
    data = codecs.encode_rgb(stored)
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (images / "0000.jpg").write_bytes(data)
    path = files.results(tmp_path, taken, "halpe-26")
    _, rejected, _ = people(images, path)
    (reason,) = rejected
    assert "is stored turned (EXIF orientation); give --orientation upright if the tool turned it" in reason
    persons, rejected, _ = people(images, path, orientation="upright")
    assert not rejected
    assert_are(persons, taken, "halpe-26")
    picture = codecs.decode_rgb(persons["keypoints/0000.jpg/0"].rgb)
    x0, y0 = persons["keypoints/0000.jpg/0"].crop[:2].astype(int)
    at = codecs.decode_rgb(codecs.encode_rgb(upright))[max(y0, 0) + 5, max(x0, 0) + 5]
    assert abs(int(at[0]) - int(picture[max(y0, 0) + 5 - y0, max(x0, 0) + 5 - x0][0])) < 12
    # A tool that does not turn it has pixels of the stored 240 x 320.
    turned = [person[:, ::-1].copy() for person in taken[0].people]
    for person in turned:
        person[:, 1] = 320 - person[:, 1]
    as_stored = [files.Shot("0000.jpg", (240, 320), turned), *taken[1:]]
    path = files.results(tmp_path, as_stored, "halpe-26")
    assert_are(people(images, path, orientation="stored")[0], as_stored, "halpe-26")


# --- Azure Kinect


def test_azure_kinect_needs_its_camera_and_the_number_of_its_pictures(tmp_path):
    taken = files.shots(("take-001.jpg", "take-002.png", "take-003.jpg"))
    images, path = files.write_pictures(tmp_path, taken), files.azure(tmp_path, taken)
    line = refused(images, path)
    assert "joints in millimeters around the depth camera, and no 2D joints; give --calibration" in line
    placed = {"calibration": str(tmp_path / "calibration.json")}
    line = refused(images, path, **placed)
    assert "the pictures count from 1 and the frames from 0" in line
    persons, _, skipped = people(images, path, **placed, first_frame=int(option(line, "first-frame")))
    assert_are(persons, taken, "azure-kinect-32")
    assert skipped == {"the tool found nobody in the picture": 1}
    files.azure(tmp_path, taken, scale=0.001)
    _, rejected, _ = people(images, path, **placed, first_frame=1)
    assert dict(rejected) == {"its joints are within 2 cm: they are meters, not millimeters": 3}


def test_azure_kinect_joints_are_distorted_as_the_lens_distorts(tmp_path):
    """Against the closed form, in the rational model that the SDK calls Brown-Conrady."""
    k1, k2, p1, p2, k3, k4, k5, k6 = 0.4, -0.2, 1e-3, -5e-4, 0.05, 0.3, -0.1, 0.02
    camera = Calibration(camera=files.CAMERA, distortion=(k1, k2, p1, p2, k3, k4, k5, k6))
    points = np.array([[300.0, -200.0, 1500.0], [-800.0, 500.0, 2500.0], [10.0, 20.0, -1000.0]])
    x, y = points[:2, 0] / points[:2, 2], points[:2, 1] / points[:2, 2]
    r = x * x + y * y
    radial = (1 + k1 * r + k2 * r**2 + k3 * r**3) / (1 + k4 * r + k5 * r**2 + k6 * r**3)
    fx, fy, cx, cy = files.CAMERA
    wanted = np.column_stack([
        fx * (x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)) + cx,
        fy * (y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y) + cy,
    ])  # fmt: skip
    found = camera.project(points)
    assert np.allclose(found[:2], wanted, atol=1e-6)
    assert np.isnan(found[2]).all(), "what is behind the camera is in no picture"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"camera": [500, 500, 160]}, "camera"),
        ({"camera": files.CAMERA, "distortion": [0.1]}, "must be 4, 5 or 8 numbers in OpenCV's order"),
        (
            {"camera": files.CAMERA, "rotation": [1, 0, 0, 0, 1, 0, 0, 0, 2]},
            "must be the 9 numbers of a rotation matrix",
        ),
        ({"camera": files.CAMERA, "translation": [-0.032, 0, 0]}, "if these are meters, multiply by 1000"),
    ],
)
def test_a_calibration_in_another_convention_is_refused(tmp_path, values, line):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.azure(tmp_path, taken)
    (tmp_path / "calibration.json").write_text(json.dumps(values))
    assert line in refused(images, path, calibration=str(tmp_path / "calibration.json"))


# --- damaged and foreign files of one tool


def test_faults_of_one_file_reject_its_people_alone(tmp_path):
    taken = files.shots(tuple(f"{k:04d}.jpg" for k in range(8)))
    images, path = files.write_pictures(tmp_path, taken), files.openpose(tmp_path, taken)
    (path / "0001_keypoints.json").write_text("{")
    (path / "0000_keypoints.json").rename(path / "0009_keypoints.json")  # the first file is the damaged one
    (images / "0000.jpg").rename(images / "0009.jpg")
    (path / "0002_keypoints.json").write_text('{"people": 5}')
    (path / "0003_keypoints.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3]}, 7]}')
    (path / "0004_keypoints.json").write_text('{"people": [{"pose_keypoints_2d": "x"}, {"pose_keypoints_2d": [[1]]}]}')
    (images / "0005.jpg").write_bytes(b"no picture")
    persons, rejected, _ = people(images, path)
    assert {id.split("/")[1] for id in persons} == {"0006.jpg", "0009.jpg"}
    assert sum(rejected.values()) == 7
    reasons = "\n".join(rejected)
    for words in (
        "is not valid JSON",
        "has no list of people",
        "there are 3 numbers for 25 joints",
        "not a list of numbers",
    ):
        assert words in reasons


def test_world_landmarks_alone_have_no_place_in_a_picture(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.mediapipe(tmp_path, taken)
    content = json.loads((path / "0001.json").read_text())
    (path / "0001.json").write_text(json.dumps({"pose_world_landmarks": content["pose_landmarks"]}))
    _, rejected, _ = people(images, path)
    assert list(rejected) == ["it has world landmarks alone, in meters around the hips: write pose_landmarks too"]
    shown = files.mediapipe(tmp_path, [shot for shot in taken if len(shot.people) < 2], key="landmark")
    (shown / "0000.json").unlink()
    assert set(people(images, shown)[0]) == {"keypoints/0001.png/0"}


def test_a_table_needs_pictures_and_every_joint(tmp_path):
    taken = files.shots()
    images, path = files.write_pictures(tmp_path, taken), files.mediapipe_csv(tmp_path, taken)
    whole = path.read_text()
    path.write_text(whole.replace("image", "class", 1))
    assert "has no column image, image_name" in refused(images, path)
    path.write_text(whole.replace("x32", "z99", 1))
    assert "has no column x32 or right_foot_index_x, one of x, y and visibility of every joint" in refused(images, path)


# --- real annotations


def test_real_annotations_are_read_as_the_reader_of_coco_reads_them(tmp_path):
    """As annotations, and as results with a confidence of 0, 0.5 or 1 in place of the flag."""
    root = real_sample("coco-keypoints")
    path = root / "person_keypoints_subset.json"
    source = coco.CocoConfig(source=str(root), annotations=path.name, images="images")
    wanted = [in_picture(each) for each in read_all(coco.READER, source) if isinstance(each, Person)]
    annotated = [in_picture(each) for each in people(root / "images", path)[0].values()]
    entries = [
        {
            "image_id": each["image_id"],
            "category_id": 1,
            "score": 0.9,
            "keypoints": [value / 2 if k % 3 == 2 else value for k, value in enumerate(each["keypoints"])],
        }
        for each in json.loads(path.read_text())["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(entries))
    found = [
        in_picture(each) for each in people(root / "images", tmp_path / "results.json", joints="coco-17")[0].values()
    ]
    for got in (annotated, found):
        assert len(got) == len(wanted) == 5
        assert all(any(np.allclose(one, other, atol=2e-3) for other in got) for one in wanted)


def in_picture(person):
    """Keypoints in pixels of the whole picture, 0 where invisible."""
    x0, y0, side = person.crop[:3]
    return (person.keypoints * (side / person.size, side / person.size, 1) + (x0, y0, 0)) * person.keypoints[:, 2:]
