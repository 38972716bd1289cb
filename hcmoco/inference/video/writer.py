"""Write frames as H.264 in an MP4, each at the time that it has in the video that it is from."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from hcmoco.errors import UserError, one_line

CODEC = "libx264"
_QUALITY = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """Writes one MP4, frame by frame.

    Sides that are odd get a column or row of black more: H.264 in the colors that every player shows (4:2:0) has
    even sides alone. There is no sound.

    Args:
        path: of the file, replaced if it is there.
        width, height: of the frames, pixels.
        rate: frames per second.
        time_base: seconds per unit of the frames' times.
        pixel_aspect: width of a pixel over its height.
        threads: of the encoder.

    Raises:
        UserError: this PyAV has no encoder for H.264, or the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        rate: Fraction,
        time_base: Fraction,
        pixel_aspect: Fraction = Fraction(1),
        threads: int = 1,
    ):
        self._size = width, height
        self._container, self._stream = _open(path, rate)
        context = self._stream.codec_context
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt, context.time_base = "yuv420p", time_base
        context.sample_aspect_ratio = pixel_aspect
        context.thread_count = threads
        # Told in the file, for players take what they like where it is missing.
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        self._stream.time_base = self._time_base = time_base

    def add(self, rgb_HW3: np.ndarray, pts: int) -> None:
        """Add a frame.

        Args:
            rgb_HW3: uint8, RGB, of the size of all frames.
            pts: its time in units of the time base, later than that of the frame before.

        Raises:
            ValueError: it has another size.
        """
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = rgb_HW3.shape[:2]
        if (width, height) != self._size:
            raise ValueError(f"the frame is {width} x {height}, the video {self._size[0]} x {self._size[1]} pixels")
        padded = np.pad(rgb_HW3, ((0, height % 2), (0, width % 2), (0, 0))) if height % 2 or width % 2 else rgb_HW3
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = pts, self._time_base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path, rate: Fraction) -> tuple[Any, Any]:
    """An MP4 that is open for writing, and its stream."""
    import av

    try:
        container = av.open(str(path), "w", format="mp4")
        return container, container.add_stream(CODEC, rate=rate, options=_QUALITY)
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path} cannot be written as H.264: {one_line(error)}; install PyAV's own wheel (pip install av)"
        ) from None
