"""Poses drawn from joint limits and gaits. No recorded motion is used.

A pose gives each joint a rotation relative to its parent, starting from a body that stands upright with hanging arms.
Axes: x to the person's left, y backwards, z up; a positive rotation about x swings a hanging limb backwards.
Shape legend: Bn bones, N points. `.L` and `.R` are the person's left and right.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from hcmoco.synthetic.scene.textures import pick

SIDES = (".L", ".R")
_LEGS = {
    "stand": 0.3, "walk": 0.2, "run": 0.07, "sit": 0.15, "squat": 0.05, "lunge": 0.05,
    "bend": 0.06, "kick": 0.04, "kneel": 0.04, "lie": 0.04,
}  # fmt: skip
_ARMS = {
    "relaxed": 0.3,
    "free": 0.26,
    "overhead": 0.08,
    "head": 0.1,
    "akimbo": 0.06,
    "point": 0.08,
    "side": 0.05,
    "carry": 0.07,
}
# Range of (flexion, abduction, inward twist, elbow flexion) in radians for each habit of an arm.
_ARM_RANGES = {
    "relaxed": ((-0.3, 0.4), (0.06, 0.32), (-0.2, 0.5), (0.05, 0.7)),
    "free": ((-0.4, 2.4), (0.05, 1.5), (-0.5, 0.8), (0.0, 2.1)),
    "overhead": ((2.2, 2.8), (0.0, 0.5), (-0.3, 0.3), (0.0, 1.0)),
    "head": ((0.7, 1.3), (0.15, 0.6), (0.0, 0.5), (1.9, 2.4)),
    "akimbo": ((-0.6, -0.2), (0.6, 0.9), (0.8, 1.2), (1.3, 1.7)),
    "point": ((1.1, 1.8), (0.0, 0.5), (-0.2, 0.2), (0.0, 0.35)),
    "side": ((-0.2, 0.4), (1.1, 1.6), (-0.3, 0.3), (0.0, 0.5)),
    "carry": ((0.1, 0.6), (0.08, 0.3), (0.0, 0.5), (1.2, 1.8)),
    "lap": ((0.3, 0.8), (0.08, 0.3), (0.0, 0.4), (0.5, 1.1)),
}
_JITTER = 0.05  # radians
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


def _about_x(angle: float) -> np.ndarray:
    return rotation((angle, 0, 0))


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes the direction of a to that of b."""
    axis = np.cross(a, b)
    length = np.linalg.norm(axis)
    return np.eye(3) if length < 1e-9 else rotation(axis / length * np.arctan2(length, a @ b))


def _leg(
    side: str, flexion: float, abduction: float, knee: float, ankle: float = 0.0, outward: float = 0.0
) -> dict[str, np.ndarray]:
    sign = 1 if side == ".L" else -1
    hip = rotation((0, -sign * abduction, 0)) @ rotation((0, 0, sign * outward)) @ _about_x(-flexion)
    return {"hip" + side: hip, "knee" + side: _about_x(knee), "ankle" + side: _about_x(ankle)}


def _arm(side: str, flexion: float, abduction: float, inward: float, elbow: float) -> dict[str, np.ndarray]:
    sign = 1 if side == ".L" else -1
    shoulder = rotation((0, -sign * abduction, 0)) @ _about_x(-flexion) @ rotation((0, 0, -sign * inward))
    return {"shoulder" + side: shoulder, "elbow" + side: _about_x(-elbow)}


def _gait(rng: np.random.Generator, mode: str) -> dict[str, np.ndarray]:
    """Legs and arms as sinusoids of one phase, arms opposite to legs."""
    uniform = rng.uniform
    running = mode == "run"
    phase, swing = uniform(0, 2 * np.pi), uniform(0.5, 0.85) if running else uniform(0.22, 0.45)
    bend = uniform(1.2, 1.8) if running else uniform(0.1, 0.6)
    result: dict[str, np.ndarray] = {}
    for side, here in ((".L", phase), (".R", phase + np.pi)):
        lift = max(0.0, np.cos(here + 0.5)) * swing * (2.6 if running else 1.5)
        result |= _leg(
            side,
            swing * np.sin(here) + (0.25 if running else 0.1),
            uniform(0.0, 0.07),
            min(0.08 + lift, 2.1),
            -0.2 * np.cos(here + 0.5),
        )
        result |= _arm(
            side,
            -swing * np.sin(here) * uniform(0.7, 1.2),
            uniform(0.08, 0.28),
            uniform(0, 0.3),
            bend + uniform(-0.1, 0.1),
        )
    result["chest"] = rotation((uniform(0.1, 0.35) if running else uniform(0, 0.12), 0, -0.25 * swing * np.sin(phase)))
    return result


