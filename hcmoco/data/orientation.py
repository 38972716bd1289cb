"""The orientation that a picture's file declares, and the picture turned upright by it.

Cameras store what the sensor saw, and say in the tag Orientation how to turn it: EXIF 2.32 (CIPA DC-008), table 4, tag
0x0112, values 1 to 8. The tag is in the segment APP1 of a JPEG, in the chunk eXIf of a PNG (W3C PNG, third edition,
11.3.4.5) and in the chunk EXIF of a WebP (https://developers.google.com/speed/webp/docs/riff_container); of a TIFF it
is part of the file itself (TIFF 6.0, page 36). Tags elsewhere, such as in XMP or in a PNG's text, are not read.

Decoders differ in which of these they obey. So none of them is asked to: pixels are decoded as they are stored, and
turned here. (OpenCV's decoder of TIFF turns pictures whatever it is asked for: its result must not be turned again.)
"""

import struct

import numpy as np

from hcmoco.data.containers import PNG_SIGNATURE, jpeg_segments, png_chunks

_ORIENTATION, _SHORT = 0x0112, 3
_APP1, _SCAN = 0xE1, 0xDA
_EXIF = b"Exif\x00\x00"
_UPRIGHT = 1


def read_orientation(data: bytes) -> int:
    """Return the orientation that a JPEG, PNG, WebP or TIFF file declares.

    Returns:
        1..8 as in the EXIF standard. 1, which is upright, if the file declares none or what it declares is damaged.
    """
    try:
        return _declared(bytes(data))
    except (ValueError, struct.error):
        return _UPRIGHT


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture as its orientation says.

    Args:
        image: [H, W] or [H, W, C], pixels as they are stored.
        orientation: 1..8.

    Returns:
        The picture as people see it: [H, W, ...], or [W, H, ...] for orientations 5 to 8. It may be a view.
    """
    if orientation > 4:  # rows of the file are columns of the picture
        image = image.swapaxes(0, 1)
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    return image[::down, ::right]


def _declared(data: bytes) -> int:
    if data[:2] == b"\xff\xd8":
        for marker, start, end in jpeg_segments(data):
            if marker == _SCAN:
                break
            if marker == _APP1 and data[start : start + len(_EXIF)] == _EXIF:
                return _from_tiff(data[start + len(_EXIF) : end])
    elif data[:8] == PNG_SIGNATURE:
        for kind, start, end in png_chunks(data):
            if kind == b"eXIf":
                return _from_tiff(data[start:end])
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        position = 12
        while position + 8 <= len(data):
            size = int.from_bytes(data[position + 4 : position + 8], "little")
            if data[position : position + 4] == b"EXIF":
                # The prefix is JPEG's; some programs write it here, too.
                return _from_tiff(data[position + 8 : position + 8 + size].removeprefix(_EXIF))
            position += 8 + size + size % 2
    elif data[:4] in (b"II*\x00", b"MM\x00*"):
        return _from_tiff(data)
    return _UPRIGHT


def _from_tiff(data: bytes) -> int:
    """The orientation in the first directory of a TIFF structure, of which only its entries are read."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        return _UPRIGHT
    (position,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, position)
    for entry in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", data, entry)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and values == 1 and 1 <= value <= 8 else _UPRIGHT
    return _UPRIGHT
