"""COCO's results: one JSON list of people, as detectron2, MMPose, ViTPose and AlphaPose write it.

Each is `{"image_id": 139, "category_id": 1, "keypoints": [x0, y0, c0, x1, ...], "score": 0.98}`, with coordinates that
count pixels from 0. detectron2 adds `bbox`, AlphaPose `box`, both x, y, width and height. `image_id` is a number of the
list of pictures that the tool was given, or, as AlphaPose writes it, the picture's file name.

Sources: https://cocodataset.org/#format-results (keypoint detection); AlphaPose, docs/output.md.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hcmoco.data.joint_set import JointSet
from hcmoco.datasets.io.files import read_json
from hcmoco.datasets.io.json_stream import read_lists
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson, ToolPerson, corners, number, picture_size, triples
from hcmoco.errors import UserError

WHAT = "COCO results"
_PERSON = 1


def is_content(content: Any) -> bool:
    """Return whether this is the content of such a file."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "image_id" in first and "keypoints" in first


def count(path: Path) -> int | None:
    """Return the number of joints of the first person, or None if there is nobody."""
    for each in _entries(path):
        if isinstance(each, dict) and isinstance(each.get("keypoints"), list) and each["keypoints"]:
            return len(each["keypoints"]) // 3
    return None


def read(path: Path, joints: JointSet, image_list: Path | None = None) -> Iterator[Entry]:
    """Yield the people of the file.

    Args:
        path: the file.
        joints: their joint set.
        image_list: a JSON file in COCO's form, whose list `images` gives numbers their files.

    Raises:
        UserError: the file is not COCO's, or a picture is a number and nothing says which file it is.
    """
    listed = None if image_list is None else _images(image_list)
    for position, each in enumerate(_entries(path)):
        where = f"{path.name} entry {position}"
        if not isinstance(each, dict) or "image_id" not in each:
            yield NoPerson(where, "it has no image_id")
            continue
        if each.get("category_id", _PERSON) != _PERSON:
            yield NoPerson(where, "its category is not 1, the person", broken=False)
            continue
        image, size = each["image_id"], None
        if isinstance(image, int) and not isinstance(image, bool):
            if listed is None:
                # The published pictures of COCO are named so.
                image = f"{image:012d}"
            elif image in listed:
                image, size = listed[image]
            else:
                yield NoPerson(where, f"its image_id {image} is not in the list of pictures")
                continue
        if not isinstance(image, str):
            yield NoPerson(where, f"its image_id {image!r} is neither a number nor a file name")
            continue
        try:
            found = triples(each.get("keypoints"), len(joints))
        except ValueError as error:
            yield NoPerson(where, str(error), picture=image)
            continue
        box = corners(each.get("bbox", each.get("box")))
        yield ToolPerson(image, found, where, box, number(each.get("score")), size)


def numbered(path: Path) -> int | None:
    """Return the first image_id if it is a number, else None."""
    for each in _entries(path):
        image = each.get("image_id") if isinstance(each, dict) else None
        return image if isinstance(image, int) else None
    return None


def _entries(path: Path) -> list:
    content = read_json(path, f"{WHAT} file")
    if not isinstance(content, list):
        raise UserError(f"--keypoints {path} is not a list of people, as COCO's results are; give another --format")
    return content


def _images(path: Path) -> dict[int, tuple[str, tuple[int, int] | None]]:
    found = {}
    lists = read_lists(path, "list of pictures", {"images": lambda entry: entry})
    if "images" not in lists:
        raise UserError(f"--image-list {path} has no list images; give the file in COCO's form that the tool was given")
    for each in lists["images"]:
        if isinstance(each, dict) and isinstance(each.get("id"), int) and isinstance(each.get("file_name"), str):
            found[each["id"]] = (each["file_name"], picture_size(each))
    return found
