"""Files that declare an orientation, and what people see of them by the EXIF standard's own words."""

import struct
import zlib

import numpy as np

# Where the first row and the first column of the stored pixels are in the picture as people see it (EXIF 2.32, tag
# Orientation).
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def tiff(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """A TIFF structure with two entries, the second of which is the orientation."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = struct.pack(f"{order}HHIHH", 0x0100, 3, 1, 7, 0) + struct.pack(
        f"{order}HHIHH", 0x0112, kind, 1, orientation, 0
    )
    return mark + struct.pack(f"{order}IH", 8, 2) + entries + struct.pack(f"{order}I", 0)


def tagged(data: bytes, orientation: int, order: str = "<") -> bytes:
    """The JPEG, PNG or WebP with the tag in it; a PNG has it behind its pixels, where it may be, too."""
    exif = tiff(orientation, order)
    if data[:2] == b"\xff\xd8":
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if data[:4] == b"RIFF":
        chunk = b"EXIF" + struct.pack("<I", len(exif)) + exif
        return data[:4] + struct.pack("<I", len(data) + len(chunk) - 8) + data[8:] + chunk
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return data[:-12] + chunk + data[-12:]


def as_seen(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What people see of the pixels [H, W, ...] of a file that declares the orientation, pixel by pixel."""
    height, width = stored.shape[:2]
    row_side, column_side = SIDES[orientation]
    shape = (height, width) if row_side in ("top", "bottom") else (width, height)
    seen = np.zeros((*shape, *stored.shape[2:]), stored.dtype)
    for row in range(height):
        for column in range(width):
            place = {}
            for side, at, length in ((row_side, row, height), (column_side, column, width)):
                axis = 0 if side in ("top", "bottom") else 1
                place[axis] = at if side in ("top", "left") else length - 1 - at
            seen[place[0], place[1]] = stored[row, column]
    return seen


def as_stored(seen: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels that a file which declares the orientation holds of what people see."""
    # Of the eight, 6 and 8 undo each other, the others themselves.
    return as_seen(seen, {6: 8, 8: 6}.get(orientation, orientation))
