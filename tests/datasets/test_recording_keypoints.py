"""Keypoints that tools found in the frames of videos and recordings lie where they were found, in the right frame."""

import json
import re
import shutil

import numpy as np
import pytest

from hcmoco.data.schema import Person
from hcmoco.datasets import recording
from hcmoco.datasets.base import Skipped, read_all
from hcmoco.errors import UserError
from tests.datasets.test_recording import config
from tests.helpers import keypoint_files, recording_files
from tests.helpers.keypoint_files import Shot

COUNT, SIZE, EMPTY = 8, (160, 120), 5


def shots(name) -> list[Shot]:
    """The frames of a video: one person who walks to the right, nobody in the frame EMPTY. `name`: number -> name."""
    rng = np.random.default_rng(3)
    person = rng.uniform((30, 20), (70, 100), (31, 2))
    return [
        Shot(f"{name(number)}.jpg", SIZE, [] if number == EMPTY else [np.add(person, (5 * number, 0))])
        for number in range(COUNT)
    ]


@pytest.fixture
def root(tmp_path):
    recording_files.write_video(tmp_path / "phone", "walk.mp4", COUNT)
    return tmp_path / "phone"


def openpose(root, name=lambda number: f"walk_{number:012d}"):
    """What `openpose.bin --video walk.mp4 --write_json openpose` writes."""
    return keypoint_files.openpose(root.parent, shots(name))


def resolved(root, **options):
    return recording.resolve(config(root, **options))


def read(root, **options):
    return list(read_all(recording.READER, resolved(root, **options)[0]))


def assert_walks(found, joints):
    assert [each.id for each in found] == [f"recording/walk/{number:06d}" for number in range(COUNT)]
    for number, (each, shot) in enumerate(zip(found, shots(str), strict=True)):
        if number == EMPTY:
            assert isinstance(each, Skipped)
            continue
        assert isinstance(each, Person), each
        truth = keypoint_files.joints_of(shot.people[0], joints)
        assert each.keypoints[:, 2].all()
        zoom = each.size / each.crop[2]
        assert np.allclose(each.keypoints[:, :2], (truth - each.crop[:2]) * zoom, atol=0.02)


def test_openpose_counts_frames_from_0(root):
    keypoints = openpose(root)
    said = resolved(root, keypoints=str(keypoints))[1]
    assert said[0] == "videos: 1 videos"
    assert f"{keypoints}: format openpose, joints body-25 (recognized), coordinates pixels" in said
    assert_walks(read(root, keypoints=str(keypoints)), "body-25")


def test_yolo_counts_frames_from_1(root):
    keypoints = keypoint_files.yolo(root.parent, shots(lambda number: f"walk_{number + 1}"))
    assert_walks(read(root, keypoints=str(keypoints), joint_set="coco-17"), "coco-17")


def test_how_others_count_is_asked_for_and_the_answer_helps(root):
    keypoints = keypoint_files.mmpose(root.parent, shots(lambda number: f"walk-{number + 1:06d}"))
    options = {"keypoints": str(keypoints), "joint_set": "halpe-26"}
    with pytest.raises(UserError, match="do not say how they count a video's frames; give --first-frame"):
        read(root, **options)
    assert_walks(read(root, **options, first_frame=1), "halpe-26")


def test_frames_that_are_counted_otherwise_are_told(root):
    keypoints = openpose(root)
    with pytest.raises(UserError, match=r"frames are counted from 1; give --first-frame 0$"):
        read(root, keypoints=str(keypoints), first_frame=1)
    assert_walks(read(root, keypoints=str(keypoints), first_frame=0), "body-25")


def test_keypoints_of_another_video_are_refused(root):
    keypoints = openpose(root, lambda number: f"run_{number:012d}")
    with pytest.raises(UserError, match=r"of none of the recording's videos; expected are names such as walk_0000"):
        read(root, keypoints=str(keypoints))


def test_each_of_several_videos_has_its_own(root):
    shutil.copy(root / "walk.mp4", root / "stand.mp4")
    keypoints = openpose(root)
    found = read(root, keypoints=str(keypoints))
    assert_walks([each for each in found if "/walk/" in each.id], "body-25")
    assert all(isinstance(each, Skipped) for each in found if "/stand/" in each.id)


def test_keypoints_of_pictures_are_found_by_name(tmp_path):
    root = tmp_path / "plain"
    recording_files.write_plain(root, 2)
    stems = sorted(each.stem for each in (root / "rgb").iterdir())
    taken = shots(lambda number: stems[number] if number < 2 else f"x{number}")[:2]
    keypoints = keypoint_files.openpose(tmp_path, taken)
    found = read(root, keypoints=str(keypoints))
    assert [each.id for each in found] == [f"recording/{stem}" for stem in stems]
    assert all(each.depth and each.keypoints[:, 2].any() for each in found)
    (keypoints / "other_keypoints.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": [9, 9, 1] * 25}]}))
    with pytest.raises(UserError, match="names the picture 'other', which the recording lacks; its frames are called"):
        read(root, keypoints=str(keypoints))


def test_what_is_not_used_is_said(root):
    keypoints = openpose(root)
    (keypoints / "walk_000000000003_keypoints.json").write_text("{cut")
    lines = resolved(root, keypoints=str(keypoints))[1]
    assert any(
        "1 people of" in line and "are passed over, such as: walk_000000000003_keypoints.json" in line for line in lines
    )
    assert sum(isinstance(each, Person) for each in read(root, keypoints=str(keypoints))) == COUNT - 2


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"first_frame": 1}, "--first-frame counts only with --keypoints, and there is none; leave "),
        ({"format": "openpose"}, "--format counts only with --keypoints, and there is none; leave "),
        ({"color_topic": "/a"}, "--color-topic counts only with ROS bags, and there is none; leave "),
    ],
)
def test_options_without_what_they_are_for_are_refused(tmp_path, options, refused):
    recording_files.write_plain(tmp_path, 1)
    recording.resolve(config(tmp_path))
    with pytest.raises(UserError, match=re.escape(refused)):
        recording.resolve(config(tmp_path, **options))
