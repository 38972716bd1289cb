"""MMPose's predictions: one JSON file a picture, as `MMPoseInferencer(..., pred_out_dir=...)` writes it.

`NAME.json` is a list of people, each `{"keypoints": [[x, y], ...], "keypoint_scores": [...], "bbox": [[x0, y0, x1,
y1]], "bbox_score": s}`, in pixels that count from 0. Of a video it is a list of `{"frame_id": n, "instances": [...]}`,
which is not read: run the tool on the pictures. Source: https://mmpose.readthedocs.io/en/latest/user_guides/inference.html.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.data.joint_set import JointSet
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, each_json, number

WHAT = "MMPose"


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "keypoint_scores" in first


def count(path: Path) -> int | None:
    """Return the number of joints of the first person, or None if there is nobody."""
    for _, _, content in each_json(path, WHAT):
        if is_content(content) and isinstance(content[0].get("keypoints"), list):
            return len(content[0]["keypoints"])
    return None


def read(path: Path, joints: JointSet) -> Iterator[Entry]:
    """Yield the people of all files, in the order of their names."""
    for name, picture, content in each_json(path, WHAT):
        if content == []:
            yield NoPerson(picture, "the tool found nobody in the picture", broken=False, picture=picture)
        elif not is_content(content):
            video = isinstance(content, list) and isinstance(content[0], dict) and "instances" in content[0]
            yield NoPerson(
                name,
                str(content)
                if isinstance(content, ValueError)
                else "it is of a video's frames; run MMPose on the pictures"
                if video
                else "it is not a list of people, as MMPose writes",
                picture=picture,
            )
        else:
            for position, person in enumerate(content):
                yield _person(person, f"{name} person {position}", picture, len(joints))


def _person(person: Any, where: str, picture: str, num_joints: int) -> Entry:
    try:
        joints = np.column_stack([np.array(person["keypoints"], float), np.array(person["keypoint_scores"], float)])
    except (KeyError, TypeError, ValueError):
        return NoPerson(where, "its keypoints and keypoint_scores do not fit together", picture=picture)
    if joints.shape != (num_joints, 3):
        return NoPerson(where, f"it has {len(joints)} joints, {num_joints} are expected", picture=picture)
    box = person.get("bbox")
    box = box[0] if isinstance(box, list | tuple) and len(box) == 1 else box
    try:
        corners = None if box is None else np.array(box, float).reshape(4)
    except (TypeError, ValueError):
        return NoPerson(where, "its bbox is not four numbers", picture=picture)
    good = corners is not None and np.isfinite(corners).all() and (corners[2:] > corners[:2]).all()
    return ToolPerson(picture, joints, where, corners if good else None, number(person.get("bbox_score")))
