"""Draw poses: the depth, the true skeleton, the predicted one, and both from the side.

Shape suffixes: J joints, H and W of a depth image, T side of a tile in pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hcmoco.data.joint_set import JointSet
from hcmoco.data.pinhole import project
from hcmoco.tasks.base import Prediction
from hcmoco.visualization.sheet import GROUND, depth_colors, header, turbo, write_text

_GAP = 6
_HEADER = 26
_TEXT = 0.48
_TITLES = ("depth", "truth", "prediction", "from the side, truth gray")
_MIDDLE, _LEFT, _RIGHT, _GRAY = (245, 245, 245), (70, 200, 255), (255, 150, 60), (130, 134, 142)
_NEAR, _FAR = (tuple(turbo(np.array([level], np.uint8))[0].tolist()) for level in (245, 30))  # of `depth_colors`
_SPAN = 2.4  # meters across the view from the side
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def pose_sheet(
    depths: Sequence[np.ndarray],
    cameras: Sequence[np.ndarray],
    truths: Sequence[tuple[np.ndarray, np.ndarray]],
    predictions: Sequence[Prediction],
    joints: JointSet,
    tile: int = 224,
) -> np.ndarray:
    """Draw a line per person.

    The person's left is blue, their right orange, the middle white. Near depth is red, far depth blue. Joint sets
    without a skeleton show points. The number beside a prediction is its mean error.

    Args:
        depths: uint16 [H, W], millimeters.
        cameras: float [4]: fx, fy, cx, cy, pixels.
        truths: [J, 3], meters, and bool [J]: which of them are annotated.
        predictions: with `joints3d`, of the same joints.
        joints: names, and the bones between them.
        tile: side of a tile, pixels.
    Returns:
        uint8 [H, W, 3], RGB.
    """
    lines = [header(_TITLES, tile + _GAP, height=_HEADER, scale=_TEXT)]
    for depth_HW, camera_4, (truth_J3, annotated_J), prediction in zip(
        depths, cameras, truths, predictions, strict=True
    ):
        predicted_J3 = np.asarray(prediction["joints3d"], np.float64)
        drawn_J = np.isfinite(predicted_J3).all(1) & (predicted_J3[:, 2] > 0)
        colors = depth_colors(depth_HW)
        picture = cv2.resize(colors, (tile, tile), interpolation=cv2.INTER_NEAREST)
        dim = (picture * 0.45).astype(np.uint8)
        zoom = tile / depth_HW.shape[0]

        true, predicted, side = dim.copy(), dim.copy(), _side_ground(tile)
        draw_skeleton(true, zoom * _safe_project(truth_J3, annotated_J, camera_4), annotated_J, joints)
        draw_skeleton(predicted, zoom * _safe_project(predicted_J3, drawn_J, camera_4), drawn_J, joints)
        known_K3 = truth_J3[annotated_J] if annotated_J.any() else predicted_J3[drawn_J]
        if len(known_K3):
            middle_3 = (known_K3.min(0) + known_K3.max(0)) / 2
            draw_skeleton(side, _from_the_side(truth_J3, middle_3, tile), annotated_J, joints, _GRAY)
            draw_skeleton(side, _from_the_side(predicted_J3, middle_3, tile), drawn_J, joints)
        if annotated_J.any():
            error = 100 * np.linalg.norm(predicted_J3 - truth_J3, axis=1)[annotated_J].mean()
            write_text(predicted, f"{error:.1f} cm", 8, tile - 10, scale=_TEXT)
        else:
            write_text(true, "no labels", 8, tile - 10, scale=_TEXT)
        tiles = (picture, true, predicted, side)
        lines.append(np.concatenate([np.pad(image, ((0, _GAP), (0, _GAP), (0, 0))) for image in tiles], 1))
    return np.concatenate(lines)


def side_view(joints_J3: np.ndarray, drawn_J: np.ndarray, joints: JointSet, tile: int) -> np.ndarray:
    """Draw a skeleton as it looks from the camera's left, over lines every half meter.

    Args:
        joints_J3: meters, in the camera's frame.
        drawn_J: bool: which joints are drawn.
        joints: names, and the bones between them.
        tile: side of the image, pixels.
    Returns:
        uint8 [T, T, 3], RGB.
    """
    side = _side_ground(tile)
    if drawn_J.any():
        middle_3 = (joints_J3[drawn_J].min(0) + joints_J3[drawn_J].max(0)) / 2
        draw_skeleton(side, _from_the_side(joints_J3, middle_3, tile), drawn_J, joints)
    return side


def side_legend(width: int) -> np.ndarray:
    """Return uint8 [H, width, 3]: which color is which side of the person, and what near and far depth look like."""
    image = np.zeros((28, width, 3), np.uint8)
    x = 6
    for name, color in (("left", _LEFT), ("right", _RIGHT), ("middle", _MIDDLE), ("near", _NEAR), ("far", _FAR)):
        image[8:20, x : x + 12] = color
        write_text(image, name, x + 18, 19)
        x += 92
    return image


def _safe_project(joints_J3: np.ndarray, drawn_J: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    return project(np.where(drawn_J[:, None], joints_J3, np.array([0.0, 0.0, 1.0])), camera_4)


def _from_the_side(joints_J3: np.ndarray, middle_3: np.ndarray, tile: int) -> np.ndarray:
    """[J, 2], pixels: seen from far to the left, so that near is left and down stays down."""
    return (joints_J3[:, [2, 1]] - middle_3[[2, 1]]) * (tile / _SPAN) + tile / 2


def _side_ground(tile: int) -> np.ndarray:
    """uint8 [T, T, 3]: a ground with a line every half meter."""
    ground = np.full((tile, tile, 3), GROUND, np.uint8)
    for line in np.arange(tile / 2 % (tile / _SPAN / 2), tile, tile / _SPAN / 2).astype(int):
        ground[line] = ground[:, line] = (38, 41, 50)
    return ground


def draw_skeleton(
    picture: np.ndarray,
    xy_J2: np.ndarray,
    drawn_J: np.ndarray,
    joints: JointSet,
    color: tuple[int, int, int] | None = None,
) -> None:
    """Draw joints, and the bones between them.

    Args:
        picture: uint8 [H, W, 3], RGB; changed in place.
        xy_J2: pixels of the picture; joints outside it, or not finite, are allowed.
        drawn_J: bool: which joints are drawn.
        joints: names, and the bones between them.
        color: of all joints and bones; None: by side, see `pose_sheet`.
    """
    width = max(1, round(len(picture) / 90))
    # Joints that are far outside the picture stay far outside, within what OpenCV's integers hold.
    places = np.round(np.clip(np.nan_to_num(xy_J2), -2000, 4000) * 2**_SHIFT).astype(int)
    for a, b in joints.edge_indices:
        if drawn_J[a] and drawn_J[b]:
            bone = color or _color(
                joints.joints[a] if joints.joints[a].startswith(("left_", "right_")) else joints.joints[b]
            )
            cv2.line(picture, tuple(places[a].tolist()), tuple(places[b].tolist()), bone, width, cv2.LINE_AA, _SHIFT)
    for name, place, drawn in zip(joints.joints, places, drawn_J, strict=True):
        if drawn:
            cv2.circle(
                picture,
                tuple(place.tolist()),
                round(1.1 * width * 2**_SHIFT),
                color or _color(name),
                -1,
                cv2.LINE_AA,
                _SHIFT,
            )


def _color(joint: str) -> tuple[int, int, int]:
    return _LEFT if joint.startswith("left_") else _RIGHT if joint.startswith("right_") else _MIDDLE
