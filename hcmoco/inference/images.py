"""Find a user's image files, and read them as upright RGB or as depth in millimeters.

Shapes: H, W rows and columns of an image as people see it, EXIF orientation applied.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hcmoco.data.containers import check_whole
from hcmoco.data.depth_units import default_unit, in_millimeters
from hcmoco.datasets.io import depth_files, pictures
from hcmoco.datasets.io.files import MAX_BYTES
from hcmoco.errors import UserError

# Of a folder; a MAT file beside pictures mostly holds something else than depth.
SUFFIXES = tuple(each for each in dict.fromkeys((*pictures.SUFFIXES, *depth_files.SUFFIXES)) if each != ".mat")
MIN_SIDE = 16


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        name: its path below the folder that was given, with `/`; of a single file, its name.
        path: of the file.
    """

    name: str
    path: Path


def find_images(images: str, marker: str) -> list[ImageFile]:
    """List the file `images`, or all files of SUFFIXES in the folder `images` and below it, by name.

    Names that begin with a dot are skipped, as are folders that hold a file named `marker`: those are results.

    Raises:
        UserError: the path does not exist, or the folder holds no such file.
    """
    root = Path(images).expanduser()
    if root.is_file():
        return [ImageFile(root.name, root)]
    if not root.is_dir():
        what = "is neither a file nor a folder" if root.exists() else "does not exist"
        raise UserError(f"images: {root} {what}; give a picture, or a folder of pictures")
    found, other = [], Counter[str]()
    for folder, folders, names in os.walk(root):
        if marker in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path, suffix = Path(folder, name), Path(name).suffix.lower()
            if suffix in SUFFIXES and not name.startswith("."):
                found.append(ImageFile(path.relative_to(root).as_posix(), path))
            elif not name.startswith("."):
                other[suffix or "no suffix"] += 1
    if not found:
        others = ", ".join(f"{count} of {suffix}" for suffix, count in other.most_common(3))
        raise UserError(
            f"images: {root} holds no {', '.join(SUFFIXES)} file{f' (there are {others})' if others else ''}; "
            "convert them first"
        )
    return sorted(found, key=lambda file: file.name)


def read_rgb(path: Path) -> np.ndarray:
    """Read a JPEG, PNG, WebP, TIFF or BMP as people see it: uint8 [H, W, 3].

    Raises:
        ValueError: another kind of file, one that is damaged, or one with 16 bits per channel.
    """
    data = _read(path)
    if pictures.read_picture_header(data) is not None:
        return _large_enough(pictures.decode_picture(data))
    pictures.check_known(data)
    header = check_whole(data)
    if header.bits > 8:
        raise ValueError(
            f"RGB must have 8 bits per channel, this is {header.kind}; 16-bit depth is for parsing-depth and pose"
        )
    # OpenCV applies EXIF orientation unless it is told not to.
    bgr_HW3 = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr_HW3 is None or sorted(bgr_HW3.shape[:2]) != sorted((header.width, header.height)):
        raise ValueError(f"the {header.format.upper()} does not decode")
    return _large_enough(cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2RGB))


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
    stored = depth_files.read_depth_file(path.parent, path.name)
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
