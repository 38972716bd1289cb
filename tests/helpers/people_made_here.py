"""Small records in the real formats, made from a seed."""

import numpy as np

from hcmoco.data.codecs import encode_depth, encode_rgb
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.rng import make_rng

ABOUT = About(
    dataset="made", joints="mpii-16", depth_codec="png16", size=32, license="CC0-1.0", made_by=MadeBy(program="tests")
)


def make_persons(count: int, *, joints: int = 16, dataset: str = "made", seed: int = 0) -> list[Person]:
    """`count` records of 32 pixels; every third has no depth, every fourth no RGB, every fifth no keypoints."""
    persons = []
    for k in range(count):
        rng = make_rng(seed, "made", k)
        keypoints = np.column_stack([rng.uniform(0, 32, (joints, 2)), rng.integers(0, 2, joints)]).astype(np.float32)
        persons.append(
            Person(
                id=f"{dataset}/{k:05d}",
                dataset=dataset,
                split="train" if k % 10 else "val",
                size=32,
                rgb=encode_rgb(rng.integers(0, 256, (32, 32, 3), np.uint8)) if k % 4 != 3 else None,
                depth=encode_depth(rng.integers(500, 4000, (32, 32), np.uint16), "png16") if k % 3 != 2 else None,
                camera=np.float32([365, 365, 16, 16]),
                box=np.float32([4, 4, 28, 28]),
                keypoints=keypoints if k % 5 != 4 else None,
            )
        )
    return persons
