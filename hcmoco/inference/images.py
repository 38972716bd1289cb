"""Read a user's image files as upright RGB or as depth in millimeters.

Shapes: H, W rows and columns of an image as people see it, turned by the orientation that its file declares.
"""

from pathlib import Path

import numpy as np

from hcmoco.data.containers import check_whole
from hcmoco.data.depth_units import default_unit, in_millimeters
from hcmoco.datasets.io import depth_files, pictures
from hcmoco.datasets.io.files import MAX_BYTES

MIN_SIDE = 16


def read_rgb(path: Path) -> np.ndarray:
    """Read a JPEG, PNG, WebP, TIFF or BMP as people see it: uint8 [H, W, 3].

    Raises:
        ValueError: another kind of file, one that is damaged, or one with 16 bits per channel.
    """
    data = _read(path)
    if pictures.read_picture_header(data) is not None:
        return _large_enough(pictures.decode_picture(data, upright=True))
    pictures.check_known(data)
    header = check_whole(data)
    if header.bits > 8:
        raise ValueError(
            f"RGB must have 8 bits per channel, this is {header.kind}; 16-bit depth is for parsing-depth and pose"
        )
    return _large_enough(pictures.decode_picture(data, upright=True))


def read_depth(path: Path, unit: str | None) -> tuple[np.ndarray, str]:
    """Read a depth picture, see depth_files.py.

    Args:
        path: of the file.
        unit: of its numbers; None: mm for whole numbers, m for floating point.

    Returns:
        [H, W], millimeters as of `in_millimeters`, 0 = no reading; and the unit that was taken.

    Raises:
        ValueError: any other file.
    """
    _check_file(path)
    stored = depth_files.read_depth_file(path.parent, path.name, upright=True)
    unit = unit or default_unit(stored)
    return _large_enough(in_millimeters(stored, unit)), unit


def _read(path: Path) -> bytes:
    _check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from None


def _check_file(path: Path) -> None:
    try:
        if not path.is_file():
            raise ValueError("it does not exist" if not path.exists() else "it is not a regular file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise ValueError(
                "the file is empty" if size == 0 else f"the file has {size} bytes, at most {MAX_BYTES} are read"
            )
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from None


def _large_enough(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"the picture is {width} x {height} pixels; at least {MIN_SIDE} a side are needed")
    return image
