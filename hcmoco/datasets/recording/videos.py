"""The frames of video files: RGB of any camera, and the recordings of Azure Kinect with their depth."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hcmoco.data.depth_units import in_millimeters
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import Found, Outcome, Rejected, Shown, Skipped
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.detected import DOUBLE, asks, line_box, lines_of, outcome
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
        detected: who is in a frame in which a detector looked, in place of `lines`; a text is why somebody is not.
    """

    id: str
    name: str
    config: RecordingConfig
    recorded_by: RecordedBy | None
    lines: Mapping[str, Sequence[FrameLine]] | None
    segmenter: Segmenter | None = None
    detected: Mapping[str, Sequence[PersonLine | str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Moment:
    """What the cameras saw at one number; None where a stream has no picture."""

    number: int
    color: Frame | None
    depth: Frame | None
    by: RecordedBy | None

    @property
    def frame(self) -> str:
        return f"{self.number:06d}"


def depth_frames(items: Iterable[VideoItem]) -> Iterator[np.ndarray]:
    """Yield the depth of videos in millimeters, every `stride`-th frame that is whole.

    Raises:
        ValueError: a video does not open, or has no depth.
    """
    for item in items:
        found = False
        for moment in _moments(item):
            found = found or moment.depth is not None
            if moment.depth is not None and moment.depth.sound:
                yield in_millimeters(azure_kinect.depth_picture(moment.depth), item.config.depth_unit or "mm")
        if not found:
            raise ValueError(f"the video {item.name!r} has no depth, so it has no background to remove")


def read(item: VideoItem) -> list[Outcome]:
    """Return the records of every `stride`-th frame, in order; the whole file is Rejected if it does not open."""
    found: list[Outcome] = []
    try:
        for moment in _moments(item):
            found += _frame(item, moment)
    except ValueError as error:
        found.append(Rejected(item.id, str(error)))
    return found or [Rejected(item.id, f"the video {item.name!r} has no frame")]


def shown(item: VideoItem) -> Iterator[Shown]:
    """Yield the frames of which somebody's keypoints are not known, for a detector.

    Raises:
        ValueError: the video does not open, or is damaged.
    """
    for moment in _moments(item):
        lines = lines_of_frame(item.lines, moment.frame)
        if moment.color is None or not moment.color.sound or not any(asks(line, item.config) for line in lines):
            continue
        try:
            picture = to_find(lines, item.config, moment.frame, _rgb(item, moment.color, moment.by))
        except ValueError:
            continue  # `read` says it
        if picture is not None:
            yield picture


def people_found(
    known: Mapping[str, Sequence[FrameLine]] | None, config: RecordingConfig, found: Mapping[str, Found]
) -> dict[str, list[PersonLine | str]]:
    """Return who is in the frames in which a detector looked; a text is why somebody is not.

    Args:
        known: lines of people.jsonl by frame; None: there are none.
        config: of the reader.
        found: by frame.
    """
    detected: dict[str, list[PersonLine | str]] = {}
    for frame, answer in found.items():
        people = iter(answer.people)
        lines: list[PersonLine | str] = []
        of_everybody = 0
        for line in lines_of_frame(known, frame):
            if not asks(line, config):
                lines.append(line)
                continue
            of_everybody += line.box is None
            here = next(people)
            repeated = line.box is None and of_everybody > 1
            lines += [DOUBLE] if repeated else lines_of(line, here, answer.size, config)
        detected[frame] = lines
    return detected


def to_find(lines: Sequence[PersonLine], config: RecordingConfig, frame: str, rgb: np.ndarray) -> Shown | None:
    """Return a frame with the boxes of whom a detector is to find in it; None if nobody is asked for.

    Args:
        lines: what is known of the frame.
        config: of the reader.
        frame: its number in 6 digits.
        rgb: uint8 [H, W, 3].
    """
    asking = [line for line in lines if asks(line, config)]
    return Shown(frame, rgb, [line_box(line, PersonPictures(rgb)) for line in asking]) if asking else None


def _moments(item: VideoItem) -> Iterator[_Moment]:
    """Every `stride`-th moment of a video, in order. Raises ValueError where it is damaged or has not what is read."""
    stride = item.config.stride
    with open_video(item.config.path, item.name) as container:
        streams = azure_kinect.streams(container)
        if item.config.use == "depth" and streams is None:
            raise ValueError(f"the video {item.name!r} has no depth; read it with --use rgb")
        if streams is not None:
            by = azure_kinect.recorded_by(container, streams, item.name)
            for number, (color, depth) in enumerate(azure_kinect.pairs(container, streams)):
                if number % stride == 0:
                    yield _Moment(number, color, depth, by)
            return
        due = 0
        for frame in frames(container, container.streams.video[0]):
            for number in range(due, frame.number + 1):
                if number % stride == 0:
                    yield _Moment(number, frame if number == frame.number else None, None, item.recorded_by)
            due = frame.number + 1


def lines_of_frame(known: Mapping[str, Sequence[FrameLine]] | None, frame: str) -> Sequence[PersonLine]:
    """Return what is known of a frame without a detector, see `VideoItem.lines`."""
    return [PersonLine()] if known is None else known.get(frame, [])


def _frame(item: VideoItem, moment: _Moment) -> list[Outcome]:
    frame, color, depth, by = moment.frame, moment.color, moment.depth, moment.by
    id = f"{item.id}/{frame}"
    lines: Sequence[PersonLine | str] = item.detected.get(frame) or lines_of_frame(item.lines, frame)
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
    line: PersonLine | str,
    by: RecordedBy | None,
    pictures: PersonPictures,
    segmenter: Segmenter | None,
) -> Outcome:
    """Return the record of one person of a frame of a file with many.

    Args:
        config: of the reader.
        id: of the frame.
        at: number of the person in it, from 1.
        line: what is known of the person; a text is why a detector has nobody there.
        by: the cameras.
        pictures: of the frame.
        segmenter: finds the person in depth; None: nothing does.
    """
    id = f"{id}#{at}" if at > 1 else id
    if isinstance(line, str):
        return outcome(id, line)
    id = f"{config.name}/{line.id}" if line.id else id
    person = FolderItem(id, line, config, by, segmenter)
    return checked(id, len(joint_set(config.joint_set)), lambda: make_person(person, pictures), config.depth_codec)
