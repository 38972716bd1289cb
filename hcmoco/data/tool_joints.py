"""The joint sets that pose estimators and other data sets write, each one table in the tool's own order.

A line of a table is the tool's name of a joint and ours. Where ours is one of the names in skeletons.py, both are the
same place on the body, and a conversion takes it. Every other name has no counterpart: the joint is stored, and is
invisible in a set that a model is trained on. Nothing is derived from several joints: where a tool says that its joint
is the middle of two others, it has the name that this place has here.
"""

from hcmoco.data.joint_set import JointSet


def _table(name: str, source: str, lines: str, *stand_ins: tuple[str, str]) -> JointSet:
    """The joint set of `lines`, each "label joint"."""
    labels, joints = zip(*(line.split() for line in lines.strip().splitlines()), strict=True)
    return JointSet(name, joints, stand_ins=stand_ins, labels=labels, source=source)


_OPENPOSE = "https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md"

# OpenPose's neck and mid-hip are the middles of the shoulders and of the hips, as ITOP's neck and our pelvis are.
BODY_25 = _table(
    "body-25",
    f"{_OPENPOSE} (POSE_BODY_25_BODY_PARTS)",
    """
    Nose nose
    Neck neck
    RShoulder right_shoulder
    RElbow right_elbow
    RWrist right_wrist
    LShoulder left_shoulder
    LElbow left_elbow
    LWrist left_wrist
    MidHip pelvis
    RHip right_hip
    RKnee right_knee
    RAnkle right_ankle
    LHip left_hip
    LKnee left_knee
    LAnkle left_ankle
    REye right_eye
    LEye left_eye
    REar right_ear
    LEar left_ear
    LBigToe left_big_toe
    LSmallToe left_small_toe
    LHeel left_heel
    RBigToe right_big_toe
    RSmallToe right_small_toe
    RHeel right_heel
    """,
    ("head", "nose"),
    ("thorax", "neck"),
)

COCO_18 = _table(
    "coco-18",
    "https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/include/openpose/pose/poseParameters.hpp "
    "(POSE_COCO_BODY_PARTS)",
    """
    Nose nose
    Neck neck
    RShoulder right_shoulder
    RElbow right_elbow
    RWrist right_wrist
    LShoulder left_shoulder
    LElbow left_elbow
    LWrist left_wrist
    RHip right_hip
    RKnee right_knee
    RAnkle right_ankle
    LHip left_hip
    LKnee left_knee
    LAnkle left_ankle
    REye right_eye
    LEye left_eye
    REar right_ear
    LEar left_ear
    """,
    ("head", "nose"),
    ("thorax", "neck"),
)

# Its thumb is a knuckle, and Kinect's the tip; its foot index is the tip of the foot, and Kinect's foot is not.
MEDIAPIPE_33 = _table(
    "mediapipe-33",
    "https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker (pose landmarker model)",
    """
    nose nose
    left_eye_inner left_eye_inner
    left_eye left_eye
    left_eye_outer left_eye_outer
    right_eye_inner right_eye_inner
    right_eye right_eye
    right_eye_outer right_eye_outer
    left_ear left_ear
    right_ear right_ear
    mouth_left left_mouth
    mouth_right right_mouth
    left_shoulder left_shoulder
    right_shoulder right_shoulder
    left_elbow left_elbow
    right_elbow right_elbow
    left_wrist left_wrist
    right_wrist right_wrist
    left_pinky left_pinky
    right_pinky right_pinky
    left_index left_index
    right_index right_index
    left_thumb left_thumb_knuckle
    right_thumb right_thumb_knuckle
    left_hip left_hip
    right_hip right_hip
    left_knee left_knee
    right_knee right_knee
    left_ankle left_ankle
    right_ankle right_ankle
    left_heel left_heel
    right_heel right_heel
    left_foot_index left_foot_index
    right_foot_index right_foot_index
    """,
    ("head", "nose"),
)

