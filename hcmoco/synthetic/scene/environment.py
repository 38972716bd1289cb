"""Draw the surroundings of people: a furnished room, or a street, park or market.

World axes: meters, x right, y away from the camera, z up; the people stand near the origin. See render/camera.py.
"""

from dataclasses import dataclass, field

import numpy as np

from hcmoco.synthetic.render.camera import Camera, Solids
from hcmoco.synthetic.render.depth_sensor import FOCAL, HEIGHT, WIDTH
from hcmoco.synthetic.scene import materials as sf
from hcmoco.synthetic.scene import props
from hcmoco.synthetic.scene import textures as tx
from hcmoco.synthetic.vectors import norm

_CLEAR = 0.12  # meters between a prop and the person


@dataclass(frozen=True)
class Occupant:
    """What the surroundings are built around: one person, or several as a group.

    Attributes:
        low: [3], lower corner of the bounding box, meters.
        high: [3], upper corner of the bounding box.
        mode: what the pose is (pose.Pose.mode), or `group` for several people.
        seat: [3], the lowest point under the hips.
        heading: radians about the vertical; 0 faces the camera.
        lift: meters above the floor at which the person lies.
    """

    low: np.ndarray
    high: np.ndarray
    mode: str
    seat: np.ndarray
    heading: float
    lift: float = 0.0


@dataclass
class Environment:
    """Geometry and light of the surroundings.

    Attributes:
        solids: all solids except those in `front`.
        front: solids between camera and people, which may be dropped (rasterize.cull_foreground).
        light: float32 [4], homogeneous: a point (last 1) or a direction towards the light (last 0).
        ambient: strength of the light from above and from below.
        direct: strength of `light`.
        tint: float32 [3], color of all light.
        sky: colors at the zenith and the horizon, and the number of the clouds' noise map; None indoors.
    """

    solids: Solids = field(default_factory=Solids)
    front: Solids = field(default_factory=Solids)
    light: np.ndarray = field(default_factory=lambda: np.zeros(4, np.float32))
    ambient: tuple[float, float] = (0.5, 0.3)
    direct: float = 0.6
    tint: np.ndarray = field(default_factory=lambda: np.ones(3, np.float32))
    sky: tuple[np.ndarray, np.ndarray, int] | None = None


def room_camera(rng: np.random.Generator, person: Occupant) -> tuple[Camera, int, int]:
    """Draw a depth camera on a stand; return it with the width and height of its image in pixels."""
    distance = rng.uniform(2.0, 4.2) + max(0.0, -person.low[1] - 0.5)
    camera = _aim(rng, person, distance, rng.uniform(0.7, 1.8), FOCAL, 0.02)
    return _centered(camera, WIDTH, HEIGHT), WIDTH, HEIGHT


def wild_camera(rng: np.random.Generator, person: Occupant) -> tuple[Camera, int, int]:
    """Draw a handheld camera; return it with the width and height of its image in pixels."""
    width, height = ((640, 480), (480, 640), (640, 360))[rng.integers(3)]
    distance = rng.uniform(2.2, 7.0) + max(0.0, -person.low[1] - 0.5)
    camera = _aim(rng, person, distance, rng.uniform(0.4, 2.3), rng.uniform(400, 800), 0.05)
    return _centered(camera, width, height), width, height


def group_camera(rng: np.random.Generator, group: Occupant, indoor: bool) -> Camera:
    """Draw a handheld camera that takes several people, with its principal point at (0, 0).

    Args:
        rng: source of the draws.
        group: the box around the people.
        indoor: whether they are in a room, where the camera stays closer.
    """
    distance = rng.uniform(2.2, 4.5) if indoor else rng.uniform(2.4, 7.5)
    return _aim(rng, group, distance + max(0.0, -group.low[1] - 0.2), rng.uniform(0.5, 2.2), 500.0, 0.04)


def _aim(
    rng: np.random.Generator, person: Occupant, distance: float, height: float, focal: float, roll: float
) -> Camera:
    angle = rng.uniform(-0.2, 0.2)
    middle = (person.low + person.high) / 2
    target = middle + np.array([rng.uniform(-0.2, 0.2), 0.0, rng.uniform(-0.2, 0.2)])
    position = np.array([distance * np.sin(angle), -distance * np.cos(angle), height])
    return Camera.look_at(position, target, rng.normal(0, roll), focal)


def _centered(camera: Camera, width: int, height: int) -> Camera:
    return camera.zoomed(-width / 2, -height / 2, 1.0)


