"""The 25 classes of human parsing: Human3.6M's part map, which NTURGBD-Parsing-4K uses too.

Label maps hold train ids, 0..24, in the order of the published table; annotation files hold Human3.6M's raw ids. Left
is the person's.
"""

import numpy as np

from hcmoco.data.codecs import decode_labels
from hcmoco.data.transforms import extent

PART_NAMES = (
    "background",
    "right hip", "right knee", "right foot", "left hip", "left knee", "left foot",
    "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand",
    "crotch", "right thigh", "right calf", "left thigh", "left calf",
    "lower spine", "upper spine", "head",
    "left arm", "left forearm", "right arm", "right forearm",
)  # fmt: skip

NUM_PARTS = len(PART_NAMES)
"""Classes of a part map, background included: 25."""

# raw Human3.6M id of each train id
RAW_IDS = (0, 1, 2, 3, 6, 7, 8, 17, 18, 19, 25, 26, 27, 32, 33, 34, 38, 39, 43, 44, 46, 49, 50, 56, 58)

IGNORE = 255
"""Pixels of this value are excluded from losses and metrics."""


NUM_CHARTS = 24
"""Charts of DensePose's surface, counted from 1; 0 is background (Güler et al., CVPR 2018)."""

_NONE = 254
_TRAIN_IDS = np.full(256, _NONE, np.uint8)
_TRAIN_IDS[list(RAW_IDS)] = range(len(RAW_IDS))
_TRAIN_IDS[IGNORE] = IGNORE


def train_ids(raw: np.ndarray) -> np.ndarray:
    """Map Human3.6M's raw part ids to train ids.

    Args:
        raw: uint8 of any shape; IGNORE stays.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: names the ids that the published table does not list.
    """
    ids = _TRAIN_IDS[raw]
    if (ids == _NONE).any():
        raise ValueError(
            f"there are raw part ids {np.unique(raw[ids == _NONE])[:5].tolist()}, "
            "which Human3.6M's part table does not list"
        )
    return ids


def check_parts(labels: np.ndarray, num_parts: int = NUM_PARTS) -> None:
    """Raise ValueError if a map holds values that are neither 0..`num_parts` - 1 nor IGNORE."""
    wrong = np.unique(labels[(labels >= num_parts) & (labels != IGNORE)])
    if len(wrong):
        raise ValueError(f"there are labels {wrong[:5].tolist()}; allowed are 0..{num_parts - 1} and {IGNORE}")


def decode_parts(data: bytes, size: int, num_parts: int = NUM_PARTS) -> np.ndarray:
    """Decode a stored part map.

    Args:
        data: 8-bit PNG bytes, `Person.parts`.
        size: side that the map must have, pixels.
        num_parts: classes of the label map, background included.

    Returns:
        uint8 [size, size], numbers of the label map and IGNORE.

    Raises:
        ValueError: bytes that do not decode, another size, or other labels.
    """
    labels = decode_labels(data, size)
    check_parts(labels, num_parts)
    return labels


def labeled_box(parts_HW: np.ndarray) -> np.ndarray | None:
    """Find the box around all pixels of people in a map of train ids.

    Returns:
        float64 [4], x0, y0, x1, y1, outer edges of pixels; None where no person is labeled.
    """
    return extent((parts_HW > 0) & (parts_HW != IGNORE))


_OTHER = {"left": "right", "right": "left"}


def _mirror(name: str) -> str:
    side, _, part = name.partition(" ")
    return f"{_OTHER[side]} {part}" if side in _OTHER else name


# uint8 [25]: the train id that each train id becomes in a mirror image; its own inverse
FLIP = np.array([PART_NAMES.index(_mirror(name)) for name in PART_NAMES], np.uint8)
FLIP.setflags(write=False)

# train ids that a mirror image exchanges, smaller first
LEFT_RIGHT_PAIRS = tuple((int(a), int(b)) for a, b in enumerate(FLIP) if a < b)


def part(name: str) -> int:
    """Return the train id of a part; raise ValueError for an unknown name."""
    return PART_NAMES.index(name)
