"""Read frames of a clip's AVI, in order, and decode no more than the codec asks for.

Frames between the wanted ones are not converted, and nothing after the last one is decoded. With a codec that builds a
frame on the one before, no more can be saved.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from hcmoco.datasets.io.files import path_inside
from hcmoco.datasets.ntu.config import COLOR_HEIGHT, COLOR_WIDTH

MAX_BYTES = 1 << 30


def frames(folder: str, name: str, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frames of a video until it ends.

    A frame that the video lacks (an empty chunk) is not yielded, and its successors keep their numbers.

    Args:
        folder: of the video.
        name: of the file.
        numbers: of the frames, ascending and counted from 1.

    Yields:
        (number, uint8 [H, W, 3] BGR), 1920 x 1080 pixels or a smaller copy of the same shape.

    Raises:
        ValueError: as `path_inside`; or the file is not an AVI, does not open, or has another shape.
    """
    path = path_inside(folder, name, MAX_BYTES)
    cut = _is_cut(path)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the record's reason says it once
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ValueError(f"the video {name!r} does not open")
        width, height = (int(capture.get(each)) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        _check_shape(width, height)
        rate = capture.get(cv2.CAP_PROP_FPS) / 1000
        wanted = iter(numbers)
        target = next(wanted, None)
        at, first = 0, None
        grabbed = target is not None and capture.grab()
        while grabbed and target is not None:
            time = capture.get(cv2.CAP_PROP_POS_MSEC) * rate
            first = time if first is None else first
            at = _position(time - first, at + 1)
            while target is not None and target < at:
                target = next(wanted, None)
            done, image = capture.retrieve() if at == target else (False, None)
            # What is left of a file's last, cut picture decodes to gray: only a frame with a successor is whole.
            last = at == target and target == numbers[-1] and not cut
            grabbed = not last and capture.grab()
            if done and image is not None and (grabbed or not cut) and image.shape == (height, width, 3):
                yield at, np.asarray(image)
    finally:
        capture.release()


def _position(frame: float, counted: int) -> int:
    """The number of a frame by its time, `frame` frames after the first; by counting if times are irregular."""
    by_time = round(frame) + 1 if abs(frame) < 1e9 else 0  # not for NaN
    return by_time if by_time >= counted and abs(frame - round(frame)) < 0.1 else counted


def _is_cut(path: Path) -> bool:
    """Whether the file ends before its header says.

    ValueError if it is not an AVI: other containers may name further files.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if len(start) < 12 or start[:4] != b"RIFF" or start[8:] != b"AVI ":
        raise ValueError(f"{path.name!r} is not an AVI")
    return path.stat().st_size < 8 + struct.unpack_from("<I", start, 4)[0]


def _check_shape(width: int, height: int) -> None:
    if not (0 < width <= COLOR_WIDTH and abs(height - width * COLOR_HEIGHT / COLOR_WIDTH) <= 1):
        raise ValueError(
            f"the video is {width} x {height} pixels; "
            f"{COLOR_WIDTH} x {COLOR_HEIGHT} or a smaller copy of the same shape is read"
        )
