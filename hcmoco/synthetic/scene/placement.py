"""Several people near each other, and the camera that takes their picture: who stands where, and what the frame cuts off.

Shape legend: K people, N points, C cells of a coarse picture. World axes: metres, x right, y away from the camera, z up. Nothing is
rendered here: places and frames are drawn until a sample of the bodies' points says that nobody runs into anybody, that all are large
enough and in sight.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.rng import make_rng
from hcmoco.synthetic.body.figure import Figure, make_figure
from hcmoco.synthetic.config import ScenesConfig
from hcmoco.synthetic.render.camera import Camera, turn, turned
from hcmoco.synthetic.scene import environment
from hcmoco.synthetic.scene.props import SEATS as ALL_SEATS

SEATS = {name: weight for name, weight in ALL_SEATS.items() if name != "bench"}  # a bench is for two
_EVERY = 6  # of the vertices is one point of the sample, a few centimetres from the next
_GAP = 0.15  # metres between the points of two people, wide enough for surfaces between points not to meet
_HOVER = 0.16  # metres under the hips of someone who lies
_TRIES = 60
_STRICT = 0.7  # share of the tries for which all the limits below hold in full
_SPAN = (0.4, 0.9)  # longer side of the largest person / side of the picture
_LEAST_SPAN = 0.35  # of anybody
_INSIDE = 0.5  # share of anybody's box that is in the picture
_UNHIDDEN = 0.35  # share of anybody that nobody else hides
_BESIDE = 0.6  # share of people who stand beside somebody; the others stand farther back
# Where the frame cuts people off, and by how much of its side at most.
_CUTS = {(0, -1): (0.5, 0.35), (0, 1): (0.1, 0.12), (-1, 0): (0.2, 0.25), (1, 0): (0.2, 0.25)}
_CUT = 0.5  # share of the pictures in which it does, if people fill it in that direction
_SPARE = 0.15  # of the side on either side of people who fill it
_INDOOR = 1 / 3  # of mixed scenes
_CELLS = 32


@dataclass(frozen=True)
class Group:
    """People where they stand, the box around them and what they sit or lie on, and the camera of the square picture.

    `indoor` says whether they are in a room.
    """

    indoor: bool
    figures: tuple[Figure, ...]
    around: environment.Occupant
    camera: Camera


def make_group(config: ScenesConfig, stream: str, number: int) -> Group:
    """The people of scene `number`: the same ones at the same places for the same arguments."""
    rng = make_rng(config.seed, f"{stream}/group", number)
    indoor = config.domain == "indoor" or (config.domain == "mixed" and rng.random() < _INDOOR)
    count = int(rng.integers(config.least, config.most + 1))
    figures = [_figure(config.seed, f"{stream}/{k}", number) for k in range(count)]
    bodies = [figure.shown[::_EVERY] for figure in figures]
    solids = [np.concatenate([body, _under(figure.occupant)]) for body, figure in zip(bodies, figures, strict=True)]
    for attempt in range(_TRIES):
        # The last try takes what it gets: a picture of people too small or too hidden is still a right one.
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
        tuple(figure.moved(*place) for figure, place in zip(figures, places_K2.tolist(), strict=True)),
        around,
        camera,
    )


def _figure(seed: int, stream: str, number: int) -> Figure:
    """A person; one who is to lie but bridges high above the ground is drawn anew."""
    for attempt in range(_TRIES):
        figure = make_figure(seed, f"{stream}/{attempt}", number)
        here = figure.occupant
        if here.mode != "lie" or here.seat[2] - here.lift < _HOVER:
            break
    return figure


def _under(person: environment.Occupant) -> np.ndarray:
    """float32 [N, 3]: points of what the person sits or lies on, dense enough for _GAP; none for the others."""

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
            here = solid + np.append(place, 0).astype(np.float32)
            if all(_apart(here, other) for other in placed):
                break
            wider += 0.1
        places.append(place)
        placed.append(here)
    return np.array(places) - np.mean(places, axis=0)


def _apart(a_N3: np.ndarray, b_N3: np.ndarray) -> bool:
    """Whether no point of a is within _GAP of one of b."""
    near_a = a_N3[((a_N3 > b_N3.min(0) - _GAP) & (a_N3 < b_N3.max(0) + _GAP)).all(1)]
    near_b = b_N3[((b_N3 > a_N3.min(0) - _GAP) & (b_N3 < a_N3.max(0) + _GAP)).all(1)]
    if not len(near_a) or not len(near_b):
        return True
    return bool(((near_a[:, None] - near_b) ** 2).sum(2).min() > _GAP**2)


def _framed(rng: np.random.Generator, wide: Camera, bodies: list[np.ndarray], size: int, ease: float) -> Camera | None:
    """The camera of a square picture of these people, or None where the frame that was drawn does not keep the limits, eased to `ease`."""
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
    side = largest / (spans_2.max() if cut else spans_2[0])  # it is near people whom a frame cuts off
    spare_2 = np.maximum(side - (high - low), 0) / 2
    shift_2 = 0.9 * spare_2 * spread_2
    direction, (_, most) = list(_CUTS.items())[which]
    if cut and spare_2[np.argmax(np.abs(direction))] < _SPARE * side:
        shift_2 = np.where(direction, direction * (spare_2 + (0.04 + (most - 0.04) * amount) * side), shift_2)
    corner_2 = (low + high) / 2 - side / 2 + shift_2
    inside_K2 = np.minimum(high_K2, corner_2 + side) - np.maximum(low_K2, corner_2)
    share_K = np.maximum(inside_K2, 0).prod(1) / (high_K2 - low_K2).prod(1)
    if (share_K < ease * _INSIDE).any():
        return None
    if (_unhidden(flat, seen, corner_2, side) < ease * _UNHIDDEN).any():
        return None
    return wide.zoomed(float(corner_2[0]), float(corner_2[1]), size / side)


def _unhidden(flat: list[np.ndarray], seen: list[np.ndarray], corner_2: np.ndarray, side: float) -> np.ndarray:
    """float64 [K]: share of each person's cells, in a coarse picture of the sampled points, where nobody is nearer."""
    nearest_KC = np.full((len(flat), _CELLS * _CELLS), np.inf, np.float32)
    for row, points, place in zip(nearest_KC, flat, seen, strict=True):
        cells_N2 = np.floor((points - corner_2) / side * _CELLS).astype(int)
        there = ((cells_N2 >= 0) & (cells_N2 < _CELLS)).all(1)
        np.minimum.at(row, cells_N2[there] @ (1, _CELLS), place[there, 2])
    occupied_KC = np.isfinite(nearest_KC)
    in_front_KC = occupied_KC & (nearest_KC <= nearest_KC.min(0))
    return in_front_KC.sum(1) / np.maximum(occupied_KC.sum(1), 1)
