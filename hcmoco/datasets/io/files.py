"""Read the files that an annotation names, without following it out of its folder."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from hcmoco import unique_keys
from hcmoco.config_errors import rule_of
from hcmoco.datasets.io.pictures import decode_picture
from hcmoco.errors import UserError

MAX_BYTES = 1 << 29
LEAVES, MISSING = "leaves the folder", "does not exist"
LINKED = "is a symbolic link, or below one, and so leaves the folder"


def below_source(source: str, path: str) -> Path:
    """Return `path` as it is if it is absolute (or begins with ~), else below `source`.

    Raises:
        UserError: the path begins with the home of an unknown user.
    """
    try:
        return Path(source) / Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; give the path in full") from None


def path_inside(folder: str | Path, name: str, max_bytes: int = MAX_BYTES) -> Path:
    """Return the real path of a file in a folder, for libraries that open files by their path.

    Args:
        folder: the folder.
        name: path of the file relative to it.
        max_bytes: largest file that is read.

    Raises:
        ValueError: the path leaves the folder (by `..`, as an absolute path or through a symbolic link), or the file is
            missing, empty, too large or not a regular file (reading a pipe would never end).
    """
    root = Path(folder).resolve()
    try:
        reason = fault_inside(root, name)
        path = (root / name).resolve()
        size = 0 if reason else path.stat().st_size
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if reason:
        more = {
            LEAVES: f" {root}; paths are relative to it and stay inside",
            LINKED: f" {root}, to {path}; copy or move the file there, or give the folder that holds both",
            MISSING: f" in {root}",
        }
        raise ValueError(f"{name!r} {reason}{more.get(reason, '')}")
    if not 0 < size <= max_bytes:
        raise ValueError(
            f"{name!r} is empty" if size == 0 else f"{name!r} has {size} bytes, at most {max_bytes} are read"
        )
    return path


def fault_inside(root: Path, name: str) -> str:
    """Return why `name` is not a regular file inside `root`, a resolved folder; "" if it is one.

    Raises OSError, ValueError and RuntimeError as `pathlib` does for paths that it cannot check.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root) or Path(name).is_absolute():
        written = Path(os.path.normpath(root / name))
        return LINKED if written.is_relative_to(root) and not Path(name).is_absolute() else LEAVES
    if not path.exists():
        return MISSING
    return "" if path.is_file() else "is not a regular file"


def read_inside(folder: str | Path, name: str) -> bytes:
    """Return the bytes of the file `name`, relative to `folder`; raise ValueError as `path_inside` does."""
    path = path_inside(folder, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name!r} cannot be read: {error.strerror or error}") from None


def read_rgb(folder: str | Path, name: str, expect: tuple[int, int] | None = None) -> np.ndarray:
    """Read the picture `name` in `folder` (see pictures.py), its pixels as they are stored.

    Orientation is ignored, as the annotations of the published sets ignore it: the programs that wrote and score them
    count stored pixels (HRNet's loaders ask OpenCV for that, PIL's and MATLAB's readers do nothing else).

    Args:
        folder: the folder.
        name: path of the file relative to it.
        expect: width and height that it must have; None allows any.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: as `read_inside`; or the picture is truncated, or of another size than expected.
    """
    rgb = decode_picture(read_inside(folder, name))
    height, width = rgb.shape[:2]
    if expect is not None and (width, height) != expect:
        raise ValueError(f"{name!r} is {width} x {height}, the annotation says {expect[0]} x {expect[1]}")
    return rgb


def read_json(path: str | Path, what: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file.
        what: what messages call it.

    Raises:
        UserError: it is missing or not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist; check the path")
    try:
        return unique_keys.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not valid JSON ({error}); download or write it again") from None


def text_lines(path: Path, called: str = "", advice: str = "save it as UTF-8") -> list[tuple[int, str]]:
    """Return the lines of a text file that are not empty, with their numbers from 1.

    Only a line feed ends a line: JSON's texts may have the other ends of lines that Python knows.

    Args:
        path: the file; bytes that mark it as UTF-8 are dropped.
        called: what messages call it; "": its path.
        advice: what to do if it is no text.

    Raises:
        UserError: it is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{called or path} is not UTF-8 text ({error.reason} at byte {error.start}); {advice}"
        ) from None
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def split_of(annotations: str) -> str:
    """Return the split that the name of an annotation file tells: val, test or else train."""
    found = re.search(r"(?<![a-z])(val|test)", Path(annotations).name.lower())
    return found[1] if found else "train"


def first_fault(error: ValidationError) -> str:
    """Return the first fault of a record of an annotation file: where in the record, and what is allowed."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the record'}: {rule_of(first)}"
