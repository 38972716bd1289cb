"""What `polluted_keypoints` feeds, against the published loaders' rule written as a loop over the annotation files' own
numbers.
"""

import json

import numpy as np
import pytest
import torch

from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, make_micro_batch
from hcmoco.data.released_keypoints import released_keypoints
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17, JOINT_SETS, KINECT_25, convert
from hcmoco.data.transforms import AugmentConfig
from hcmoco.datasets import coco, mpii
from hcmoco.datasets.base import read_all
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from hcmoco.pretraining.views import to_device
from tests.helpers.coco_files import write_keypoints
from tests.helpers.mpii_files import write_mpii

# Right ankle, knee, hip, left hip, knee, ankle, nose, right wrist, elbow, shoulder, left shoulder, elbow, wrist of
# COCO's 17.
CHOICE = [16, 14, 12, 11, 13, 15, 0, 10, 8, 6, 5, 7, 9]


def published(joints_xy: list[list[float]]) -> np.ndarray:
    """All joints of an annotation relative to joint 6, as (row, column), over the largest of these numbers."""
    root_x, root_y = joints_xy[6]
    offsets = [[y - root_y, x - root_x] for x, y in joints_xy]
    largest = max(abs(value) for pair in offsets for value in pair)
    return np.array([[value / largest for value in pair] for pair in offsets])


def fed(people: list[Person], source: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """The skeleton encoder's input from records with random crops, and which of their joints are visible."""
    rows = [each.to_row(number) for number, each in enumerate(people)]
    turned = AugmentConfig(size=64, scale=(0.75, 1.25), shift=0.125, rotation_probability=1)
    batch = make_micro_batch(
        rows, [0] * len(rows), [SourceInfo(source)], CollateConfig(turned, target, 4), SampleKey(seed=1, step=3)
    )
    encoder = EncoderConfig(name="test_resnet")
    skeleton = SkeletonConfig(width=8, num_blocks=1)
    config = ModelConfig(
        rgb=encoder, depth=encoder, skeleton=skeleton, embedding=8, joint_set=target, polluted_keypoints=True
    )
    views = to_device(batch, torch.device("cpu"), HCMoCo(config, seed=0), encode_absent=True)
    return views.inputs["keypoints"].numpy(), batch.keypoints[..., 2] > 0


def test_mpii_joints_that_are_not_annotated_keep_their_place_in_the_picture(tmp_path):
    write_mpii(tmp_path, count=3, size=128)
    path = tmp_path / "annot" / "train.json"
    entries = json.loads(path.read_text())
    for number, entry in enumerate(entries):
        for joint in ((), (0, 15), (6, 9))[number]:
            entry["joints"][joint], entry["joints_vis"][joint] = [-1.0, -1.0], 0
    path.write_text(json.dumps(entries))
    people = list(read_all(mpii.READER, mpii.MpiiConfig(source=str(tmp_path), size=64, padding=1.25)))
    assert all(isinstance(each, Person) and each.size == 64 for each in people)

    got, visible = fed(people, "mpii-16", "mpii-16")
    assert visible.sum(1).min() >= 6
    for entry, inputs_J2, visible_J in zip(entries, got, visible, strict=True):
        np.testing.assert_allclose(inputs_J2, published(entry["joints"]) * visible_J[:, None], atol=1e-5)
    missing = np.array(entries[1]["joints_vis"]) == 0
    without = np.array(entries[1]["joints"])[~missing]
    largest = np.abs(without - np.array(entries[1]["joints"][6])).max()
    assert np.abs(np.array(entries[1]["joints"]) - entries[1]["joints"][6]).max() > 1.2 * largest, (
        "the missing joints decide the scale"
    )


def test_coco_is_normalized_over_17_joints_before_13_are_chosen(tmp_path):
    write_keypoints(tmp_path, count=3, size=128)
    path = tmp_path / "annotations" / "person_keypoints_train2014.json"
    content = json.loads(path.read_text())
    for annotation, joints in zip(content["annotations"], ((), (1, 3), (13, 16)), strict=False):
        for joint in joints:
            annotation["keypoints"][3 * joint : 3 * joint + 3] = [0, 0, 0]
    path.write_text(json.dumps(content))
    people = [
        each
        for each in read_all(coco.READER, coco.CocoConfig(source=str(tmp_path), size=64))
        if isinstance(each, Person)
    ]
    assert len(people) == 3

    got, visible = fed(people, "coco-17", "common-13")
    assert visible.sum(1).min() >= 6
    for annotation, inputs_J2, visible_J in zip(content["annotations"], got, visible, strict=False):
        joints = np.array(annotation["keypoints"], float).reshape(17, 3)[:, :2].tolist()
        np.testing.assert_allclose(inputs_J2, published(joints)[CHOICE] * visible_J[:, None], atol=1e-5)


@pytest.mark.parametrize("target", ["mpii-16", "common-13"])
def test_kinect_is_converted_first_and_joints_out_of_sight_are_left_out(target):
    keypoints = np.column_stack([np.random.default_rng(2).uniform(5, 60, (25, 2)), np.ones(25)])
    crop = np.float32([200, 90, 64, 512, 424])
    joints = convert(keypoints, KINECT_25.name, target)
    expected = published(joints[:, :2].tolist())
    np.testing.assert_allclose(released_keypoints(keypoints, crop, 64, KINECT_25.name, target), expected, atol=1e-6)

    hidden = JOINT_SETS[target].index("left_ankle")
    keypoints[KINECT_25.index("left_ankle")] = 0
    rest = np.delete(joints, hidden, 0)
    got = np.delete(released_keypoints(keypoints, crop, 64, KINECT_25.name, target), hidden, 0)
    root = joints[6, 1::-1]
    np.testing.assert_allclose(got, (rest[:, 1::-1] - root) / np.abs(rest[:, 1::-1] - root).max(), atol=1e-6)
    assert not released_keypoints(np.zeros((25, 3)), crop, 64, KINECT_25.name, target).any()


def test_without_a_crop_what_is_not_annotated_is_left_out():
    keypoints = np.column_stack([np.random.default_rng(3).uniform(40, 60, (17, 2)), np.ones(17)])
    offset = keypoints[:, 1::-1] - keypoints[6, 1::-1]
    keypoints[3] = 0  # an ear, which the 13 do not have; at (0, 0) of the crop it would be the farthest
    got = released_keypoints(keypoints, None, 64, COCO_17.name, "common-13")
    np.testing.assert_allclose(got, (offset / np.abs(np.delete(offset, 3, 0)).max())[CHOICE], atol=1e-6)
