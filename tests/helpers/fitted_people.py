"""Synthetic people that small detectors are fitted to, and others that they are scored on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from hcmoco.data.codecs import decode_depth, decode_labels, decode_rgb, encode_depth, encode_png
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.skeletons import COCO_17, PEOPLE_31, convert
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from tests.helpers.oriented import as_stored, tagged

SIDE = 96  # of the pictures, pixels


class People:
    """Synthetic people indoors.

    Attributes:
        rgb: uint8 [N, SIDE, SIDE, 3].
        joints: float32 [N, 17, 3], COCO's joints in pixels, pixel centers at +0.5, and whether they are visible.
        box: float32 [N, 4].
        mask: bool [N, SIDE, SIDE].
        depth: uint16 [N, SIDE, SIDE], millimeters, of the person and the room.
    """

    def __init__(self, first: int, count: int, side: int = SIDE):
        config = PeopleConfig(domain="indoor", size=side, masked_depth=False)
        people = [make_person(config, first + k, dataset="people", split="train") for k in range(count)]
        self.rgb = np.stack([decode_rgb(each.rgb) for each in people])
        self.joints = np.stack([convert(each.keypoints, PEOPLE_31.name, COCO_17.name) for each in people])
        self.box = np.stack([each.box for each in people])
        self.mask = np.stack([decode_labels(each.mask) > 127 for each in people])
        self.depth = np.stack([decode_depth(each.depth, DEPTH_CODEC) for each in people])


@dataclass(frozen=True)
class Tile:
    """One person, as one row of `People`."""

    rgb: np.ndarray
    joints: np.ndarray
    box: np.ndarray
    mask: np.ndarray


def varied(people: People, k: int, rng: np.random.Generator, turn: float) -> Tile:
    """A person, mirrored, turned by up to `turn` degrees, scaled and moved at random."""
    rgb, joints, box, mask = people.rgb[k], people.joints[k].copy(), people.box[k].copy(), people.mask[k]
    if rng.random() < 0.5:
        rgb, joints, box, mask = rgb[:, ::-1], joints[COCO_17.flip], box[[2, 1, 0, 3]], mask[:, ::-1]
        joints[:, 0], box[[0, 2]] = SIDE - joints[:, 0], SIDE - box[[0, 2]]
    scale, angle = np.exp(rng.uniform(-0.25, 0.15)), rng.uniform(-turn, turn)
    matrix = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), angle, scale)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * SIDE
    rgb = cv2.warpAffine(np.ascontiguousarray(rgb), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.warpAffine(mask.astype(np.uint8), matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST) > 0

    def moved(xy: np.ndarray) -> np.ndarray:
        return (xy - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5

    joints[:, :2] = moved(joints[:, :2])
    corners = moved(np.array([[box[x], box[y]] for x in (0, 2) for y in (1, 3)]))
    low, high = corners.min(0), corners.max(0)
    box = np.concatenate([low, high]).clip(0, SIDE)
    joints[:, 2] *= ((joints[:, :2] > 0) & (joints[:, :2] < SIDE)).all(1)
    rgb = np.clip(rgb * rng.uniform(0.8, 1.2, 3), 0, 255)
    return Tile(rgb.astype(np.uint8), joints, box, mask)


# --- the proof

Unseen = dict[str, list[Tile]]
"""By a picture's name the people in it, in its pixels as people see it."""


