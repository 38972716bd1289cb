"""The joint sets of pose estimators, held against lists that others publish and against one figure in every order."""

import re

import numpy as np
import pytest

from hcmoco.data.skeletons import CANONICAL, JOINT_SETS, TRAINING_SETS, convert, joint_set
from hcmoco.data.tool_joints import TOOL_SETS

NAMES = [joints.name for joints in TOOL_SETS]
# Right side up, in a picture: the person's left is on the viewer's right. Rows of the parts, columns of their left one.
ROWS = {
    "nose": 20, "eye": 18, "ear": 19, "shoulder": 40, "elbow": 60, "wrist": 80, "hip": 90, "knee": 130, "ankle": 170,
    "pelvis": 90, "head_top": 5, "head": 12, "upper_neck": 33, "thorax": 39, "neck": 40, "hand": 84, "hand_tip": 90,
    "thumb": 86, "foot": 176,
}  # fmt: skip
ASIDE = {"eye": 2, "ear": 4, "shoulder": 15, "elbow": 20, "wrist": 22, "hip": 9, "knee": 10, "ankle": 11, "hand": 23,
         "hand_tip": 24, "thumb": 20, "foot": 13}  # fmt: skip
# Pairs (position in the one, position in the other) with which MMPose merges these sets to train one model on all.
PUBLISHED_PAIRS = {
    ("aic-14", "halpe-26"): [(0, 6), (1, 8), (2, 10), (3, 5), (4, 7), (5, 9), (6, 12), (7, 14), (8, 16), (9, 11),
                             (10, 13), (11, 15), (12, 17), (13, 18)],
    ("crowdpose-14", "halpe-26"): [(k, k + 5) for k in range(14)],
    ("coco-17", "halpe-26"): [(k, k) for k in range(17)],
    ("mpii-16", "halpe-26"): [(0, 16), (1, 14), (2, 12), (3, 11), (4, 13), (5, 15), (8, 18), (9, 17), (10, 10), (11, 8),
                              (12, 6), (13, 5), (14, 7), (15, 9)],
}  # fmt: skip
# Positions that mirroring exchanges, as the sources list them.
PUBLISHED_FLIPS = {
    "coco-17": [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],  # Ultralytics' coco8-pose.yaml, flip_idx
    "h36m-17": [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13],  # VideoPose3D's joints_left, joints_right
    "crowdpose-14": [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13],
}


def side_and_part(label: str) -> tuple[str, str]:
    """What a tool's own name of a joint says, without the table: ("left", "knee") of LKnee, KNEE_LEFT, left_knee."""
    words = re.sub(r"([a-z])([A-Z])|^([LR])(?=[A-Za-z][a-z])", r"\1\3_\2", label).lower().strip("_").split("_")
    side = {"l": "left", "left": "left", "r": "right", "right": "right"}
    sides = [side[word] for word in words if word in side]
    return (sides[0] if sides else ""), "_".join(word for word in words if word not in side)


def drawn(name: str) -> np.ndarray:
    """The figure in the order of a set, by the labels of the set alone; [J, 3]. What is not in the figure is at -1."""
    joints = joint_set(name)
    renamed = {"handtip": "hand_tip", "mid_hip": "pelvis", "root": "pelvis"}
    if name == "h36m-17":
        renamed["foot"] = "ankle"
    if name in ("halpe-26", "crowdpose-14", "aic-14"):
        renamed |= {"head": "head_top", "neck": "upper_neck"}
    if name == "azure-kinect-32":
        renamed["neck"] = "unknown"
    if name == "mediapipe-33":
        renamed["thumb"] = "unknown"
    rows = []
    for label in joints.labels or joints.joints:
        side, part = side_and_part(label)
        part = "unknown" if (name, side, part) == ("halpe-26", "", "hip") else renamed.get(part, part)
        x = 100 + {"left": 1, "right": -1, "": 0}[side] * ASIDE.get(part, 0)
        rows.append([x, ROWS[part], 1] if part in ROWS else [-1, -1, 1])
    return np.array(rows, float)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_in_the_tools_order_is_the_same_figure_in_ours(name):
    for target in (*TRAINING_SETS, "people-31"):
        got, wanted = convert(drawn(name), name, target), drawn(target)
        for joint, place, expected in zip(joint_set(target).joints, got, wanted, strict=True):
            if place[2] and joint not in dict(joint_set(name).stand_ins):
                assert place.tolist() == expected.tolist(), (target, joint)
    common = convert(drawn(name), name, "common-13")
    assert common[:, 2].all(), "the limbs and the head are what every tool writes"


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_counterpart_is_invisible_and_nothing_is_taken_twice(name):
    joints = joint_set(name)
    assert len(set(joints.joints)) == len(joints.joints) == len(joints.labels) == len(set(joints.labels))
    everywhere = np.column_stack([np.arange(len(joints)), np.arange(len(joints)), np.ones(len(joints))])
    for target in (*TRAINING_SETS, "people-31"):
        taken = convert(everywhere, name, target)
        positions = taken[taken[:, 2] > 0, 0].astype(int)
        of = [joints.joints[k] for k in positions]
        assert set(of) <= CANONICAL
        stand_ins = {joint for _, joint in joints.stand_ins}
        assert len({*of} - stand_ins) == len([joint for joint in of if joint not in stand_ins])
        lacking = [joint for joint in joint_set(target).joints if joints.find(joint) < 0]
        assert [joint for joint, row in zip(joint_set(target).joints, taken, strict=True) if not row[2]] == lacking


@pytest.mark.parametrize("name", NAMES)
def test_left_is_left_and_mirroring_twice_is_nothing(name):
    joints = joint_set(name)
    assert joints.flip[joints.flip].tolist() == list(range(len(joints)))
    for label, joint in zip(joints.labels, joints.joints, strict=True):
        side = joint.partition("_")[0]
        assert side_and_part(label)[0] == (side if side in ("left", "right") else ""), label
    mirrored = drawn(name)[joints.flip]
    assert np.allclose(mirrored[:, 0], np.where(drawn(name)[:, 0] < 0, -1, 200 - drawn(name)[:, 0]))


@pytest.mark.parametrize(("source", "target"), PUBLISHED_PAIRS)
def test_sets_are_merged_as_published(source, target):
    joints = joint_set(source)
    everywhere = np.column_stack([np.arange(len(joints)), np.arange(len(joints)), np.ones(len(joints))])
    taken = convert(everywhere, source, target)
    own = [k for k, joint in enumerate(joint_set(target).joints) if joint in joints.joints]
    assert {(int(taken[k, 0]), k) for k in own} == {*PUBLISHED_PAIRS[source, target]}


@pytest.mark.parametrize("name", PUBLISHED_FLIPS)
def test_flips_are_as_published(name):
    assert joint_set(name).flip.tolist() == PUBLISHED_FLIPS[name]


@pytest.mark.parametrize("name", [*NAMES, "coco-17", "mpii-16", "kinect-25"])
def test_every_order_names_its_source(name):
    assert JOINT_SETS[name].source.startswith("http")
    assert len(joint_set(name)) == int(name.rpartition("-")[2])
