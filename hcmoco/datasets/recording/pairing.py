"""Pair the pictures of two streams by time, side by side, so that no more than a moment of one is kept."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

APART_SECONDS = 0.02
"""Two thirds of a frame at 30 a second."""


def side_by_side(pictures: Iterable[tuple[bool, float, T]]) -> Iterator[tuple[T | None, T | None]]:
    """Yield color and depth of each moment, in order; None for one that is missing.

    Args:
        pictures: whether it is color, its time in seconds, and the picture; each stream in the order of its times.
    """
    color: deque[tuple[float, T]] = deque()
    depth: deque[tuple[float, T]] = deque()
    for is_color, seconds, picture in pictures:
        (color if is_color else depth).append((seconds, picture))
        while color and depth:
            apart = color[0][0] - depth[0][0]
            if abs(apart) <= APART_SECONDS:
                yield color.popleft()[1], depth.popleft()[1]
            elif apart > 0:
                yield None, depth.popleft()[1]
            else:
                yield color.popleft()[1], None
    yield from ((picture, None) for _, picture in color)
    yield from ((None, picture) for _, picture in depth)
