"""Place several people near each other and frame them.

Nothing is rendered here. Places and frames are drawn until a sample of the bodies' points shows that the people do not
touch, and that each is large enough and visible.
Shape legend: K people, N points, C cells of a coarse image. World axes: meters, x right, y away from the camera, z up.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.rng import make_rng
from hcmoco.synthetic.body.posed_body import PosedBody, make_posed_body
from hcmoco.synthetic.config import ScenesConfig
from hcmoco.synthetic.render.camera import Camera, turn, turned
from hcmoco.synthetic.scene import environment
from hcmoco.synthetic.scene.props import SEATS as ALL_SEATS

SEATS = {name: weight for name, weight in ALL_SEATS.items() if name != "bench"}  # a bench is for two
_EVERY = 6  # every 6th vertex is a point of the sample; points are a few centimeters apart
_GAP = 0.15  # meters between the points of two people, wide enough for surfaces between points not to meet
_HOVER = 0.16  # meters of air allowed under the hips of a lying person
_TRIES = 60
_STRICT = 0.7  # share of the tries for which all the limits below hold in full
_SPAN = (0.4, 0.9)  # longer side of the largest person / side of the image
_LEAST_SPAN = 0.35  # the same for the smallest person
_INSIDE = 0.5  # smallest share of a person's box that is in the image
_UNHIDDEN = 0.35  # smallest share of a person that no other person hides
_BESIDE = 0.6  # share of people who stand beside another person; the others stand farther back
# Directions in which the frame cuts people off: (probability, largest cut / side of the image).
_CUTS = {(0, -1): (0.5, 0.35), (0, 1): (0.1, 0.12), (-1, 0): (0.2, 0.25), (1, 0): (0.2, 0.25)}
_CUT = 0.5  # share of the images in which it does, if people fill the frame in that direction
_SPARE = 0.15  # share of the side that may be free on either side of people who fill the frame
_INDOOR = 1 / 3  # of mixed scenes
_CELLS = 32


@dataclass(frozen=True)
class Group:
    """People at their places, and the camera of the square image.

    Attributes:
        indoor: whether they are in a room.
        people: the K people.
        around: the box around the people and what they sit or lie on.
        camera: the camera of the square image.
    """

    indoor: bool
    people: tuple[PosedBody, ...]
    around: environment.Occupant
    camera: Camera


def make_group(config: ScenesConfig, stream: str, number: int) -> Group:
    """Draw the people of scene `number`, their places and the camera.

    Args:
        config: domain, image size, seed and how many people.
        stream: prefix of the random generators' names.
        number: which scene.

    Returns:
        The group: the same one for the same arguments, in any order and process.
    """
    rng = make_rng(config.seed, f"{stream}/group", number)
    indoor = config.domain == "indoor" or (config.domain == "mixed" and rng.random() < _INDOOR)
    count = int(rng.integers(config.min_people, config.max_people + 1))
    people = [_posed_body(config.seed, f"{stream}/{k}", number) for k in range(count)]
    bodies = [posed.shown[::_EVERY] for posed in people]
    solids = [np.concatenate([body, _under(posed.occupant)]) for body, posed in zip(bodies, people, strict=True)]
    for attempt in range(_TRIES):
        # The last try has no limits: an image of people too small or too hidden still has correct labels.
        ease = min(1.0, (_TRIES - 1 - attempt) / ((1 - _STRICT) * _TRIES))
        places_K2 = _places(rng, solids)
        moved = [body + np.append(place, 0).astype(np.float32) for body, place in zip(bodies, places_K2, strict=True)]
        low, high = (
            edge(
                [edge(solid, axis=0) + np.append(place, 0) for solid, place in zip(solids, places_K2, strict=True)],
                axis=0,
            )
            for edge in (np.min, np.max)
        )
        around = environment.Occupant(low, high, "group", (low + high) / 2, 0.0)
        wide = environment.group_camera(rng, around, indoor)
        camera = _framed(rng, wide, moved, config.size, ease)
        if camera is not None:
            break
    assert camera is not None
    return Group(
        indoor,
        tuple(posed.moved(*place) for posed, place in zip(people, places_K2.tolist(), strict=True)),
        around,
        camera,
    )


def _posed_body(seed: int, stream: str, number: int) -> PosedBody:
    """A person. One who lies but bridges high above the ground is drawn again."""
    for attempt in range(_TRIES):
        posed = make_posed_body(seed, f"{stream}/{attempt}", number)
        occupant = posed.occupant
        if occupant.mode != "lie" or occupant.seat[2] - occupant.lift < _HOVER:
            break
    return posed


def _under(person: environment.Occupant) -> np.ndarray:
    """float32 [N, 3]: points of what the person sits or lies on, dense enough for _GAP; none for other poses."""

    def grid(low, high) -> np.ndarray:
        axes = [np.linspace(a, b, max(2, round((b - a) / 0.12) + 1)) for a, b in zip(low, high, strict=True)]
        return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)

    if person.mode == "lie" and person.lift > 0:
        margin = np.array([0.15, 0.15, 0])
        return grid((person.low - margin) * (1, 1, 0), (person.high + margin) * (1, 1, 0) + (0, 0, person.lift)).astype(
            np.float32
        )
    if person.mode == "sit":
        high = max(float(person.seat[2]), 0.1)
        seat = np.concatenate(
            [grid((-0.25, -0.2, 0), (0.25, 0.28, high)), grid((-0.25, 0.28, high), (0.25, 0.3, high + 0.5))]
        )
        return (turned(seat, turn(person.heading)) + person.seat * (1, 1, 0)).astype(np.float32)
    return np.zeros((0, 3), np.float32)


def _places(rng: np.random.Generator, solids: list[np.ndarray]) -> np.ndarray:
    """float64 [K, 2]: x and y of people who do not touch, around the origin."""
    places = [np.zeros(2)]
    placed = [solids[0]]
    for solid in solids[1:]:
        wider = 1.0
        while True:
            beside = (rng.uniform(0.45, 1.1), rng.normal(0, 0.3))
            behind = (rng.uniform(0.1, 0.7), rng.uniform(0.6, 2.2))
            x, y = beside if rng.random() < _BESIDE else behind
            place = places[rng.integers(len(places))] + wider * np.array([rng.choice((-1, 1)) * x, y])
            moved = solid + np.append(place, 0).astype(np.float32)
            if all(_apart(moved, other) for other in placed):
                break
            wider += 0.1
        places.append(place)
        placed.append(moved)
    return np.array(places) - np.mean(places, axis=0)


def _apart(a_N3: np.ndarray, b_N3: np.ndarray) -> bool:
    """Whether no point of a is within _GAP of one of b."""
    near_a = a_N3[((a_N3 > b_N3.min(0) - _GAP) & (a_N3 < b_N3.max(0) + _GAP)).all(1)]
    near_b = b_N3[((b_N3 > a_N3.min(0) - _GAP) & (b_N3 < a_N3.max(0) + _GAP)).all(1)]
    if not len(near_a) or not len(near_b):
        return True
    return bool(((near_a[:, None] - near_b) ** 2).sum(2).min() > _GAP**2)


def _framed(rng: np.random.Generator, wide: Camera, bodies: list[np.ndarray], size: int, ease: float) -> Camera | None:
    """The camera of a square image of these people, or None if the frame violates the limits, which `ease` scales."""
    seen = [wide.to_camera(body) for body in bodies]
    flat = [wide.project(points) for points in seen]
    low_K2, high_K2 = np.array([points.min(0) for points in flat]), np.array([points.max(0) for points in flat])
    extent_K = (high_K2 - low_K2).max(1)
    low, high = low_K2.min(0), high_K2.max(0)
    largest = float(extent_K.max())
    bounds = (
        max(_SPAN[0], ease * _LEAST_SPAN * largest / float(extent_K.min())),
        min(_SPAN[1], 1.05 * largest / float((high - low).max())),
    )
    spans_2, cut, amount, spread_2 = (
        rng.uniform(min(bounds), max(bounds), 2),
        rng.random() < _CUT,
        rng.random(),
        rng.uniform(-1, 1, 2),
    )
    which = rng.choice(len(_CUTS), p=[share for share, _ in _CUTS.values()])
    if bounds[0] > bounds[1] and ease > 0:
        return None
    side = largest / (spans_2.max() if cut else spans_2[0])  # a frame cuts off people who are near
    spare_2 = np.maximum(side - (high - low), 0) / 2
    shift_2 = 0.9 * spare_2 * spread_2
    direction, (_, largest_cut) = list(_CUTS.items())[which]
    if cut and spare_2[np.argmax(np.abs(direction))] < _SPARE * side:
        shift_2 = np.where(direction, direction * (spare_2 + (0.04 + (largest_cut - 0.04) * amount) * side), shift_2)
    corner_2 = (low + high) / 2 - side / 2 + shift_2
    inside_K2 = np.minimum(high_K2, corner_2 + side) - np.maximum(low_K2, corner_2)
    share_K = np.maximum(inside_K2, 0).prod(1) / (high_K2 - low_K2).prod(1)
    if (share_K < ease * _INSIDE).any():
        return None
    if (_unhidden(flat, seen, corner_2, side) < ease * _UNHIDDEN).any():
        return None
    return wide.zoomed(float(corner_2[0]), float(corner_2[1]), size / side)


def _unhidden(flat: list[np.ndarray], seen: list[np.ndarray], corner_2: np.ndarray, side: float) -> np.ndarray:
    """float64 [K]: share of each person's cells, in a coarse image of the sampled points, where no other is nearer."""
    nearest_KC = np.full((len(flat), _CELLS * _CELLS), np.inf, np.float32)
    for row, points, place in zip(nearest_KC, flat, seen, strict=True):
        cells_N2 = np.floor((points - corner_2) / side * _CELLS).astype(int)
        inside = ((cells_N2 >= 0) & (cells_N2 < _CELLS)).all(1)
        np.minimum.at(row, cells_N2[inside] @ (1, _CELLS), place[inside, 2])
    occupied_KC = np.isfinite(nearest_KC)
    in_front_KC = occupied_KC & (nearest_KC <= nearest_KC.min(0))
    return in_front_KC.sum(1) / np.maximum(occupied_KC.sum(1), 1)
