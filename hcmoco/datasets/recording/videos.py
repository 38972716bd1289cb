"""The frames of video files: RGB of any camera, and the recordings of Azure Kinect with their depth."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hcmoco.data.depth_units import in_millimeters
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import Outcome, Rejected, Skipped
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.io.streams import Frame, frames, open_video
from hcmoco.datasets.person_crop import checked
from hcmoco.datasets.person_files import PersonPictures
from hcmoco.datasets.person_lines import FolderItem, PersonLine
from hcmoco.datasets.recorded_person import make_person
from hcmoco.datasets.recording import azure_kinect
from hcmoco.datasets.recording.config import FrameLine, RecordingConfig
from hcmoco.datasets.segmentation import MaskFolder, Segmenter

NO_LINE = "nobody is known in the frame: people.jsonl or the keypoints have no line for it"
_DAMAGED = "the video is damaged here: the frame is made of data that do not decode"


@dataclass(frozen=True)
class VideoItem:
    """One video file.

    Attributes:
        id: `<name>/<file without its ending>`; records add `/<number of the frame, 6 digits>`.
        name: of the file.
        config: of the reader.
        recorded_by: the cameras, from camera.json.
        lines: what people.jsonl says, by the frame's number in 6 digits; None: there is no such file.
        segmenter: finds the person in depth, where --segment asks for it.
    """

    id: str
    name: str
    config: RecordingConfig
    recorded_by: RecordedBy | None
    lines: Mapping[str, Sequence[FrameLine]] | None
    segmenter: Segmenter | None = None


def depth_frames(items: Iterable[VideoItem]) -> Iterator[np.ndarray]:
    """Yield the depth of videos in millimeters, every `stride`-th frame that is whole.

    Raises:
        ValueError: a video does not open, or has no depth.
    """
    for item in items:
        with open_video(item.config.path, item.name) as container:
            streams = azure_kinect.streams(container)
            if streams is None:
                raise ValueError(f"the video {item.name!r} has no depth, so it has no background to remove")
            for number, (_, depth) in enumerate(azure_kinect.pairs(container, streams)):
                if number % item.config.stride == 0 and depth is not None and depth.sound:
                    yield in_millimeters(azure_kinect.depth_picture(depth), item.config.depth_unit or "mm")


def read(item: VideoItem) -> list[Outcome]:
    """Return the records of every `stride`-th frame, in order; the whole file is Rejected if it does not open."""
    found: list[Outcome] = []
    try:
        with open_video(item.config.path, item.name) as container:
            streams = azure_kinect.streams(container)
            if item.config.use == "depth" and streams is None:
                return [Rejected(item.id, f"the video {item.name!r} has no depth; read it with --use rgb")]
            if streams is None:
                found += _of_color(item, frames(container, container.streams.video[0]))
            else:
                by = azure_kinect.recorded_by(container, streams, item.name)
                for number, (color, depth) in enumerate(azure_kinect.pairs(container, streams)):
                    if number % item.config.stride == 0:
                        found += _frame(item, number, color, depth, by)
    except ValueError as error:
        found.append(Rejected(item.id, str(error)))
    return found or [Rejected(item.id, f"the video {item.name!r} has no frame")]


def _of_color(item: VideoItem, shown: Iterator[Frame]) -> Iterator[Outcome]:
    """The records of a video without depth; a number that no frame has is Rejected."""
    due = 0
    for frame in shown:
        for number in range(due, frame.number + 1):
            if number % item.config.stride == 0:
                picture = frame if number == frame.number else None
                yield from _frame(item, number, picture, None, item.recorded_by)
        due = frame.number + 1


def _frame(
    item: VideoItem, number: int, color: Frame | None, depth: Frame | None, by: RecordedBy | None
) -> list[Outcome]:
    frame = f"{number:06d}"
    id = f"{item.id}/{frame}"
    lines: Sequence[PersonLine] = [PersonLine()] if item.lines is None else item.lines.get(frame, [])
    if not lines:
        return [Skipped(id, NO_LINE)]
    if color is None and depth is None:
        return [Rejected(id, _DAMAGED)]
    color = None if item.config.use == "depth" else color
    depth = None if item.config.use == "rgb" else depth
    if color is None and depth is None:
        return [Skipped(id, "the frame has no picture of the modality that is read")]
    if any(each is not None and not each.sound for each in (color, depth)):
        return [Rejected(id, _DAMAGED)]
    try:
        rgb = None if color is None else _rgb(item, color, by)
        stored = None if depth is None else azure_kinect.depth_picture(depth)
        mask = frame_mask(item.config, id, item.segmenter)
    except ValueError as error:
        return [Rejected(id, str(error))]
    pictures = PersonPictures(rgb, stored, mask=mask)
    return [frame_record(item.config, id, at, line, by, pictures, item.segmenter) for at, line in enumerate(lines, 1)]


def _rgb(item: VideoItem, color: Frame, by: RecordedBy | None) -> np.ndarray:
    """uint8 [H, W, 3], RGB. Raises ValueError for a frame that is turned away from what its camera saw."""
    if item.config.upright and color.quarter_turns and by and (by.color or by.depth):
        raise ValueError(
            f"the cameras of {by.file} saw the video as it is stored, and it says that it is turned by "
            f"{90 * color.quarter_turns} degrees; give --orientation stored"
        )
    return color.rgb(upright=item.config.upright)


def frame_mask(config: RecordingConfig, id: str, segmenter: Segmenter | None) -> np.ndarray | None:
    """Return the mask that a folder has for a frame, uint8 [H, W], 255 on the person; None if masks are not in one.

    Raises:
        ValueError: the folder has none, or it cannot be read.
    """
    if not isinstance(segmenter, MaskFolder):
        return None
    inside = segmenter.read(id.removeprefix(f"{config.name}/"), upright=config.upright)
    return np.where(inside, np.uint8(255), np.uint8(0))


def frame_record(
    config: RecordingConfig,
    id: str,
    at: int,
    line: PersonLine | None,
    by: RecordedBy | None,
    pictures: PersonPictures,
    segmenter: Segmenter | None,
) -> Person | Rejected:
    """Return the record of one person of a frame of a file with many.

    Args:
        config: of the reader.
        id: of the frame.
        at: number of the person in it, from 1.
        line: what people.jsonl says of the person; None: nothing.
        by: the cameras.
        pictures: of the frame.
        segmenter: finds the person in depth; None: nothing does.
    """
    line = line or PersonLine()
    id = f"{config.name}/{line.id}" if line.id else f"{id}#{at}" if at > 1 else id
    person = FolderItem(id, line, config, by, segmenter)
    return checked(id, len(joint_set(config.joint_set)), lambda: make_person(person, pictures), config.depth_codec)
