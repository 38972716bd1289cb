"""Bytes to pixels and back: RGB, 16-bit depth, labels and IUV.

Shapes: H rows, W columns; color is RGB everywhere outside this module. Containers are checked first (containers.py).
Every fault of the data is a ValueError with a sentence for people.

Pixels come as they are stored, as those of records do, or `upright`: turned by the orientation that the file declares
(orientation.py).
"""

import struct
import zlib
from typing import Literal, get_args

import cv2
import numpy as np
import pyarrow as pa

from hcmoco.data.containers import MAX_PIXELS, MAX_SIDE, PNG_SIGNATURE, ImageHeader, check_whole, png_chunks
from hcmoco.data.orientation import read_orientation, turn_upright

DepthCodec = Literal["png16", "zstd-delta"]
DEPTH_CODECS: tuple[DepthCodec, ...] = get_args(DepthCodec)
JPEG_QUALITY = 92

# Magic, height, width, CRC-32 of the compressed payload; little-endian.
_DELTA_HEADER = struct.Struct("<4sIII")
_DELTA_MAGIC = b"hcd1"


def _expect_square(width: int, height: int, size: int | None) -> None:
    if size is not None and (width, height) != (size, size):
        raise ValueError(f"the image is {width} x {height} pixels, {size} x {size} are declared")


def _decode(
    data: bytes, flags: int, header: ImageHeader, upright: bool = False, stored: bytes | None = None
) -> np.ndarray:
    """The pixels of the file `data`, or those of `stored`, which are the same, with the orientation of `data`."""
    try:
        # OpenCV would turn some pictures, and others not.
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(stored or data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError(f"the {header.format.upper()} does not decode")
    return np.ascontiguousarray(turn_upright(image, read_orientation(data))) if upright else image


def decode_rgb(data: bytes, size: int | None = None, *, upright: bool = False) -> np.ndarray:
    """Decode a JPEG or PNG.

    Args:
        data: bytes of the file.
        size: side that a square image must have, pixels; None allows any size.
        upright: turn it as the file's orientation says.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: a file that is not whole, does not decode, is of another size, or is 16-bit gray, as depth is.
    """
    header = check_rgb(data, size)
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, header, upright), cv2.COLOR_BGR2RGB)


def check_rgb(data: bytes, size: int | None = None) -> ImageHeader:
    """Check all of a JPEG or PNG that can be checked without decoding it; arguments and errors as of `decode_rgb`."""
    header = check_whole(data)
    _expect_square(header.width, header.height, size)
    if header.bits == 16 and header.channels == 1:
        raise ValueError(f"the RGB image is {header.kind}, which is most probably depth: name it as depth")
    return header


def encode_rgb(rgb_HW3: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 [H, W, 3] RGB as JPEG of `quality` 1 to 100."""
    return _encode(".jpg", cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def decode_depth(data: bytes, codec: str, size: int | None = None, *, upright: bool = False) -> np.ndarray:
    """Decode stored depth.

    Args:
        data: bytes in `codec`.
        codec: one of DEPTH_CODECS.
        size: side that a square image must have, pixels; None allows any size.
        upright: turn a PNG as its orientation says.

    Returns:
        uint16 [H, W], millimeters in records of this project.

    Raises:
        ValueError: 8-bit or color pictures, damaged bytes, another size, or an unknown codec.
    """
    if codec == "zstd-delta":
        return _decode_delta(data, size)
    if codec != "png16":
        raise ValueError(f"depth codec {codec!r} is unknown; known are {', '.join(DEPTH_CODECS)}")
    header = check_whole(data)
    if header.format != "png" or header.bits != 16 or header.channels != 1:
        raise ValueError(f"the depth image is {header.kind}; a 16-bit PNG of one channel is needed")
    _expect_square(header.width, header.height, size)
    return _decode(data, cv2.IMREAD_ANYDEPTH, header, upright)


def encode_depth(depth_HW: np.ndarray, codec: str) -> bytes:
    """Encode a uint16 [H, W] depth image without loss.

    `png16` is what other programs read. `zstd-delta` is a 16-byte header and, compressed by zstd, each row minus the
    row above it (modulo 2^16); it is smaller and decodes in about half of the time.
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


def decode_labels(data: bytes, size: int | None = None, *, upright: bool = False) -> np.ndarray:
    """Decode a grayscale or palette PNG of at most 8 bits.

    Args:
        data: bytes of the file.
        size: side that a square image must have, pixels; None allows any size.
        upright: turn it as the file's orientation says.

    Returns:
        uint8 [H, W]: the stored numbers themselves, never the palette's colors.

    Raises:
        ValueError: another kind of image, one that is not whole, or one of another size.
    """
    header = check_whole(data)
    if header.format != "png" or header.channels != 1 or header.bits > 8:
        raise ValueError(f"the label image is {header.kind}; an 8-bit PNG of one channel is needed")
    _expect_square(header.width, header.height, size)
    indices = _indices_as_gray(data) if header.palette else None
    labels = _decode(data, cv2.IMREAD_GRAYSCALE, header, upright, indices)
    # Decoders stretch gray of 1, 2 or 4 bits to 0..255.
    return labels if header.bits == 8 else labels // (255 // (2**header.bits - 1))


def _indices_as_gray(data: bytes) -> bytes:
    """A palette PNG as a grayscale PNG of the same samples: other color type, no palette and no transparency."""
    parts = [PNG_SIGNATURE]
    for kind, start, end in png_chunks(data):
        if kind == b"IHDR":
            body = data[start - 4 : start + 9] + b"\x00" + data[start + 10 : end]
            parts.append(data[start - 8 : start - 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        elif kind in (b"IDAT", b"IEND"):
            parts.append(data[start - 8 : end + 4])
    return b"".join(parts)


def encode_labels(labels_HW: np.ndarray) -> bytes:
    """Encode a uint8 [H, W] label or mask image as grayscale PNG."""
    return _encode(".png", labels_HW, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def decode_iuv(data: bytes, size: int | None = None) -> np.ndarray:
    """Decode an IUV PNG: red is I (chart 0..24), green U and blue V (0..255 for 0..1).

    Args:
        data: bytes of the file.
        size: side that a square image must have, pixels; None allows any size.

    Returns:
        uint8 [H, W, 3], I, U, V.

    Raises:
        ValueError: another kind of image, one that is not whole, or one of another size.
    """
    header = check_whole(data)
    if header.format != "png" or header.channels != 3 or header.bits != 8:
        raise ValueError(f"the IUV image is {header.kind}; an 8-bit PNG of three channels is needed")
    _expect_square(header.width, header.height, size)
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR, header), cv2.COLOR_BGR2RGB)


def encode_iuv(iuv_HW3: np.ndarray) -> bytes:
    """Encode a uint8 [H, W, 3] IUV image as PNG, I as red."""
    return encode_png(iuv_HW3, compression=3)


def encode_png(rgb_HW3: np.ndarray, compression: int | None = None) -> bytes:
    """Encode a picture as PNG, without loss.

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
