"""The frames of a recording as people: its pictures, and what people.jsonl says of them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hcmoco import unique_keys
from hcmoco.config import build
from hcmoco.datasets import folder
from hcmoco.datasets.base import Found, Outcome, Rejected, Shown, Skipped, absolute_folder
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.detected import asks_for_everybody, check_placed, resolve_detector, without_doubles
from hcmoco.datasets.io.files import text_lines
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.line_options import check_counted
from hcmoco.datasets.person_lines import FolderItem, PersonLine, check_named, joints_fault
from hcmoco.datasets.recording import bags, kinect2, lerobot, tool_keypoints, videos
from hcmoco.datasets.recording.bags import BagItem
from hcmoco.datasets.recording.config import FrameFiles, FrameLine, Layout, RecordingConfig, Seen
from hcmoco.datasets.recording.frames_item import ALONE, NO_LINE, FramesItem, people_found
from hcmoco.datasets.recording.layouts import describe, recognize
from hcmoco.datasets.recording.tool_keypoints import read_tool_lines
from hcmoco.datasets.recording.videos import VideoItem
from hcmoco.datasets.segmentation import stage
from hcmoco.datasets.segmentation.stage import Job
from hcmoco.errors import UserError
from hcmoco.unused_options import check_unused

Item = FolderItem | VideoItem | BagItem
Lines = Mapping[str, Sequence[FrameLine]]
"""Who is where, by frame."""


def items(config: RecordingConfig) -> list[Item | Rejected | Skipped]:
    """List the people of a recording, in the order of its frames; of videos and bags the files.

    Ids are `<name>/<frame>`, with `#<number>` for the second person of a frame and further ones. Without people.jsonl
    each frame is one person; with it, a frame that it does not name is Skipped.

    Raises:
        UserError: see `layouts.recognize`; or people.jsonl is not readable, or names a frame that does not exist.
    """
    config, seen = _look(config)
    layout, lines = seen.layout, seen.lines
    everybody = (line for each in (lines or {}).values() for line in each)
    check_counted(config, everybody, has_depth=_may_have_depth(config, layout), of_tool=bool(config.keypoints))
    if layout.bags or layout.videos:
        _check_no_pictures(config, lines)
        _check_known_files(config, lines, _stems(config, layout))
        known = [line for each in (lines or {}).values() for line in each]
        check_placed(config, [True] if lines is None else (asks_for_everybody(line, config) for line in known))
        return list(_file_items(config, layout, lines))
    chosen = layout.frames[:: config.stride]
    _check_known(config, lines, {frame.stem for frame in layout.frames})
    alone = [Skipped(f"{config.name}/{name}", ALONE) for name in layout.unpaired if config.use == "both"]
    found = [*(item for frame in chosen for item in _people(config, layout.recorded_by, frame, lines)), *alone]
    if not config.detect:
        return found
    people = (each for each in found if isinstance(each, FolderItem) and each.line.rgb)
    check_placed(config, (asks_for_everybody(each.line, config) for each in people))
    return without_doubles(found)


def _look(config: RecordingConfig) -> tuple[RecordingConfig, Seen]:
    """The config with what a tool's files decide, and what is in the folder: as `resolve` saw it, else by looking."""
    seen = config.seen or Seen(recognize(config))
    config = config.having_seen(None)  # items keep it
    if seen.lines_read:
        return config, seen
    if not config.keypoints:
        return config, Seen(seen.layout, read_lines(config), True)
    config = tool_keypoints.resolve(config)[0]
    return config, Seen(seen.layout, _tool_lines(config, seen.layout)[0], True)


def _may_have_depth(config: RecordingConfig, layout: Layout) -> bool:
    """Whether depth is read, as far as the folder shows: a bag or an Azure Kinect's video (.mkv) has to be opened."""
    if config.use == "rgb" or layout.kind == lerobot.KIND:
        return False
    of_azure = any(name.lower().endswith(".mkv") for name in layout.videos)
    return bool(layout.bags) or of_azure or any(frame.depth for frame in layout.frames)


def _tool_lines(config: RecordingConfig, layout: Layout) -> tuple[dict[str, list[FrameLine]], list[str]]:
    return read_tool_lines(config, _stems(config, layout), [frame.stem for frame in layout.frames])


def _stems(config: RecordingConfig, layout: Layout) -> list[str]:
    """Names of videos or bags without their endings."""
    if layout.kind == lerobot.KIND:
        return [lerobot.stem(name) for name in layout.videos]
    folder = Path(config.path).resolve().name  # of a bag of ROS 2 that is the recording itself
    return [folder if name == "." else Path(name).stem for name in layout.bags or layout.videos]


def _file_items(config: RecordingConfig, layout: Layout, lines: Lines | None) -> Iterator[VideoItem | BagItem]:
    """The videos or bags of a recording."""
    kind, names = (BagItem, layout.bags) if layout.bags else (VideoItem, layout.videos)
    for name, stem in zip(names, _stems(config, layout), strict=True):
        yield kind(f"{config.name}/{stem}", name, config, layout.recorded_by, _of_video(lines, stem))