def _free(person: Occupant, camera: Camera, x: float, y: float, reach: float) -> bool:
    """Whether a prop of radius `reach` at (x, y) neither touches the person nor hides it from the camera."""
    reach += _CLEAR
    inside = person.low[0] - reach < x < person.high[0] + reach and person.low[1] - reach < y < person.high[1] + reach
    if inside or np.hypot(x - camera.position[0], y - camera.position[1]) < reach + 0.3:
        return False
    middle = (person.low + person.high)[:2] / 2
    along = middle - camera.position[:2]
    length = norm(along)
    along /= length
    offset = np.array([x, y]) - camera.position[:2]
    ahead, sideways = offset @ along, abs(offset[0] * along[1] - offset[1] * along[0])
    half = norm((person.high - person.low)[:2]) / 2
    return not (-reach < ahead < length and sideways < half * max(ahead, 0) / length + reach)


def room(rng: np.random.Generator, person: Occupant, camera: Camera) -> Environment:
    """Draw a furnished room with a lamp under its ceiling.

    Args:
        rng: source of the draws.
        person: what the room is built around.
        camera: the camera, which stands in the room.
    """
    scene = Environment()
    solids = scene.solids
    half = max(rng.uniform(1.7, 3.4), person.high[0] + 0.3, -person.low[0] + 0.3, abs(camera.position[0]) + 0.5)
    back = rng.uniform(0.4, 2.6) + person.high[1] + 0.3
    front = camera.position[1] - 1.0
    ceiling = rng.uniform(2.4, 3.0)
    middle, depth = (back + front) / 2, back - front
    wall, skirting = sf.wall(rng), sf.thing(rng)
    solids.box((0, middle, -0.05), (2 * half, depth, 0.1), sf.floor(rng))
    solids.box((0, middle, ceiling + 0.05), (2 * half, depth, 0.1), sf.wall(rng))
    solids.box((0, back + 0.05, ceiling / 2), (2 * half, 0.1, ceiling), sf.wall(rng) if rng.random() < 0.4 else wall)
    for sign in (-1, 1):
        solids.box((sign * (half + 0.05), middle, ceiling / 2), (0.1, depth, ceiling), wall)
        solids.box((sign * (half - 0.01), middle, 0.05), (0.02, depth, 0.1), skirting)
    solids.box((0, back - 0.01, 0.05), (2 * half, 0.02, 0.1), skirting)
    if rng.random() < 0.3:
        solids.box(
            (rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.6), 0.004),
            (rng.uniform(1.2, 2.6), rng.uniform(1, 2), 0.008),
            sf.thing(rng),
        )

    for _ in range(int(rng.integers(2, 8))):
        at_back = rng.random() < 0.65
        x = rng.uniform(-half + 0.5, half - 0.5) if at_back else rng.choice((-1, 1)) * (half - 0.4)
        y = back - 0.4 if at_back else rng.uniform(-0.8, back - 0.5)
        kind = tx.pick(rng, props.FURNITURE)
        reach = 0.75 if kind in ("sofa", "table") else 0.5
        if _free(person, camera, x, y, reach):
            props.add_furniture(rng, solids, kind, x, y, 0.0 if at_back else np.sign(x) * -np.pi / 2, ceiling)
    for _ in range(int(rng.integers(0, 5))):
        props.add_wall_decor(rng, solids, half, back, ceiling)
    add_support(rng, solids, person)
    if rng.random() < 0.12:
        _occlude(rng, scene.front, person, camera, ("bin", "table"))
    scene.light = np.array([rng.uniform(-1.2, 1.2), rng.uniform(-2.2, 0.2), ceiling - 0.15, 1], np.float32)
    scene.ambient = (rng.uniform(0.42, 0.62), rng.uniform(0.22, 0.4))
    scene.direct = rng.uniform(0.35, 0.75)
    scene.tint = ((1 + rng.normal(0, 0.04, 3)) * rng.uniform(0.8, 1.15)).astype(np.float32)
    return scene


def add_support(
    rng: np.random.Generator, solids: Solids, person: Occupant, seats: dict[str, float] = props.SEATS
) -> None:
    """Add what a seated or lying person is on; nothing for other poses.

    Args:
        rng: source of the draws.
        solids: what the solids are added to.
        person: the person.
        seats: weight of each kind of seat.
    """
    if person.mode == "lie" and person.lift > 0:
        props.add_bed(rng, solids, person.low, person.high, person.lift)
    elif person.mode == "sit":
        props.add_seat(rng, solids, person.seat, person.heading, seats)


