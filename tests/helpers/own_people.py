"""Synthetic people as somebody's own folder: RGB, depth in 0.25 mm, LIP's parts, 2D joints, and 3D joints in a unit."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from hcmoco.data import codecs
from hcmoco.data.body_parts import PART_NAMES
from hcmoco.data.label_maps import label_map
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import convert
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person

SIZE = 64
UNITS = {"mm": 1000, "cm": 100, "m": 1}
_LIP = label_map("lip").parts
_LIMBS = {"foot": "shoe", **dict.fromkeys(("arm", "elbow", "forearm", "hand"), "arm")}


def _lip_name(part: str) -> str:
    side, _, name = part.partition(" ")
    if part in ("background", "head"):
        return {"background": "background", "head": "face"}[part]
    if side not in ("left", "right") or name == "shoulder":
        return "upper clothes"
    return f"{side} {_LIMBS.get(name, 'leg')}"


TO_LIP = np.array([_LIP.index(_lip_name(name)) for name in PART_NAMES], np.uint8)
"""uint8 [25]: LIP's number for each of Human3.6M's parts."""


@cache
def person(number: int) -> Person:
    """A synthetic person of 64 x 64 pixels with everything."""
    return make_person(PeopleConfig(size=SIZE, seed=31), number, dataset="people", split="train")


def joints_in_space(number: int) -> np.ndarray:
    """float64 [25, 3], meters in the camera's frame, in the order of Kinect's joints."""
    joints = np.asarray(person(number).joints3d, np.float64)
    return convert(np.column_stack([joints, np.ones(len(joints))]), "people-31", "kinect-25")[:, :3]


def write(root: Path, count: int, unit: str = "mm") -> None:
    """A folder of `count` people with people.jsonl."""
    lines = []
    for number in range(count):
        each = person(number)
        assert each.rgb is not None
        assert each.depth is not None
        assert each.parts is not None
        assert each.keypoints is not None
        folder = root / f"{number:03d}"
        folder.mkdir(parents=True)
        depth = codecs.decode_depth(each.depth, DEPTH_CODEC)
        (folder / "rgb.jpg").write_bytes(each.rgb)
        (folder / "depth.png").write_bytes(codecs.encode_depth((4 * depth).astype(np.uint16), "png16"))
        (folder / "parts.png").write_bytes(codecs.encode_labels(TO_LIP[codecs.decode_labels(each.parts)]))
        keypoints = convert(each.keypoints, "people-31", "coco-17").tolist()
        lines.append(
            {
                "id": f"{number:03d}",
                "rgb": f"{number:03d}/rgb.jpg",
                "depth": f"{number:03d}/depth.png",
                "depth_unit": "0.25mm",
                "parts": f"{number:03d}/parts.png",
                "camera": each.camera.tolist(),
                "box": each.box.tolist(),
                "keypoints": keypoints,
                "joints3d": (joints_in_space(number) * UNITS[unit]).round(4).tolist(),
            }
        )
    (root / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
