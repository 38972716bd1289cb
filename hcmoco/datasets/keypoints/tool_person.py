"""What the readers of tools' files give: one person of one picture, as the file has it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.datasets.io.files import read_json
from hcmoco.errors import UserError


@dataclass(frozen=True, eq=False)
class ToolPerson:
    """One person that a file has.

    Attributes:
        picture: path or name of the picture, with or without its suffix.
        joints: float64 [J, 3], x, y and confidence in the file's own convention.
        where: file and entry, for messages.
        box: float64 [4], x0, y0, x1, y1 in the same unit as the joints, or None.
        score: of the whole person, or None.
        size: width and height of the picture as the file says, or None.
    """

    picture: str
    joints: np.ndarray
    where: str
    box: np.ndarray | None = None
    score: float | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class NoPerson:
    """An entry of a file that is not a person to read.

    Attributes:
        where: file and entry.
        reason: why, one sentence.
        broken: the entry is invalid, rather than left out by a rule.
        picture: path or name of its picture, if the entry says it.
    """

    where: str
    reason: str
    broken: bool = True
    picture: str = ""


Entry = ToolPerson | NoPerson


def triples(values: Any, num_joints: int) -> np.ndarray:
    """Return float64 [J, 3] of a flat list of x, y and confidence; null counts as absent.

    Raises:
        ValueError: it is something else, or has another number of joints.
    """
    if not isinstance(values, list):
        raise ValueError("the keypoints are not a list of numbers")
    try:
        flat = np.array(values, np.float64)
    except (ValueError, TypeError):
        raise ValueError("the keypoints are not a flat list of numbers") from None
    if flat.ndim != 1 or flat.size != 3 * num_joints:
        raise ValueError(f"there are {flat.size} numbers for {num_joints} joints of x, y and confidence")
    return flat.reshape(-1, 3)


def corners(values: Any) -> np.ndarray | None:
    """Return float64 [4], x0, y0, x1, y1 of COCO's x, y, width and height; None if it is no box with an area."""
    try:
        x, y, width, height = (float(value) for value in values)
    except (TypeError, ValueError):
        return None
    box = np.array([x, y, x + width, y + height])
    return box if np.isfinite(box).all() and width > 0 and height > 0 else None


def picture_size(entry: dict) -> tuple[int, int] | None:
    """Return width and height of an entry of a list of pictures in COCO's form; None if it does not say them."""
    width, height = entry.get("width"), entry.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def number(value: Any) -> float | None:
    """Return `value` as a finite float, or None if it is not one."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if fits and np.isfinite(value) else None


def files(path: Path, suffix: str, what: str) -> list[Path]:
    """Return the files that end in `suffix` in a folder and its sub-folders, sorted, or `path` itself if it is a file.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--keypoints {path} does not exist; give the file or folder that the tool wrote")
    found = sorted(each for each in path.rglob(f"*{suffix}") if each.is_file())
    if not found:
        raise UserError(f"--keypoints {path} holds no {suffix} file, as {what} writes; give the folder that has them")
    return found


def each_json(path: Path, what: str) -> Iterator[tuple[str, str, Any]]:
    """Yield name, path below `path` without suffix, and content of every JSON file; a file that is not JSON gives its
    sentence as a ValueError in place of the content.
    """
    for file in files(path, ".json", what):
        stem = (file.relative_to(path) if file != path else Path(file.name)).with_suffix("").as_posix()
        try:
            yield file.name, stem, read_json(file, f"{what} file")
        except UserError as error:
            yield file.name, stem, ValueError(str(error))
