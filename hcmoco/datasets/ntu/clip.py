"""Turn one clip into records: frames registered onto the depth picture, unmirrored and cropped.

Frame n of video and depth, counted from 1, belongs to frame n - 1 of the skeleton file, counted from 0. Kinect's
pictures are mirrored. RGB, depth, and x of joints and camera are mirrored back here, so that left is the person's own
left and joint names stay as they are.
"""

import os
from dataclasses import dataclass

import cv2
import numpy as np

from hcmoco.data.codecs import decode_depth
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import KINECT_25
from hcmoco.data.transforms import extent
from hcmoco.datasets.base import Outcome, Rejected, Skipped
from hcmoco.datasets.io import video
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.ntu import registration, skeleton_file
from hcmoco.datasets.ntu.calibration import FAR, NEAR, pairs_of
from hcmoco.datasets.ntu.color import color_keypoints, color_person
from hcmoco.datasets.ntu.config import COLOR_WIDTH, HEIGHT, WIDTH
from hcmoco.datasets.ntu.layout import NtuItem, depth_name, depth_number
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person

# Pixels from a joint's projection at which its numbers contradict each other; lens distortion stays below.
_OFF_CAMERA = 15.0
_LEAST_PAIRS = 12  # of a clip, to judge how it fits its registration
_WINDOW = 0.25  # of the joints' longer side: how far beyond them depth still counts as the person's
_LEAST_WINDOW = 16.0  # pixels


@dataclass(frozen=True)
class _Pose:
    """One body of one frame, in the unmirrored picture (of depth; of color without depth). Centers are at +0.5.

    Attributes:
        keypoints: float64 [25, 3], x, y, visibility.
        joints3d: float64 [25, 3], meters, x right, y down, z forward; None if a number is missing or the camera is
            unknown.
        pairs: see calibration.pairs_of.
    """

    keypoints: np.ndarray
    joints3d: np.ndarray | None
    pairs: np.ndarray


def read(item: NtuItem | Rejected | Skipped) -> list[Outcome] | Rejected | Skipped:
    """Return the records of a clip's frames.

    Returns:
        One outcome for each frame of the stride, in order, and one for a fault of the clip itself. Ids are
        `ntu/<tag>F<frame, at least 3 digits>`. The clip is Rejected as a whole if its skeleton file cannot be read.
    """
    if not isinstance(item, NtuItem):
        return item
    if item.config.use == "both" and not item.matrix:
        return Rejected(item.id, "the clip's setup and camera have no registration yet")
    try:
        bones = skeleton_file.parse(read_inside(item.skeletons, f"{item.tag.text}.skeleton"))
    except ValueError as error:
        return Rejected(item.id, str(error))
    numbers = range(item.config.stride, max(len(bones.frames), _depth_pictures(item)) + 1, item.config.stride)
    outcomes: dict[int, Outcome] = {}
    poses: dict[int, _Pose] = {}
    for number in numbers:
        pose = _posed(item, bones, number)
        if isinstance(pose, _Pose):
            poses[number] = pose
        else:
            outcomes[number] = pose
    off = _off_registration(item, poses)
    if off:
        outcomes |= {number: Rejected(_id(item, number), off) for number in poses}
    else:
        outcomes |= _records(item, poses)
    result = [outcomes[number] for number in numbers]
    if bones.fault and not any(isinstance(each, Rejected) for each in result):
        result.append(Rejected(item.id, bones.fault))
    elif not result:
        result.append(Skipped(item.id, "the clip has fewer frames than the stride"))
    return result


def _id(item: NtuItem, number: int) -> str:
    return f"{item.id}F{number:03d}"


def _depth_pictures(item: NtuItem) -> int:
    """The number of the last depth picture, so that frames after a cut skeleton file count; 0 if there is none."""
    if not item.depth:
        return 0
    try:
        names = os.listdir(os.path.join(item.depth, item.tag.text))
    except OSError:
        return 0
    return max((number for each in names if (number := depth_number(each)) <= skeleton_file.MAX_FRAMES), default=0)


def _posed(item: NtuItem, bones: skeleton_file.Skeleton, number: int) -> _Pose | Rejected | Skipped:
    id = _id(item, number)
    if number > len(bones.frames):
        return Rejected(
            id, bones.fault or f"the skeleton has {len(bones.frames)} frames, there are more depth pictures"
        )
    bodies = bones.frames[number - 1]
    if not bodies:
        return Skipped(id, "no body")
    if len(bodies) > 1 and item.config.people == "one":
        return Skipped(id, "more than one body")
    try:
        joints = bones.joints(bodies[0])
        if item.config.use == "rgb":
            return _Pose(color_keypoints(joints), None, np.empty((0, 7)))
        return _pose(joints, item.camera)
    except ValueError as error:
        return Rejected(id, str(error))


def _pose(joints: skeleton_file.Joints, camera: tuple[float, ...]) -> _Pose:
    xyz, xy = joints.xyz, joints.depth_xy
    # A joint that was not found is NaN in some files, a line of zeros in others.
    whole = np.isfinite(xyz).all(1) & xyz.any(1)
    far = whole & ((np.abs(xyz) > FAR).any(1) | (xyz[:, 2] < NEAR))
    if far.any():
        joint = int(far.argmax())
        raise ValueError(
            f"the joint '{KINECT_25.joints[joint]}' lies at {', '.join(f'{value:.3g}' for value in xyz[joint])} meters"
        )
    placed = whole & np.isfinite(xy).all(1) & bool(camera)
    off = np.zeros(len(xy))
    if placed.any():
        off[placed] = np.hypot(*(registration.project_camera(np.array(camera), xyz[placed]) - xy[placed]).T)
    if off.max() > _OFF_CAMERA:
        raise ValueError(
            f"the joint '{KINECT_25.joints[off.argmax()]}' lies {off.max():.0f} pixels "
            "from where its position in space is seen"
        )
    with np.errstate(invalid="ignore"):
        unmirrored = np.column_stack([WIDTH - (xy[:, 0] + 0.5), xy[:, 1] + 0.5])
        inside = (xyz.any(1) | xy.any(1)) & (unmirrored >= 0).all(1) & (unmirrored < (WIDTH, HEIGHT)).all(1)
    visible = (joints.state > 0) & inside
    if not visible.any():
        raise ValueError("no joint is tracked inside the picture")
    keypoints = np.where(visible[:, None], np.column_stack([unmirrored, np.ones(len(xy))]), 0.0)
    return _Pose(keypoints, xyz * (-1, -1, 1) if whole.all() and camera else None, pairs_of(joints))


