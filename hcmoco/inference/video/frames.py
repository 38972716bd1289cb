"""Read the frames of a user's video as pictures, one after the other: a video of any length takes the memory of a few.

Shapes: H, W rows and columns of a frame as people see it, turned by the rotation that its file declares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from hcmoco.datasets.io.streams import FORMATS, Frame, frames, open_video
from hcmoco.inference.inputs import VideoFile

DAMAGED = "the frame is damaged, or made of damaged ones"
_RATE = Fraction(25)  # of a file that has none


@dataclass
class VideoFacts:
    """What a file says of its video, and what was met in it.

    Attributes:
        name: of the file.
        rate: frames per second.
        time_base: seconds per unit of its times.
        pixel_aspect: width of a pixel over its height, of frames as people see them.
        declared: number of frames that its header tells, or that follow from its length; 0: it tells none.
        exact: the header tells the number itself.
        every: each so-manieth frame is predicted.
        seen: number of frames that decoded.
        last: number of the last frame.
        damaged: numbers of the damaged frames.
        missing: number of frames between others that have no picture.
        first_missing: number of the first of them.
        resized: number of frames that have another size than the first.
        error: why it could not be read, or not to its end.
    """

    name: str
    rate: Fraction = _RATE
    time_base: Fraction = 1 / _RATE
    pixel_aspect: Fraction = Fraction(1)
    declared: int = 0
    exact: bool = False
    every: int = 1
    seen: int = 0
    last: int = -1
    damaged: list[int] = field(default_factory=list)
    missing: int = 0
    first_missing: int = 0
    resized: int = 0
    error: str = ""

    @property
    def cut(self) -> int:
        """Return how many frames at the end the header promises in vain."""
        return max(0, self.declared - self.last - 1) if self.exact and self.seen else 0

    def faults(self) -> list[str]:
        """Return what is wrong with the video, in words."""
        said = []
        if self.damaged:
            first = self.damaged[0]
            said.append(f"{len(self.damaged)} of {self.seen} frames are damaged, first frame {first}")
        if self.missing:
            said.append(f"its times have room for {self.missing} frames more, first frame {self.first_missing}")
        if self.resized:
            said.append(f"{self.resized} frames have another size than the first, and are shown in its size")
        if self.cut:
            said.append(f"it ends after frame {self.last}; its header tells {self.declared} frames")
        return [*said, *([self.error] if self.error else [])]


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video.

    Attributes:
        facts: of its video.
        frame: the decoder's.
        first: it is the first of the video that is predicted.
    """

    facts: VideoFacts
    frame: Frame
    first: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other frame or picture has."""
        return frame_name(self.facts.name, self.frame.number)

    @property
    def pts(self) -> int:
        """Return its time in units of the video's time base."""
        return int(self.frame.picture.pts)

    def rgb(self) -> np.ndarray:
        """Return uint8 [H, W, 3]: the upright frame. Raises ValueError for a damaged one."""
        if not self.frame.sound:
            raise ValueError(DAMAGED)
        return self.shown()

    def shown(self) -> np.ndarray:
        """Return uint8 [H, W, 3]: the upright frame, damaged or not."""
        return self.frame.rgb()


@dataclass(frozen=True)
class VideoEnd:
    """Comes after the last frame of a video: its facts are complete."""

    facts: VideoFacts


def frame_name(video: str, number: int) -> str:
    """Return the name of a frame, counted from 0."""
    return f"{video}/{number:06d}"


def look_at(file: VideoFile) -> VideoFacts:
    """Return what a video file declares; `error` says why it does not open."""
    facts = VideoFacts(file.name)
    try:
        with open_video(file.path.parent.resolve(), file.path.name, FORMATS) as container:
            _declare(facts, _stream(container))
    except (ValueError, OSError) as error:
        facts.error = str(error)
    return facts


def read_frames(file: VideoFile, every: int = 1) -> Iterator[VideoFrame | VideoEnd]:
    """Yield the frames 0, `every`, 2 `every`, ... of a video, and at last its end.

    Damage ends neither the iteration nor the program: it is in the facts.
    """
    facts = VideoFacts(file.name, every=every)
    first = True
    before: int | None = None
    try:
        with open_video(file.path.parent.resolve(), file.path.name, FORMATS) as container:
            stream = _stream(container)
            _declare(facts, stream)
            for frame in frames(container, stream):
                if not facts.seen:
                    facts.pixel_aspect = _aspect(stream, frame)
                if frame.number > facts.last + 1:
                    facts.first_missing = facts.first_missing if facts.missing else facts.last + 1
                    facts.missing += frame.number - facts.last - 1
                facts.seen, facts.last = facts.seen + 1, frame.number
                if not frame.sound:
                    facts.damaged.append(frame.number)
                if frame.picture.pts is None or (before is not None and frame.picture.pts <= before):
                    # A file without times, or one whose times go back: the next moment at the declared rate.
                    step = max(1, round(1 / (facts.rate * facts.time_base)))
                    frame.picture.pts = 0 if before is None else before + step
                before = frame.picture.pts
                if frame.number % every == 0:
                    yield VideoFrame(facts, frame, first)
                    first = False
            if not facts.seen:
                facts.error = "no frame of it decodes"
    except (ValueError, OSError) as error:
        facts.error = str(error)
    yield VideoEnd(facts)


def _stream(container: Any) -> Any:
    """The video of a file. A cover picture of a file of music is none."""
    return next((each for each in container.streams.video if not _is_cover(each)), container.streams.video[0])


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


def _declare(facts: VideoFacts, stream: Any) -> None:
    facts.rate = stream.average_rate or stream.guessed_rate or _RATE
    facts.time_base = stream.time_base or 1 / facts.rate
    facts.declared, facts.exact = stream.frames, stream.frames > 0
    if not facts.exact and stream.duration and stream.time_base:
        facts.declared = round(stream.duration * stream.time_base * facts.rate)


def _aspect(stream: Any, frame: Frame) -> Fraction:
    stored = stream.sample_aspect_ratio or Fraction(1)
    return 1 / stored if frame.quarter_turns % 2 else stored
