"""The skeleton encoder's input as the published code computes it, for `model.polluted_keypoints`.

Shapes: J joints; a 2 is row and column, a 3 is x, y and visibility.
"""

import numpy as np

from hcmoco.data.skeletons import COCO_17, MPII_16, convert

ROOT = 6
"""The published code takes the joint at this position as the root, whatever joint it is."""

# Where the annotation files put a joint that is not annotated, along x and y in pixels of the whole picture (a pixel's
# center is at +0.5): MPII's has (-1, -1) and counts pixels from 1, COCO's has (0, 0) and counts from 0.
_NOT_ANNOTATED = {MPII_16.name: -1.5, COCO_17.name: 0.5}


def released_keypoints(
    keypoints_J3: np.ndarray, crop: np.ndarray | None, size: int, source: str, target: str
) -> np.ndarray:
    """Return root-relative, scaled (row, column) of a record's joints, computed before the augmentation.

    Joint 6 is the origin, and the largest absolute coordinate of all joints is 1. Joints that are not annotated count
    for both, at the place that their file gives them. COCO's skeletons are normalized over their 17 joints (root: the
    right shoulder) and then converted; all others are converted first. Source: the published data loaders.

    Records do not keep two facts. A joint that is annotated outside the stored square or its picture counts as not
    annotated. And
    where the source has no such place (Kinect, synthetic people) or `crop` is None, invisible joints do not count for
    the scale, and the mean of the visible joints replaces an invisible root.

    Args:
        keypoints_J3: float32 [J, 3], the record's, in pixels of the stored image; visibility 0 or 1.
        crop: float32 [5], x0, y0, side, width, height of the stored image in its picture, or None.
        size: side of the stored image, pixels.
        source: name of the record's joint set.
        target: name of the result's joint set.

    Returns:
        float32 [J of target, 2]. The caller sets joints to 0 that are not visible in its crop.
    """
    position_J2, known_J = keypoints_J3[:, :2].astype(np.float64), keypoints_J3[:, 2] > 0
    if source in _NOT_ANNOTATED and crop is not None:
        x0, y0, side = (float(value) for value in crop[:3])
        nowhere_2 = (_NOT_ANNOTATED[source] - np.array([x0, y0])) * size / side
        position_J2, known_J = np.where(known_J[:, None], position_J2, nowhere_2), np.ones_like(known_J)
    joints_J3 = np.column_stack([position_J2[:, ::-1], known_J])
    if source == COCO_17.name:
        return convert(_normalized(joints_J3), source, target)[:, :2].astype(np.float32)
    return _normalized(convert(joints_J3, source, target))[:, :2].astype(np.float32)


def _normalized(joints_J3: np.ndarray) -> np.ndarray:
    """(row, column, whether it counts): joint ROOT at 0, the largest coordinate of what counts at 1."""
    counts_J = joints_J3[:, 2] > 0
    if not counts_J.any():
        return np.zeros_like(joints_J3)
    root_2 = joints_J3[ROOT, :2] if counts_J[ROOT] else joints_J3[counts_J, :2].mean(0)
    offset_J2 = joints_J3[:, :2] - root_2
    return np.column_stack([offset_J2 / max(np.abs(offset_J2[counts_J]).max(), 1e-6), counts_J])
