"""Rows of persons whose RGB and depth tell their parts exactly, made from a seed."""

import cv2
import numpy as np

from hcmoco.data.body_parts import PART_NAMES
from hcmoco.data.codecs import encode_depth, encode_labels
from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.rng import make_rng

ABOUT = About(dataset="made", joints="mpii-16", depth_codec="png16", size=64, made_by=MadeBy(program="tests"))
NEAR = 1000  # depth of part k is NEAR + k, RGB is 10 * k


def block_labels(size: int, seed: int, blocks: int = 8) -> np.ndarray:
    """uint8 [size, size]: squares of random parts."""
    small = make_rng(seed, "blocks").integers(0, len(PART_NAMES), (blocks, blocks)).astype(np.uint8)
    return np.kron(small, np.ones((size // blocks, size // blocks), np.uint8))


def rgb_of(labels: np.ndarray) -> np.ndarray:
    return np.repeat(10 * labels[..., None], 3, axis=2)


def depth_of(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint16) + NEAR


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def make_rows(count: int, size: int = 64) -> list[dict]:
    """`count` rows with RGB, depth and parts of the same blocks."""
    rows = []
    for number in range(count):
        labels = block_labels(size, number)
        rows.append(
            {
                "id": f"made/{number}",
                "size": size,
                "rgb": png(rgb_of(labels)),
                "depth": encode_depth(depth_of(labels), "png16"),
                "parts": encode_labels(labels),
            }
        )
    return rows
