"""Find boxes and pictures that are of another convention than a reader takes them for, where that can be proved.

Each check raises ValueError with a sentence that says what is most probably meant; joints are looked at in
keypoint_convention.py. Coordinates are x, y in pixels with a pixel's center at +0.5; W and H are the picture's sides.
"""

from collections.abc import Sequence

import numpy as np

# Joints or pixels on the person from which on "all of them" proves something.
_ENOUGH = 3
# Share of the boxes of an annotation file that reach beyond their pictures.
_BEYOND = 0.25
# Values of a mask: more different ones are those of soft edges, higher ones those of a mask of 0 and 255.
_FEW, _LOW = 30, 30
# Share of the picture that is off the person in a mask that is upside down; the holes of a real one are smaller.
_HOLE = 0.02
# Gray pictures hold more than this, unless they are labels.
_DARKEST = 24


def inside(points_N2: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return bool [N]: which points lie in the picture."""
    points_N2 = np.asarray(points_N2, np.float64)
    return np.asarray(((points_N2 >= 0) & (points_N2 < (width, height))).all(1))


def corners_for_sizes(boxes: Sequence, sizes: Sequence, joints: Sequence[np.ndarray]) -> bool:
    """Return whether boxes that are taken for left, top, width, height are most probably x0, y0, x1, y1.

    Args:
        boxes: of N people, 4 numbers each.
        sizes: width and height of the picture of each.
        joints: [K, 2], x, y of the labeled joints of each.
    """
    if len(boxes) < _ENOUGH:
        return False
    (x, y, w, h), (width, height) = np.array(boxes, np.float64).T, np.array(sizes, np.float64).T
    beyond = (x + w > width + 1) | (y + h > height + 1)
    if beyond.mean() < _BEYOND or not ((w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)).all():
        return False
    return all(
        ((xy >= np.subtract(box[:2], 1)) & (xy <= np.add(box[2:], 1))).all()
        for box, xy in zip(boxes, joints, strict=True)
    )


def check_box(box_4: np.ndarray, width: int, height: int, on_person_N2: np.ndarray) -> None:
    """Refuse a box that is a share of the picture, or left, top, width and height.

    Args:
        box_4: taken for x0, y0, x1, y1.
        width, height: of the picture, pixels.
        on_person_N2: points that are on the person, such as visible joints; none proves nothing.
    """
    x0, y0, x1, y1 = np.asarray(box_4, np.float64).tolist()
    shown = [x0, y0, x1, y1]
    if max(map(abs, shown)) <= 1:
        raise ValueError(
            f"the box {shown} is of numbers up to 1, most probably shares of the picture; pixels are needed: multiply "
            f"x by {width} and y by {height}"
        )
    other = [x0, y0, x0 + x1, y0 + y1]
    if min(x1, y1) > 0 and (x1 <= x0 or y1 <= y0):
        raise ValueError(f"the box {shown} has no area; a box of left, top, width and height is written {other}")
    points = np.asarray(on_person_N2, np.float64).reshape(-1, 2)
    points = points[inside(points, width, height)]

    def holds(left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return ((points >= (left - 1, top - 1)) & (points <= (right + 1, bottom + 1))).all(1)

    if len(points) >= _ENOUGH and 2 * holds(*shown).sum() < len(points) and holds(*other).all():
        raise ValueError(
            f"the box {shown} leaves most of the person out; taken for left, top, width and height it holds all of "
            f"it: write {other}"
        )


def check_mask(mask_HW: np.ndarray) -> None:
    """Refuse a mask that is empty, holds labels or several people, or is inverted.

    Args:
        mask_HW: uint8, the file's values.
    """
    values = np.flatnonzero(np.bincount(mask_HW.ravel(), minlength=256))
    values = values[values > 0]
    if not len(values):
        raise ValueError("the mask is 0 everywhere; it must be above 0 on the person")
    if 1 < len(values) <= _FEW and values[-1] <= _LOW:
        raise ValueError(
            f"the mask holds the values {values[:8].tolist()}, most probably labels of body parts or of several "
            "people; save 0 and 255, one mask for each person"
        )
    off = mask_HW == 0
    border = np.concatenate([off[0], off[-1], off[:, 0], off[:, -1]])
    if not border.any() and off.mean() > _HOLE:
        raise ValueError(
            "the mask is above 0 all along the picture's edge and 0 inside; it is most probably inverted: "
            "0 is off the person"
        )


def check_on_mask(joints_N2: np.ndarray, mask_HW: np.ndarray) -> None:
    """Refuse a mask on which no visible joint of the person lies.

    Args:
        joints_N2: x, y of visible joints; few prove nothing.
        mask_HW: uint8, above 0 on the person.
    """
    height, width = mask_HW.shape
    joints = np.asarray(joints_N2, np.float64).reshape(-1, 2)
    joints = joints[inside(joints, width, height)].astype(int)
    if len(joints) >= _ENOUGH and not mask_HW[joints[:, 1], joints[:, 0]].any():
        raise ValueError(
            f"none of the {len(joints)} visible keypoints lies on the mask; it is inverted, or of another picture or "
            "person"
        )


def check_rgb(rgb_HW3: np.ndarray, channels: int) -> None:
    """Refuse labels or a mask of 0 and 1 that are named as the RGB picture.

    Args:
        rgb_HW3: uint8, the decoded picture.
        channels: of its file.
    """
    if channels == 1 and (highest := int(rgb_HW3.max())) <= _DARKEST:
        raise ValueError(
            f"the RGB picture is gray and no pixel is above {highest} of 255; it is most probably labels or a mask: "
            "name it as parts or mask"
        )
