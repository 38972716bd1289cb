"""Who was found nearest, as a table and as a picture of the best and the worst.

Shapes: K nearest that are kept, T side of a tile in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa

from hcmoco.data.schema import Modality
from hcmoco.data.skeletons import joint_set
from hcmoco.embedding.crops import Crop
from hcmoco.embedding.nearest import Found
from hcmoco.tasks.pose.sheet import draw_skeleton
from hcmoco.visualization.sheet import GROUND, HEADER_HEIGHT, depth_colors, side_by_side, write_text

TILE, GAP = 144, 4
SHOWN = 6
"""The best, and as many of the worst."""

_RIGHT, _WRONG = (60, 220, 60), (255, 70, 60)


@dataclass(frozen=True)
class Shown:
    """How people of one side are drawn.

    Attributes:
        modality: that is drawn.
        size: side of their crops, pixels.
        read: reads the crop of a row by its number in `Side.keys`.
    """

    modality: Modality
    size: int
    read: Callable[[int], Crop]


def to_table(found: Found) -> pa.Table:
    """Return a row for every query: who it is, who is nearest with their distances, and where the same person is.

    `query` and `nearest` are ids, `distances` are 1 - cosine, from 0 to 2. `rank` is `Found.ranks`, `right` and
    `right_distance` are of the most similar row of the same person; null where the gallery has none.
    """
    ids = found.gallery["id"].combine_chunks()
    kept = found.nearest >= 0
    offsets = pa.array(np.concatenate([[0], kept.sum(1).cumsum()]).astype(np.int32))
    asked = found.asked
    right = pa.array(np.where(asked, found.right, 0), mask=~asked)
    return pa.table(
        {
            "query": found.queries["id"],
            "nearest": pa.ListArray.from_arrays(offsets, ids.take(pa.array(found.nearest[kept]))),
            "distances": pa.ListArray.from_arrays(offsets, pa.array((1 - found.similarity[kept]).astype(np.float32))),
            "right": ids.take(right),
            "right_distance": pa.array((1 - found.right_similarity).astype(np.float32), mask=~asked),
            "rank": pa.array(found.ranks, mask=~asked),
        }
    )


def chosen(found: Found, count: int = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of the best and of the worst queries, best and worst first.

    Best are those that find the same person first, at the smallest distance; worst those for whom the same person comes
    last. Where no query has a right answer, the nearest distance alone decides.

    Args:
        found: what was found.
        count: of each.
    """
    numbers = np.flatnonzero(found.asked) if found.asked.any() else np.arange(len(found.queries))
    if found.asked.any():
        order = numbers[np.lexsort((-found.right_similarity[numbers], found.ranks[numbers]))]
    else:
        order = numbers[np.argsort(-found.similarity[numbers, 0], kind="stable")]
    best = order[:count]
    return best, order[len(best) :][::-1][:count]


def matches_sheet(
    found: Found,
    query: Shown,
    gallery: Shown,
    joints: str,
    count: int = SHOWN,
) -> np.ndarray:
    """Draw the best queries on the left, the worst on the right: the query, who is nearest, and the same person.

    Args:
        found: what was found.
        query, gallery: how the two sides are drawn.
        joints: joint set of the model, for keypoints.
        count: of the best, and of the worst.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    halves = [
        _half(name, numbers, found, query, gallery, joints)
        for name, numbers in zip(("best", "worst"), chosen(found, count), strict=True)
        if len(numbers)
    ]
    height = max(len(half) for half in halves)
    return side_by_side([np.pad(half, ((0, height - len(half)), (0, 0), (0, 0))) for half in halves], 4 * GAP)


def _half(
    name: str,
    numbers: Sequence[int] | np.ndarray,
    found: Found,
    query: Shown,
    gallery: Shown,
    joints: str,
) -> np.ndarray:
    titles = (f"{name}: {query.modality}", f"nearest {gallery.modality}", "the same person")
    head = np.zeros((HEADER_HEIGHT, 3 * TILE + 2 * GAP, 3), np.uint8)
    for column, title in enumerate(titles):
        write_text(head, title, column * (TILE + GAP) + 4, HEADER_HEIGHT - 8)
    lines = [head]
    for number in numbers:
        nearest, right = int(found.nearest[number, 0]), int(found.right[number])
        is_right = found.asked[number] and found.ranks[number] == 1
        color = _RIGHT if is_right else _WRONG if found.asked[number] else GROUND
        tiles = [
            _tile(query, int(number), joints, ""),
            _tile(gallery, nearest, joints, f"d {1 - found.similarity[number, 0]:.3f}", color),
        ]
        if right >= 0:
            told = f"d {1 - found.right_similarity[number]:.3f}, rank {found.ranks[number]:g}"
            tiles.append(_tile(gallery, right, joints, told))
        else:
            tiles.append(np.full_like(tiles[0], GROUND))
        lines.append(side_by_side(tiles, GAP))
    return np.concatenate(lines)


def _tile(side: Shown, row: int, joints: str, text: str, color: tuple[int, int, int] | None = None) -> np.ndarray:
    """uint8 [T + a line of text, T, 3]."""
    crop = side.read(row)
    picture: np.ndarray = np.full((TILE, TILE, 3), GROUND, np.uint8)
    if side.modality == "keypoints":
        if crop.keypoints is not None:
            xy_J2 = crop.keypoints[:, :2] * (TILE / side.size)
            draw_skeleton(picture, xy_J2, crop.keypoints[:, 2] > 0, joint_set(joints))
    else:
        shown = crop.rgb if side.modality == "rgb" else None if crop.depth is None else depth_colors(crop.depth)
        if shown is not None:
            picture = cv2.resize(shown, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    if color is not None:
        cv2.rectangle(picture, (0, 0), (TILE - 1, TILE - 1), color, 2)
    line = np.zeros((18, TILE, 3), np.uint8)
    write_text(line, text, 4, 13)
    return np.concatenate([picture, line])
