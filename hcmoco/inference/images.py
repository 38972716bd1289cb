"""Find a user's image files, and read them as upright RGB or as depth in millimeters.

Shapes: H, W rows and columns of an image as people see it, turned by the orientation that its file declares.
"""

import os
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder.

    Attributes:
        files: by name.
        passed_over: what else is there and is not read, in words, with numbers.
    """

    files: list[ImageFile]
    passed_over: tuple[str, ...] = ()


def find_images(images: str, marker: str) -> FoundImages:
    """List the file `images`, or all files of SUFFIXES in the folder `images` and below it, by name.

    Links to folders are followed. Passed over, and counted, are names that begin with a dot, folders that hold a file
    named `marker` (those are results), folders that were read already under another name, and those that cannot be
    opened.

    Raises:
        UserError: the path does not exist, or the folder holds no such file.
    """
    root = Path(images).expanduser()
    if root.is_file():
        return FoundImages([ImageFile(root.name, root)])
    if not root.is_dir():
        what = "is neither a file nor a folder" if root.exists() else "does not exist"
        raise UserError(f"images: {root} {what}; give a picture, or a folder of pictures")
    found: list[ImageFile] = []
    over: dict[str, list[str]] = {}
    seen: set[str] = set()

    def pass_over(what: str, path: str | Path) -> None:
        over.setdefault(what, []).append(os.path.relpath(path, root))

    def unreadable(error: OSError) -> None:
        pass_over(f"folders that cannot be opened ({error.strerror})", error.filename)

    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(folder)
        if real in seen:  # a link that was followed; it may lead back to where it lies
            folders.clear()
            pass_over("linked folders that are read under another name", folder)
            continue
        seen.add(real)
        if marker in names:
            folders.clear()
            pass_over("folders of results", folder)
            continue
        for name in [*folders, *names]:
            if name.startswith("."):
                pass_over("names that begin with a dot", Path(folder, name))
        # Folders before links to them: their pictures keep their own names.
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: (os.path.islink(os.path.join(folder, name)), name),
        )
        for name in names:
            path, suffix = Path(folder, name), Path(name).suffix.lower()
            if suffix in SUFFIXES and not name.startswith("."):
                found.append(ImageFile(path.relative_to(root).as_posix(), path))
            elif not name.startswith("."):
                pass_over(f"files of {suffix}" if suffix else "files without a suffix", path)
    most_first = sorted(over.items(), key=lambda each: -len(each[1]))
    notes = tuple(f"{what}: {len(paths)}, such as {paths[0]}" for what, paths in most_first)
    if not found:
        others = f" (there are {'; '.join(notes[:3])})" if notes else ""
        raise UserError(f"images: {root} holds no {', '.join(SUFFIXES)} file{others}; convert them first")
    return FoundImages(sorted(found, key=lambda file: file.name), notes)


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
