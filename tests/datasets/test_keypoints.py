"""Keypoints as tools write them: the same people come back at the same pixels; other conventions are refused with the
option that helps, and it helps.
"""

import json
import re
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import PEOPLE_31, convert, joint_set
from hcmoco.datasets import keypoints
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.keypoints.azure_kinect import Calibration
from hcmoco.datasets.keypoints.config import KeypointsConfig
from hcmoco.errors import UserError
from tests.helpers import keypoint_files as files
from tests.helpers.keypoint_files import WRITTEN


def config(images, path, **options):
    return build(KeypointsConfig, {"images": str(images), "keypoints": str(path), **options}, "prepare keypoints")


def people(images, path, **options):
    """What is read, by kind: persons by id, rejected and skipped reasons with their counts."""
    found = list(read_all(keypoints.READER, config(images, path, **options)))
    persons = {each.id: each for each in found if isinstance(each, Person)}
    rejected = Counter(each.reason for each in found if isinstance(each, Rejected))
    skipped = Counter(each.reason for each in found if isinstance(each, Skipped))
    return persons, rejected, skipped


def in_picture(person):
    """Keypoints in pixels of the whole picture."""
    x0, y0, side = person.crop[:3]
    xy = person.keypoints[:, :2] * (side / person.size) + (x0, y0)
    return np.column_stack([xy, person.keypoints[:, 2]])


def assert_are(persons, taken, joints):
    """The persons are those of the shots, joint by joint to 1e-3 of a pixel."""
    expected = {f"keypoints/{shot.name}/{who}": each for shot in taken for who, each in enumerate(shot.people)}
    assert set(persons) == set(expected)
    for id, truth in expected.items():
        found = convert(in_picture(persons[id]), joints, "people-31")
        names = [name for name in PEOPLE_31.joints if joint_set(joints).find(name) >= 0]
        exact = [name for name in names if name in joint_set(joints).joints]
        assert len(exact) >= 12
        for name in exact:
            k = PEOPLE_31.index(name)
            assert found[k] == pytest.approx([*truth[k], 1], abs=1e-3), (id, name)


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
    if written.format in ("openpose", "mmpose", "yolo", "azure-kinect"):
        assert skipped == {"the tool found nobody in the picture": 1}
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
