"""3D joints of one's own people: meters in the camera's frame, or a refusal with what was probably meant.

The frame is that of the camera of the person's picture: x to the right, y down, z forward, its origin in the camera, as
OpenCV and Azure Kinect have it. Other programs let y point up (Kinect for Windows, OpenGL), z backward (OpenGL) or x to
the left, or give joints relative to the pelvis; nothing in the numbers says so. What can be seen is checked: joints
lie in front of the camera, a body has a body's size, and joints project onto the person whom the picture shows.

Shapes: J joints, K those that are annotated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hcmoco.data.pinhole import project
from hcmoco.data.skeletons import convert
from hcmoco.datasets.conventions import inside

JointUnit = Literal["mm", "cm", "m"]
_METERS: dict[str, float] = {"mm": 0.001, "cm": 0.01, "m": 1.0}
_NEAREST_M, _FURTHEST_M = 0.2, 20.0
_SMALLEST_M, _LARGEST_M = 0.3, 3.0  # longest side of the box around a body's joints
_BEHIND_M = 0.5  # joints lie inside a body, whose surface depth shows
_ON_SURFACE_M = 0.4
_ENOUGH = 4  # joints from which on "most of them" proves something
_MARGIN = 0.25  # of the longer side of the person's box: how far joints may lie beyond it
_NEAR = 0.15  # of it: how far a joint in space may project from the same joint in the picture
# Factors of x, y, z -> what is then written.
_FLIPS = {
    (1, -1, 1): "y points up: multiply y by -1",
    (-1, 1, 1): "x points to the left: multiply x by -1",
    (-1, -1, 1): "x points to the left and y up: multiply both by -1",
}


@dataclass(frozen=True)
class Seen:
    """What a picture shows of the person whose 3D joints are checked.

    Attributes:
        camera: fx, fy, cx, cy, pixels.
        box: [4], x0, y0, x1, y1, pixels.
        keypoints: float [J2, 3], x, y, visibility, in `joint_set`; None if there are none.
        joint_set: of the keypoints.
        depth: [H, W], millimeters, 0 = no reading; None if there is none.
        person: bool [H, W], where the person is; None if nobody says.
    """

    camera: Sequence[float]
    box: np.ndarray
    keypoints: np.ndarray | None = None
    joint_set: str = ""
    depth: np.ndarray | None = None
    person: np.ndarray | None = None


def place_joints_3d(
    joints: Sequence[Sequence[float] | None], unit: JointUnit, joint_set_3d: str, seen: Seen
) -> np.ndarray | None:
    """Return the joints as records have them.

    Args:
        joints: x, y, z of each joint in `unit`; None or 0, 0, 0 for one that is not annotated.
        unit: of the numbers.
        joint_set_3d: name of their joint set.
        seen: the person's picture.

    Returns:
        float32 [J, 3], meters, 0 where not annotated; None if no joint is.

    Raises:
        ValueError: they cannot be joints of this person in the frame of this camera.
    """
    stored_J3 = np.array([(0.0, 0.0, 0.0) if joint is None else tuple(joint) for joint in joints], np.float64)
    known_J = (stored_J3 != 0).any(1)
    if not known_J.any():
        return None
    _check_in_front(stored_J3[known_J])
    _check_size(stored_J3[known_J], unit)
    joints_J3 = stored_J3 * _METERS[unit]
    _check_axes(joints_J3, known_J, joint_set_3d, seen)
    if seen.depth is not None:
        _check_depth(joints_J3[known_J], seen.depth, seen.camera)
    return joints_J3.astype(np.float32)


def _check_in_front(stored_K3: np.ndarray) -> None:
    z_K = stored_K3[:, 2]
    if (z_K > 0).all():
        return
    if (z_K < 0).all():
        raise ValueError(
            "joints3d: all z are negative; z points forward here: multiply z by -1, and y too if it points up (as in "
            "OpenGL)"
        )
    raise ValueError(
        f"joints3d: z goes from {z_K.min():g} to {z_K.max():g}, so there are joints behind the camera; most probably "
        "they are relative to one of the joints: add that joint's place in the camera's frame"
    )


def _check_size(stored_K3: np.ndarray, unit: JointUnit) -> None:
    distance = float(np.median(stored_K3[:, 2]))
    extent = float(np.ptp(stored_K3, axis=0).max()) if len(stored_K3) >= _ENOUGH else None

    def possible(meters: float) -> bool:
        sized = extent is None or _SMALLEST_M <= extent * meters <= _LARGEST_M
        return sized and _NEAREST_M <= distance * meters <= _FURTHEST_M

    if possible(_METERS[unit]):
        return
    own = _METERS[unit]
    size = "" if extent is None else f" and reach over {extent * own:.3g} m"
    meant = next((name for name, meters in _METERS.items() if possible(meters)), None)
    raise ValueError(
        f"joints3d: in {unit} the joints are {distance * own:.3g} m away{size}, which is no person; "
        + (f"give --joint-unit-3d {meant}" if meant else "no unit explains it: look at what wrote them")
    )


def _check_axes(joints_J3: np.ndarray, known_J: np.ndarray, joint_set_3d: str, seen: Seen) -> None:
    """Refuse joints that fit the picture with another direction of an axis, or not at all."""
    if known_J.sum() < _ENOUGH:
        return
    own = _fit(joints_J3, known_J, joint_set_3d, seen)
    others = {told: _fit(joints_J3 * factors, known_J, joint_set_3d, seen) for factors, told in _FLIPS.items()}
    told, best = max(others.items(), key=lambda each: each[1])
    if best >= 0.75 and best >= own + 0.25:
        raise ValueError(f"joints3d do not fit the picture; most probably {told}")
    if own < 0.25:
        raise ValueError(
            "joints3d project beside the person; they are of another camera's frame or another person, or the camera "
            "is not that of the picture"
        )


def _fit(joints_J3: np.ndarray, known_J: np.ndarray, joint_set_3d: str, seen: Seen) -> float:
    """Share of the joints that lie where the picture shows them, by the strictest sign that there is."""
    xy_J2 = np.zeros((len(joints_J3), 2))
    xy_J2[known_J] = project(joints_J3[known_J], np.asarray(seen.camera))
    side = float(max(seen.box[2] - seen.box[0], seen.box[3] - seen.box[1]))
    if seen.keypoints is not None:
        shown_J3 = convert(seen.keypoints, seen.joint_set, joint_set_3d)
        both_J = known_J & (shown_J3[:, 2] > 0)
        if both_J.sum() >= _ENOUGH:
            apart = np.linalg.norm(xy_J2[both_J] - shown_J3[both_J, :2], axis=1)
            return float((apart <= _NEAR * side).mean())
    low, high = seen.box[:2] - _MARGIN * side, seen.box[2:] + _MARGIN * side
    fits_K = ((xy_J2[known_J] >= low) & (xy_J2[known_J] <= high)).all(1)
    image = seen.depth if seen.depth is not None else seen.person
    if image is None:
        return float(fits_K.mean())
    height, width = image.shape
    within_K = inside(xy_J2[known_J], width, height)
    if within_K.sum() < _ENOUGH:
        return float(fits_K.mean())
    x, y = xy_J2[known_J][within_K].astype(int).T
    on_K = np.ones(len(x), bool) if seen.person is None else seen.person[y, x]
    if seen.depth is not None:
        readings = seen.depth[y, x] / 1000
        away = joints_J3[known_J][within_K][:, 2]
        on_K &= (readings > 0) & (np.abs(readings - np.median(readings - away) - away) < _ON_SURFACE_M)
    return float(on_K.mean())


def _check_depth(joints_K3: np.ndarray, depth_HW: np.ndarray, camera: Sequence[float]) -> None:
    """Refuse joints that lie elsewhere along the view than the surface that depth shows."""
    xy_K2 = project(joints_K3, np.asarray(camera))
    within_K = inside(xy_K2, depth_HW.shape[1], depth_HW.shape[0])
    x, y = xy_K2[within_K].astype(int).T
    readings = depth_HW[y, x] / 1000
    behind = (joints_K3[within_K, 2] - readings)[readings > 0]
    if len(behind) >= _ENOUGH and abs(middle := float(np.median(behind))) > _BEHIND_M:
        raise ValueError(
            f"joints3d lie {abs(middle):.2g} m {'behind' if middle > 0 else 'before'} what depth shows there; "
            "they are of another camera's frame, or --joint-unit-3d or the unit of depth is another one"
        )
