"""A picture of poses for people to look at: depth, the true skeleton, the predicted one, and both from the side.

Shape suffixes: J joints, H and W of a depth image, T side of a tile in pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hcmoco.data.skeletons import JointSet
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.pose.camera import project

_GAP = 6
_HEADER = 26
_TITLES = ("depth", "truth", "prediction", "from the side, truth grey")
_GROUND = (18, 20, 26)
_CENTRE, _LEFT, _RIGHT, _GREY = (245, 245, 245), (70, 200, 255), (255, 150, 60), (130, 134, 142)
_SPAN = 2.4  # metres across the view from the side
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def pose_sheet(
    depths: Sequence[np.ndarray],
    cameras: Sequence[np.ndarray],
    truths: Sequence[tuple[np.ndarray, np.ndarray]],
    predictions: Sequence[Prediction],
    joints: JointSet,
    tile: int = 224,
) -> np.ndarray:
    """uint8 [H, W, 3], RGB: one line for each person.

    The person's left is blue, their right orange, the middle white; near depth is red, far blue, no reading black. Sets without a skeleton
    show points. The number beside a prediction is its mean error.

    Args:
        depths: uint16 [H, W], millimetres.
        cameras: float [4], fx, fy, cx, cy.
        truths: [J, 3] metres, and bool [J]: which of them are annotated.
        predictions: with `joints3d`, of the same joints.
    """
    lines = [np.concatenate([_header(title, tile) for title in _TITLES], 1)]
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
            draw_skeleton(side, _from_the_side(truth_J3, middle_3, tile), annotated_J, joints, _GREY)
            draw_skeleton(side, _from_the_side(predicted_J3, middle_3, tile), drawn_J, joints)
        if annotated_J.any():
            error = 100 * np.linalg.norm(predicted_J3 - truth_J3, axis=1)[annotated_J].mean()
            _write(predicted, f"{error:.1f} cm", 8, tile - 10)
        else:
            _write(true, "no labels", 8, tile - 10)
        lines.append(
            np.concatenate(
                [np.pad(each, ((0, _GAP), (0, _GAP), (0, 0))) for each in (picture, true, predicted, side)], 1
            )
        )
    return np.concatenate(lines)


def _header(title: str, tile: int) -> np.ndarray:
    header = np.zeros((_HEADER, tile + _GAP, 3), np.uint8)
    _write(header, title, 4, 18)
    return header


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (235, 235, 235), 1, cv2.LINE_AA)


def depth_colors(depth_HW: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], RGB: near is red, far blue, no reading dark."""
    there_HW = depth_HW > 0
    colors = np.full((*depth_HW.shape, 3), _GROUND, np.uint8)
    if there_HW.any():
        low, high = np.percentile(depth_HW[there_HW], (1, 99))
        near_HW = np.clip(1 - (depth_HW.astype(np.float64) - low) / max(high - low, 1), 0, 1)
        turbo = cv2.cvtColor(
            cv2.applyColorMap((30 + 215 * near_HW).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB
        )
        colors[there_HW] = turbo[there_HW]
    return colors


def side_view(joints_J3: np.ndarray, drawn_J: np.ndarray, joints: JointSet, tile: int) -> np.ndarray:
    """uint8 [T, T, 3], RGB: one skeleton (metres) as it looks from the camera's left, over lines every half metre."""
    side = _side_ground(tile)
    if drawn_J.any():
        middle_3 = (joints_J3[drawn_J].min(0) + joints_J3[drawn_J].max(0)) / 2
        draw_skeleton(side, _from_the_side(joints_J3, middle_3, tile), drawn_J, joints)
    return side


def _safe_project(joints_J3: np.ndarray, drawn_J: np.ndarray, camera_4: np.ndarray) -> np.ndarray:
    return project(np.where(drawn_J[:, None], joints_J3, np.array([0.0, 0.0, 1.0])), camera_4)


def _from_the_side(joints_J3: np.ndarray, middle_3: np.ndarray, tile: int) -> np.ndarray:
    """[J, 2]: the camera is far to the left of the picture, so that near is left and down stays down."""
    return (joints_J3[:, [2, 1]] - middle_3[[2, 1]]) * (tile / _SPAN) + tile / 2


def _side_ground(tile: int) -> np.ndarray:
    """A ground with a line every half metre."""
    ground = np.full((tile, tile, 3), _GROUND, np.uint8)
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
    """Draws the joints, at x, y in pixels of the uint8 RGB picture, for which `drawn_J` holds, and the bones between them."""
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
    return _LEFT if joint.startswith("left_") else _RIGHT if joint.startswith("right_") else _CENTRE
