import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import MPII_16, convert
from hcmoco.datasets import mpii
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.errors import UserError
from tests.helpers import mpii_files
from tests.helpers.real_samples import real_sample


def entry(image="a person é.jpg", center=(151.0, 101.0), scale=0.5, **changes):
    joints = [[100.0 + 5 * j, 60.0 + 5 * j] for j in range(16)]
    return {
        "image": image,
        "center": list(center),
        "scale": scale,
        "joints": joints,
        "joints_vis": [1] * 15 + [0],
        **changes,
    }


def written(tmp_path, entries, images=("a person é.jpg",)):
    folder = tmp_path / "images of people"
    folder.mkdir()
    for name in images:
        (folder / name).write_bytes(codecs.encode_rgb(np.full((200, 300, 3), 120, np.uint8)))
    file = tmp_path / "train.json"
    file.write_text(json.dumps(entries))
    return mpii.MpiiConfig(annotations=str(file), images=str(folder), size=320, padding=1.25)


def test_coordinates_count_from_one_and_the_box_grows(tmp_path):
    (person,) = read_all(mpii.READER, written(tmp_path, [entry()]))
    assert isinstance(person, Person)
    assert person.id == "mpii/a person é.jpg/0"
    # Center (151, 101) counted from 1 has its middle at 150.5, 100.5; 15 * 0.5 further down; side 200 * 0.5 * 1.25.
    center, side = np.array([150.5, 108.0]), 125.0
    x0, y0, stored_side, width, height = person.crop
    assert (stored_side, width, height) == (round(1.5 * side), 300, 200)
    zoom = person.size / stored_side
    corners = person.box.reshape(2, 2) / zoom + (x0, y0)
    assert np.allclose(corners, [center - side / 2, center + side / 2], atol=1e-3)
    ankle = person.keypoints[MPII_16.index("right_ankle")]
    assert np.allclose(ankle[:2] / zoom + (x0, y0), [99.5, 59.5], atol=1e-3)
    assert ankle[2] == 1
    assert not person.keypoints[15].any()


def test_confidences_and_joints_of_another_picture_are_refused(tmp_path):
    """A file that somebody wrote from a detector; and joints of a picture three times as large."""
    large = [[3 * x + 400, 3 * y] for x, y in entry()["joints"]]
    people = [entry(joints_vis=[1.0] * 15 + [0.02]), entry(joints=large), entry(joints_vis=[1.0] * 16)]
    confident, beyond, right = read_all(mpii.READER, written(tmp_path, people))
    assert confident.reason == "joints_vis.15: must be 0 or 1"
    assert re.search(r"100% of the joints lie outside their pictures, .* such as 300 x 200; in MPII's", beyond.reason)
    assert right.keypoints[:, 2].sum() == 16


def test_a_painted_joint_lies_under_its_keypoint(tmp_path):
    config = written(tmp_path, [entry(joints=[[140.0, 90.0]] * 16)])
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[89, 139] = 255  # row 90 and column 140, counted from 1
    (tmp_path / "images of people" / "a person é.jpg").write_bytes(cv2.imencode(".png", rgb)[1].tobytes())
    (person,) = read_all(mpii.READER, config)
    seen = codecs.decode_rgb(person.rgb).astype(float).sum(-1)
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    assert np.allclose(person.keypoints[0, :2], (column + 0.5, row + 0.5), atol=0.5)


