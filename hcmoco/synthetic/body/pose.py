"""A pose: rotations of joints, and what they mean for the bones of a body.

A pose gives each joint a rotation relative to its parent, starting from a body that stands upright with hanging arms.
Axes: x to the person's left, y backwards, z up; a positive rotation about x swings a hanging limb backwards.
Shape legend: Bn bones. `.L` and `.R` are the person's left and right.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from hcmoco.synthetic.vectors import cross, norm

SIDES = (".L", ".R")
_DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class Pose:
    """Rotations of all joints.

    Attributes:
        mode: what the legs do; `sit` and `lie` need something to sit or lie on.
        rotations: float64 [3, 3] for `root`, `chest`, `neck` and, with the suffixes `.L` and `.R`, for `hip`, `knee`,
            `ankle`, `shoulder` and `elbow`.
        curl: for each side, how far the fingers are closed, 0..1.
        twist: for each side, rotation of the forearm about its axis in radians.
        wrist: for each side, rotation of the hand, float64 [3, 3].
    """

    mode: str
    rotations: dict[str, np.ndarray]
    curl: dict[str, float] = field(default_factory=dict)
    twist: dict[str, float] = field(default_factory=dict)
    wrist: dict[str, np.ndarray] = field(default_factory=dict)


def rotation(vector) -> np.ndarray:
    """Return the rotation about the axis `vector` [3] by its length in radians, float64 [3, 3]."""
    return cv2.Rodrigues(np.asarray(vector, np.float64).reshape(3, 1))[0]


def _part(turn: np.ndarray, share: float) -> np.ndarray:
    """The given share of a rotation, about the same axis."""
    return rotation(cv2.Rodrigues(turn)[0].ravel() * share)


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the direction of a to that of b."""
    axis = cross(a, b)
    length = norm(axis)
    return np.eye(3) if length < 1e-9 else rotation(axis / length * np.arctan2(length, a @ b))


def bone_rotations(bones: tuple[str, ...], heads_Bn3: np.ndarray, pose: Pose) -> np.ndarray:
    """Return each bone's rotation relative to its parent, for a body with the given rest heads.

    Args:
        bones: names of the Bn bones.
        heads_Bn3: float [Bn, 3], heads of the bones at rest, meters.
        pose: the pose.

    Returns:
        float64 [Bn, 3, 3], in the axes of the rest pose, as `pose_body` takes them.
    """
    index = {name: position for position, name in enumerate(bones)}
    head = dict(zip(bones, heads_Bn3.astype(np.float64), strict=True))
    turns = np.tile(np.eye(3), (len(bones), 1, 1))

    def put(bone: str, turn: np.ndarray) -> None:
        turns[index[bone]] = turn

    joints = pose.rotations
    put("root", joints["root"])
    chest, neck = _part(joints["chest"], 0.25), _part(joints["neck"], 0.25)
    for bone in ("spine05", "spine04", "spine03", "spine02"):
        put(bone, chest)
    for bone in ("neck01", "neck02", "neck03", "head"):
        put(bone, neck)
    for side in SIDES:
        # The rest body stands with spread arms and legs: first bring each limb to hang, then apply the pose.
        thigh, shin = (
            head["lowerleg01" + side] - head["upperleg01" + side],
            head["foot" + side] - head["lowerleg01" + side],
        )
        slightly_out = np.array([0.04 if side == ".L" else -0.04, 0, 0])
        hang_thigh = _between(thigh, _DOWN * norm(thigh) + slightly_out)
        hang_shin = _between(hang_thigh @ shin, _DOWN) @ hang_thigh
        put("upperleg01" + side, joints["hip" + side] @ hang_thigh)
        put("lowerleg01" + side, hang_thigh.T @ joints["knee" + side] @ hang_shin)
        put("foot" + side, hang_shin.T @ joints["ankle" + side])

        upper, fore = (
            head["lowerarm01" + side] - head["upperarm01" + side],
            head["wrist" + side] - head["lowerarm01" + side],
        )
        hang_upper = _between(upper, _DOWN)
        hang_fore = _between(hang_upper @ fore, _DOWN) @ hang_upper
        raised = joints["shoulder" + side] @ hang_upper
        clavicle = _part(raised, 0.18)
        put("clavicle" + side, clavicle)
        put("upperarm01" + side, clavicle.T @ raised)
        put("lowerarm01" + side, hang_upper.T @ joints["elbow" + side] @ hang_fore)
        if side in pose.twist:
            put("lowerarm02" + side, rotation(fore / norm(fore) * pose.twist[side]))
            put("wrist" + side, pose.wrist[side])
            _curl(put, head, side, pose.curl[side])
    return turns


def _curl(put, head: dict[str, np.ndarray], side: str, amount: float) -> None:
    """Close the four fingers about axes across the palm."""
    across = np.array([-1.0 if side == ".L" else 1.0, 0, -0.2])
    for finger in (2, 3, 4, 5):
        for joint in (1, 2, 3):
            last = min(joint + 1, 3)
            axis = cross(head[f"finger{finger}-{last}{side}"] - head[f"finger{finger}-{last - 1}{side}"], across)
            put(f"finger{finger}-{joint}{side}", rotation(axis / norm(axis) * 0.7 * amount))
