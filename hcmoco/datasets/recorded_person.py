"""Turn one person of somebody's own recording into a record: depth in millimeters and registered, and the crop.

Shapes: H, W of the pictures.
"""

import numpy as np

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.depth_masking import MASKED, shows_background
from hcmoco.data.depth_units import FURTHEST_MM, check_distance, default_unit, in_millimeters, rounded, shortest_m
from hcmoco.data.schema import Person
from hcmoco.datasets.cameras.camera_file import CAMERA_FILE, RecordedBy
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.conventions import check_box, check_on_mask
from hcmoco.datasets.joints_3d import Seen, place_joints_3d
from hcmoco.datasets.person_crop import PersonImages, crop_person
from hcmoco.datasets.person_files import PersonPictures, find_box
from hcmoco.datasets.person_lines import FolderItem, place_keypoints
from hcmoco.datasets.segmentation import Background, MaskRcnn
from hcmoco.datasets.segmentation.background import near_box


def make_person(item: FolderItem, pictures: PersonPictures) -> Person:
    """Return the record of one person.

    Args:
        item: who it is, and what is known of the cameras.
        pictures: of the person.

    Raises:
        ValueError: the pictures, the joints, the box or the unit of depth cannot be right.
    """
    line, rgb, mask = item.line, pictures.rgb, pictures.mask
    segmenter = None if mask is not None else item.segmenter
    background = segmenter if isinstance(segmenter, Background) else None
    depth, unit = (None, "") if pictures.stored_depth is None else _depth(item, pictures.stored_depth, rgb, background)
    width, height = PersonImages(rgb=rgb, depth=depth, parts=pictures.parts, mask=mask).width_height
    keypoints = place_keypoints(line, item.config, (width, height))
    seen = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2))
    if isinstance(segmenter, MaskRcnn):
        if rgb is None:
            raise ValueError("a Mask R-CNN looks at RGB, and the person has none; give --segment background")
        mask = np.where(segmenter.mask(rgb, line.box, seen), np.uint8(255), np.uint8(0))
    if depth is not None and mask is not None:
        depth = np.where(mask > 0, depth, np.uint16(0))
    if mask is not None:
        check_on_mask(seen, mask)
    camera = _camera(item, rgb)
    if camera is not None:
        _check_pixels(camera, width, height)
    if line.box is None:
        box = find_box(mask, keypoints, depth, rgb, pictures.parts)
    else:
        box = np.array(line.box)
        check_box(box, width, height, seen)
    if depth is not None and background is not None:
        depth = near_box(depth, box)
        if not depth.any():
            raise ValueError(f"nothing in the person's box {np.round(box, 1).tolist()} is in front of the background")
    if depth is not None and item.config.depth_masking == MASKED and shows_background(depth, box, mask):
        raise ValueError(
            "depth shows the background, too, and --depth-masking says masked; give --segment to remove it, or "
            "--depth-masking unmasked"
        )
    if depth is not None:
        drawn = any(each is not None for each in (mask, pictures.parts, line.box))
        most_joints = keypoints is not None and 2 * len(seen) > len(keypoints)
        where = 'write "depth_unit": "{unit}" in its line' if line.depth_unit else "give --depth-unit {unit}"
        check_depth_in_box(depth, unit, where, box, camera, shown=drawn or len(seen) > 0, whole=drawn or most_joints)
    joints3d = None
    if line.joints3d is not None:
        joints3d = _in_space(item, camera, box, keypoints, depth, mask, pictures.parts)
    person = Person(
        id=item.id,
        dataset=item.config.name,
        split=line.split or item.config.split,
        size=item.config.size,
        subject=line.subject,
        camera=None if camera is None else np.array(camera),
        box=box,
        keypoints=keypoints,
        joints3d=joints3d,
    )
    images = PersonImages(
        rgb=rgb, depth=None if depth is None else rounded(depth, FURTHEST_MM), parts=pictures.parts, mask=mask
    )
    return crop_person(person, images, item.config.depth_codec)


def _in_space(
    item: FolderItem,
    camera: tuple[float, ...] | None,
    box: np.ndarray,
    keypoints: np.ndarray | None,
    depth: np.ndarray | None,
    mask: np.ndarray | None,
    parts: np.ndarray | None,
) -> np.ndarray | None:
    """The line's 3D joints, float32 [J, 3], meters; None if no joint is annotated."""
    config = item.config
    if camera is None:
        raise ValueError(
            f"joints3d are in the frame of a camera that is not known; give camera in the line, or {CAMERA_FILE}"
        )
    person = mask > 0 if mask is not None else None if parts is None else (parts > 0) & (parts != IGNORE)
    assert item.line.joints3d is not None
    assert config.joint_unit_3d  # check_named has asked for it
    seen = Seen(camera, box, keypoints, config.joint_set, depth, person)
    return place_joints_3d(item.line.joints3d, config.joint_unit_3d, config.joint_set_3d, seen)


def measured(item: FolderItem, stored: np.ndarray) -> tuple[np.ndarray, str]:
    """Return depth [H, W] in millimeters, as its own camera saw it, and the unit of the file.

    Args:
        item: who it is of.
        stored: numbers as of `read_depth_file`.
    """
    by = item.recorded_by or RecordedBy()
    unit = item.line.depth_unit or item.config.depth_unit or by.depth_unit or default_unit(stored)
    depth = in_millimeters(stored, unit)
    if by.depth_shift_mm:
        depth = np.where(depth > 0, np.maximum(depth + by.depth_shift_mm, 0.0), 0.0)
    return depth, unit


def _depth(
    item: FolderItem, stored: np.ndarray, rgb: np.ndarray | None, background: Background | None
) -> tuple[np.ndarray, str]:
    """Depth [H, W] in millimeters, registered to `rgb` where there is one, and the unit of the file."""
    recorded_by = item.recorded_by or RecordedBy()
    depth, unit = measured(item, stored)
    if background is not None:
        depth = background.remove(depth)  # before it is registered: the camera of depth is the one that stands still
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


def _camera(item: FolderItem, rgb: np.ndarray | None) -> tuple[float, ...] | None:
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


def check_depth_in_box(
    depth: np.ndarray,
    unit: str,
    fix: str,
    box: np.ndarray,
    camera: tuple[float, ...] | None = None,
    *,
    shown: bool,
    whole: bool,
) -> None:
    """Refuse a person at an impossible distance.

    Args:
        depth: [H, W], millimeters, not rounded.
        unit: that the picture was read in.
        fix: what to write instead, with {unit} in it.
        box: [4], x0, y0, x1, y1, pixels.
        camera: fx, fy, cx, cy in pixels, if it is known.
        shown: the box is a person's, not the whole picture's, and tells how large the person is at least.
        whole: it is around all of the person that the picture shows, not around a few joints.
    """
    x0, y0, x1, y1 = np.clip(np.nan_to_num(box), 0, 1 << 15).astype(int)
    inside = depth[y0 : y1 + 1, x0 : x1 + 1]
    if not (inside > 0).any():
        return  # a box that is wrong, or a record without depth, has its own reason
    size = float(max(box[2] - box[0], box[3] - box[1])) if shown else None
    height, width = depth.shape
    check_distance(
        inside,
        unit,
        fix,
        size_px=size,
        focal_px=None if camera is None else float(max(camera[:2])),
        picture_px=max(width, height),
        least_m=shortest_m(box, width, height) if whole else 0.0,
    )