def _occlude(
    rng: np.random.Generator, solids: Solids, person: Occupant, camera: Camera, kinds: tuple[str, ...]
) -> None:
    """Add one prop between camera and person that hides a part of the person."""
    middle, half = (person.low + person.high) / 2, (person.high - person.low) / 2
    towards = camera.position[:2] - middle[:2]
    distance = norm(towards)
    towards /= distance
    near = min(half[1] + rng.uniform(0.35, 0.9), distance - 0.8)
    sideways = rng.choice((-1, 1)) * rng.uniform(0.2, 1.0) * (half[0] + 0.1)
    x, y = middle[:2] + near * towards + sideways * np.array([-towards[1], towards[0]])
    match rng.choice(kinds):
        case "pole":
            width = rng.uniform(0.06, 0.16)
            solids.pole((x, y, 1.6), (width, width, 3.2), sf.bark(rng))
        case "bush":
            high = rng.uniform(0.4, 0.9)
            solids.ball((x, y, high * 0.4), (rng.uniform(0.4, 0.9), 0.4, high), sf.foliage(rng))
        case "sign":
            solids.pole((x, y, 0.6), (0.05, 0.05, 1.2), sf.bark(rng))
            solids.box(
                (x, y - 0.03, 1.1),
                (rng.uniform(0.3, 0.5), 0.02, rng.uniform(0.2, 0.4)),
                sf.clutter(rng),
                rng.normal(0, 0.2),
            )
        case "table":
            props.add_furniture(rng, solids, "table", x, y, 0.0, 3.0)
        case _:
            size = rng.uniform((0.25, 0.2, 0.35), (0.7, 0.4, 0.8))
            solids.box((x, y, size[2] / 2), size, sf.clutter(rng), rng.uniform(0, 3))


def wild(rng: np.random.Generator, person: Occupant, camera: Camera) -> Environment:
    """Draw a busy place under the sky.

    Args:
        rng: source of the draws.
        person: what the place is built around.
        camera: the camera.
    """
    scene = Environment()
    solids = scene.solids
    solids.box((0, 25, -0.05), (200, 90, 0.1), sf.ground(rng))
    place = tx.pick(rng, {"street": 0.4, "park": 0.35, "market": 0.25})
    if place == "street" or rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 6))):
            size = rng.uniform((3, 3, 3), (9, 6, 12))
            x, y = rng.uniform(-11, 11), rng.uniform(5, 20)
            if _free(person, camera, x, y, max(size[:2]) * 0.72):
                solids.box((x, y, size[2] / 2), size, sf.facade(rng), rng.normal(0, 0.25))
    for _ in range(int(rng.integers(8, 24))):
        y = rng.uniform(1.0, 14)
        x = rng.uniform(-1, 1) * (y + 3) * 0.75
        kind = tx.pick(rng, props.OUTDOORS[place])
        if _free(person, camera, x, y, props.REACH.get(kind, 0.7)):
            props.add_outdoor_prop(rng, solids, kind, x, y)
    if place == "park":
        for _ in range(int(rng.integers(4, 9))):
            across = rng.uniform(3, 7)
            solids.ball(
                (rng.uniform(-18, 18), rng.uniform(16, 24), across * 0.4), (across, across, across), sf.foliage(rng)
            )
    add_support(rng, solids, person)
    if rng.random() < 0.4:
        _occlude(rng, scene.front, person, camera, ("pole", "bush", "sign", "bin"))
    angle, height = rng.uniform(-2.2, 2.2), rng.uniform(0.4, 1.6)
    sun = np.array([np.sin(angle), -np.cos(angle), height])
    scene.light = np.array([*(sun / norm(sun)), 0], np.float32)
    overcast = rng.random() < 0.35
    scene.direct = rng.uniform(0.1, 0.3) if overcast else rng.uniform(0.5, 0.95)
    scene.ambient = (
        (rng.uniform(0.6, 0.8), rng.uniform(0.35, 0.5)) if overcast else (rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.35))
    )
    scene.tint = ((1 + rng.normal(0, 0.06, 3)) * rng.uniform(0.75, 1.15)).astype(np.float32)
    scene.sky = (
        tx.any_color(rng, (0.1, 0.5), (0.6, 1)),
        tx.any_color(rng, (0, 0.2), (0.75, 1)),
        int(rng.integers(tx.MAPS)),
    )
    if rng.random() < 0.7:  # mostly blue or gray
        scene.sky = (
            np.array([0.45, 0.6, 0.85], np.float32) * rng.uniform(0.7, 1.1),
            np.array([0.85, 0.88, 0.92], np.float32) * rng.uniform(0.8, 1.05),
            scene.sky[2],
        )
    return scene
