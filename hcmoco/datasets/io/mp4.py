"""Read frames of an MP4 by their number, decoded in order, once, from the first to the last.

Decoders skip frames that they cannot decode, which would give every later frame a wrong number. So the frames of the
whole file are counted. If there are fewer than its header declares, those behind the first gap in time are not trusted.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from hcmoco.datasets.io.files import path_inside

MAX_BYTES = 1 << 32
_MAX_SIDE = 4096
# A frame is missing if the time between two frames is longer than this, in frames of the declared rate.
_GAP = 1.5


class Video:
    """An open video.

    Attributes:
        declared: number of frames that the header declares.
        sound: frames whose number is certain, counted from the first; known when `sampled` is exhausted.
    """

    def __init__(self, capture: cv2.VideoCapture, declared: int):
        self.declared = declared
        self.sound = 0
        self._capture = capture

    def sampled(self, stride: int, max_frames: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, uint8 [H, W, 3] RGB) of the frames 0, stride, ... below `max_frames`.

        All frames are decoded, but only these are converted.
        """
        capture, period = self._capture, 1000 / max(self._capture.get(cv2.CAP_PROP_FPS), 1e-3)
        decoded, gap, before = 0, 0, 0.0
        while decoded < self.declared and capture.grab():
            time = capture.get(cv2.CAP_PROP_POS_MSEC)
            if not gap and decoded and not time - before < _GAP * period:
                gap = decoded
            before = time
            if decoded % stride == 0 and decoded < max_frames:
                done, image = capture.retrieve()
                if done and image is not None and image.ndim == 3:
                    yield decoded, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            decoded += 1
        self.sound = decoded
        if decoded < self.declared:
            # The last frame of a file that was cut decodes, too, to gray where its data end.
            self.sound = gap or max(0, decoded - 1)


@contextmanager
def open_mp4(folder: str, name: str, max_frames: int) -> Iterator[Video]:
    """Open the video `name` of `folder`, as a context manager.

    Raises:
        ValueError: as `files.path_inside`; the file is not an MP4 or does not open; or it declares no frame, more than
            `max_frames`, or frames of more than 4096 pixels a side.
    """
    path = path_inside(folder, name, MAX_BYTES)
    with path.open("rb") as file:
        # FFmpeg goes by the content, and there are contents that name other files to read.
        if file.read(8)[4:] != b"ftyp":
            raise ValueError(f"{name!r} is not an MP4")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the record's reason says it once
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ValueError(f"the video {name!r} does not open; it is cut short or damaged")
        declared, width, height = (
            capture.get(each)
            for each in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if not 1 <= declared <= max_frames:
            raise ValueError(f"the video {name!r} declares {declared:.0f} frames; 1 to {max_frames} are read")
        if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
            raise ValueError(
                f"the video {name!r} is {width:.0f} x {height:.0f} pixels; at most {_MAX_SIDE} a side are read"
            )
        yield Video(capture, int(declared))
    except cv2.error as error:
        raise ValueError(f"the video {name!r} cannot be decoded: {error.err}") from None
    finally:
        capture.release()
