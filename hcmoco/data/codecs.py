"""Bytes to pixels and back: RGB, 16-bit depth, labels and IUV, and the check that a file is whole.

Shapes: H rows, W columns; colour is RGB everywhere outside this module. The header and the container's structure are checked before
anything is decoded (3 % of the time): decoders fill truncated JPEGs with grey, and take the gigabytes that a damaged length asks for.
Every fault of the data is a ValueError with a sentence for people.

Formats: PNG (W3C PNG, third edition), JPEG (ITU-T T.81). JPEG has no checksum: a flipped bit inside a scan that still decodes goes unseen.
"""

import re
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa

MAX_SIDE = 16384
MAX_PIXELS = 1 << 27
DEPTH_CODECS = ("png16", "zstd-delta")
JPEG_QUALITY = 92

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# 0xFF followed by anything but a stuffed zero or a restart marker ends a scan's entropy-coded data (T.81, B.1.1.2).
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Magic, height, width, CRC-32 of the compressed payload; little-endian.
_DELTA_HEADER = struct.Struct("<4sIII")
_DELTA_MAGIC = b"hcd1"


@dataclass(frozen=True)
class ImageHeader:
    """What a PNG's or JPEG's first bytes declare; `bits` per channel, `palette` for a PNG of colour type 3 (one channel of indices)."""

    format: str
    width: int
    height: int
    bits: int
    channels: int
    palette: bool = False

    @property
    def kind(self) -> str:
        """For messages: `a PNG of 8 bits and 3 channels`."""
        return (
            f"a {self.format.upper()} of {self.bits} bits and {self.channels} channel{'s' if self.channels > 1 else ''}"
        )


def read_header(data: bytes) -> ImageHeader:
    """The declared size and kind of a PNG or JPEG; ValueError for anything else or for dimensions beyond MAX_SIDE or MAX_PIXELS."""
    if not data:
        raise ValueError("the image is empty")
    if data[:8] == _PNG_SIGNATURE:
        header = _png_header(data)
    elif data[:2] == b"\xff\xd8":
        header = _jpeg_header(data)
    else:
        raise ValueError("the image is neither PNG nor JPEG")
    if not (
        0 < header.width <= MAX_SIDE and 0 < header.height <= MAX_SIDE and header.width * header.height <= MAX_PIXELS
    ):
        raise ValueError(
            f"the image declares {header.width} x {header.height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are read"
        )
    return header


def _png_header(data: bytes) -> ImageHeader:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("the PNG is truncated in its header")
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if color not in _PNG_CHANNELS:
        raise ValueError(f"the PNG declares the unknown colour type {color}")
    return ImageHeader("png", width, height, bits, _PNG_CHANNELS[color], palette=color == 3)


def _jpeg_header(data: bytes) -> ImageHeader:
    for marker, start, _ in _jpeg_segments(data):
        if marker in _FRAME_HEADERS:
            if start + 6 > len(data):
                break
            bits, height, width, channels = struct.unpack_from(">BHHB", data, start)
            return ImageHeader("jpeg", width, height, bits, channels)
    raise ValueError("the JPEG has no frame header")


def _jpeg_segments(data: bytes):
    """(marker, start of the payload, end) of each segment up to and including the end marker; ValueError where the structure breaks."""
    position = 2
    while True:
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
    """The header of an image whose container is whole: every PNG chunk with its checksum, every JPEG segment and the end marker.

    Raises ValueError otherwise.
    """
    header = read_header(data)
    if header.format == "jpeg":
        if 0xDA not in [marker for marker, _, _ in _jpeg_segments(data)]:
            raise ValueError("the JPEG has no picture data")
        return header
    position, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise ValueError("the PNG is truncated")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("the PNG is damaged: a checksum does not match")
        position = end + 4
    return header


def _expect_square(width: int, height: int, size: int | None) -> None:
    if size is not None and (width, height) != (size, size):
        raise ValueError(f"the image is {width} x {height} pixels, {size} x {size} are declared")


def _decode(data: bytes, flags: int, header: ImageHeader) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError(f"the {header.format.upper()} does not decode")
    return image


