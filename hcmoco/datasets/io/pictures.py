"""Decode people's pictures and masks in the formats that cameras and tools write.

JPEG and PNG are checked as everywhere (data/containers.py). WebP, TIFF and BMP have no checksums: their headers are
checked, so that nothing huge is decoded, and what is cut short is refused as far as the format tells. References: RFC
9649 (WebP), TIFF revision 6.0 (Adobe, 1992), BITMAPINFOHEADER (learn.microsoft.com, windows/win32/api/wingdi).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hcmoco.data.codecs import decode_labels, decode_rgb
from hcmoco.data.containers import PNG_SIGNATURE, check_dimensions, check_whole
from hcmoco.data.orientation import read_orientation, turn_upright

FORMATS = ("JPEG", "PNG", "WebP", "TIFF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 274, 277, 339
_HEIC = (b"ftypheic", b"ftypmif1")
_NEARLY_GRAY = 48  # what the loss of JPEG and WebP makes of black and white
_MASK_FROM = 128  # JPEG blurs a mask's edge: there half and more is the person


def picture_names(folder: Path) -> list[str]:
    """Return the pictures in a folder and its sub-folders, relative to it, sorted."""
    found = (each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
    return sorted(each.relative_to(folder).as_posix() for each in found)


@dataclass(frozen=True)
class PictureHeader:
    """What a WebP, TIFF or BMP declares.

    Attributes:
        format: "WebP", "TIFF" or "BMP".
        width, height: pixels.
        bits: per channel.
        channels: number of channels.
        floating: numbers are floating point.
    """

    format: str
    width: int
    height: int
    bits: int = 8
    channels: int = 3
    floating: bool = False

    @property
    def kind(self) -> str:
        """Return a description for messages, e.g. `a TIFF of 16 bits and 1 channel`."""
        return f"a {self.format} of {self.bits} bits and {self.channels} channel{'s' if self.channels > 1 else ''}"


def read_picture_header(data: bytes) -> PictureHeader | None:
    """Return the header of a WebP, TIFF or BMP; None for anything else.

    Raises:
        ValueError: the file is cut short, animated or turned, or the picture too large.
    """
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            header = _webp(data)
        elif data[:4] in _TIFF_STARTS:
            header = _tiff(data)
        elif data[:2] == b"BM":
            header = _bmp(data)
        else:
            return None
    except (struct.error, IndexError):
        raise ValueError("the picture is truncated in its header") from None
    check_dimensions(header.format, header.width, header.height)
    return header


def _webp(data: bytes) -> PictureHeader:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise ValueError("the WebP is truncated")
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & 2:
            raise ValueError("the WebP is an animation; save its frames as pictures")
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (each & 0x3FFF for each in struct.unpack_from("<HH", data, 26))
    return PictureHeader("WebP", width, height)


def _bmp(data: bytes) -> PictureHeader:
    size, (width, height), bits = (
        struct.unpack_from("<I", data, 2)[0],
        struct.unpack_from("<ii", data, 18),
        struct.unpack_from("<H", data, 28)[0],
    )
    if size > len(data):
        raise ValueError("the BMP is truncated")
    return PictureHeader("BMP", width, abs(height), 8, 1 if bits <= 8 else 4 if bits == 32 else 3)


def _tiff(data: bytes) -> PictureHeader:
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    tags: dict[int, int] = {}
    for number in range(struct.unpack_from(f"{order}H", data, start)[0]):
        at = start + 2 + 12 * number
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
        if kind not in _TIFF_TYPES:
            continue
        form = f"{order}{_TIFF_TYPES[kind]}"
        if count * struct.calcsize(form) > 4:  # the values lie elsewhere; the first stands for all
            at = struct.unpack_from(f"{order}I", data, at + 8)[0] - 8
        tags[tag] = struct.unpack_from(form, data, at + 8)[0]
    if tags.get(_ORIENTATION, 1) != 1:
        raise ValueError(f"the TIFF is stored turned (orientation {tags[_ORIENTATION]}); save it upright")
    return PictureHeader(
        "TIFF",
        tags.get(_WIDTH, 0),
        tags.get(_HEIGHT, 0),
        tags.get(_BITS, 1),
        tags.get(_SAMPLES, 1),
        tags.get(_SAMPLE_FORMAT, 1) == 3,
    )


def decode_unchanged(data: bytes, header: PictureHeader) -> np.ndarray:
    """Return the stored numbers of a WebP, TIFF or BMP, [H, W] or [H, W, C] in OpenCV's order BGR.

    Raises:
        ValueError: it does not decode to what its header declares.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError(f"the {header.format} does not decode; it is damaged or of a kind that OpenCV does not read")
    return image


def num_channels(data: bytes) -> int:
    """Return the number of channels that a picture's file declares; raise ValueError for another format."""
    return (read_picture_header(data) or check_whole(data)).channels


def decode_picture(data: bytes, *, upright: bool = False) -> np.ndarray:
    """Decode a picture in color or gray: JPEG, PNG, WebP, TIFF or BMP.

    Args:
        data: bytes of the file.
        upright: turn it as the file's orientation says; else pixels come as they are stored.

    Returns:
        uint8 [H, W, 3], RGB; gray is repeated, transparency ignored.

    Raises:
        ValueError: another format, more than 8 bits per channel (depth, mostly), or a damaged file.
    """
    header = read_picture_header(data)
    if header is None:
        check_known(data)
        declared = check_whole(data)
        if declared.bits > 8:
            raise ValueError(not_rgb(declared.kind))
        return decode_rgb(data, upright=upright)
    if header.bits > 8 or header.floating:
        raise ValueError(not_rgb(header.kind))
    image = decode_unchanged(data, header)
    image = turn_upright(image, read_orientation(data)) if upright else image
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(image[..., 2::-1])


def check_known(data: bytes) -> None:
    """Raise ValueError for a file that begins neither as a JPEG nor as a PNG, with what to do about it."""
    if data and data[:8] != PNG_SIGNATURE and data[:2] != b"\xff\xd8":
        kind = "HEIC, which is not read" if data[4:12] in _HEIC else "none of what is read"
        raise ValueError(f"the picture is {kind}; save it as JPEG, PNG, WebP, TIFF or BMP")


def not_rgb(kind: str) -> str:
    """Return why a picture of `kind` is no RGB picture."""
    return f"RGB must have 8 bits per channel, this is {kind}: if it is depth, name it as depth"


def decode_mask(data: bytes, *, upright: bool = False) -> np.ndarray:
    """Decode a person mask in any of FORMATS.

    Args:
        data: bytes of the file.
        upright: turn it as the file's orientation says; else pixels come as they are stored.

    Returns:
        uint8 [H, W], above 0 on the person: the numbers of a file without loss, and 255 where a JPEG or WebP is at
            least half white.

    Raises:
        ValueError: another format, a damaged file, or a picture in colors.
    """
    if data[:8] == PNG_SIGNATURE and check_whole(data).channels == 1 and check_whole(data).bits <= 8:
        return decode_labels(data, upright=upright)
    rgb = decode_picture(data, upright=upright)
    lossy = data[:2] == b"\xff\xd8" or data[8:12] == b"WEBP"
    if np.ptp(rgb, axis=2).max(initial=0) > (_NEARLY_GRAY if lossy else 0):
        raise ValueError("the mask has colors; a mask is black and white, or 0 and another number")
    return np.where(rgb[..., 1] >= _MASK_FROM, np.uint8(255), np.uint8(0)) if lossy else rgb[..., 1]