def _off_registration(item: NtuItem, poses: dict[int, _Pose]) -> str:
    """Why the clip does not fit its registration; "" if it does, or if it has too few joints to tell."""
    pairs = np.concatenate([each.pairs for each in poses.values()]) if poses else np.empty((0, 7))
    if len(pairs) < _LEAST_PAIRS:
        return ""
    matrix = _matrix(item)
    misses = np.hypot(*(registration.project(matrix, pairs[:, 3:5], pairs[:, 2]) - pairs[:, 5:7]).T)
    off = float(np.median(np.nan_to_num(misses, nan=np.inf))) / registration.magnification(
        matrix, float(np.median(pairs[:, 2]))
    )
    limit = item.config.max_clip_residual
    return (
        ""
        if off <= limit
        else f"the clip's joints lie {off:.1f} pixels off the registration of its setup and camera, at most {limit:g}"
    )


def _matrix(item: NtuItem) -> np.ndarray:
    return np.array(item.matrix).reshape(3, 4)


def _records(item: NtuItem, poses: dict[int, _Pose]) -> dict[int, Person | Rejected]:
    """The records of the frames that have a pose, as the video gives their pictures."""
    found: dict[int, Person | Rejected] = {}
    why = "the video has no such frame, or ends before it is whole"
    try:
        for number, image in video.frames(item.rgb, f"{item.tag.text}_rgb.avi", sorted(poses)):
            found[number] = _record(item, number, poses[number], image)
    except ValueError as error:
        why = str(error)
    return {number: found.get(number) or Rejected(_id(item, number), why) for number in poses}


def _record(item: NtuItem, number: int, pose: _Pose, image: np.ndarray) -> Person | Rejected:
    config, id = item.config, _id(item, number)

    def make() -> Person:
        if config.use == "rgb":
            return color_person(item, id, pose.keypoints, image)
        depth = decode_depth(read_inside(item.depth, depth_name(item.tag, number)), "png16")
        if depth.shape != (HEIGHT, WIDTH):
            raise ValueError(
                f"the depth picture is {depth.shape[1]} x {depth.shape[0]} pixels, Kinect's are {WIDTH} x {HEIGHT}"
            )
        depth = depth[:, ::-1]
        box, readings = _extent(pose.keypoints, depth)
        distance = max(float(np.median(readings)) / 1000, NEAR)
        camera = np.array(item.camera) if item.camera else None
        person = Person(
            **item.of_record(id),
            box=box,
            camera=None
            if camera is None
            else np.array([camera[0], camera[1], WIDTH - (camera[2] + 0.5), camera[3] + 0.5]),
            keypoints=pose.keypoints,
            joints3d=pose.joints3d,
        )
        images = PersonImages(rgb=registered(image, _matrix(item), distance), depth=depth)
        return crop_person(person, images, config.depth_codec)

    return checked(id, skeleton_file.JOINTS, make, config.depth_codec)


def _extent(keypoints: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x0, y0, x1, y1 around the visible joints and the readings near them, and these readings; ValueError if none."""
    xy = keypoints[keypoints[:, 2] > 0, :2]
    low, high = xy.min(0), xy.max(0)
    margin = max(_WINDOW * float((high - low).max()), _LEAST_WINDOW)
    (left, top), (right, bottom) = np.maximum(low - margin, 0).astype(int), np.ceil(high + margin).astype(int)
    window = depth[top:bottom, left:right]
    seen = extent(window)
    if seen is None:
        raise ValueError("the depth picture has no reading around the person")
    seen += (left, top, left, top)
    return np.concatenate([np.minimum(low, seen[:2]), np.maximum(high, seen[2:])]), window[window > 0]


def registered(image: np.ndarray, matrix_34: np.ndarray, z: float) -> np.ndarray:
    """Warp a frame of the video to what the depth camera would have seen at a distance of z, unmirrored.

    Args:
        image: uint8 [h, w, 3] BGR, the color picture or a smaller copy of it.
        matrix_34: float64 [3, 4], the transform from depth to color picture, see registration.py.
        z: distance in meters.

    Returns:
        uint8 [424, 512, 3] RGB; black where the color camera sees nothing.
    """
    scale = image.shape[1] / COLOR_WIDTH
    # Three pixels of color to one of depth: shrunk by areas first, what is thin does not flicker.
    shrink = max(int(registration.magnification(matrix_34, z) * scale), 1)
    if shrink > 1:
        height, width = image.shape[0] // shrink, image.shape[1] // shrink
        image = cv2.resize(image[: height * shrink, : width * shrink], (width, height), interpolation=cv2.INTER_AREA)
        scale /= shrink
    to_image = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    unmirror = np.array([[-1.0, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1]])
    transform = to_image @ registration.at_distance(matrix_34, z) @ unmirror
    warped = cv2.warpPerspective(image, transform, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return cv2.cvtColor(warped, cv2.COLOR_BGR2RGB)
