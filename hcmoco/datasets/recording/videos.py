"""The frames of video files: RGB of any camera, and the recordings of Azure Kinect with their depth."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hcmoco.data.depth_units import in_millimeters
from hcmoco.datasets.base import Outcome, Rejected, Shown, Skipped
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.detected import asks
from hcmoco.datasets.io.streams import Frame, frames, open_video
from hcmoco.datasets.recording import azure_kinect
from hcmoco.datasets.recording.frames_item import NO_LINE, FramesItem, frame_records, not_reached, to_find

_DAMAGED = "the video is damaged here: the frame is made of data that do not decode"


class VideoItem(FramesItem):
    """One video file."""


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


def read(item: VideoItem) -> Iterator[Outcome]:
    """Yield the records of every `stride`-th frame, in order; the whole file is Rejected if it does not open."""
    last = -1
    try:
        for moment in _moments(item):
            yield from _frame(item, moment)
            last = moment.number
        yield from not_reached(item, last)
    except ValueError as error:
        yield Rejected(item.id, str(error))
    else:
        if last < 0 and not item.lines:
            yield Rejected(item.id, f"the video {item.name!r} has no frame")


def shown(item: VideoItem) -> Iterator[Shown]:
    """Yield the frames of which somebody's keypoints are not known, for a detector.

    Raises:
        ValueError: the video does not open, or is damaged.
    """
    for moment in _moments(item):
        asked = any(asks(line, item.config) for line in item.known(moment.frame))
        if moment.color is None or not moment.color.sound or not asked:
            continue
        try:
            picture = to_find(item, moment.frame, _rgb(item, moment.color, moment.by))
        except ValueError:
            continue  # `read` says it
        if picture is not None:
            yield picture


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


def _frame(item: VideoItem, moment: _Moment) -> list[Outcome]:
    frame, color, depth, by = moment.frame, moment.color, moment.depth, moment.by
    id = f"{item.id}/{frame}"
    if not item.people(frame):
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
    except ValueError as error:
        return [Rejected(id, str(error))]
    return frame_records(item, frame, rgb, stored, by)


def _rgb(item: VideoItem, color: Frame, by: RecordedBy | None) -> np.ndarray:
    """uint8 [H, W, 3], RGB. Raises ValueError for a frame that is turned away from what its camera saw."""
    if item.config.upright and color.quarter_turns and by and (by.color or by.depth):
        raise ValueError(
            f"the cameras of {by.file} saw the video as it is stored, and it says that it is turned by "
            f"{90 * color.quarter_turns} degrees; give --orientation stored"
        )
    return color.rgb(upright=item.config.upright)
