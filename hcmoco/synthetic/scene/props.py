"""Add props to the surroundings: furniture, wall decor, seats and beds, and what streets are full of.

Lengths are meters in world axes, angles are radians. Draws come from `rng`; solids are added to `solids`.
"""

import numpy as np

from hcmoco.synthetic.render.camera import Solids, tilt, turn
from hcmoco.synthetic.scene import materials as sf
from hcmoco.synthetic.scene import textures as tx

FURNITURE = {"cabinet": 0.24, "shelf": 0.18, "table": 0.16, "sofa": 0.12, "plant": 0.1, "lamp": 0.08, "chair": 0.12}
SEATS = {"chair": 0.5, "stool": 0.2, "block": 0.2, "bench": 0.1}
# Props of each kind of outdoor place, with their weights.
OUTDOORS = {
    "street": {"car": 0.25, "tree": 0.15, "pole": 0.25, "box": 0.2, "sign": 0.15},
    "park": {"tree": 0.45, "bush": 0.3, "pole": 0.1, "box": 0.1, "sign": 0.05},
    "market": {"stall": 0.4, "box": 0.25, "ball": 0.1, "pole": 0.1, "sign": 0.15},
}
# Meters from the center of a prop to its farthest side.
REACH = {"car": 2.2, "tree": 2.2, "stall": 1.2, "box": 1.0, "bush": 0.9}


def add_wall_decor(rng: np.random.Generator, solids: Solids, half: float, back: float, ceiling: float) -> None:
    """Add a picture, a window or a door to the back wall.

    Args:
        rng: source of the draws.
        solids: what the solids are added to.
        half: half the width of the room.
        back: y of the back wall.
        ceiling: height of the ceiling.
    """
    kind = tx.pick(rng, {"picture": 0.55, "window": 0.25, "door": 0.2})
    if kind == "door":
        x = rng.uniform(-half + 0.5, half - 0.5)
        solids.box((x, back - 0.015, 1.02), (0.98, 0.03, 2.04), sf.thing(rng))
        solids.box((x, back - 0.03, 1.0), (0.86, 0.04, 1.98), sf.thing(rng))
        return
    wide, high = rng.uniform(0.3, 1.3), rng.uniform(0.3, 0.9)
    x, z = rng.uniform(-half + 0.7, half - 0.7), rng.uniform(1.2, ceiling - 0.6)
    solids.box((x, back - 0.015, z), (wide + 0.08, 0.03, high + 0.08), sf.thing(rng))
    solids.box((x, back - 0.02, z), (wide, 0.04, high), sf.bright(rng) if kind == "window" else sf.picture(rng))


def add_furniture(
    rng: np.random.Generator, solids: Solids, kind: str, x: float, y: float, yaw: float, ceiling: float
) -> None:
    """Add a piece of furniture.

    Args:
        rng: source of the draws.
        solids: what the solids are added to.
        kind: a key of FURNITURE.
        x, y: its place on the floor.
        yaw: its rotation about the vertical; at 0 its back is towards +y.
        ceiling: height of the ceiling.
    """
    yaw = yaw + rng.normal(0, 0.06)
    skin = sf.thing(rng)

    def part(center, size, surface=skin) -> None:
        offset = turn(yaw) @ np.array([center[0], center[1], 0])
        solids.box((x + offset[0], y + offset[1], center[2]), size, surface, yaw)

    match kind:
        case "cabinet":
            wide, high = rng.uniform(0.4, 1.0), rng.uniform(0.5, min(2.1, ceiling - 0.2))
            part((0, 0, high / 2), (wide, 0.5, high))
            for side in (-1, 1):
                part(
                    (side * wide / 4, -0.01, high / 2),
                    (wide / 2 - 0.03, 0.5, high - 0.08),
                    sf.thing(rng) if side < 0 else skin,
                )
        case "shelf":
            wide, high = rng.uniform(0.6, 1.0), rng.uniform(0.9, min(2.1, ceiling - 0.2))
            part((0, 0, high / 2), (wide, 0.3, high))
            part((0, -0.02, high / 2), (wide - 0.06, 0.3, high - 0.06), sf.books(rng))
        case "table":
            wide, deep, high = rng.uniform(0.8, 1.4), rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.8)
            part((0, 0, high - 0.02), (wide, deep, 0.04))
            for sx in (-1, 1):
                for sy in (-1, 1):
                    part((sx * (wide / 2 - 0.05), sy * (deep / 2 - 0.05), high / 2 - 0.02), (0.05, 0.05, high - 0.04))
            part((rng.uniform(-0.3, 0.3), 0, high + 0.12), (rng.uniform(0.1, 0.4), 0.15, 0.24), sf.clutter(rng))
        case "sofa":
            wide = rng.uniform(1.1, 1.5)
            part((0, 0, 0.21), (wide, 0.75, 0.42))
            part((0, 0.3, 0.4), (wide, 0.2, 0.8))
            for side in (-1, 1):
                part((side * (wide / 2 - 0.08), 0, 0.3), (0.16, 0.75, 0.6))
        case "plant":
            solids.pole((x, y, 0.18), (0.32, 0.32, 0.36), sf.thing(rng))
            size = rng.uniform(0.5, 0.85)
            solids.ball((x, y, 0.36 + size * 0.55), (size, size, size * 1.3), sf.foliage(rng))
        case "lamp":
            solids.pole((x, y, 0.75), (0.04, 0.04, 1.5), skin)
            solids.ball((x, y, 1.6), (0.36, 0.36, 0.3), sf.bright(rng))
        case _:
            _chair(part, 0.45, rng)


