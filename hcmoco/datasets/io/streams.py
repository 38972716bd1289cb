"""Read the frames of video files with FFmpeg (PyAV), by number and time, and say which of them damage touched.

Decoders go on after a damaged packet with pictures that are made of what came before. So of each frame it is known
whether everything since the last key frame was whole. Phones store videos turned: frames can be turned upright.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.datasets.io.files import path_inside
from hcmoco.errors import one_line

MAX_BYTES = 1 << 38
_MAX_SIDE = 8192
_REGULAR = 0.1  # of a frame: how far times may be off those of a constant rate; else frames are counted
# FFmpeg goes by the content, and there are contents that name other files to read: only these are opened, as such.
_FORMATS = {b"ftyp": "mov", b"moov": "mov", b"\x1a\x45\xdf\xa3": "matroska", b"RIFF": "avi"}


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: from 0, in the order in which frames are shown; frames that do not decode keep theirs for themselves.
        seconds: its time; None if the file has none.
        sound: nothing that the frame is made of is damaged.
        picture: the decoder's frame, an av.VideoFrame.
    """

    number: int
    seconds: float | None
    sound: bool
    picture: Any

    @property
    def quarter_turns(self) -> int:
        """Return by how many quarters, counterclockwise, the file says to turn the frame, 0..3."""
        return round(self.picture.rotation / 90) % 4

    def rgb(self, *, upright: bool = True) -> np.ndarray:
        """Return uint8 [H, W, 3], RGB: turned as the file says, or with pixels as they are stored."""
        rgb = self.picture.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(rgb, self.quarter_turns)) if upright else rgb


@contextmanager
def open_video(folder: str | Path, name: str) -> Iterator[Any]:
    """Open the MP4, MOV, Matroska or AVI file `name` of `folder`, as a context manager that yields PyAV's container.

    Raises:
        ValueError: as `files.path_inside`; the file is of another format, does not open, or has no video of at most
            8192 pixels a side; or the library finds damage inside the block that it cannot pass over.
    """
    import av

    path = path_inside(folder, name, MAX_BYTES)
    with path.open("rb") as file:
        start = file.read(8)
    form = _FORMATS.get(start[4:]) or _FORMATS.get(start[:4])
    if form is None:
        raise ValueError(f"{name!r} is no MP4, MOV, Matroska or AVI file")
    try:
        with av.open(str(path), format=form) as container:
            for stream in container.streams.video:
                stream.thread_type = "NONE"
                if not (0 < stream.width <= _MAX_SIDE and 0 < stream.height <= _MAX_SIDE):
                    raise ValueError(
                        f"the video {name!r} is {stream.width} x {stream.height} pixels; "
                        f"at most {_MAX_SIDE} a side are read"
                    )
            if not container.streams.video:
                raise ValueError(f"{name!r} has no video")
            yield container
    except (av.FFmpegError, EOFError) as error:
        raise ValueError(f"the video {name!r} is cut short or damaged: {one_line(error)}") from None


def frames(container: Any, stream: Any) -> Iterator[Frame]:
    """Yield the frames of a video stream, in order, from the first on."""
    return (frame for _, frame in decoded(container, [stream]))


def decoded(container: Any, streams: Sequence[Any]) -> Iterator[tuple[int, Frame]]:
    """Yield (index of the stream, frame) of several video streams, each in order, as the file holds them."""
    import av

    numbers = dict.fromkeys((stream.index for stream in streams), 0)
    first: dict[int, int] = {}
    broken: dict[int, int] = {}
    for packet in container.demux(*streams):
        index, rate = packet.stream.index, packet.stream.average_rate
        try:
            found = packet.decode()
        except av.FFmpegError:
            broken[index] = max(broken.get(index, 0), packet.pts or 0)
            continue
        for picture in found:
            number = numbers[index]
            if picture.pts is not None and rate:
                # A frame that does not decode is not counted, but its successors are as late as they are.
                at = float((picture.pts - first.setdefault(index, picture.pts)) * picture.time_base * rate)
                number = max(number, round(at)) if abs(at - round(at)) < _REGULAR else number
            if picture.is_corrupt:
                broken[index] = picture.pts or 0
            elif picture.key_frame and (picture.pts or 0) > broken.get(index, -1):
                broken.pop(index, None)
            sound = not picture.is_corrupt and (index not in broken or bool(picture.key_frame))
            yield index, Frame(number, picture.time, sound, picture)
            numbers[index] = number + 1