def _legs(rng: np.random.Generator, mode: str) -> tuple[dict[str, np.ndarray], float]:
    """Rotations of the legs, and the pelvis' forward pitch, which the hips undo to keep the feet under the body."""
    uniform = rng.uniform
    pitch = {
        "bend": (0.15, 0.6),
        "squat": (0.1, 0.5),
        "lunge": (0.0, 0.25),
        "sit": (-0.25, 0.2),
        "kneel": (-0.05, 0.2),
        "kick": (-0.25, 0.0),
    }
    lean = uniform(*pitch.get(mode, (0.0, 0.0)))
    result: dict[str, np.ndarray] = {}
    for side in SIDES:
        front = side == ".L"
        outward = uniform(-0.1, 0.35)
        match mode:
            case "sit":
                result |= _leg(
                    side,
                    uniform(1.25, 1.65) + lean,
                    uniform(0.02, 0.35),
                    uniform(1.1, 1.8),
                    uniform(-0.2, 0.2),
                    outward,
                )
            case "squat":
                flexion = uniform(1.1, 1.9)
                result |= _leg(
                    side, flexion + lean, uniform(0.1, 0.4), flexion + uniform(0.1, 0.5), -uniform(0.2, 0.5), outward
                )
            case "lunge":
                hip, knee = (
                    (uniform(0.8, 1.2), uniform(0.9, 1.4)) if front else (uniform(-0.5, -0.1), uniform(0.2, 0.8))
                )
                result |= _leg(side, hip + lean, uniform(0.0, 0.12), knee, uniform(-0.2, 0.1))
            case "kneel":
                hip, knee = (
                    (uniform(1.3, 1.6), uniform(1.4, 1.7)) if front else (uniform(-0.15, 0.1), uniform(1.4, 1.7))
                )
                result |= _leg(side, hip + lean, uniform(0.0, 0.15), knee, uniform(-0.1, 0.1) if front else 0.5)
            case "kick":
                hip, knee = (uniform(0.7, 1.6), uniform(0, 0.6)) if front else (uniform(0, 0.15), uniform(0, 0.3))
                result |= _leg(side, hip + lean, uniform(0, 0.4) if front else 0.02, knee)
            case "lie":
                result |= _leg(side, uniform(-0.1, 0.7), uniform(0, 0.3), uniform(0, 1.0), uniform(0, 0.4))
            case _:  # stand and bend
                result |= _leg(
                    side, uniform(-0.12, 0.25) + lean, uniform(0.0, 0.25), uniform(0, 0.3), uniform(-0.1, 0.1), outward
                )
    return result, lean


def _arms(rng: np.random.Generator, mode: str) -> dict[str, np.ndarray]:
    habits = {**_ARMS, "lap": 0.5} if mode in ("sit", "squat", "kneel") else _ARMS
    first = pick(rng, habits)
    second = first if rng.random() < 0.5 else pick(rng, habits)
    result: dict[str, np.ndarray] = {}
    for side, habit in zip(SIDES, (first, second), strict=True):
        flexion, abduction, inward, elbow = (rng.uniform(*limits) for limits in _ARM_RANGES[habit])
        result |= _arm(side, flexion, abduction, inward, elbow)
    return result