def test_faults_become_reasons(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(codecs.encode_rgb(np.zeros((200, 300, 3), np.uint8)))
    whole = codecs.encode_rgb(np.zeros((200, 300, 3), np.uint8))
    entries = [
        entry(),
        entry(),
        entry(center=(140.0, 100.0)),
        entry("missing.jpg"),
        entry("cut.jpg"),
        entry("empty.jpg"),
        entry("../secret.jpg"),
        entry("link.jpg"),
        entry("text.jpg"),
        entry(joints=[[-200, 5]] * 16, joints_vis=[1] * 16),
        entry(joints=[[0, 0]] * 15),
        entry(scale=float("nan")),
        entry(center=(5000.0, 100.0)),
        {"image": "a person é.jpg"},
        "not an object",
        entry("nul\x00.jpg"),
        entry("x" * 5000),
    ]
    config = written(tmp_path, entries)
    folder = Path(config.images)
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>not found</html>")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    results = list(read_all(mpii.READER, config))
    reasons = [each.reason if isinstance(each, Rejected) else None for each in results]
    assert [index for index, reason in enumerate(reasons) if reason is None] == [0, 2]
    expected = [
        None, "repeats an earlier", None, "does not exist", "truncated", "empty",
        "leaves the folder", "leaves the folder", "none of what is read",
        "100% of the joints lie outside", "joints: ", "scale: ", "outside the 300 x 200", "center: ",
        "the record: ", "null byte",
        "cannot be read",
    ]  # fmt: skip
    for reason, words in zip(reasons, expected, strict=True):
        assert (reason is None and words is None) or words in reason
        assert reason is None or "\n" not in reason
    assert results[2].id == "mpii/a person é.jpg/2"


@pytest.mark.parametrize(
    "changes",
    [{}, {"scale": -1.0}, {"scale": None, "joints": []}, {"center": None}, {"center": [], "joints_vis": None}],
)
def test_who_has_no_center_is_left_out_whatever_else_is_missing(tmp_path, changes):
    config = written(tmp_path, [{**entry(), "center": [-1.0, -1.0], **changes}, entry()])
    out, kept = read_all(mpii.READER, config)
    assert isinstance(out, Skipped)
    assert out.reason == "the person's center is not annotated"
    assert isinstance(kept, Person)
    found = mpii.inventory(config)
    assert (found.faults, found.counts["people"]) == ([], 1)
    assert found.notes == ["1 of the people skipped: the person's center is not annotated"]


def test_a_pipe_is_not_waited_for(tmp_path):
    config = written(tmp_path, [entry("pipe.jpg")], images=())
    os.mkfifo(Path(config.images) / "pipe.jpg")
    (result,) = read_all(mpii.READER, config)
    assert "not a regular file" in result.reason


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[" * 100000, "\x00"])
def test_a_file_that_is_not_a_list_of_people_is_one_line(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(UserError, match=r"MPII annotation file .*train.json") as error:
        mpii.items(mpii.MpiiConfig(annotations=str(tmp_path / "train.json"), images=str(tmp_path)))
    assert "\n" not in str(error.value)


def test_real_people_are_read():
    folder = real_sample("mpii")
    config = mpii.MpiiConfig(
        annotations=str(folder / "mpii_hrnet_style.json"), images=str(folder / "images"), padding=1.25
    )
    people = list(read_all(mpii.READER, config))
    assert [int(person.keypoints[:, 2].sum()) for person in people] == [16, 16, 14]
    assert {person.size for person in people} == {320}
    # Published: scale 1.761835 in the 854 x 480 picture.
    assert people[1].crop[2:].tolist() == [round(1.5 * 250 * 1.761835), 854, 480]
    for person in people:
        # The person stands upright: the head is above the pelvis.
        assert person.keypoints[MPII_16.index("head_top"), 1] < person.keypoints[MPII_16.index("pelvis"), 1]


def test_what_was_put_in_comes_back(tmp_path):
    people = mpii_files.write_mpii(tmp_path / "MPII für alle")
    config = mpii.MpiiConfig(source=str(tmp_path / "MPII für alle"))
    found = mpii.inventory(config)
    assert (found.faults, found.counts) == ([], {"people": 3, "pictures": 3})
    for read, true in zip(read_all(mpii.READER, config), people, strict=True):
        x0, y0, side = read.crop[:3]
        zoom = read.size / side
        joints = convert(true.keypoints, "people-31", "mpii-16")
        assert np.array_equal(read.keypoints[:, 2], joints[:, 2])
        seen = joints[:, 2] > 0
        assert np.allclose(read.keypoints[seen, :2] / zoom + (x0, y0), joints[seen, :2], atol=1e-3)
        # The published box: as high as the person and square, 15 * scale lower.
        height = true.box[3] - true.box[1]
        middle = (true.box[:2] + true.box[2:]) / 2 + (0, 15 * height / 200)
        assert np.allclose(
            read.box.reshape(2, 2) / zoom + (x0, y0), [middle - height / 2, middle + height / 2], atol=1e-3
        )


def test_the_inventory_names_what_is_missing(tmp_path):
    mpii_files.write_mpii(tmp_path)
    (tmp_path / "images" / "015601865.jpg").unlink()
    (tmp_path / "images" / "015601864.jpg").write_text("<html>")
    found = mpii.inventory(mpii.MpiiConfig(source=str(tmp_path)))
    assert [(Path(each.path).name, each.reason) for each in found.faults] == [
        ("015601864.jpg", "is not JPEG or PNG"), ("015601865.jpg", "does not exist"),
    ]  # fmt: skip
    found = mpii.inventory(mpii.MpiiConfig(source=str(tmp_path / "elsewhere")))
    assert [Path(each.path).name for each in found.faults] == ["train.json", "images"]


def test_a_missing_folder_of_pictures_is_one_line(tmp_path):
    mpii_files.write_mpii(tmp_path)
    with pytest.raises(UserError, match=r"pictures .*/elsewhere does not exist; unpack them there, or give --images"):
        mpii.items(mpii.MpiiConfig(source=str(tmp_path), images="elsewhere"))
