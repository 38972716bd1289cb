"""Find a user's image files, and read them as upright RGB or as depth in millimeters.

Shapes: H, W rows and columns of an image as people see it, turned by the orientation that its file declares.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcmoco.data.codecs import decode_depth, decode_rgb
from hcmoco.data.containers import check_whole
from hcmoco.datasets.io.files import MAX_BYTES
from hcmoco.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
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
    """List the file `images`, or all JPG and PNG files in the folder `images` and below it, by name.

    Names that begin with a dot are skipped, as are folders that hold a file named `marker`: those are results.

    Raises:
        UserError: the path does not exist, or the folder holds no such file.
    """
    root = Path(images).expanduser()
    if root.is_file():
        return [ImageFile(root.name, root)]
    if not root.is_dir():
        what = "is neither a file nor a folder" if root.exists() else "does not exist"
        raise UserError(f"images: {root} {what}; give a JPG or PNG file, or a folder of them")
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
    """Read a JPEG or PNG as people see it: uint8 [H, W, 3].

    Raises:
        ValueError: another kind of file, one that is damaged, or one with 16 bits per channel.
    """
    data = _read(path)
    header = check_whole(data)
    if header.bits > 8:
        raise ValueError(
            f"RGB must have 8 bits per channel, this is {header.kind}; 16-bit depth is for parsing-depth and pose"
        )
    return _large_enough(decode_rgb(data, upright=True))


def read_depth(path: Path, units_per_meter: float) -> np.ndarray:
    """Read depth from a 16-bit PNG: uint16 [H, W], millimeters, 0 = no reading. Readings beyond 65.5 m become 65.5 m.

    Raises:
        ValueError: any other file.
    """
    data = _read(path)
    header = check_whole(data)
    if (header.format, header.bits, header.channels) != ("png", 16, 1):
        raise ValueError(f"depth must be a 16-bit PNG of one channel, this is {header.kind}")
    stored_HW = _large_enough(decode_depth(data, "png16", upright=True))
    if units_per_meter == 1000:
        return stored_HW
    return np.minimum(np.rint(stored_HW * (1000 / units_per_meter)), np.iinfo(np.uint16).max).astype(np.uint16)


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ValueError("it does not exist" if not path.exists() else "it is not a regular file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise ValueError(
                "the file is empty" if size == 0 else f"the file has {size} bytes, at most {MAX_BYTES} are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from None


def _large_enough(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"the picture is {width} x {height} pixels; at least {MIN_SIDE} a side are needed")
    return image
