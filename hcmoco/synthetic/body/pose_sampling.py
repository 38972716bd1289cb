"""Draw poses from joint limits and gaits. No recorded motion is used."""

import numpy as np

from hcmoco.synthetic.body.pose import SIDES, Pose, rotation
from hcmoco.synthetic.scene.textures import pick

MODES = {
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


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draw a random pose. The body may run into itself: check with `collision.collides`."""
    uniform = rng.uniform
    mode = pick(rng, MODES)
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


def standing_pose() -> Pose:
    """Return a standing pose with hanging arms, which never collides."""
    joints = {name: np.eye(3) for name in ("root", "chest", "neck")}
    for side in SIDES:
        joints |= _leg(side, 0.0, 0.05, 0.05) | _arm(side, 0.05, 0.3, 0.1, 0.25)
    return Pose("stand", joints)


def _about_x(angle: float) -> np.ndarray:
    return rotation((angle, 0, 0))


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
    for side, angle in ((".L", phase), (".R", phase + np.pi)):
        lift = max(0.0, np.cos(angle + 0.5)) * swing * (2.6 if running else 1.5)
        result |= _leg(
            side,
            swing * np.sin(angle) + (0.25 if running else 0.1),
            uniform(0.0, 0.07),
            min(0.08 + lift, 2.1),
            -0.2 * np.cos(angle + 0.5),
        )
        result |= _arm(
            side,
            -swing * np.sin(angle) * uniform(0.7, 1.2),
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


def _mirrored(joints: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flip = np.diag((-1.0, 1.0, 1.0))
    other = {".L": ".R", ".R": ".L"}
    return {
        name[:-2] + other[name[-2:]] if name[-2:] in other else name: flip @ turn @ flip
        for name, turn in joints.items()
    }