def sample(rng: np.random.Generator) -> Pose:
    """Draw a random pose. The body may run into itself: check with `collides`."""
    uniform = rng.uniform
    mode = pick(rng, _LEGS)
    joints = {"root": np.eye(3), "chest": rotation((uniform(-0.1, 0.35), uniform(-0.18, 0.18), uniform(-0.3, 0.3)))}
    joints["neck"] = rotation((uniform(-0.3, 0.4), uniform(-0.22, 0.22), uniform(-0.65, 0.65)))
    if mode in ("walk", "run"):
        joints |= _gait(rng, mode)
        if rng.random() < 0.25:
            joints |= _arms(rng, mode)
    else:
        legs, lean = _legs(rng, mode)
        joints |= legs | _arms(rng, mode)
        joints["root"] = _about_x(lean)
        if mode == "bend":
            joints["chest"] = rotation((uniform(0.4, 1.1), uniform(-0.1, 0.1), uniform(-0.3, 0.3)))
        if mode == "lie":
            joints["root"] = _about_x(rng.choice((-1, 1), p=(0.75, 0.25)) * np.pi / 2) @ rotation(
                (0, 0, uniform(-0.3, 0.3))
            )
    if rng.random() < 0.5:
        joints = _mirrored(joints)
    for name in joints:
        if name != "root":
            hinge = name.startswith(("knee", "elbow"))
            joints[name] = joints[name] @ rotation(rng.normal(0, _JITTER, 3) * ((1, 0.3, 0.3) if hinge else (1, 1, 1)))
    return Pose(
        mode,
        joints,
        curl={side: float(uniform(0.05, 0.9)) for side in SIDES},
        twist={side: float(uniform(-0.5, 0.5)) for side in SIDES},
        wrist={side: rotation(rng.normal(0, 0.18, 3)) for side in SIDES},
    )


def at_ease() -> Pose:
    """Return a standing pose with hanging arms, which never collides."""
    joints = {name: np.eye(3) for name in ("root", "chest", "neck")}
    for side in SIDES:
        joints |= _leg(side, 0.0, 0.05, 0.05) | _arm(side, 0.05, 0.3, 0.1, 0.25)
    return Pose("stand", joints)


def _mirrored(joints: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flip = np.diag((-1.0, 1.0, 1.0))
    other = {".L": ".R", ".R": ".L"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: flip @ turn @ flip
        for name, turn in joints.items()
    }


def deltas(bones: tuple[str, ...], heads_Bn3: np.ndarray, pose: Pose) -> np.ndarray:
    """Return each bone's rotation relative to its parent, for a body with the given rest heads.

    Args:
        bones: names of the Bn bones.
        heads_Bn3: float [Bn, 3], heads of the bones at rest, meters.
        pose: the pose.

    Returns:
        float64 [Bn, 3, 3], in the axes of the rest pose, as `pose_body` takes them.
    """
    index = {name: position for position, name in enumerate(bones)}
    head = {name: heads_Bn3[position].astype(np.float64) for name, position in index.items()}
    turns = np.tile(np.eye(3), (len(bones), 1, 1))

    def put(bone: str, turn: np.ndarray) -> None:
        turns[index[bone]] = turn

    joints = pose.rotations
    put("root", joints["root"])
    for bone in ("spine05", "spine04", "spine03", "spine02"):
        put(bone, _part(joints["chest"], 0.25))
    for bone in ("neck01", "neck02", "neck03", "head"):
        put(bone, _part(joints["neck"], 0.25))
    for side in SIDES:
        # The rest body stands with spread arms and legs: first bring each limb to hang, then apply the pose.
        thigh, shin = (
            head["lowerleg01" + side] - head["upperleg01" + side],
            head["foot" + side] - head["lowerleg01" + side],
        )
        slightly_out = np.array([0.04 if side == ".L" else -0.04, 0, 0])
        hang_thigh = _between(thigh, _DOWN * np.linalg.norm(thigh) + slightly_out)
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
            put("lowerarm02" + side, rotation(fore / np.linalg.norm(fore) * pose.twist[side]))
            put("wrist" + side, pose.wrist[side])
            _curl(put, head, side, pose.curl[side])
    return turns


def _curl(put, head: dict[str, np.ndarray], side: str, amount: float) -> None:
    """Close the four fingers about axes across the palm."""
    across = np.array([-1.0 if side == ".L" else 1.0, 0, -0.2])
    for finger in (2, 3, 4, 5):
        for joint in (1, 2, 3):
            last = min(joint + 1, 3)
            axis = np.cross(head[f"finger{finger}-{last}{side}"] - head[f"finger{finger}-{last - 1}{side}"], across)
            put(f"finger{finger}-{joint}{side}", rotation(axis / np.linalg.norm(axis) * 0.7 * amount))


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


def _arm_points(at, side: str) -> np.ndarray:
    elbow, wrist = at("lowerarm01" + side), at("wrist" + side)
    return np.stack([(elbow + wrist) / 2, wrist, at("finger3-1" + side), at("finger3-3" + side)])


def _distance(points_N3: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Smallest distance from the points to the segment ab."""
    share = np.clip((points_N3 - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return float(np.linalg.norm(points_N3 - (a + share[:, None] * (b - a)), axis=1).min())
