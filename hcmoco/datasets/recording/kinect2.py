"""Folders of Kinect v2, recorded with iai_kinect2: what its calibration files say of the pictures beside them.

    color/, depth/, calib_color.yaml, calib_ir.yaml, calib_pose.yaml, calib_depth.yaml

The pictures are of topics of kinect2_bridge, saved by any program; the topics are those of kinect2_bridge/README.md
("Topics") of github.com/code-iai/iai_kinect2, and src/kinect2_bridge.cpp there computes them:

    lens       color                                   depth                                       depth on color
    distorted  hd/image_color or qhd/image_color       sd/image_depth, 512 x 424, without shift    is registered here
    rectified  hd/image_color_rect, qhd/image_...      hd or qhd/image_depth_rect, with shift      already

sd/image_depth_rect is rectified with the device's own numbers, which are in no file: it is refused.

kinect2_viewer saves the topics *_rect, both of one size (saveCloudAndImages of kinect2_viewer/src/viewer.cpp):

    NUMBER_color.jpg, NUMBER_depth.png
    NUMBER_depth_colored.png, NUMBER_cloud.pcd    for people to look at: passed over

In its mode `sd`, color lies on depth, and the camera is the device's own; `ir` has infrared in place of color, gray in
three channels, which is refused.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hcmoco.data.containers import read_header
from hcmoco.datasets.cameras import iai_kinect2
from hcmoco.datasets.cameras.camera_file import CAMERA_FILE, RecordedBy, read_camera_file
from hcmoco.datasets.cameras.iai_kinect2 import HD, QUARTER_HD, SD
from hcmoco.datasets.cameras.registration import Rig
from hcmoco.datasets.few import spread
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.pictures import decode_picture, read_picture_header
from hcmoco.datasets.recording.config import FrameFiles, Layout, RecordingConfig
from hcmoco.errors import UserError

NAME = re.compile(r"(?P<number>\d+)_(?P<stream>color|depth|depth_colored)\.(?P<suffix>jpg|png)")
FOLDER, SNAPSHOTS = "Kinect v2 folder of iai_kinect2", "Kinect v2 snapshots of kinect2_viewer"
"""What the layouts are called."""
_MODEL = "Kinect v2"
_LOOKED_AT = 3  # color pictures, one of which has color if they are of a color camera
_GRAY = 3  # what JPEG's conversion of colors makes of gray


def is_calibrated(names: Iterable[str]) -> bool:
    """Return whether one of a folder's files is of iai_kinect2's calibration."""
    return any(name in iai_kinect2.FILES for name in names)


def snapshots(root: Path, names: Sequence[str], config: RecordingConfig) -> Layout:
    """Return what kinect2_viewer saved, all in one folder.

    Args:
        root: the folder.
        names: of its files.
        config: tells which pictures are read.

    Raises:
        UserError: as `recorded_by` and `read_camera_file`.
    """
    if config.lens == "distorted":
        raise UserError(f"{root}: kinect2_viewer saves the topics *_rect, which are rectified; leave --lens out")
    by_stream: dict[str, dict[str, str]] = {"color": {}, "depth": {}, "depth_colored": {}}
    for name in names:
        if match := NAME.fullmatch(name):
            other = by_stream[match["stream"]].setdefault(match["number"], name)
            if other != name:
                raise UserError(f"{root} has both {other} and {name}; keep one of each number")
    color = by_stream["color"] if config.use != "depth" else {}
    depth = by_stream["depth"] if config.use != "rgb" else {}
    both = bool(color and depth)
    numbers = [number for number in sorted({*color, *depth}) if not both or (number in color and number in depth)]
    frames = tuple(FrameFiles(number, color.get(number), depth.get(number)) for number in numbers)
    alone = [name for found in (color, depth) for number, name in found.items() if number not in set(numbers)]
    colored = len(by_stream["depth_colored"])
    notes: tuple[str, ...] = (f"{colored} colored depth pictures are passed over",) if colored else ()
    _check_color(root, [color[number] for number in numbers if number in color])
    if is_calibrated(names):
        by, said = recorded_by(root, frames, "rectified")
        notes += said
    else:
        given = read_camera_file(root) or RecordedBy()
        if given.rig is not None or given.registered is False:
            raise UserError(
                f"{root}: kinect2_viewer saves depth that lies on color already, and {CAMERA_FILE} says otherwise; "
                "leave depth_to_color and registered out of it"
            )
        by = replace(given, model=given.model or _MODEL, depth_unit=given.depth_unit or "mm", registered=True)
    return Layout(SNAPSHOTS, by, frames, notes=notes, unpaired=tuple(alone))


def recorded_by(root: Path, frames: Sequence[FrameFiles], lens: str) -> tuple[RecordedBy, tuple[str, ...]]:
    """Return what the calibration files say of the frames' cameras, and sentences on it.

    Args:
        root: the folder with the files and the pictures.
        frames: their pictures; of each kind the first that can be read tells its size.
        lens: distorted or rectified.

    Raises:
        UserError: a file is missing or wrong; `lens` is not given; or the sizes are not those of the topics.
    """
    if (root / CAMERA_FILE).is_file():
        raise UserError(
            f"{root} has both {CAMERA_FILE} and iai_kinect2's calib_*.yaml, and either tells the cameras; keep one"
        )
    if not lens:
        raise UserError(
            f"{root} has iai_kinect2's calibration, and nothing says whether its pictures still have the lenses' "
            "distortion; give --lens distorted for the topics image_color and image_depth, or --lens rectified for "
            "image_color_rect and image_depth_rect"
        )
    color = _size([frame.rgb for frame in frames], lambda name: _color_size(root, name))
    depth = _size([frame.depth for frame in frames], lambda name: _depth_size(root, name))
    of_sd = lens == "rectified" and depth in (None, SD)
    if color is not None and color not in (HD, QUARTER_HD, *([SD] if of_sd else [])):
        raise UserError(
            f"{root}: color pictures are {color[0]} x {color[1]} pixels; iai_kinect2's are 1920 x 1080 (hd) or "
            f"960 x 540 (qhd), and its calibration is of no others: move calib_*.yaml away and write {CAMERA_FILE}"
        )
    if lens == "rectified":
        return _rectified(root, color, depth)
    if depth is not None and depth != SD:
        raise UserError(
            f"{root}: depth pictures are {depth[0]} x {depth[1]} pixels, and those with distortion (sd/image_depth) "
            "512 x 424; if depth and color are of topics *_rect, give --lens rectified"
        )
    return _distorted(root, color, depth)


def _check_color(root: Path, names: Sequence[str]) -> None:
    """Refuse the mode `ir`, in which kinect2_viewer saves infrared as JPEG in colors, all of them gray."""
    gray = ""
    for name in spread(names, _LOOKED_AT):
        try:
            if _color_size(root, name) != SD:
                return
            rgb = decode_picture(read_inside(root, name))
        except ValueError:
            continue  # it is rejected, with its reason, when it is read
        if np.ptp(rgb, axis=2).max() > _GRAY:
            return
        gray = gray or name
    if gray:
        raise UserError(
            f"{root / gray} has no color: in its mode ir kinect2_viewer saves infrared in its place; read depth alone "
            "with --use depth, or save color in the modes hd, qhd or sd"
        )


def _distorted(
    root: Path, color: tuple[int, int] | None, depth: tuple[int, int] | None
) -> tuple[RecordedBy, tuple[str, ...]]:
    color_camera = iai_kinect2.color_camera(root, color, rectified=False) if color else None
    if depth is None:
        return RecordedBy(iai_kinect2.COLOR_FILE, _MODEL, "mm", color_camera), ()
    depth_camera, shift = iai_kinect2.depth_camera(root), iai_kinect2.depth_shift_mm(root)
    note = (
        f"{iai_kinect2.SHIFT_FILE} is missing: readings are taken as the device gave them"
        if shift is None
        else f"{shift:+.1f} mm are added to each reading ({iai_kinect2.SHIFT_FILE})"
    )
    rig = None
    if color_camera is not None:
        placed = iai_kinect2.pose(root)
        rig = Rig(depth_camera, color_camera, placed.rotation, placed.translation_mm)
    by = RecordedBy(
        iai_kinect2.POSE_FILE if rig else iai_kinect2.DEPTH_CAMERA_FILE,
        _MODEL,
        "mm",
        color_camera,
        depth_camera,
        rig,
        False if rig else None,
        shift or 0.0,
    )
    return by, (note,)


def _rectified(
    root: Path, color: tuple[int, int] | None, depth: tuple[int, int] | None
) -> tuple[RecordedBy, tuple[str, ...]]:
    if depth == SD and color != SD:
        raise UserError(
            f"{root}: depth of 512 x 424 pixels that is rectified (sd/image_depth_rect) is so with the device's own "
            "numbers, which are in none of the files; save sd/image_depth and image_color and give --lens distorted, "
            "or save qhd/image_depth_rect and qhd/image_color_rect"
        )
    if color is not None and depth is not None and color != depth:
        raise UserError(
            f"{root}: color pictures are {color[0]} x {color[1]} pixels and depth {depth[0]} x {depth[1]}; of the "
            "topics *_rect both have one size: save both of hd, or both of qhd"
        )
    size = color or depth
    if size is None:
        return RecordedBy(model=_MODEL, depth_unit="mm"), ()
    if size not in (HD, QUARTER_HD, SD):
        raise UserError(
            f"{root}: depth pictures are {size[0]} x {size[1]} pixels; those of iai_kinect2's topics *_rect are "
            "1920 x 1080 (hd), 960 x 540 (qhd) or 512 x 424 (sd)"
        )
    if size == SD:
        note = "the camera of sd/image_color_rect is the device's own, which is in no file: it is not known"
        return RecordedBy("", _MODEL, "mm", registered=True), (note,)
    camera = iai_kinect2.color_camera(root, size, rectified=True)
    return RecordedBy(iai_kinect2.COLOR_FILE, _MODEL, "mm", camera, registered=True), ()


def _size(names: Sequence[str | None], size_of: Callable[[str], tuple[int, int]]) -> tuple[int, int] | None:
    """Width and height of the first picture that can be read; the others are checked when they are read."""
    for name in names:
        try:
            if name is not None:
                return size_of(name)
        except ValueError:
            continue  # it is rejected, with its reason, when it is read
    return None


def _color_size(root: Path, name: str) -> tuple[int, int]:
    data = read_inside(root, name)
    header = read_picture_header(data) or read_header(data)
    return header.width, header.height


def _depth_size(root: Path, name: str) -> tuple[int, int]:
    height, width = read_depth_file(root, name).shape
    return width, height