def _chair(part, high: float, rng: np.random.Generator) -> None:
    part((0, 0, high - 0.025), (0.44, 0.44, 0.05))
    for sx in (-1, 1):
        for sy in (-1, 1):
            part((sx * 0.19, sy * 0.19, (high - 0.05) / 2), (0.04, 0.04, high - 0.05))
    if rng.random() < 0.75:
        part((0, 0.21, high + 0.24), (0.44, 0.03, 0.5))


def add_bed(rng: np.random.Generator, solids: Solids, low: np.ndarray, high: np.ndarray, lift: float) -> None:
    """Add a bed of height `lift` under the box between the corners `low` and `high`, both [3]."""
    middle, size = (low + high) / 2, high - low + 0.3
    solids.box((middle[0], middle[1], lift / 2 - 0.04), (size[0], size[1], lift - 0.08), sf.thing(rng))
    solids.box((middle[0], middle[1], lift - 0.05), (size[0] - 0.04, size[1] - 0.04, 0.1), sf.thing(rng))


def add_seat(
    rng: np.random.Generator, solids: Solids, under: np.ndarray, heading: float, seats: dict[str, float] = SEATS
) -> None:
    """Add a seat under a person.

    Args:
        rng: source of the draws.
        solids: what the solids are added to.
        under: [3], the top of the seat.
        heading: where the person faces; 0 faces the camera.
        seats: weight of each kind of seat.
    """
    high = max(float(under[2]) - 0.005, 0.08)
    behind = turn(heading) @ np.array([0, 0.04, 0])
    x, y = under[0] + behind[0], under[1] + behind[1]
    skin = sf.thing(rng)

    def part(center, size, surface=skin) -> None:
        offset = turn(heading) @ np.array([center[0], center[1], 0])
        solids.box((x + offset[0], y + offset[1], center[2]), size, surface, heading)

    kind = tx.pick(rng, seats)
    if kind == "chair":
        _chair(part, high, rng)
    elif kind == "stool":
        solids.pole((x, y, high / 2 - 0.02), (0.09, 0.09, high - 0.04), skin)
        part((0, 0, high - 0.02), (0.38, 0.38, 0.04))
    elif kind == "block":
        part((0, 0, high / 2), (0.44, 0.42, high))
    else:
        part((0, 0, high - 0.03), (1.3, 0.42, 0.06))
        for side in (-1, 1):
            part((side * 0.5, 0, (high - 0.06) / 2), (0.08, 0.36, high - 0.06))


def add_outdoor_prop(rng: np.random.Generator, solids: Solids, kind: str, x: float, y: float) -> None:
    """Add one prop of a street, park or market.

    Args:
        rng: source of the draws.
        solids: what the solids are added to.
        kind: a key of the kinds in OUTDOORS.
        x, y: its place on the ground.
    """
    yaw = rng.uniform(0, np.pi)
    match kind:
        case "car":
            paint = sf.clutter(rng)
            solids.box((x, y, 0.55), (3.9, 1.7, 0.7), paint, yaw)
            solids.box((x, y, 1.1), (2.0, 1.5, 0.55), sf.bright(rng) if rng.random() < 0.3 else sf.thing(rng), yaw)
        case "tree":
            high, size = rng.uniform(1.4, 2.8), rng.uniform(1.2, 3.0)
            solids.pole((x, y, high / 2), (0.25, 0.25, high), sf.bark(rng))
            leaves = sf.foliage(rng)
            for _ in range(3):
                dx, dy, dz = rng.uniform(-0.4, 0.4, 3) * size
                solids.ball((x + dx, y + dy, high + size * 0.4 + dz), (size, size, size * 0.8), leaves)
        case "bush":
            size = rng.uniform(0.5, 1.3)
            solids.ball((x, y, size * 0.3), (size * 1.3, size, size), sf.foliage(rng))
        case "pole":
            lean = tilt(rng.normal(0, 0.3)) if rng.random() < 0.3 else None
            solids.pole((x, y, 1.6), (0.1, 0.1, rng.uniform(2.5, 5)), sf.bark(rng), lean)
        case "sign":
            solids.pole((x, y, 1.0), (0.07, 0.07, 2.0), sf.bark(rng))
            solids.box(
                (x, y - 0.05, rng.uniform(1.4, 2.1)),
                (rng.uniform(0.4, 1.2), 0.04, rng.uniform(0.3, 0.8)),
                sf.picture(rng),
                rng.normal(0, 0.4),
            )
        case "stall":
            solids.box((x, y, 0.45), (1.6, 0.8, 0.9), sf.clutter(rng), yaw * 0.2)
            solids.box((x, y, 2.1), (1.9, 1.2, 0.15), sf.clutter(rng), yaw * 0.2)
            solids.ball((x + rng.uniform(-0.5, 0.5), y, 1.0), rng.uniform(0.2, 0.5, 3), sf.clutter(rng))
        case "ball":
            size = rng.uniform(0.3, 0.8)
            solids.ball((x, y, size / 2), (size, size, size), sf.clutter(rng))
        case _:
            edges = rng.uniform((0.3, 0.3, 0.3), (1.6, 1.2, 2.4))
            solids.box((x, y, edges[2] / 2), edges, sf.clutter(rng), yaw)
