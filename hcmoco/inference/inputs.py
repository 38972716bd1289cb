"""Find what a user gives to predict on: files, folders of them, or a list of files on standard input."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from hcmoco.datasets.io import depth_files, pictures
from hcmoco.datasets.io.streams import VIDEO_SUFFIXES, container_of
from hcmoco.errors import UserError
from hcmoco.inference.images import read_rgb

LISTED = "-"
"""In place of a file: a list of files is read from standard input."""
# Of a folder; a MAT file beside pictures mostly holds something else than depth.
SUFFIXES = tuple(each for each in dict.fromkeys((*pictures.SUFFIXES, *depth_files.SUFFIXES)) if each != ".mat")


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        name: its path below the folder that was given, with `/`; of a file that was given by itself, its name; of one
            in a list, its path as it stands there.
        path: of the file.
        place: which line of a list names it, in words; "" outside a list.
    """

    name: str
    path: Path
    place: str = ""

    def rgb(self) -> np.ndarray:
        """Return uint8 [H, W, 3]: the upright picture. Raises ValueError as `read_rgb` does."""
        return read_rgb(self.path)


@dataclass(frozen=True)
class VideoFile:
    """A video file; attributes as of `ImageFile`."""

    name: str
    path: Path
    place: str = ""


@dataclass(frozen=True)
class FoundInputs:
    """What there is to predict on.

    Attributes:
        files: in the order in which they are predicted: of a folder by name, of a list as it is.
        passed_over: what else is there and is not read, in words, with numbers.
        rejected: what a list or a command line names and is no file, with the reason.
        listed: the files are of a list.
    """

    files: list[ImageFile | VideoFile]
    passed_over: tuple[str, ...] = ()
    rejected: list[tuple[str, str]] = field(default_factory=list)
    listed: bool = False

    @property
    def images(self) -> list[ImageFile]:
        """Return the files that are pictures."""
        return [each for each in self.files if isinstance(each, ImageFile)]

    @property
    def videos(self) -> list[VideoFile]:
        """Return the files that are videos."""
        return [each for each in self.files if isinstance(each, VideoFile)]


def find_inputs(given: Sequence[str], marker: str, listed: bytes = b"") -> FoundInputs:
    """List the files that arguments name.

    Args:
        given: paths of files and folders; or LISTED alone.
        marker: see `find_in_folder`.
        listed: what standard input holds, where LISTED is given.

    Raises:
        UserError: a path does not exist, a folder holds no file that is read, or two files would have one name.
    """
    if list(given) == [LISTED]:
        return read_list(listed)
    if LISTED in given:
        raise UserError(f"{LISTED} reads a list of files from standard input, and stands alone; drop the other paths")
    if len(given) == 1:
        root = Path(given[0]).expanduser()
        return find_in_folder(root, marker) if root.is_dir() else FoundInputs([_file(root.name, root, given[0])])
    files: list[ImageFile | VideoFile] = []
    notes: list[str] = []
    for path in given:
        root = Path(path).expanduser()
        if root.is_dir():
            found = find_in_folder(root, marker)
            # Below their folder's own path: two folders may hold the same names.
            files += [type(each)(_name(f"{path}/{each.name}"), each.path) for each in found.files]
            notes += [f"{path}: {note}" for note in found.passed_over]
        else:
            files.append(_file(_name(path), root, path))
    names = [each.name for each in files]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"images: {double} is given twice; name each file once")
    return FoundInputs(files, tuple(notes))


def read_list(data: bytes) -> FoundInputs:
    """Read a list of files, as `find` writes it.

    Args:
        data: paths, one a line, or with a NUL after each (`find -print0`). Empty lines, and a carriage return at a
            line's end, do not count.

    Raises:
        UserError: no line names a file.
    """
    texts = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    files: dict[str, ImageFile | VideoFile] = {}
    rejected = []
    for number, text in enumerate(texts, 1):
        if not text:
            continue
        path = os.fsdecode(text)
        name, place = _name(path), f"line {number}"
        reason = _fault(Path(path))
        if name in files and not reason:
            reason = f"it is named twice, first in {files[name].place}"
        if reason:
            rejected.append((f"{place}, {path}", reason))
        else:
            files[name] = _kind(Path(path))(name, Path(path), place)
    if not files:
        why = f"; {rejected[0][0]}: {rejected[0][1]}" if rejected else ""
        raise UserError(
            f"images: the list on standard input names no file that can be read{why}; pipe paths into it, one a line, "
            "such as those of find . -name '*.jpg'"
        )
    return FoundInputs(list(files.values()), (), rejected, listed=True)


def find_in_folder(root: Path, marker: str) -> FoundInputs:
    """List all pictures and videos in the folder `root` and below it, by name.

    Links to folders are followed. Passed over, and counted, are names that begin with a dot, folders that hold a file
    named `marker` (those are results), folders that were read already under another name, and those that cannot be
    opened.

    Raises:
        UserError: the folder holds no such file.
    """
    found: list[ImageFile | VideoFile] = []
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
            kind = ImageFile if suffix in SUFFIXES else VideoFile if suffix in VIDEO_SUFFIXES else None
            if kind and not name.startswith("."):
                found.append(kind(path.relative_to(root).as_posix(), path))
            elif not name.startswith("."):
                pass_over(f"files of {suffix}" if suffix else "files without a suffix", path)
    most_first = sorted(over.items(), key=lambda each: -len(each[1]))
    notes = tuple(f"{what}: {len(paths)}, such as {paths[0]}" for what, paths in most_first)
    if not found:
        others = f" (there are {'; '.join(notes[:3])})" if notes else ""
        raise UserError(f"images: {root} holds no {', '.join(SUFFIXES)} file and no video{others}; convert them first")
    return FoundInputs(sorted(found, key=lambda file: file.name), notes)


def _file(name: str, path: Path, given: str) -> ImageFile | VideoFile:
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise UserError(f"images: {given} {what}; give a picture, a video, or a folder of them")
    return _kind(path)(name, path)


def _kind(path: Path) -> type[ImageFile] | type[VideoFile]:
    """By its content, or else by its suffix: a damaged video is not told to be a bad picture."""
    try:
        video = container_of(path) is not None
    except OSError:
        video = False
    return VideoFile if video or path.suffix.lower() in VIDEO_SUFFIXES else ImageFile


def _fault(path: Path) -> str:
    """Why a path of a list cannot be used; "" if it can."""
    try:
        if path.is_dir():
            return "it is a folder; name the files in it"
        if not path.exists():
            return "it does not exist"
        return "" if path.is_file() else "it is not a regular file"
    except (OSError, ValueError) as error:
        return f"it cannot be read: {getattr(error, 'strerror', None) or error}"


def _name(path: str) -> str:
    """The name of a file by the path that was typed."""
    return PurePosixPath(os.path.normpath(path)).as_posix()
