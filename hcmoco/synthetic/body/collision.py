"""Detect whether a posed body runs into itself.

Shape legend: Bn bones, N points.
"""

from collections.abc import Callable

import numpy as np

from hcmoco.synthetic.body.pose import SIDES


def collides(
    bones: tuple[str, ...], heads_Bn3: np.ndarray, rotations_Bn33: np.ndarray, torso: np.ndarray, unit: float
) -> bool:
    """Return whether a posed body runs into itself.

    It does if a hand or forearm is inside the trunk, the head or a thigh, or if arms or legs cross each other.

    Args:
        bones: names of the Bn bones.
        heads_Bn3: float [Bn, 3], heads of the posed bones, meters.
        rotations_Bn33: float [Bn, 3, 3], rotations of the posed bones.
        torso: [3], half axes of the trunk at rest, meters.
        unit: size of the body relative to one whose neck is 0.55 m above its hips.
    """
    index = {name: position for position, name in enumerate(bones)}

    def at(bone: str) -> np.ndarray:
        return heads_Bn3[index[bone]]

    arms_S43 = np.stack([_arm_points(at, side) for side in SIDES])
    points_N3 = arms_S43.reshape(-1, 3)
    inside = (points_N3 - at("spine03")) @ rotations_Bn33[index["spine03"]] / torso
    if ((inside**2).sum(1) < 1).any():
        return True
    skull = at("head") + rotations_Bn33[index["head"]] @ np.array([0, -0.01, 0.08]) * unit
    if (np.linalg.norm(points_N3 - skull, axis=1) < 0.115 * unit).any():
        return True
    if np.linalg.norm(arms_S43[0, 1:, None] - arms_S43[1, None, 1:], axis=-1).min() < 0.07 * unit:
        return True
    legs = [(at("upperleg01" + side), at("lowerleg01" + side), at("foot" + side)) for side in SIDES]
    thick = max(torso[0] / 0.17, 1.0)
    for hip, knee, _ in legs:
        if _distance(points_N3, hip, knee) < 0.085 * unit * thick:
            return True
    (_, knee_l, foot_l), (_, knee_r, foot_r) = legs
    shins = [
        np.linspace(0.15, 1, 5)[:, None] * (foot - knee) + knee for knee, foot in ((knee_l, foot_l), (knee_r, foot_r))
    ]
    return bool(
        np.linalg.norm(knee_l - knee_r) < 0.12 * unit * thick
        or np.linalg.norm(shins[0][:, None] - shins[1][None], axis=-1).min() < 0.085 * unit
    )


def _arm_points(at: Callable[[str], np.ndarray], side: str) -> np.ndarray:
    elbow, wrist = at("lowerarm01" + side), at("wrist" + side)
    return np.stack([(elbow + wrist) / 2, wrist, at("finger3-1" + side), at("finger3-3" + side)])


def _distance(points_N3: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Smallest distance from the points to the segment ab."""
    share = np.clip((points_N3 - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return float(np.linalg.norm(points_N3 - (a + share[:, None] * (b - a)), axis=1).min())
