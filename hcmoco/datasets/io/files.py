"""Reading the files that an annotation names, without following it out of its folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from hcmoco.data.codecs import decode_rgb
from hcmoco.errors import UserError

MAX_BYTES = 1 << 29
LEAVES, MISSING = "leaves the folder", "does not exist"


def below_source(source: str, path: str) -> Path:
    """`path` as it is if it is absolute (or begins with ~), else below `source`. UserError for the home of nobody."""
    try:
        return Path(source) / Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}; give the path in full") from None


def path_inside(folder: str | Path, name: str, most: int = MAX_BYTES) -> Path:
    """Where the file `name`, relative to `folder`, really lies: for libraries that open files by their path.

    Raises ValueError with a sentence for a path that leaves the folder (by `..`, as an absolute path or through a symbolic link), and for
    a file that is missing, empty, larger than `most` bytes or not a regular file (a pipe would wait for ever).
    """
    root = Path(folder).resolve()
    try:
        reason = fault_inside(root, name)
        path = (root / name).resolve()
        size = 0 if reason else path.stat().st_size
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if reason:
        more = {LEAVES: f" {root}; paths are relative to it and stay inside", MISSING: f" in {root}"}
        raise ValueError(f"{name!r} {reason}{more.get(reason, '')}")
    if not 0 < size <= most:
        raise ValueError(f"{name!r} is empty" if size == 0 else f"{name!r} has {size} bytes, at most {most} are read")
    return path


def fault_inside(root: Path, name: str) -> str:
    """Why `name` is no regular file inside `root`, a resolved folder; "" where it is one. Raises OSError, ValueError and RuntimeError as
    `pathlib` does for what cannot be looked at."""
    path = (root / name).resolve()
    if not path.is_relative_to(root) or Path(name).is_absolute():
        return LEAVES
    if not path.exists():
        return MISSING
    return "" if path.is_file() else "is not a regular file"


def read_inside(folder: str | Path, name: str) -> bytes:
    """Bytes of the file `name`, relative to `folder`. Raises ValueError as `path_inside` does."""
    path = path_inside(folder, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name!r} cannot be read: {error.strerror or error}") from None


def read_rgb(folder: str | Path, name: str, expect: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3] of the JPEG or PNG `name` in `folder`; EXIF orientation is ignored, as annotations are.

    Raises ValueError as `read_inside` does, for a picture that is not whole, and for one whose width and height are not those expected.
    """
    rgb = decode_rgb(read_inside(folder, name))
    height, width = rgb.shape[:2]
    if expect is not None and (width, height) != expect:
        raise ValueError(f"{name!r} is {width} x {height}, the annotation says {expect[0]} x {expect[1]}")
    return rgb


def read_json(path: str | Path, what: str) -> Any:
    """The content of a JSON file; UserError with one line, naming it as `what`, if it is missing or not JSON."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist; check the path")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is not valid JSON ({error}); download or write it again") from None


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong with a record of an annotation file: where in the record, and what is allowed."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the record'}: {first['msg']}"
