"""MPII's download as HRNet's code base lays it out, written from synthetic people: `annot/train.json` and `images/`.

Coordinates count from 1, `scale` is the person's height / 200, and a joint that is not annotated is at (-1, -1) with joints_vis 0.
"""

import json
from pathlib import Path

import numpy as np

from hcmoco.data.schema import Person
from hcmoco.data.skeletons import MPII_16, convert
from tests.helpers.coco_files import person


def entry(person: Person, image: str) -> dict:
    """The person's line of the annotation file."""
    joints = convert(person.keypoints, "people-31", MPII_16.name)
    seen = joints[:, 2] > 0
    x0, y0, x1, y1 = person.box.tolist()
    return {
        "joints_vis": seen.astype(int).tolist(),
        "joints": np.where(seen[:, None], joints[:, :2] + 0.5, -1.0).astype(float).tolist(),
        "image": image,
        "scale": (y1 - y0) / 200,
        "center": [(x0 + x1) / 2 + 0.5, (y0 + y1) / 2 + 0.5],
    }


def write_mpii(root: Path, count: int = 3, size: int = 96) -> list[Person]:
    """`count` photographs of `size` pixels with a person each, the last under a name with spaces and letters beyond ASCII.

    Returns the people.
    """
    (root / "images").mkdir(parents=True)
    (root / "annot").mkdir()
    people = [person(number, size) for number in range(count)]
    names = [*(f"{15601864 + number:09d}.jpg" for number in range(count - 1)), "größe und 日本.jpg"]
    for each, name in zip(people, names, strict=True):
        (root / "images" / name).write_bytes(each.rgb)
    (root / "annot" / "train.json").write_text(json.dumps([entry(*each) for each in zip(people, names, strict=True)]))
    return people