def _bags(config: RecordingConfig, layout: Layout) -> list[BagItem]:
    return [item for item in _file_items(config, layout, None) if isinstance(item, BagItem)]


def read_lines(config: RecordingConfig) -> dict[str, list[FrameLine]] | None:
    """Return the lines of people.jsonl by frame; None if there is no such file.

    Raises:
        UserError: a line is no JSON object with the keys of `FrameLine`, or its joints are of another joint set.
    """
    path = Path(config.path) / config.file
    if not path.is_file():
        if path.exists() or config.file != type(config).model_fields["file"].default:
            raise UserError(
                f"{path} {'is no file' if path.exists() else 'does not exist'}; give the file that tells who is where, "
                "or leave --file out for a recording without one"
            )
        return None
    found: dict[str, list[FrameLine]] = defaultdict(list)
    for number, text in text_lines(path):
        where = f"{path} line {number}"
        try:
            values = unique_keys.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{where} must be a JSON object, it is {type(values).__name__}")
        line = build(FrameLine, values, where)
        if line.rgb or line.depth:
            raise UserError(f"{where}: a recording's pictures are known; name the frame alone")
        if reason := joints_fault(line, config):
            raise UserError(f"{where}: {reason}")
        found[line.frame].append(line)
    check_named(config, (line for lines in found.values() for line in lines), path)
    return dict(found)


def _check_known(config: RecordingConfig, lines: Lines | None, stems: set[str]) -> None:
    _refuse_unknown(
        config,
        (frame for frame in lines or {} if frame not in stems),
        f"like its color picture without the ending, for example {min(stems, default='')!r}",
    )


def _refuse_unknown(config: RecordingConfig, unknown: Iterator[str], called: str) -> None:
    if (frame := next(unknown, None)) is not None:
        raise UserError(
            f"{Path(config.path) / config.file} names the frame {frame!r}, which the recording lacks; "
            f"a frame is called {called}"
        )


def _check_known_files(config: RecordingConfig, lines: Lines | None, stems: Sequence[str]) -> None:
    """Of videos and bags: how many frames they have is known when they are read."""

    def known(frame: str) -> bool:
        stem, _, number = frame.rpartition("/")
        return stem in stems and len(number) == 6 and number.isascii() and number.isdigit()

    _refuse_unknown(
        config,
        (frame for frame in lines or {} if not known(frame)),
        "like its file without the ending, and by its number from 0 in six digits, for example "
        f"{f'{min(stems)}/000000'!r}",
    )


def _check_no_pictures(config: RecordingConfig, lines: Lines | None) -> None:
    named = next((line.frame for each in (lines or {}).values() for line in each if line.mask or line.parts), None)
    if named is not None:
        raise UserError(
            f"{Path(config.path) / config.file} names a mask or parts for {named!r}, a frame of a video, which has "
            "neither; save the video's frames as pictures in rgb/, or leave them out"
        )


def _of_video(lines: Lines | None, stem: str) -> dict[str, Sequence[FrameLine]] | None:
    """Lines of one video or bag by the frame's number: people.jsonl names them `<video>/<number>`."""
    if lines is None:
        return None
    return {frame.removeprefix(f"{stem}/"): found for frame, found in lines.items() if frame.startswith(f"{stem}/")}


def _people(
    config: RecordingConfig, by: RecordedBy | None, frame: FrameFiles, lines: Lines | None
) -> list[Item | Rejected | Skipped]:
    id = f"{config.name}/{frame.stem}"
    found: Sequence[PersonLine] = [PersonLine()] if lines is None else lines.get(frame.stem, [])
    if not found:
        return [Skipped(id, NO_LINE)]
    pictures = {"rgb": frame.rgb, "depth": frame.depth}
    return [
        FolderItem(
            f"{config.name}/{line.id}" if line.id else id + (f"#{number}" if number > 1 else ""),
            PersonLine(
                **line.model_dump(exclude={"frame", "rgb", "depth", "mask"}), **pictures, mask=line.mask or frame.mask
            ),
            config,
            by,
        )
        for number, line in enumerate(found, start=1)
    ]


def read(item: Item | Rejected | Skipped) -> Outcome | Iterator[Outcome]:
    """Return the record of a person, or those of a video or bag."""
    if isinstance(item, Rejected | Skipped):
        return item
    if isinstance(item, BagItem):
        return bags.read(item)
    return videos.read(item) if isinstance(item, VideoItem) else folder.read(item)


def calibrate(job: Job) -> dict[str, Any]:
    """Measure what segments the frames, see `stage.calibrate`; of a video or bag its own frames tell the background."""
    return stage.calibrate(job, _frames_of(job.items))


