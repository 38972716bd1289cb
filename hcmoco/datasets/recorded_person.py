"""Turn one person of somebody's own recording into a record: depth in millimeters and registered, and the crop.

Shapes: H, W of the pictures.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hcmoco.data.depth_units import FURTHEST_MM, check_distance, default_unit, in_millimeters, rounded
from hcmoco.data.schema import Person
from hcmoco.data.transforms import extent
from hcmoco.datasets.cameras.camera_file import CAMERA_FILE, RecordedBy
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.person_crop import PersonImages, crop_person

_KEYPOINT_MARGIN = 0.1


class RecordedLine(Protocol):
    """What is said of the person; see folder.py."""

    @property
    def depth_unit(self) -> str | None: ...
    @property
    def camera(self) -> tuple[float, float, float, float] | None: ...
    @property
    def keypoints(self) -> Sequence | None: ...
    @property
    def box(self) -> tuple[float, float, float, float] | None: ...
    @property
    def subject(self) -> str: ...
    @property
    def split(self) -> str | None: ...


class RecordedConfig(Protocol):
    """The settings of the data set; see folder.py."""

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def depth_unit(self) -> str: ...
    @property
    def depth_codec(self) -> str: ...


class Recorded(Protocol):
    """One person, whose pictures are read by now."""

    @property
    def id(self) -> str: ...
    @property
    def line(self) -> RecordedLine: ...
    @property
    def config(self) -> RecordedConfig: ...
    @property
    def recorded_by(self) -> RecordedBy | None: ...


def make_person(
    item: Recorded,
    *,
    rgb: np.ndarray | None,
    stored: np.ndarray | None,
    parts: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Person:
    """Return the record of one person.

    Args:
        item: who it is, and what is known of the cameras.
        rgb: uint8 [H, W, 3], RGB.
        stored: the depth picture's numbers as they are stored; of its own size where it is to be registered.
        parts: uint8 [H, W], labels.
        mask: uint8 [H, W], above 0 on the person.

    Raises:
        ValueError: the pictures or the unit of depth cannot be right.
    """
    line = item.line
    depth, unit = (None, "") if stored is None else _depth(item, stored, rgb)
    if depth is not None and mask is not None and depth.shape == mask.shape:
        depth = np.where(mask > 0, depth, np.uint16(0))
    keypoints = None if line.keypoints is None else np.array(line.keypoints)
    camera = _camera(item, rgb)
    shown = rgb if rgb is not None else depth
    if camera is not None and shown is not None:
        _check_pixels(camera, shown.shape[1], shown.shape[0])
    box = find_box(mask, keypoints, depth, rgb) if line.box is None else np.array(line.box)
    if depth is not None:
        _check_distance(item, depth, unit, box, camera, shown=mask is not None or keypoints is not None)
    person = Person(
        id=item.id,
        dataset=item.config.name,
        split=line.split or item.config.split,
        size=item.config.size,
        subject=line.subject,
        camera=None if camera is None else np.array(camera),
        box=box,
        keypoints=keypoints,
    )
    depth = None if depth is None else rounded(depth, FURTHEST_MM)
    return crop_person(person, PersonImages(rgb=rgb, depth=depth, parts=parts, mask=mask), item.config.depth_codec)


def _depth(item: Recorded, stored: np.ndarray, rgb: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Depth [H, W] in millimeters, registered to `rgb` where there is one, and the unit of the file."""
    recorded_by = item.recorded_by or RecordedBy()
    unit = item.line.depth_unit or item.config.depth_unit or recorded_by.depth_unit or default_unit(stored)
    depth = in_millimeters(stored, unit)
    if rgb is None:
        return depth, unit
    if recorded_by.rig is not None:
        return register_depth(depth, recorded_by.rig), unit
    if recorded_by.registered is False:
        raise ValueError(
            f"{recorded_by.file} says that depth is not registered to RGB; give color, depth and depth_to_color in it"
        )
    if depth.shape != rgb.shape[:2]:
        raise ValueError(
            f"the pictures differ in size: rgb {rgb.shape[1]} x {rgb.shape[0]}, depth {depth.shape[1]} x "
            f"{depth.shape[0]}; register depth to RGB, or give the cameras in {CAMERA_FILE}"
        )
    return depth, unit


def _camera(item: Recorded, rgb: np.ndarray | None) -> tuple[float, ...] | None:
    """fx, fy, cx, cy of the picture that the record is cut from; None if they are not known."""
    if item.line.camera is not None:
        return item.line.camera
    by = item.recorded_by or RecordedBy()
    camera = by.color if rgb is not None or (by.depth is None and by.registered) else by.depth
    if camera is None:
        return None
    if rgb is not None and (camera.width, camera.height) != rgb.shape[1::-1]:
        raise ValueError(
            f"the picture is {rgb.shape[1]} x {rgb.shape[0]} pixels, its camera in {by.file} "
            f"{camera.width} x {camera.height}; give the camera of the pictures' own size"
        )
    return camera.record_camera


def _check_pixels(camera: tuple[float, ...], width: int, height: int) -> None:
    if not (0.1 < camera[0] / width < 10 and 0.1 < camera[1] / height < 10):
        raise ValueError(
            f"the camera's focal lengths {camera[0]:g} and {camera[1]:g} cannot be of a {width} x {height} picture; "
            "give the camera in pixels"
        )


def _check_distance(
    item: Recorded, depth: np.ndarray, unit: str, box: np.ndarray, camera: tuple[float, ...] | None, *, shown: bool
) -> None:
    """Refuse a person at an impossible distance; `shown`: a mask or joints tell how large the person is."""
    x0, y0, x1, y1 = np.clip(np.nan_to_num(box), 0, 1 << 15).astype(int)
    inside = depth[y0 : y1 + 1, x0 : x1 + 1]
    if not (inside > 0).any():
        return  # a box that is wrong, or a record without depth, has its own reason
    where = 'write "depth_unit": "{unit}" in its line' if item.line.depth_unit else "give --depth-unit {unit}"
    person = float(max(box[2] - box[0], box[3] - box[1])) if shown or item.line.box is not None else None
    focal = None if camera is None else float(max(camera[:2]))
    check_distance(inside, unit, where, size_px=person, focal_px=focal)


def find_box(
    mask: np.ndarray | None, keypoints: np.ndarray | None, depth: np.ndarray | None, rgb: np.ndarray | None
) -> np.ndarray:
    """Find the box of a person for whom no box is given.

    Args:
        mask: uint8 [H, W], above 0 on the person.
        keypoints: float [J, 3], x, y, visibility.
        depth: uint16 [H, W], millimeters, 0 = no reading.
        rgb: uint8 [H, W, 3].

    Returns:
        float [4], x0, y0, x1, y1, from the first argument that shows a person, else the whole picture.
    """
    if mask is not None and (box := extent(mask)) is not None:
        return box
    visible = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2))
    if len(visible) and np.ptp(visible, axis=0).max() > 0:
        low, high = visible.min(0), visible.max(0)
        margin = _KEYPOINT_MARGIN * (high - low).max()
        return np.concatenate([low - margin, high + margin])
    if depth is not None and (box := extent(depth)) is not None:
        return box
    height, width = next(image for image in (rgb, depth, mask) if image is not None).shape[:2]
    return np.array([0.0, 0.0, width, height])
