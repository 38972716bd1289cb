"""The frames of a recording as people: its pictures, and what people.jsonl says of them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hcmoco import unique_keys
from hcmoco.config import build
from hcmoco.datasets import folder
from hcmoco.datasets.base import Found, Outcome, Rejected, Shown, Skipped, absolute_folder
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.detected import asks_for_everybody, check_placed, resolve_detector, without_doubles
from hcmoco.datasets.io.files import text_lines
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.person_lines import FolderItem, PersonLine, check_label_map, joints_fault
from hcmoco.datasets.recording import videos
from hcmoco.datasets.recording.config import FrameFiles, FrameLine, RecordingConfig
from hcmoco.datasets.recording.layouts import describe, recognize
from hcmoco.datasets.recording.videos import VideoItem
from hcmoco.errors import UserError

_NO_LINE = "people.jsonl has no line for the frame"
_ALONE = "the picture has no partner in the other modality; --use rgb or --use depth reads one alone"
Item = FolderItem | VideoItem


def items(config: RecordingConfig) -> list[Item | Rejected | Skipped]:
    """List the people of a recording, in the order of its frames; of videos the files.

    Ids are `<name>/<frame>`, with `#<number>` for the second person of a frame and further ones. Without people.jsonl
    each frame is one person; with it, a frame that it does not name is Skipped.

    Raises:
        UserError: see `layouts.recognize`; or people.jsonl is not readable, or names a frame that does not exist.
    """
    layout = recognize(config)
    lines = read_lines(config)
    if layout.videos:
        _check_no_pictures(config, lines)
        known = [line for each in (lines or {}).values() for line in each]
        check_placed(config, [True] if lines is None else (asks_for_everybody(line, config) for line in known))
        return [
            VideoItem(f"{config.name}/{Path(name).stem}", name, config, layout.recorded_by, _of_video(lines, name))
            for name in layout.videos
        ]
    chosen = layout.frames[:: config.stride]
    _check_known(config, lines, {frame.stem for frame in layout.frames})
    alone = [Skipped(f"{config.name}/{name}", _ALONE) for name in layout.unpaired if config.use == "both"]
    found = [*(item for frame in chosen for item in _people(config, layout.recorded_by, frame, lines)), *alone]
    if not config.detect:
        return found
    people = (each for each in found if isinstance(each, FolderItem) and each.line.rgb)
    check_placed(config, (asks_for_everybody(each.line, config) for each in people))
    return without_doubles(found)


def read_lines(config: RecordingConfig) -> dict[str, list[FrameLine]] | None:
    """Return the lines of people.jsonl by frame; None if there is no such file.

    Raises:
        UserError: a line is no JSON object with the keys of `FrameLine`, or its joints are of another joint set.
    """
    path = Path(config.path) / config.file
    if not path.is_file():
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
    check_label_map(config, (line for lines in found.values() for line in lines), path)
    return dict(found)


def _check_known(config: RecordingConfig, lines: dict[str, list[FrameLine]] | None, stems: set[str]) -> None:
    unknown = next((frame for frame in lines or {} if frame not in stems), None)
    if unknown is not None:
        raise UserError(
            f"{Path(config.path) / config.file} names the frame {unknown!r}, which the recording lacks; "
            f"a frame is called like its color picture without the ending, for example {min(stems)!r}"
        )


def _check_no_pictures(config: RecordingConfig, lines: dict[str, list[FrameLine]] | None) -> None:
    named = next((line.frame for each in (lines or {}).values() for line in each if line.mask or line.parts), None)
    if named is not None:
        raise UserError(
            f"{Path(config.path) / config.file} names a mask or parts for {named!r}, a frame of a video, which has "
            "neither; save the video's frames as pictures in rgb/, or leave them out"
        )


def _of_video(lines: dict[str, list[FrameLine]] | None, name: str) -> dict[str, list[FrameLine]] | None:
    """Lines of one video by the frame's number: people.jsonl names them `<video>/<number>`."""
    if lines is None:
        return None
    stem = f"{Path(name).stem}/"
    return {frame.removeprefix(stem): found for frame, found in lines.items() if frame.startswith(stem)}


def _people(
    config: RecordingConfig, by: RecordedBy | None, frame: FrameFiles, lines: dict[str, list[FrameLine]] | None
) -> list[Item | Rejected | Skipped]:
    id = f"{config.name}/{frame.stem}"
    found: Sequence[PersonLine] = [PersonLine()] if lines is None else lines.get(frame.stem, [])
    if not found:
        return [Skipped(id, _NO_LINE)]
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


def read(item: Item | Rejected | Skipped) -> Outcome | list[Outcome]:
    """Return the record of a person, or those of a video."""
    if isinstance(item, Rejected | Skipped):
        return item
    return videos.read(item) if isinstance(item, VideoItem) else folder.read(item)


def inventory(config: RecordingConfig) -> Inventory:
    """Check the pictures or videos."""
    layout = recognize(config)
    found = Inventory()
    if layout.videos:
        found.check_files("videos", config.path, layout.videos, "MP4", "Matroska", "AVI")
        return found
    for what, formats in folder.PICTURES.items():
        label = "RGB" if what == "rgb" else what
        named = [name for frame in layout.frames if (name := getattr(frame, what, None)) is not None]
        raw = [name for name in named if name.endswith(".raw")]
        if named:
            found.check_files(f"{label} pictures", config.path, raw)
            found.check_files(
                f"{label} pictures", config.path, [name for name in named if name not in set(raw)], *formats
            )
    return found


def resolve(config: RecordingConfig) -> tuple[RecordingConfig, list[str]]:
    """Return the config with what a detector's files decide, and what the folder is, one line each."""
    if config.detect and config.use == "depth":
        raise UserError("--detect finds people in RGB, and --use depth leaves it out; give one of them")
    rooted = config.model_copy(update={"path": absolute_folder(config.path)})
    told = describe(config, recognize(rooted))
    if not config.detect and read_lines(rooted) is None:
        told.append("nobody's keypoints are known; --detect WEIGHTS of a detector finds them in RGB")
    resolved, detector = resolve_detector(config)
    return resolved, [*told, *detector]


def shown(item: Item) -> Iterator[Shown]:
    """Yield the pictures of a frame or a video in which a detector is to find people."""
    return videos.shown(item) if isinstance(item, VideoItem) else folder.shown(item)


def with_people(item: Item, found: Mapping[str, Found]) -> Sequence[Item | Rejected | Skipped]:
    """Return what to read in place of a frame or a video in which a detector found people."""
    return [videos.with_people(item, found)] if isinstance(item, VideoItem) else folder.with_people(item, found)
