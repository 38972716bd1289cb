"""Joint sets: names, edges, left/right pairs, and conversion from one set to another by joint name.

Left is the person's own left in an unmirrored picture. Every set uses the same name for the same place on the body, so
a conversion is a gather by name. A joint that the source does not have becomes invisible. Where data sets mark the same
joint at different places, a stand-in is declared; none is guessed. The sets that pose estimators write are in
tool_joints.py.
"""

from functools import cache

import numpy as np

from hcmoco.data.joint_set import JointSet
from hcmoco.data.tool_joints import TOOL_SETS
from hcmoco.errors import UserError

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


# COCO keypoints, order and skeleton of the published annotation file's category entry. The skeleton has circles: head,
# shoulders, torso.
COCO_17 = JointSet(
    "coco-17",
    (
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
        *(f"{side}_{limb}" for limb in _LIMBS for side in ("left", "right")),
    ),
    (
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
        ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
    ),
    stand_ins=(("head", "nose"),),
    source="https://cocodataset.org/#format-data (the category person of the annotation files)",
)  # fmt: skip

# MPII human pose; edges as the skeleton tree that the paper's graph encoder uses (root: pelvis).
MPII_16 = JointSet(
    "mpii-16",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    (
        ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis"),
        ("left_hip", "pelvis"), ("left_knee", "left_hip"), ("left_ankle", "left_knee"),
        ("thorax", "pelvis"), ("upper_neck", "thorax"), ("head_top", "upper_neck"),
        ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("right_shoulder", "upper_neck"),
        ("left_shoulder", "upper_neck"), ("left_elbow", "left_shoulder"), ("left_wrist", "left_elbow"),
    ),
    stand_ins=(("head", "head_top"),),
    source="http://human-pose.mpi-inf.mpg.de/#download (annotation description)",
)  # fmt: skip

# Kinect v2 skeleton; its spine base, spine shoulder and neck are the pelvis, thorax and upper neck of the other sets.
# The bones are those that the SDK's sample Body Basics draws: thumbs grow from wrists, tips of hands from hands.
KINECT_25 = JointSet(
    "kinect-25",
    (
        "pelvis", "spine_mid", "upper_neck", "head",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand",
        "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip", "right_knee", "right_ankle", "right_foot",
        "thorax", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
    ),
    (
        ("head", "upper_neck"), ("upper_neck", "thorax"), ("thorax", "spine_mid"), ("spine_mid", "pelvis"),
        ("thorax", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("left_wrist", "left_hand"), ("left_hand", "left_hand_tip"), ("left_wrist", "left_thumb"),
        ("thorax", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("right_wrist", "right_hand"), ("right_hand", "right_hand_tip"), ("right_wrist", "right_thumb"),
        ("pelvis", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("left_ankle", "left_foot"),
        ("pelvis", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
        ("right_ankle", "right_foot"),
    ),
    stand_ins=(("head_top", "head"), ("neck", "thorax"), ("torso", "spine_mid")),
    source="https://learn.microsoft.com/en-us/previous-versions/windows/kinect/dn758663(v=ieb.10) (JointType); "
    "Kinect for Windows SDK 2.0, sample BodyBasics-WPF (bones)",
)  # fmt: skip

# The 13 joints that COCO, MPII and Kinect can all name; "head" is COCO's nose, MPII's head top, Kinect's head. The head
# is the root: shoulders hang off it and hips off the shoulders.
COMMON_13 = JointSet(
    "common-13",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "head",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    (
        ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "right_shoulder"),
        ("left_hip", "left_shoulder"), ("left_knee", "left_hip"), ("left_ankle", "left_knee"),
        ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("right_shoulder", "head"),
        ("left_shoulder", "head"), ("left_elbow", "left_shoulder"), ("left_wrist", "left_elbow"),
    ),
)  # fmt: skip

# ITOP, order of the published label files. Its neck is the middle of the shoulders (to 2 mm in 1,500 labeled frames),
# so Kinect's spine shoulder and not Kinect's neck; its torso lies half-way from there to the middle of the hips.
ITOP_15 = JointSet(
    "itop-15",
    (
        "head", "neck", "right_shoulder", "left_shoulder", "right_elbow", "left_elbow", "right_hand", "left_hand",
        "torso", "right_hip", "left_hip", "right_knee", "left_knee", "right_foot", "left_foot",
    ),
    (
        ("head", "neck"), ("neck", "torso"),
        ("right_shoulder", "neck"), ("right_elbow", "right_shoulder"), ("right_hand", "right_elbow"),
        ("left_shoulder", "neck"), ("left_elbow", "left_shoulder"), ("left_hand", "left_elbow"),
        ("right_hip", "torso"), ("right_knee", "right_hip"), ("right_foot", "right_knee"),
        ("left_hip", "torso"), ("left_knee", "left_hip"), ("left_foot", "left_knee"),
    ),
    stand_ins=(("head_top", "head"), ("thorax", "neck"), ("spine_mid", "torso")),
)  # fmt: skip

# What the synthetic people carry: COCO-17, MPII-16, Kinect-25 and ITOP-15 are gathers of it.
PEOPLE_31 = JointSet(
    "people-31",
    (
        *COCO_17.joints,
        *("pelvis", "thorax", "upper_neck", "head_top", "spine_mid", "head"),
        *(f"{side}_{place}" for side in ("left", "right") for place in ("hand", "hand_tip", "thumb", "foot")),
    ),
    stand_ins=(("neck", "thorax"), ("torso", "spine_mid")),
)

JOINT_SETS = {
    joints.name: joints for joints in (COCO_17, MPII_16, KINECT_25, COMMON_13, ITOP_15, PEOPLE_31, *TOOL_SETS)
}
CANONICAL = frozenset((*PEOPLE_31.joints, *ITOP_15.joints))
"""The names of places on the body that a set for training, or synthetic people, can ask for."""
TRAINING_SETS = tuple(name for name, joints in JOINT_SETS.items() if joints.edges)


def joint_set(name: str) -> JointSet:
    """Return the joint set called `name`; raise UserError with the known names otherwise."""
    if name not in JOINT_SETS:
        raise UserError(f"joint set {name!r} is unknown; known are {', '.join(JOINT_SETS)}")
    return JOINT_SETS[name]


@cache
def _gather(source: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    positions = np.array([joint_set(source).find(joint) for joint in joint_set(target).joints])
    return np.maximum(positions, 0), positions >= 0


def convert(keypoints: np.ndarray, source: str, target: str) -> np.ndarray:
    """Convert keypoints from one joint set to another.

    Args:
        keypoints: [..., J_source, C] with C >= 1; the last column is the visibility.
        source: name of their joint set.
        target: name of the wanted joint set.

    Returns:
        [..., J_target, C]; joints that the source lacks are all zero, so invisible.
    """
    positions, known = _gather(source, target)
    return keypoints[..., positions, :] * known[:, None].astype(keypoints.dtype)
