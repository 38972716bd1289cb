"""Recognize what recorded a folder, and pair its color and depth pictures."""

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hcmoco.datasets.cameras.camera_file import CAMERA_FILE, OPEN3D_FILES, RecordedBy, read_camera_file
from hcmoco.datasets.cameras.registration import Rig
from hcmoco.datasets.io import depth_files, pictures
from hcmoco.datasets.recording import kinect2, lerobot, realsense
from hcmoco.datasets.recording.config import FrameFiles, Layout, RecordingConfig
from hcmoco.datasets.recording.ros_bag import METADATA, SUFFIXES
from hcmoco.errors import UserError

COLOR_FOLDERS, DEPTH_FOLDERS, MASK_FOLDERS = ("rgb", "color"), ("depth",), ("mask", "masks")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi")
_APART_MS = 20.0  # two thirds of a frame at 30 a second: TUM's tool pairs within the same
_DEPTH_SUFFIXES = (*depth_files.SUFFIXES, ".raw")
_NUMBER = re.compile(r"(\d+)$")
_TIME = re.compile(r"\d{5,}\.\d+$")
_EXPECTED = (
    "rgb/ (or color/) and depth/ with pictures, Open3D's color/, depth/ and intrinsic.json, RealSense's "
    "*_Color.png and *_Depth.raw, kinect2_viewer's *_color.jpg and *_depth.png, videos (MP4, MOV, MKV, AVI; Azure "
    "Kinect's MKV with depth), ROS bags (.bag, .mcap, .db3), or a LeRobot data set with meta/info.json"
)


def recognize(config: RecordingConfig) -> Layout:
    """Return what is in the folder of a recording.

    Raises:
        UserError: the folder is missing or holds nothing that is known, or two things that are, or its cameras do not
            tell how color and depth belong together.
    """
    root = Path(config.path)
    if not root.is_dir():
        raise UserError(
            f"{root} {'is not a folder' if root.exists() else 'does not exist'}; give the folder of a recording"
        )
    names = sorted(os.listdir(root))
    folders = {name.lower(): name for name in names if (root / name).is_dir()}
    snapshots = [name for name in names if realsense.NAME.fullmatch(name)]
    of_kinect = [name for name in names if kinect2.NAME.fullmatch(name)]
    videos = tuple(name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES and (root / name).is_file())
    in_folders = any(each in folders for each in (*COLOR_FOLDERS, *DEPTH_FOLDERS))
    bags = _bags(root, names)
    kinds = {
        "picture folders": in_folders,
        "RealSense files": bool(snapshots),
        "kinect2_viewer's files": bool(of_kinect),
        "videos": bool(videos),
        "ROS bags": bool(bags),
        "a LeRobot data set": lerobot.is_lerobot(root),
    }
    present = [kind for kind, found in kinds.items() if found]
    if not present:
        raise UserError(f"{root} holds no recording; expected are {_EXPECTED}")
    if len(present) > 1:
        raise UserError(f"{root} holds {' and '.join(present)}; give each recording a folder of its own")
    if kinds["a LeRobot data set"]:
        return lerobot.layout(root, config)
    if videos:
        return Layout("videos", read_camera_file(root), videos=videos)
    if bags:
        return Layout("ROS bags", read_camera_file(root), bags=bags)
    if in_folders:
        layout = _folders(root, folders, names, config)
    else:
        layout = kinect2.snapshots(root, names, config) if of_kinect else _snapshots(root, names, config.use)
    masks = next((folders[each] for each in MASK_FOLDERS if each in folders), None)
    by_stem = _files(root, masks, pictures.SUFFIXES) if masks else {}
    frames = tuple(
        FrameFiles(
            frame.stem,
            frame.rgb,
            frame.depth,
            by_stem.get(Path(frame.rgb or frame.depth or "").stem),
        )
        for frame in layout.frames
    )
    if not frames:
        raise UserError(f"{root}: the {layout.kind} has no picture to read; look at what was recorded, or at --use")
    notes = list(layout.notes)
    if masks:
        notes.append(f"{sum(frame.mask is not None for frame in frames)} frames have a mask in {masks}/")
    _check_registered(root, frames, layout.recorded_by)
    return replace(layout, frames=frames, notes=tuple(notes))


