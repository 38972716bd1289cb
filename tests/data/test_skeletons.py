import json

import numpy as np
import pytest

from hcmoco.data.skeletons import (
    COCO_17,
    ITOP_15,
    JOINT_SETS,
    KINECT_25,
    PEOPLE_31,
    TRAINING_SETS,
    convert,
    joint_set,
)
from tests.helpers.real_samples import real_sample


@pytest.mark.parametrize("name", sorted(JOINT_SETS))
def test_bones_are_one_graph_over_all_joints(name):
    """Connected, the same seen from left and right, and each bone listed once between two joints of the set."""
    joints = JOINT_SETS[name]
    bones = {frozenset(bone) for bone in joints.edges}
    assert len(bones) == len(joints.edges)
    assert all(len(bone) == 2 and bone <= set(joints.joints) for bone in bones)
    other = {joint: joints.joints[mirrored] for joint, mirrored in zip(joints.joints, joints.flip, strict=True)}
    assert {frozenset(other[joint] for joint in bone) for bone in bones} == bones
    reached = {joints.joints[0]}
    for _ in bones:
        reached |= {joint for bone in bones for joint in bone if bone & reached}
    assert not bones or reached == set(joints.joints)


def test_these_can_be_trained_on():
    assert TRAINING_SETS == ("coco-17", "mpii-16", "kinect-25", "common-13", "itop-15")
    trees = {name for name in TRAINING_SETS if len(joint_set(name).edges) == len(joint_set(name)) - 1}
    assert trees == {"mpii-16", "kinect-25", "common-13", "itop-15"}


def test_cocos_bones_are_those_of_its_annotation_file():
    """ "skeleton" of the category person, which counts joints from 1."""
    published = [
        *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10)),
        *((9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
    ]
    assert [(a + 1, b + 1) for a, b in COCO_17.edge_indices] == published


def test_a_real_annotation_file_says_the_same():
    content = json.loads(real_sample("coco-keypoints/person_keypoints_subset.json").read_text())
    person = content["categories"][0]
    assert tuple(person["keypoints"]) == COCO_17.joints
    assert [[a + 1, b + 1] for a, b in COCO_17.edge_indices] == person["skeleton"]


def test_kinects_bones_are_those_of_its_sdk():
    """Each joint and the one that it grows from, in the SDK's order of joints (Body Basics)."""
    parents = [
        *(None, "pelvis", "thorax", "upper_neck"),
        *("thorax", "left_shoulder", "left_elbow", "left_wrist"),
        *("thorax", "right_shoulder", "right_elbow", "right_wrist"),
        *("pelvis", "left_hip", "left_knee", "left_ankle", "pelvis", "right_hip", "right_knee", "right_ankle"),
        *("spine_mid", "left_hand", "left_wrist", "right_hand", "right_wrist"),
    ]
    wanted = {frozenset(bone) for bone in zip(KINECT_25.joints, parents, strict=True) if bone[1]}
    assert {frozenset(bone) for bone in KINECT_25.edges} == wanted


@pytest.mark.parametrize("name", sorted(JOINT_SETS))
def test_stand_ins_are_for_names_the_set_lacks(name):
    joints = JOINT_SETS[name]
    for wanted, taken in joints.stand_ins:
        assert wanted not in joints.joints
        assert taken in joints.joints


@pytest.mark.parametrize("source", [KINECT_25, PEOPLE_31])
def test_itop_is_a_gather_of_kinect_and_people(source):
    keypoints = np.column_stack([np.arange(len(source)), np.arange(len(source)), np.ones(len(source))])
    places = convert(keypoints, source.name, "itop-15")
    taken = [source.joints[int(x)] for x in places[:, 0]]
    assert (places[:, 2] == 1).all()
    assert taken == [{"neck": "thorax", "torso": "spine_mid"}.get(joint, joint) for joint in ITOP_15.joints]


def test_itop_exchanges_sides():
    assert joint_set("itop-15").flip.tolist() == [0, 1, 3, 2, 5, 4, 7, 6, 8, 10, 9, 12, 11, 14, 13]