# The hands, feet, head and pelvis are those of the Kinect before it. Nothing public says the same of the neck and the
# spine, which are divided otherwise.
AZURE_KINECT_32 = _table(
    "azure-kinect-32",
    "https://learn.microsoft.com/en-us/azure/kinect-dk/body-joints",
    """
    PELVIS pelvis
    SPINE_NAVAL spine_naval
    SPINE_CHEST spine_chest
    NECK neck_of_azure_kinect
    CLAVICLE_LEFT left_clavicle
    SHOULDER_LEFT left_shoulder
    ELBOW_LEFT left_elbow
    WRIST_LEFT left_wrist
    HAND_LEFT left_hand
    HANDTIP_LEFT left_hand_tip
    THUMB_LEFT left_thumb
    CLAVICLE_RIGHT right_clavicle
    SHOULDER_RIGHT right_shoulder
    ELBOW_RIGHT right_elbow
    WRIST_RIGHT right_wrist
    HAND_RIGHT right_hand
    HANDTIP_RIGHT right_hand_tip
    THUMB_RIGHT right_thumb
    HIP_LEFT left_hip
    KNEE_LEFT left_knee
    ANKLE_LEFT left_ankle
    FOOT_LEFT left_foot
    HIP_RIGHT right_hip
    KNEE_RIGHT right_knee
    ANKLE_RIGHT right_ankle
    FOOT_RIGHT right_foot
    HEAD head
    NOSE nose
    EYE_LEFT left_eye
    EAR_LEFT left_ear
    EYE_RIGHT right_eye
    EAR_RIGHT right_ear
    """,
    ("head_top", "head"),
)

# Halpe's, CrowdPose's and AI Challenger's heads and necks are MPII's head top and upper neck, as MMPose merges them to
# train one model: configs/body_2d_keypoint/rtmpose/body8/rtmpose-m_8xb512-700e_body8-halpe26-256x192.py. It leaves out
# MPII's pelvis, so Halpe's hip has no counterpart.
HALPE_26 = _table(
    "halpe-26",
    "https://github.com/Fang-Haoshu/Halpe-FullBody (Keypoints format)",
    """
    Nose nose
    LEye left_eye
    REye right_eye
    LEar left_ear
    REar right_ear
    LShoulder left_shoulder
    RShoulder right_shoulder
    LElbow left_elbow
    RElbow right_elbow
    LWrist left_wrist
    RWrist right_wrist
    LHip left_hip
    RHip right_hip
    LKnee left_knee
    RKnee right_knee
    LAnkle left_ankle
    RAnkle right_ankle
    Head head_top
    Neck upper_neck
    Hip hip_of_halpe
    LBigToe left_big_toe
    RBigToe right_big_toe
    LSmallToe left_small_toe
    RSmallToe right_small_toe
    LHeel left_heel
    RHeel right_heel
    """,
    ("head", "head_top"),
)

CROWDPOSE_14 = _table(
    "crowdpose-14",
    "https://github.com/open-mmlab/mmpose/blob/main/configs/_base_/datasets/crowdpose.py",
    """
    left_shoulder left_shoulder
    right_shoulder right_shoulder
    left_elbow left_elbow
    right_elbow right_elbow
    left_wrist left_wrist
    right_wrist right_wrist
    left_hip left_hip
    right_hip right_hip
    left_knee left_knee
    right_knee right_knee
    left_ankle left_ankle
    right_ankle right_ankle
    head head_top
    neck upper_neck
    """,
    ("head", "head_top"),
)

AIC_14 = _table(
    "aic-14",
    "https://challenger.ai/competition/keypoint/subject (table 1)",
    """
    right_shoulder right_shoulder
    right_elbow right_elbow
    right_wrist right_wrist
    left_shoulder left_shoulder
    left_elbow left_elbow
    left_wrist left_wrist
    right_hip right_hip
    right_knee right_knee
    right_ankle right_ankle
    left_hip left_hip
    left_knee left_knee
    left_ankle left_ankle
    head_top head_top
    neck upper_neck
    """,
    ("head", "head_top"),
)

# The 17 of Human3.6M's 32 joints that VideoPose3D keeps, in its order: right legs first, right arms last. Labels as in
# MMPose's configs/_base_/datasets/h36m.py, some versions of which list the legs with their sides exchanged. Sources
# disagree whether the joint between thorax and head is the neck, the jaw or the nose, and where the spine's joint is.
H36M_17 = _table(
    "h36m-17",
    "https://github.com/facebookresearch/VideoPose3D/blob/main/common/h36m_dataset.py (h36m_skeleton, remove_joints)",
    """
    root pelvis
    right_hip right_hip
    right_knee right_knee
    right_foot right_ankle
    left_hip left_hip
    left_knee left_knee
    left_foot left_ankle
    spine spine_of_h36m
    thorax thorax
    neck_base neck_base_of_h36m
    head head
    left_shoulder left_shoulder
    left_elbow left_elbow
    left_wrist left_wrist
    right_shoulder right_shoulder
    right_elbow right_elbow
    right_wrist right_wrist
    """,
    ("neck", "thorax"),
)

TOOL_SETS = (BODY_25, COCO_18, MEDIAPIPE_33, AZURE_KINECT_32, HALPE_26, CROWDPOSE_14, AIC_14, H36M_17)