def _bags(root: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the ROS bags in a folder, which may be a bag of ROS 2 itself: then ".", read as a whole."""
    if METADATA in names and any(Path(name).suffix in SUFFIXES for name in names):
        return (".",)
    files = [name for name in names if Path(name).suffix in SUFFIXES and (root / name).is_file()]
    return tuple(sorted([*files, *(name for name in names if (root / name / METADATA).is_file())]))


def _folders(root: Path, folders: dict[str, str], names: Sequence[str], config: RecordingConfig) -> Layout:
    """Picture folders: one of color, one of depth, paired by name, by number or by time."""
    color = [folders[each] for each in COLOR_FOLDERS if each in folders]
    if len(color) > 1:
        raise UserError(f"{root} has both {' and '.join(color)}; which one is read? Move the other away")
    by_color = _files(root, color[0], pictures.SUFFIXES) if color and config.use != "depth" else {}
    depth = next((folders[each] for each in DEPTH_FOLDERS if each in folders), None)
    by_depth = _files(root, depth, _DEPTH_SUFFIXES) if depth and config.use != "rgb" else {}
    frames, unpaired = _pairs(by_color, by_depth)
    if kinect2.is_calibrated(names):
        by, notes = kinect2.recorded_by(root, frames, config.lens)
        return Layout(kinect2.FOLDER, by, frames, notes=notes, unpaired=unpaired)
    recorded_by = read_camera_file(root)
    kind = "folder of pictures"
    if recorded_by is not None and recorded_by.file in OPEN3D_FILES:
        kind = "Open3D folder"
    elif (root / "rgb.txt").is_file() and (root / "depth.txt").is_file():
        kind = "TUM RGB-D folder"
        # cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats: 5000 is a meter, pictures are registered.
        given = recorded_by or RecordedBy()
        recorded_by = replace(
            given,
            depth_unit=given.depth_unit or "0.2mm",
            registered=given.registered if given.registered is not None or given.rig else True,
        )
    return Layout(kind, recorded_by, frames, unpaired=unpaired)


def _files(root: Path, folder: str, suffixes: Iterable[str]) -> dict[str, str]:
    """Names below `root` of the pictures in a folder, by their stems, in order."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(root / folder)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes or name.startswith("."):
            continue
        if stem in found:
            raise UserError(f"{root / folder} has both {Path(found[stem]).name} and {name}; keep one of each name")
        found[stem] = f"{folder}/{name}"
    return found


def _pairs(color: dict[str, str], depth: dict[str, str]) -> tuple[tuple[FrameFiles, ...], tuple[str, ...]]:
    """Frames with both pictures, or all of the only kind; and the pictures without a partner."""
    if not color or not depth:
        return tuple(FrameFiles(stem, color.get(stem), depth.get(stem)) for stem in color or depth), ()
    keys = [({stem: stem for stem in color}, {stem: stem for stem in depth}), (_numbers(color), _numbers(depth))]
    for by_color, by_depth in keys:
        both = [key for key in by_color if key in by_depth]
        if both:
            frames = tuple(FrameFiles(by_color[key], color[by_color[key]], depth[by_depth[key]]) for key in both)
            return frames, _alone(frames, color, depth)
    if all(map(_TIME.search, (*color, *depth))):
        times = {stem: 1000 * float(stem) for stem in (*color, *depth)} if _are_numbers(color, depth) else {}
        if times:
            return _by_time(color, depth, times)
    raise UserError(
        f"no color picture and no depth picture have the same name or number, for example {next(iter(color.values()))} "
        f"and {next(iter(depth.values()))}; name both of a frame alike"
    )


def _are_numbers(*groups: dict[str, str]) -> bool:
    return all(re.fullmatch(r"\d+\.\d+", stem) for group in groups for stem in group)


def _numbers(names: dict[str, str]) -> dict[str, str]:
    """Stems by the number that they end in; none if two have the same, or they are times."""
    found = {match[1].lstrip("0") or "0": stem for stem in names if (match := _NUMBER.search(stem))}
    return found if len(found) == len(names) and not _are_numbers(names) else {}


def _by_time(
    color: dict[str, str], depth: dict[str, str], times: dict[str, float]
) -> tuple[tuple[FrameFiles, ...], tuple[str, ...]]:
    """Each color picture with the depth picture nearest in time, each of which is used once."""
    stems = sorted(depth, key=times.__getitem__)
    at = [times[stem] for stem in stems]
    best: dict[str, tuple[float, str]] = {}
    for stem in color:
        near = bisect_left(at, times[stem])
        for number in (near - 1, near):
            if 0 <= number < len(stems) and (apart := abs(at[number] - times[stem])) <= _APART_MS:
                other = stems[number]
                if other not in best or apart < best[other][0]:
                    best[other] = (apart, stem)
    partner: dict[str, tuple[float, str]] = {}
    for other, (apart, stem) in best.items():
        if stem not in partner or apart < partner[stem][0]:
            partner[stem] = (apart, other)
    frames = tuple(FrameFiles(stem, color[stem], depth[partner[stem][1]]) for stem in color if stem in partner)
    if not frames:
        raise UserError(f"no color and depth picture are within {_APART_MS:g} ms of each other; look at their names")
    return frames, _alone(frames, color, depth)


def _alone(frames: tuple[FrameFiles, ...], color: dict[str, str], depth: dict[str, str]) -> tuple[str, ...]:
    paired = {name for frame in frames for name in (frame.rgb, frame.depth)}
    return tuple(name for name in (*color.values(), *depth.values()) if name not in paired)


def _snapshots(root: Path, names: list[str], use: str) -> Layout:
    """RealSense's files, all in one folder."""
    matches = {name: match for name in names if (match := realsense.NAME.fullmatch(name))}
    color: dict[str, str] = {}
    depth: dict[str, str] = {}
    times: dict[str, float] = {}
    colored = 0
    for name, match in matches.items():
        stem = f"{match['base']}_{match['time']}" if match["time"] else match["base"]
        if match["stream"] == "Color" and match["suffix"] != "raw":
            if color.setdefault(stem, name) != name:
                raise UserError(f"{root} has both {color[stem]} and {name}; keep one of each name")
        elif match["stream"] == "Depth" and match["suffix"] == "raw":
            depth[stem] = name
        else:
            colored += match["stream"] == "Depth"
            continue
        times[stem] = float(match["time"] or "nan")
    color, depth = {} if use == "depth" else color, {} if use == "rgb" else depth
    if not depth and colored and use != "rgb":
        raise UserError(
            f"{root} has depth as colored pictures only, which are for looking at; save the snapshots with their .raw, "
            "or convert with rs-convert -p PREFIX -r PREFIX"
        )
    notes = (f"{colored} colored depth pictures are passed over",) if colored else ()
    named = [name for name in names if name.endswith("_Depth_metadata.csv")]
    recorded_by = read_camera_file(root, realsense.depth_camera(root, named))
    if color and depth and all(time == time for time in times.values()):
        frames, unpaired = _by_time(color, depth, times)
    else:
        frames, unpaired = _pairs(color, depth)
    if depth and (recorded_by is None or recorded_by.depth is None):
        raise UserError(
            f"{root}: raw depth pictures do not say how large they are; keep the viewer's *_Depth_metadata.csv beside "
            f"them, or give the depth camera in {CAMERA_FILE}"
        )
    return Layout("RealSense folder", recorded_by, frames, notes=notes, unpaired=unpaired)


def _check_registered(root: Path, frames: tuple[FrameFiles, ...], by: RecordedBy | None) -> None:
    """Refuse color beside depth of which nothing says how they belong together."""
    if not any(frame.rgb and frame.depth for frame in frames) or (by and (by.rig is not None or by.registered)):
        return
    lacks = f"{by.file} lacks depth_to_color" if by and by.file else f"{CAMERA_FILE} is missing"
    raise UserError(
        f"{root}: {lacks}, so nothing says how depth pictures lie on color pictures; write "
        '{"registered": true} if they show the same pixel by pixel, else color, depth and depth_to_color '
        "(docs/data/recordings.md); or read one of them with --use rgb or --use depth"
    )


def describe(config: RecordingConfig, layout: Layout) -> list[str]:
    """Return what was recognized, one line each."""
    by = layout.recorded_by or RecordedBy()
    what = f"{len(layout.frames)} frames"
    if layout.videos or layout.bags:
        what = f"{len(layout.videos)} videos" if layout.videos else f"{len(layout.bags)} bags"
    kinds = [name for name in ("rgb", "depth") if any(getattr(frame, name) for frame in layout.frames)]
    lines = [f"{layout.kind}: {what}" + (f" of {' and '.join(kinds)}" if kinds else "")]
    if layout.videos or layout.bags:
        return [*lines, *layout.notes]
    if "depth" in kinds:
        unit = config.depth_unit or by.depth_unit
        lines.append(
            f"depth unit {unit}" + (f" ({by.file})" if by.depth_unit and not config.depth_unit and by.file else "")
            if unit
            else "depth unit not given: mm for whole numbers, m for floating point; --depth-unit says otherwise"
        )
    if kinds == ["rgb", "depth"]:
        lines.append(
            f"depth is registered to color with the cameras of {by.file}"
            if isinstance(by.rig, Rig)
            else f"depth is registered to color already ({by.file or layout.kind})"
        )
    if by.model:
        lines.append(f"camera {by.model}")
    if layout.unpaired:
        lines.append(
            f"{len(layout.unpaired)} pictures have no partner and are passed over, for example {layout.unpaired[0]}"
        )
    return [*lines, *layout.notes]
