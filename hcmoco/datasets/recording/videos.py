"""The frames of video files: RGB of any camera, and the recordings of Azure Kinect with their depth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

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

_NO_LINE = "people.jsonl has no line for the frame"
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
        detected: who is in a frame in which a detector looked, in place of `lines`; a text is why somebody is not.
    """

    id: str
    name: str
    config: RecordingConfig
    recorded_by: RecordedBy | None
    lines: Mapping[str, Sequence[FrameLine]] | None
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
        asking = [line for line in _lines(item, moment.frame) if asks(line, item.config)]
        if not asking or moment.color is None or not moment.color.sound:
            continue
        try:
            rgb = _rgb(item, moment.color, moment.by)
        except ValueError:
            continue  # `read` says it
        yield Shown(moment.frame, rgb, [line_box(line, PersonPictures(rgb)) for line in asking])


def with_people(item: VideoItem, found: Mapping[str, Found]) -> VideoItem:
    """Return the video with the people that a detector found in its frames."""
    detected: dict[str, list[PersonLine | str]] = {}
    for frame, answer in found.items():
        people = iter(answer.people)
        lines: list[PersonLine | str] = []
        of_everybody = 0
        for line in _lines(item, frame):
            if not asks(line, item.config):
                lines.append(line)
                continue
            of_everybody += line.box is None
            here = next(people)
            repeated = line.box is None and of_everybody > 1
            lines += [DOUBLE] if repeated else lines_of(line, here, answer.size, item.config)
        detected[frame] = lines
    return replace(item, detected=detected)


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


def _lines(item: VideoItem, frame: str) -> Sequence[PersonLine]:
    """What is known of a frame without a detector."""
    return [PersonLine()] if item.lines is None else item.lines.get(frame, [])


def _frame(item: VideoItem, moment: _Moment) -> list[Outcome]:
    frame, color, depth, by = moment.frame, moment.color, moment.depth, moment.by
    id = f"{item.id}/{frame}"
    lines: Sequence[PersonLine | str] = item.detected.get(frame) or _lines(item, frame)
    if not lines:
        return [Skipped(id, _NO_LINE)]
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
    except ValueError as error:
        return [Rejected(id, str(error))]
    ids = [id, *(f"{id}#{at}" for at in range(2, len(lines) + 1))]
    return [
        outcome(each, line) if isinstance(line, str) else _record(item, each, line, by, rgb, stored)
        for each, line in zip(ids, lines, strict=True)
    ]


def _rgb(item: VideoItem, color: Frame, by: RecordedBy | None) -> np.ndarray:
    """uint8 [H, W, 3], RGB. Raises ValueError for a frame that is turned away from what its camera saw."""
    if item.config.upright and color.quarter_turns and by and (by.color or by.depth):
        raise ValueError(
            f"the cameras of {by.file} saw the video as it is stored, and it says that it is turned by "
            f"{90 * color.quarter_turns} degrees; give --orientation stored"
        )
    return color.rgb(upright=item.config.upright)


def _record(
    item: VideoItem, id: str, line: PersonLine, by: RecordedBy | None, rgb: np.ndarray | None, stored: np.ndarray | None
) -> Any:
    config = item.config
    person = FolderItem(f"{config.name}/{line.id}" if line.id else id, line, config, by)
    joints = len(joint_set(config.joint_set))
    return checked(person.id, joints, lambda: make_person(person, PersonPictures(rgb, stored)), config.depth_codec)
