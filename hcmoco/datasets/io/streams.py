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
RECORDED = ("mov", "matroska", "avi")
"""What cameras and phones write: the formats, under FFmpeg's names, of a data set's videos."""
FORMATS = (*RECORDED, "mpeg", "mpegts", "asf", "flv", "ogg", "gif", "ivf", "yuv4mpegpipe", "nut")
"""All that are read."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".ogv", ".gif", ".ivf", ".y4m", ".nut"),
)
"""By which videos in a folder are known."""
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_STILLS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")  # brands of pictures
_STARTS = {
    b"\x1a\x45\xdf\xa3": "matroska", b"\0\0\1\xba": "mpeg", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"FLV\1": "flv", b"OggS": "ogg", b"GIF8": "gif", b"DKIF": "ivf", b"YUV4MPEG2": "yuv4mpegpipe",
    b"nut/multimedia": "nut",
}  # fmt: skip


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


def container_of(path: Path) -> str | None:
    """Return the format of a video file by its first bytes, one of FORMATS; None for any other file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4 + 192 + 1)
    if start[4:8] in _ATOMS and not (start[4:8] == b"ftyp" and start[8:12] in _STILLS):
        return "mov"
    if start[:4] == b"RIFF":
        return "avi" if start[8:12] == b"AVI " else None
    # The first byte of each packet of a transport stream: every 188 bytes, or every 192 after 4 of a time.
    if any(start[at : at + 1] == start[at + size : at + size + 1] == b"G" for at, size in ((0, 188), (4, 192))):
        return "mpegts"
    return next((name for head, name in _STARTS.items() if start.startswith(head)), None)


@contextmanager
def open_video(folder: str | Path, name: str, formats: Sequence[str] = RECORDED) -> Iterator[Any]:
    """Open the video file `name` of `folder`, as a context manager that yields PyAV's container.

    Args:
        folder: of the file.
        name: path of the file relative to it.
        formats: those of FORMATS that are read.

    Raises:
        ValueError: as `files.path_inside`; the file is of another format, does not open, or has no video of at most
            8192 pixels a side; or the library finds damage inside the block that it cannot pass over.
    """
    import av

    path = path_inside(folder, name, MAX_BYTES)
    form = container_of(path)
    if form not in formats:
        known = "MP4, MOV, Matroska or AVI file" + ("" if formats == RECORDED else ", or another video that is read")
        raise ValueError(f"{name!r} is no {known}")
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