def _frames_of(items: Sequence[Any]) -> Any:
    kinds = {VideoItem: videos.depth_frames, BagItem: bags.depth_frames}
    return next((kinds[type(each)] for each in items if type(each) in kinds), stage.depth_frames)


def sampled(config: RecordingConfig, items: Sequence[Item | Rejected | Skipped]) -> Sequence[Item | Rejected | Skipped]:
    """Return the few items that `prepare --check` reads, with what segments them: see `stage.sampled`."""
    return stage.sampled(config, items, _frames_of(items))


def inventory(config: RecordingConfig) -> Inventory:
    """Check the pictures or videos, people.jsonl and what --segment names."""
    found = Inventory()
    config, seen = _look(config)
    layout = seen.layout
    everybody = items(config.having_seen(seen))
    found.faults += [Fault(each.id, each.reason) for each in everybody if isinstance(each, Rejected)]
    if layout.bags:
        files = [name for name in layout.bags if (Path(config.path) / name).is_file()]
        found.counts["ROS bags"] = len(layout.bags) - len(files)
        found.check_files("ROS bags", config.path, files)
        for item in _bags(config, layout):
            if fault := bags.fault(item):
                found.faults.append(Fault(item.name, fault))
    elif layout.videos:
        found.check_files("videos", config.path, layout.videos, "MP4", "Matroska", "AVI")
    else:
        _check_pictures(found, config, layout.frames[:: config.stride])
    lines = [each.line for each in everybody if isinstance(each, FolderItem)]
    unmasked = dict.fromkeys(line.rgb or line.depth or "" for line in lines if line.mask is None)
    stage.check(found, config, everybody, tuple(unmasked), folder.PICTURES["mask"])
    return found


def _check_pictures(found: Inventory, config: RecordingConfig, frames: Sequence[FrameFiles]) -> None:
    for what, formats in folder.PICTURES.items():
        label = "RGB" if what == "rgb" else what
        named = [name for frame in frames if (name := getattr(frame, what, None)) is not None]
        raw = [name for name in named if name.endswith(".raw")]
        if named:
            found.check_files(f"{label} pictures", config.path, raw)
            found.check_files(
                f"{label} pictures", config.path, [name for name in named if name not in set(raw)], *formats
            )


def resolve(config: RecordingConfig) -> tuple[RecordingConfig, list[str]]:
    """Return the config with what a tool's keypoints or a detector's files decide, and what the folder and they are."""
    if config.detect and config.use == "depth":
        raise UserError("--detect finds people in RGB, and --use depth leaves it out; give one of them")
    if config.detect and config.keypoints:
        raise UserError("--detect finds keypoints, and --keypoints has some already; give one of them")
    if not config.keypoints:
        check_unused(config, ("format", "first_frame"), "--keypoints")
    elif config.file != type(config).model_fields["file"].default:
        raise UserError("--file and --keypoints both say who is where; give one of them")
    rooted = config.model_copy(update={"path": absolute_folder(config.path)})
    layout = recognize(rooted)
    if not layout.bags:
        check_unused(config, ("color_topic", "depth_topic"), "ROS bags")
    else:
        check_unused(config, ("orientation",), "pictures or videos in files")
    if config.use != "both":
        check_unused(config, ("depth_topic",) if config.use == "rgb" else ("color_topic",), "--use both")
    if not (layout.bags or layout.videos):
        check_unused(config, ("first_frame",), "videos or ROS bags")
    if layout.kind != lerobot.KIND:
        check_unused(config, ("video_key",), "a LeRobot data set")
    if layout.kind not in (kinect2.FOLDER, kinect2.SNAPSHOTS):
        check_unused(config, ("lens",), "iai_kinect2's calib_color.yaml")
    lines = describe(config, layout)
    for item in _bags(rooted, layout):
        lines += bags.describe(item)
    seen = Seen(layout)
    if config.keypoints:
        config, said = tool_keypoints.resolve(config)
        people, passed_over = _tool_lines(config, layout)
        seen = Seen(layout, people, True)
        lines += [*said, *passed_over]
    elif not config.detect:
        seen = Seen(layout, read_lines(rooted), True)
        if seen.lines is None:
            lines.append("nobody's keypoints are known; --detect WEIGHTS of a detector finds them in RGB")
    resolved, detector = resolve_detector(config)
    return resolved.having_seen(seen), [*lines, *detector]


def shown(item: Item) -> Iterator[Shown]:
    """Yield the pictures of a frame, a video or a bag in which a detector is to find people."""
    if isinstance(item, BagItem):
        return bags.shown(item)
    return videos.shown(item) if isinstance(item, VideoItem) else folder.shown(item)


def with_people(item: Item, found: Mapping[str, Found]) -> Sequence[Item | Rejected | Skipped]:
    """Return what to read in place of a frame, a video or a bag in which a detector found people."""
    if isinstance(item, FramesItem):
        return [replace(item, detected=people_found(item, found))]
    return folder.with_people(item, found)