def decode_rgb(data: bytes, size: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of a JPEG or PNG, with EXIF orientation ignored; `size` is the side that a square image must have."""
    header = check_whole(data)
    _expect_square(header.width, header.height, size)
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, header), cv2.COLOR_BGR2RGB)


def encode_rgb(rgb_HW3: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of a uint8 RGB image."""
    return _encode(".jpg", cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def decode_depth(data: bytes, codec: str, size: int | None = None) -> np.ndarray:
    """uint16 [H, W] of depth bytes in `codec`, one of DEPTH_CODECS; ValueError for 8-bit or colour pictures and for damaged bytes."""
    if codec == "zstd-delta":
        return _decode_delta(data, size)
    if codec != "png16":
        raise ValueError(f"depth codec {codec!r} is unknown; known are {', '.join(DEPTH_CODECS)}")
    header = check_whole(data)
    if header.format != "png" or header.bits != 16 or header.channels != 1:
        raise ValueError(f"the depth image is {header.kind}; a 16-bit PNG of one channel is needed")
    _expect_square(header.width, header.height, size)
    return _decode(data, cv2.IMREAD_ANYDEPTH, header)


def encode_depth(depth_HW: np.ndarray, codec: str) -> bytes:
    """Bytes of a uint16 depth image, without loss.

    `png16` is what other programs read. `zstd-delta` is a 16-byte header and, compressed by zstd, each row minus the row above it
    (modulo 2^16); it is smaller and decodes in about half of the time.
    """
    if depth_HW.dtype != np.uint16 or depth_HW.ndim != 2:
        raise ValueError(f"depth must be uint16 [H, W], it is {depth_HW.dtype} {list(depth_HW.shape)}")
    if codec == "png16":
        return _encode(".png", depth_HW, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if codec != "zstd-delta":
        raise ValueError(f"depth codec {codec!r} is unknown; known are {', '.join(DEPTH_CODECS)}")
    delta = depth_HW.copy()
    delta[1:] -= depth_HW[:-1]
    payload = pa.compress(delta.tobytes(), "zstd", asbytes=True)
    return _DELTA_HEADER.pack(_DELTA_MAGIC, *depth_HW.shape, zlib.crc32(payload)) + payload


def _decode_delta(data: bytes, size: int | None) -> np.ndarray:
    if len(data) < _DELTA_HEADER.size or bytes(data[:4]) != _DELTA_MAGIC:
        raise ValueError("the depth bytes are not of the codec zstd-delta")
    _, height, width, crc = _DELTA_HEADER.unpack_from(data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"the depth image declares {width} x {height} pixels; at most {MAX_SIDE} a side are read")
    _expect_square(width, height, size)
    payload = memoryview(data)[_DELTA_HEADER.size :]
    if zlib.crc32(payload) != crc:
        raise ValueError("the depth bytes are damaged: the checksum does not match")
    try:
        raw = pa.decompress(payload, decompressed_size=2 * height * width, codec="zstd")
    except (OSError, ValueError):
        raise ValueError("the depth bytes do not decompress") from None
    if len(raw) != 2 * height * width:
        raise ValueError("the depth bytes are shorter than their header declares")
    return np.add.accumulate(np.frombuffer(raw, "<u2").reshape(height, width), axis=0, dtype=np.uint16)


def decode_labels(data: bytes, size: int | None = None) -> np.ndarray:
    """uint8 [H, W] of a greyscale or palette PNG of at most 8 bits: the stored numbers themselves, never the palette's colours."""
    header = check_whole(data)
    if header.format != "png" or header.channels != 1 or header.bits > 8:
        raise ValueError(f"the label image is {header.kind}; an 8-bit PNG of one channel is needed")
    _expect_square(header.width, header.height, size)
    labels = _decode(_indices_as_gray(data) if header.palette else data, cv2.IMREAD_GRAYSCALE, header)
    # Decoders stretch grey of 1, 2 or 4 bits to 0..255.
    return labels if header.bits == 8 else labels // (255 // (2**header.bits - 1))


def _indices_as_gray(data: bytes) -> bytes:
    """A palette PNG as a greyscale PNG of the same samples: the colour type changed, the palette and its transparency left out."""
    parts, position = [_PNG_SIGNATURE], 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"IHDR":
            body = data[position + 4 : position + 17] + b"\x00" + data[position + 18 : position + 21]
            parts.append(data[position : position + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        elif kind in (b"IDAT", b"IEND"):
            parts.append(data[position:end])
        position = end
    return b"".join(parts)


def encode_labels(labels_HW: np.ndarray) -> bytes:
    """Greyscale PNG bytes of a uint8 label or mask image."""
    return _encode(".png", labels_HW, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def decode_iuv(data: bytes, size: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of an IUV PNG: its red channel is I (chart 0..24), green U and blue V (0..255 for 0..1)."""
    header = check_whole(data)
    if header.format != "png" or header.channels != 3 or header.bits != 8:
        raise ValueError(f"the IUV image is {header.kind}; an 8-bit PNG of three channels is needed")
    _expect_square(header.width, header.height, size)
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, header), cv2.COLOR_BGR2RGB)


def encode_iuv(iuv_HW3: np.ndarray) -> bytes:
    """PNG bytes of a uint8 IUV image, I as red."""
    return encode_png(iuv_HW3, compression=3)


def encode_png(rgb_HW3: np.ndarray, compression: int | None = None) -> bytes:
    """A picture as the bytes of a PNG, without loss.

    Args:
        rgb_HW3: uint8 [H, W, 3], RGB.
        compression: 0..9; None leaves it to OpenCV.
    """
    return _encode(
        ".png",
        np.ascontiguousarray(rgb_HW3[..., ::-1]),
        [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression],
    )


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise ValueError(f"an image of {image.dtype} {list(image.shape)} cannot be written as {suffix}")
    return data.tobytes()
