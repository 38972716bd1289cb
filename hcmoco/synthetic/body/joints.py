"""Compute the joints of a posed person, in the order of `hcmoco.data.skeletons.PEOPLE_31`.

The COCO keypoints are regressed from the skin, where annotators click. The others come from the skeleton and from the
vertices at the crown and at the ends of the fingers. COCO-17, MPII-16 and Kinect-25 are subsets of these 31.
"""

from functools import cache

import numpy as np

from hcmoco.data.skeletons import COCO_17, PEOPLE_31
from hcmoco.synthetic.body.mesh import BODY, Asset

# joints that are the posed head of a bone
_BONE_JOINTS = {
    "upper_neck": "neck02",
    "spine_mid": "spine03",
    "left_hand": "finger3-1.L",
    "right_hand": "finger3-1.R",
    "left_foot": "toe3-1.L",
    "right_foot": "toe3-1.R",
}
# joints that are the end of the last bone of a finger: the vertex that this bone moves and that lies farthest from its
# head
_FINGER_ENDS = {
    "left_hand_tip": "finger3-3.L",
    "right_hand_tip": "finger3-3.R",
    "left_thumb": "finger1-3.L",
    "right_thumb": "finger1-3.R",
}
# how far inside the body a joint of this place may lie, meters
_DEPTHS = {
    "nose": 0.05, "eye": 0.05, "ear": 0.06, "head_top": 0.06, "head": 0.16, "upper_neck": 0.16, "thorax": 0.24,
    "spine_mid": 0.26, "pelvis": 0.24, "shoulder": 0.16, "elbow": 0.10, "wrist": 0.07, "hip": 0.22, "knee": 0.12,
    "ankle": 0.10, "hand": 0.07, "hand_tip": 0.05, "thumb": 0.05, "foot": 0.09,
}  # fmt: skip

# float32 [31], meters: a joint counts as visible where the first surface on the ray to it is no nearer than the joint
# less this margin
VISIBILITY_MARGIN = np.array(
    [_DEPTHS[joint.removeprefix("left_").removeprefix("right_")] for joint in PEOPLE_31.joints], np.float32
)
VISIBILITY_MARGIN.setflags(write=False)


@cache
def _finger_ends(asset: Asset) -> dict[str, int]:
    ends = {}
    for joint, name in _FINGER_ENDS.items():
        bone = asset.bone(name)
        moved = np.flatnonzero((asset.vertex_kind == BODY) & (asset.skin.argmax(1) == bone))
        distance = np.linalg.norm(asset.template[moved] - asset.template_heads[bone], axis=1)
        ends[joint] = int(moved[distance.argmax()])
    return ends


@cache
def _regressors(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that any COCO keypoint depends on, int [N], and the regressors from them, float32 [17, N]."""
    near = np.flatnonzero(asset.keypoint_weights.any(axis=0))
    return near, np.ascontiguousarray(asset.keypoint_weights[:, near])


def joints31(asset: Asset, vertices: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Return the 31 joints of a posed person, float32 [31, 3], in the frame and unit of its input.

    Args:
        asset: the body.
        vertices: float [V, 3], posed vertices, as `pose_body` returns them.
        heads: float [Bn, 3], posed bone heads in the same frame.
    """
    near, weights = _regressors(asset)
    regressed = np.einsum("kv,vc->kc", weights, np.ascontiguousarray(vertices[near]))
    found = dict(zip(COCO_17.joints, regressed, strict=True))
    found["pelvis"] = (found["left_hip"] + found["right_hip"]) / 2
    found["head_top"] = vertices[asset.crown]
    found["head"] = (heads[asset.bone("head")] + vertices[asset.crown]) / 2
    # between the collar bones, a little above the line of the shoulders
    found["thorax"] = 0.3 * heads[asset.bone("spine01")] + 0.7 * heads[asset.bone("neck01")]
    found |= {joint: heads[asset.bone(bone)] for joint, bone in _BONE_JOINTS.items()}
    found |= {joint: vertices[vertex] for joint, vertex in _finger_ends(asset).items()}
    return np.stack([found[joint] for joint in PEOPLE_31.joints]).astype(np.float32)
