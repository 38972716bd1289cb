"""YOLO's pose labels: a text file a picture, and data.yaml.

A line of `NAME.txt` is one person: class, center x, center y, width and height of the box, then x and y, or x, y and
visibility, of every joint; all but the class and the visibility are shares of the picture. Predictions that were saved
with their confidence end in it. `data.yaml` beside the labels, or above them, says `kpt_shape: [17, 3]`, `flip_idx` and
the classes' `names`. Visibility is 0, 1 or 2 in labels and a confidence in predictions; where there is none, a joint at
0, 0 is absent. Source: https://docs.ultralytics.com/datasets/pose (Ultralytics YOLO format, dataset YAML format).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hcmoco import yaml_core
from hcmoco.data.joint_set import JointSet
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, files
from hcmoco.errors import UserError, one_line

WHAT = "YOLO"
_YAML = (".yaml", ".yml")


def description(path: Path) -> tuple[Path, dict] | None:
    """Return data.yaml, given or found in the folder of the labels or the two above, and its content; None without one.

    Raises:
        UserError: it is not YAML, or not of a pose data set.
    """
    if path.suffix in _YAML:
        return path, _load(path)
    for folder in (path, path.parent, path.parent.parent):
        for suffix in _YAML:
            if (file := folder / f"data{suffix}").is_file():
                return file, _load(file)
    return None


def _load(path: Path) -> dict:
    try:
        content = yaml_core.plain(yaml_core.load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from None
    shape = content.get("kpt_shape") if isinstance(content, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(side, int) for side in shape):
        raise UserError(f"{path} has no kpt_shape such as [17, 3]; give the data.yaml of a pose data set")
    if shape[1] not in (2, 3):
        raise UserError(f"{path} has kpt_shape {shape}; a joint has 2 or 3 values")
    return content


def labels(path: Path) -> Path:
    """Return the folder of the labels: `path`, or `labels` beside a data.yaml that is given."""
    if path.suffix not in _YAML:
        return path
    return path.parent / "labels" if (path.parent / "labels").is_dir() else path.parent


def count(path: Path) -> int | None:
    """Return the number of joints that data.yaml says, or None without one."""
    found = description(path)
    return found[1]["kpt_shape"][0] if found else None


def read(path: Path, joints: JointSet) -> Iterator[Entry]:
    """Yield the people of all files.

    Raises:
        UserError: data.yaml and the joint set do not fit, or its classes have no person.
    """
    found = description(path)
    values = found[1]["kpt_shape"][1] if found else 0
    person = _check(found, joints) if found else None
    root = labels(path)
    for file in files(root, ".txt", WHAT):
        if file.name == "classes.txt":  # annotation tools write the names of the classes beside the labels
            continue
        picture = (file.relative_to(root) if file != root else Path(file.name)).with_suffix("").as_posix()
        # Labels lie beside the pictures in folders of other names.
        picture = picture.removeprefix("labels/")
        try:
            lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            yield NoPerson(file.name, f"it is not text: {error}", picture=picture)
            continue
        if not lines:
            yield NoPerson(picture, "the tool found nobody in the picture", broken=False, picture=picture)
        for position, words in enumerate(lines, start=1):
            yield _line(words, f"{file.name} line {position}", picture, len(joints), values, person)


def _check(found: tuple[Path, dict], joints: JointSet) -> int | None:
    """The class of people, None if any class is one."""
    path, content = found
    flips = content.get("flip_idx")
    if flips is not None and flips != joints.flip.tolist():
        raise UserError(
            f"{path}: flip_idx {flips} is not that of {joints.name}, {joints.flip.tolist()}; its joints are others or "
            "in another order: give the right --joints"
        )
    names: Any = content.get("names", {})
    named = {str(number): name for number, name in enumerate(names)} if isinstance(names, list) else names
    if not isinstance(named, dict) or not all(number.isdecimal() for number in named):
        raise UserError(f"{path}: names must be a list of the classes, or have their numbers as keys")
    if len(named) < 2:
        return None
    people = [number for number, name in named.items() if name == "person"]
    if len(people) != 1:
        how_many = "several are" if people else "none is"
        raise UserError(
            f"{path}: of the classes {', '.join(map(str, named.values()))} {how_many} called person; name the class of "
            "people so, in names, and no other"
        )
    return int(people[0])


def _line(words: list[str], where: str, picture: str, num_joints: int, values: int, person: int | None) -> Entry:
    try:
        numbers = np.array(words, float)
    except ValueError:
        return NoPerson(where, "it has a word that is not a number", picture=picture)
    rest = len(numbers) - 5
    each = next((n for n in ((values,) if values else (3, 2)) if rest in (n * num_joints, n * num_joints + 1)), 0)
    if not each:
        reason = f"it has {len(numbers)} numbers, not 5 and 2 or 3 for each of {num_joints} joints"
        return NoPerson(where, reason, picture=picture)
    if person is not None and numbers[0] != person:
        return NoPerson(where, "its class is not a person", broken=False, picture=picture)
    joints = numbers[5 : 5 + each * num_joints].reshape(num_joints, each)
    if each == 2:
        joints = np.column_stack([joints, (joints != 0).any(1)])
    elif np.isin(joints[:, 2], (0, 1, 2)).all():
        joints[:, 2] = np.minimum(joints[:, 2], 1)  # flags: labeled, hidden or not
    x, y, width, height = numbers[1:5]
    box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    score = float(numbers[-1]) if rest == each * num_joints + 1 else None
    return ToolPerson(picture, joints, where, box if width > 0 and height > 0 else None, score)