def write_unseen(
    folder: Path, people: People, beside: Sequence[int], orientations: Sequence[int] = (1,), *, depth: bool = False
) -> Unseen:
    """Write pictures of people beside each other.

    Args:
        folder: that is written to.
        people: of any side.
        beside: numbers of people in the pictures, over and over until all people are shown.
        orientations: that the files declare (EXIF), over and over; the pixels are stored accordingly.
        depth: write depth/, with the same names and millimeters, and a people.jsonl of pairs of pictures, too.
    """
    folder.mkdir()
    truth: Unseen = {}
    side, at = people.rgb.shape[1], 0
    while at < len(people.rgb):
        number, name = len(truth), f"{len(truth):03d}.png"
        own = range(at, min(at + beside[number % len(beside)], len(people.rgb)))
        at, orientation = own.stop, orientations[number % len(orientations)]
        rgb = np.concatenate([people.rgb[k] for k in own], axis=1)
        (folder / name).write_bytes(tagged(encode_png(_as_stored(rgb, orientation)), orientation))
        if depth:
            (folder / "depth").mkdir(exist_ok=True)
            stored = _as_stored(np.concatenate([people.depth[k] for k in own], axis=1), orientation)
            (folder / "depth" / name).write_bytes(tagged(encode_depth(stored, "png16"), orientation))
        truth[name] = []
        for place, k in enumerate(own):
            mask = np.zeros(rgb.shape[:2], bool)
            mask[:, place * side : (place + 1) * side] = people.mask[k]
            shift = np.array([place * side, 0, 0])
            truth[name].append(Tile(rgb, people.joints[k] + shift, people.box[k] + shift[[0, 1, 0, 1]], mask))
    if depth:
        lines = [{"rgb": name, "depth": f"depth/{name}"} for name in truth]
        (folder / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return truth


def _as_stored(image: np.ndarray, orientation: int) -> np.ndarray:
    pixels = _stored_pixels(image.shape[:2], orientation)
    return image.reshape(pixels.size, -1)[pixels].squeeze()


@cache
def _stored_pixels(shape: tuple[int, int], orientation: int) -> np.ndarray:
    """Which pixel of the picture is at which place of its file."""
    return as_stored(np.arange(shape[0] * shape[1]).reshape(shape), orientation)


def write_boxes(folder: Path, truth: Unseen) -> None:
    """Write people.jsonl with the box of every person."""
    lines = [
        {"rgb": name, "id": f"{name}/{number}", "box": [float(value) for value in person.box]}
        for name, people in truth.items()
        for number, person in enumerate(people)
    ]
    (folder / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))


@dataclass(frozen=True)
class Scored:
    """How well a prepared data set has the people of `write_unseen`.

    Attributes:
        joints: share of all visible joints that it has within 10 % of the longer side of the person's box.
        overlaps: for each person intersection over union of the depth that it kept and the true mask, where the
            camera had a reading; 0 for whom it lacks.
        missing: number of true people whom it lacks.
        extra: number of its people beyond the true ones.
    """

    joints: float
    overlaps: np.ndarray
    missing: int
    extra: int


def score(uri: str, truth: Unseen, folder: Path) -> Scored:
    """Score a prepared data set.

    A person of it is the one of the picture whose box has its middle nearest, if nobody before was; whom it lacks has
    no joint and no mask right.

    Args:
        uri: of the data set.
        truth: of `write_unseen`.
        folder: of `write_unseen`.
    """
    found: dict[tuple[str, int], Person] = {}
    shards, extra = Shards.open(uri), 0
    for group in range(len(shards.group_rows)):
        for row in shards.read_group(group).to_pylist():
            person = Person.from_row(row)
            name = next(each for each in truth if each in person.id)
            middle = person.crop[0] + person.crop[2] / 2
            number = min(
                range(len(truth[name])),
                key=lambda k: abs(truth[name][k].box[[0, 2]].mean() - middle),
            )
            extra += (name, number) in found
            found.setdefault((name, number), person)
    right = visible = 0
    overlaps = []
    for name, people in truth.items():
        for number, tile in enumerate(people):
            seen = tile.joints[:, 2] > 0
            visible += seen.sum()
            person = found.get((name, number))
            if person is None:
                overlaps.append(0.0)
                continue
            x0, y0, side = person.crop[:3]
            joints = person.keypoints[:, :2] * (side / person.size) + (x0, y0)
            apart = np.linalg.norm(joints - tile.joints[:, :2], axis=1)
            limit = 0.1 * max(tile.box[2] - tile.box[0], tile.box[3] - tile.box[1])
            right += (seen & (person.keypoints[:, 2] > 0) & (apart <= limit)).sum()
            overlaps.append(_overlap(person, tile, folder / "depth" / name) if person.depth else 0.0)
    return Scored(float(right / visible), np.array(overlaps), len(overlaps) - len(found), extra)


def _overlap(person: Person, tile: Tile, depth: Path) -> float:
    x0, y0, side = person.crop[:3]
    places = (np.arange(person.size) + 0.5) * (side / person.size)
    columns, rows = (np.floor(places + first).astype(int) for first in (x0, y0))
    height, width = tile.mask.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    true = (tile.mask & (read_depth_file(depth.parent, depth.name, upright=True) > 0))[
        rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)
    ]
    kept, true = decode_depth(person.depth, "png16") > 0, true & inside
    return float((kept & true).sum() / max(1, (kept | true).sum()))
