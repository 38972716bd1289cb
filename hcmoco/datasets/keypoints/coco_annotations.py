"""Annotation files in COCO's form with any joint set: Halpe, CrowdPose, AI Challenger as MMPose converted it, your own.

The lists `images`, `annotations` and `categories`; the category of people lists the names of its keypoints, and an
annotation has x, y and v of each: v is 0 for not labeled, 1 for hidden and 2 for visible, and coordinates count pixels
from 0. Source: https://cocodataset.org/#format-data (object detection, keypoint detection).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.data.joint_set import JointSet
from hcmoco.datasets.io.json_stream import read_lists
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, corners, picture_size, triples
from hcmoco.errors import UserError

WHAT = "COCO annotations"
_LISTS = ("images", "annotations", "categories")


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _LISTS[:2])


def names(path: Path) -> tuple[str, ...]:
    """Return the names of the keypoints that the category of people lists, or () if it lists none."""
    for each in read_lists(path, WHAT, {"categories": lambda entry: entry}).get("categories", []):
        listed = each.get("keypoints") if isinstance(each, dict) else None
        if isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed):
            return tuple(listed)
    return ()


def count(path: Path) -> int | None:
    """Return the number of joints of the first annotation with keypoints, or None if there is none."""
    for size in read_lists(path, WHAT, {"annotations": _size}).get("annotations", []):
        if size:
            return size // 3
    return None


def _size(each: Any) -> int:
    values = each.get("keypoints") if isinstance(each, dict) else None
    return len(values) if isinstance(values, list) else 0


def read(path: Path, joints: JointSet) -> Iterator[Entry]:
    """Yield the people of the file.

    Raises:
        UserError: the file is not in COCO's form.
    """
    lists = read_lists(path, WHAT, dict.fromkeys(_LISTS, _without_outlines))
    if missing := [key for key in _LISTS[:2] if key not in lists]:
        raise UserError(f"--keypoints {path} has no list {', '.join(missing)}; give a file in COCO's form")
    pictures = {}
    for each in lists["images"]:
        if isinstance(each, dict) and isinstance(each.get("file_name"), str):
            pictures[each.get("id")] = each["file_name"], picture_size(each)
    people = {each.get("id") for each in lists.get("categories", []) if _is_person(each)}
    for position, each in enumerate(lists["annotations"]):
        where = f"annotation {each['id']}" if isinstance(each, dict) and "id" in each else f"annotation at {position}"
        yield _entry(each, where, joints, pictures, people)


def _entry(each: Any, where: str, joints: JointSet, pictures: dict, people: set) -> Entry:
    if not isinstance(each, dict):
        return NoPerson(where, "it is not an object")
    if each.get("image_id") not in pictures:
        return NoPerson(where, f"its image {each.get('image_id')} is not in the file's list")
    name, size = pictures[each["image_id"]]
    if people and each.get("category_id") not in people:
        return NoPerson(where, "its category is not a person", broken=False, picture=name)
    if each.get("iscrowd") == 1:
        return NoPerson(where, "it is a crowd, not one person", broken=False, picture=name)
    if not each.get("keypoints"):
        return NoPerson(where, "it has no keypoints", broken=False, picture=name)
    try:
        found = triples(each["keypoints"], len(joints))
    except ValueError as error:
        return NoPerson(where, str(error), picture=name)
    flags = found[:, 2]
    if not np.isin(flags, (0, 1, 2)).all():
        other = flags[~np.isin(flags, (0, 1, 2))][0]
        what = (
            "3, as AI Challenger's own files have it for what is not labeled: convert them to COCO's form first"
            if other == 3
            else f"{other:g}; if it is a confidence, the file holds results: give --format coco-results"
        )
        return NoPerson(where, f"a joint has the flag v = {what}; v must be 0, 1 or 2", picture=name)
    return ToolPerson(name, np.column_stack([found[:, :2], flags > 0]), where, corners(each.get("bbox")), None, size)


def _without_outlines(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key != "segmentation"} if isinstance(entry, dict) else entry


def _is_person(category: Any) -> bool:
    return isinstance(category, dict) and (category.get("name") == "person" or bool(category.get("keypoints")))
