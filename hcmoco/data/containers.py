"""Check PNG and JPEG containers: what their first bytes declare, and whether the file is whole.

Both are checked before anything is decoded (3 % of the time). Decoders fill truncated JPEGs with gray, and allocate the
gigabytes that a damaged length asks for. Every fault of the data is a ValueError with a sentence for people.

Formats: PNG (W3C PNG, third edition), JPEG (ITU-T T.81). JPEG has no checksum: a flipped bit inside a scan that still
decodes is not detected.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SIDE = 16384
MAX_PIXELS = 1 << 27
"""Largest side of an image that is read, and its largest area, pixels."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# A marker other than a restart ends a scan's entropy-coded data. Any marker may follow fill bytes 0xFF (T.81, B.1.1.2);
# 0xFF before a zero is a byte of the data (F.1.2.3).
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Cameras fill up segments with zeros, too. The standard has no such filling, but every decoder skips it.
_FILLING = re.compile(rb"\x00*")
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of a PNG or JPEG declare.

    Attributes:
        format: "png" or "jpeg".
        width, height: pixels.
        bits: per channel.
        channels: number of channels; 1 for a palette.
        palette: a PNG of color type 3, whose channel holds indices.
    """

    format: str
    width: int
    height: int
    bits: int
    channels: int
    palette: bool = False

    @property
    def kind(self) -> str:
        """Return a description for messages, e.g. `a PNG of 8 bits and 3 channels`."""
        return (
            f"a {self.format.upper()} of {self.bits} bits and {self.channels} channel{'s' if self.channels > 1 else ''}"
        )


def read_header(data: bytes) -> ImageHeader:
    """Read the declared size and kind of a PNG or JPEG.

    Raises:
        ValueError: anything else, or dimensions beyond MAX_SIDE or MAX_PIXELS.
    """
    if not data:
        raise ValueError("the image is empty")
    if data[:8] == PNG_SIGNATURE:
        header = _png_header(data)
    elif data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    else:
        raise ValueError("the image is neither PNG nor JPEG")
    check_dimensions("image", header.width, header.height)
    return header


def check_dimensions(what: str, width: int, height: int) -> None:
    """Raise ValueError unless a picture, called `the <what>`, declares 1 x 1 to MAX_SIDE a side and MAX_PIXELS."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise ValueError(
            f"the {what} declares {width} x {height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are read"
        )


def _png_header(data: bytes) -> ImageHeader:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("the PNG is truncated in its header")
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if color not in _PNG_CHANNELS:
        raise ValueError(f"the PNG declares the unknown color type {color}")
    return ImageHeader("png", width, height, bits, _PNG_CHANNELS[color], palette=color == 3)


def _jpeg_header(data: bytes) -> ImageHeader:
    for marker, start, _ in jpeg_segments(data):
        if marker in _FRAME_HEADERS:
            if start + 6 > len(data):
                break
            bits, height, width, channels = struct.unpack_from(">BHHB", data, start)
            return ImageHeader("jpeg", width, height, bits, channels)
    raise ValueError("the JPEG has no frame header")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start of the payload, end) of each segment of a JPEG, end marker included.

    Raises:
        ValueError: its structure is damaged.
    """
    position = 2
    while True:
        position = _FILLING.match(data, position).end()  # type: ignore[union-attr]  # it matches nothing, too
        if position + 2 > len(data):
            raise ValueError("the JPEG is truncated: its end marker is missing")
        if data[position] != 0xFF:
            raise ValueError("the JPEG is damaged: a marker is missing")
        marker = data[position + 1]
        if marker == 0xFF or marker in _NO_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            yield marker, position + 2, position + 2
            return
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            raise ValueError("the JPEG is damaged: a segment has no length")
        end = position + 2 + length
        yield marker, position + 4, end
        if marker == 0xDA:
            found = _AFTER_SCAN.search(data, end)
            if found is None:
                raise ValueError("the JPEG is truncated: its end marker is missing")
            end = found.start()
        position = end


def check_whole(data: bytes) -> ImageHeader:
    """Check a container: every PNG chunk with its checksum, every JPEG segment and the end marker.

    Returns:
        The image's header.

    Raises:
        ValueError: the file is cut short or damaged.
    """
    header = read_header(data)
    if header.format == "jpeg":
        if 0xDA not in [marker for marker, _, _ in jpeg_segments(data)]:
            raise ValueError("the JPEG has no picture data")
        return header
    for kind, start, end in png_chunks(data):
        if zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("the PNG is damaged: a checksum does not match")
        if kind == b"IEND":
            return header
    raise ValueError("the PNG is truncated")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of the payload, end) of each whole chunk of a PNG. Checksums are not checked."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            return
        yield data[start - 4 : start], start, end
        position = end + 4
