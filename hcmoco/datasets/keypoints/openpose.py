"""OpenPose's JSON: one file a picture, as `--write_json` writes it.

`NAME_keypoints.json` holds `{"version": 1.3, "people": [{"pose_keypoints_2d": [x0, y0, c0, x1, ...]}, ...]}`, in pixels
of the picture (`--keypoint_scale 0`, the default), with confidences of 0 to 1; a joint that was not found is 0, 0, 0.
Files of version 0.1 call the list `pose_keypoints`. Source: OpenPose, doc/02_output.md (JSON Output Format).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hcmoco.data.joint_set import JointSet
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, each_json, triples

WHAT = "OpenPose"
SETS = {25: "body-25", 18: "coco-18"}
_KEYS = ("pose_keypoints_2d", "pose_keypoints")
_SUFFIX = "_keypoints"


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    return isinstance(content, dict) and isinstance(content.get("people"), list)


def count(path: Path) -> int | None:
    """Return the number of joints of the first person of a known model, else of anybody; None if there is nobody."""
    other = None
    for _, _, content in each_json(path, WHAT):
        for person in content["people"] if is_content(content) else ():
            values = _values(person)
            if isinstance(values, list) and values:
                other = other or len(values) // 3
                if len(values) // 3 in SETS:
                    return len(values) // 3
    return other


def read(path: Path, joints: JointSet) -> Iterator[Entry]:
    """Yield the people of all files, in the order of their names."""
    for name, stem, content in each_json(path, WHAT):
        picture = stem.removesuffix(_SUFFIX)
        if not is_content(content):
            reason = str(content) if isinstance(content, ValueError) else "it has no list of people, as OpenPose writes"
            yield NoPerson(name, reason, picture=picture)
            continue
        if not content["people"]:
            yield NoPerson(picture, "the tool found nobody in the picture", broken=False, picture=picture)
        for position, person in enumerate(content["people"]):
            where = f"{name} person {position}"
            try:
                yield ToolPerson(picture, triples(_values(person), len(joints)), where)
            except ValueError as error:
                yield NoPerson(where, str(error), picture=picture)


def _values(person: Any) -> Any:
    return next((person[key] for key in _KEYS if key in person), None) if isinstance(person, dict) else None
