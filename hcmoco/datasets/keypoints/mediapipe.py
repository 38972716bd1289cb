"""MediaPipe's pose landmarks: 33 joints as shares of the picture, with visibilities.

Read as JSON, one file `NAME.json` a picture, in any of the forms in which the library's own results are written:

    {"pose_landmarks": [[{"x": 0.5, "y": 0.2, "z": -0.3, "visibility": 0.99}, ... 33], ...]}   PoseLandmarkerResult
    {"landmarks": [[...], ...]}                                                               the same in JavaScript
    {"landmark": [{...}, ... 33]}                                                     NormalizedLandmarkList, one person

or as one CSV file with a header: `image` (or file, filename, image_name), and x, y and visibility of every joint, as
`x0, y0, v0` to `x32, ...`, or numbered from 1, or `nose_x, nose_y, nose_visibility`. z is not read. World landmarks
(meters around the hips) have no place in the picture and are refused.

Sources: https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker/python (handle and display results);
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/framework/formats/landmark.proto.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.data.joint_set import JointSet
from hcmoco.data.tool_joints import MEDIAPIPE_33
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, each_json
from hcmoco.errors import UserError

WHAT = "MediaPipe"
_PEOPLE = ("pose_landmarks", "poseLandmarks", "landmarks")
_WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks")
_IMAGE = ("image", "image_name", "image_file", "file", "file_name", "filename")


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    return isinstance(content, dict) and any(key in content for key in (*_PEOPLE, *_WORLD, "landmark"))


def count(path: Path) -> int | None:
    """Return the number of joints, which the format decides."""
    return len(MEDIAPIPE_33)


def read(path: Path, joints: JointSet) -> Iterator[Entry]:
    """Yield the people of all files.

    Raises:
        UserError: a CSV file has no column for the picture or for a joint.
    """
    if path.suffix.lower() == ".csv":
        yield from _table(path, joints)
        return
    for name, picture, content in each_json(path, WHAT):
        if not is_content(content):
            reason = str(content) if isinstance(content, ValueError) else "it has no landmarks, as MediaPipe writes"
            yield NoPerson(name, reason, picture=picture)
            continue
        people = (
            [content["landmark"]]
            if "landmark" in content
            else next((content[k] for k in _PEOPLE if k in content), None)
        )
        if people is None:
            reason = "it has world landmarks alone, in meters around the hips: write pose_landmarks too"
            yield NoPerson(name, reason, picture=picture)
        elif not people:
            yield NoPerson(picture, "the tool found nobody in the picture", broken=False, picture=picture)
        else:
            # One person may stand without a list around it.
            people = [people] if isinstance(people[0], dict) and "x" in people[0] else people
            for position, person in enumerate(people):
                yield _person(person, f"{name} person {position}", picture, len(joints))


def _person(person: Any, where: str, picture: str, num_joints: int) -> Entry:
    person = person.get("landmark") if isinstance(person, dict) else person
    if not isinstance(person, list) or len(person) != num_joints:
        return NoPerson(where, f"it is not a list of {num_joints} landmarks", picture=picture)
    try:
        rows = np.array([[each["x"], each["y"], each["visibility"]] for each in person], float)
    except (KeyError, TypeError, ValueError):
        return NoPerson(where, "a landmark has no x, y or visibility", picture=picture)
    return ToolPerson(picture, rows, where)


def _table(path: Path, joints: JointSet) -> Iterator[Entry]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--keypoints {path} cannot be read as CSV: {error}") from None
    header = list(rows[0]) if rows else []
    image = next((each for each in header if str(each).strip().lower() in _IMAGE), None)
    if image is None:
        raise UserError(
            f"--keypoints {path} has no column {', '.join(_IMAGE[:-1])} or {_IMAGE[-1]} with the picture's file name; "
            "write one beside the joints"
        )
    columns = [_columns(path, header, k, label) for k, label in enumerate(joints.labels)]
    for line, row in enumerate(rows, start=2):
        where = f"{path.name} line {line}"
        try:
            values = np.array([[float(row[name]) if row[name] else 0.0 for name in each] for each in columns])
        except (TypeError, ValueError):
            yield NoPerson(where, "a coordinate is not a number", picture=str(row[image]))
            continue
        yield ToolPerson(str(row[image]), values, where)


def _columns(path: Path, header: list, position: int, label: str) -> list[str]:
    first = 0 if any(re.fullmatch(r"\s*x_?0\s*", str(name), re.IGNORECASE) for name in header) else 1
    wanted = ((r"x",), (r"y",), (r"v", r"visibility", r"vis"))
    found = []
    for kinds in wanted:
        forms = [f"{kind}_?{position + first}|{label}_{kind}" for kind in kinds]
        match = [name for name in header if re.fullmatch(r"\s*(" + "|".join(forms) + r")\s*", str(name), re.IGNORECASE)]
        if len(match) != 1:
            raise UserError(
                f"--keypoints {path} has no column {kinds[0]}{position + first} or {label}_{kinds[-1]}, one of x, "
                "y and visibility of every joint; write all 33"
            )
        found += match
    return found
