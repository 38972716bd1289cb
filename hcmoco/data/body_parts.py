"""The 25 classes of human parsing: Human3.6M's part map, which NTURGBD-Parsing-4K uses too.

Label maps hold train ids, 0..24, in the order of the published table; annotation files hold Human3.6M's raw ids. Left is the person's.
"""

import numpy as np

from hcmoco.data.transforms import extent

PART_NAMES = (
    "background",
    "right hip", "right knee", "right foot", "left hip", "left knee", "left foot",
    "left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand",
    "crotch", "right thigh", "right calf", "left thigh", "left calf",
    "lower spine", "upper spine", "head",
    "left arm", "left forearm", "right arm", "right forearm",
)  # fmt: skip

# raw Human3.6M id of each train id
RAW_IDS = (0, 1, 2, 3, 6, 7, 8, 17, 18, 19, 25, 26, 27, 32, 33, 34, 38, 39, 43, 44, 46, 49, 50, 56, 58)

# pixels of this value are left out of losses and metrics
IGNORE = 255


_NONE = 254
_TRAIN_IDS = np.full(256, _NONE, np.uint8)
_TRAIN_IDS[list(RAW_IDS)] = range(len(RAW_IDS))
_TRAIN_IDS[IGNORE] = IGNORE


def train_ids(raw: np.ndarray) -> np.ndarray:
    """uint8, of the shape of `raw`: the train ids of Human3.6M's raw ids (uint8); IGNORE stays.

    Raises ValueError that names the ids that the published table does not list: they are other parts, or no parts, and stay nobody's.
    """
    ids = _TRAIN_IDS[raw]
    if (ids == _NONE).any():
        raise ValueError(
            f"there are raw part ids {np.unique(raw[ids == _NONE])[:5].tolist()}, which Human3.6M's part table does not list"
        )
    return ids


def labeled_box(parts_HW: np.ndarray) -> np.ndarray | None:
    """float64 [4], x0, y0, x1, y1 around all pixels of people in a map of train ids; None without any."""
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
    """Train id of a part; ValueError if there is none of that name."""
    return PART_NAMES.index(name)
