"""Check which files of a download are present, by their first bytes, many at a time."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hcmoco.datasets.io.files import fault_inside

_THREADS = 32
SIGNATURES = {
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "WebP": ((0, b"RIFF"), (8, b"WEBP")),
    "TIFF": ((0, b"II*\0"),),
    "big-endian TIFF": ((0, b"MM\0*"),),
    "BMP": ((0, b"BM"),),
    "EXR": ((0, b"\x76\x2f\x31\x01"),),
    "NPY": ((0, b"\x93NUMPY"),),
    "MATLAB 5": ((0, b"MATLAB 5.0 MAT-f"),),
    "AVI": ((0, b"RIFF"), (8, b"AVI ")),
    "MP4": ((4, b"ftyp"),),
    "Matroska": ((0, b"\x1a\x45\xdf\xa3"),),
    "HDF5": ((0, b"\x89HDF\r\n\x1a\n"),),
    # HDF5 behind a block of 512 bytes that begins with this text.
    "MATLAB 7.3": ((0, b"MATLAB 7.3 MAT-f"),),
}
"""How files of a format begin: bytes at an offset, all of them."""


@dataclass(frozen=True)
class Fault:
    """A file or folder that is missing or unreadable.

    Attributes:
        path: of the file.
        reason: one sentence without a subject, e.g. "does not exist".
    """

    path: str
    reason: str


@dataclass
class Inventory:
    """What was checked and what is wrong with it.

    Attributes:
        counts: how many files or entries should be present, by name, e.g. {"clips": 56578, "depth folders": 56578}.
        faults: what is missing or unreadable, in an order that does not depend on the file system.
        notes: sentences on what the reader will skip, or chooses by itself.
    """

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check_files(self, what: str, folder: str | Path, names: Iterable[str], *formats: str) -> None:
        """Count files and add a fault for each that cannot be used.

        Args:
            what: what the files are counted as.
            folder: their folder.
            names: paths relative to it; repeated ones count once.
            formats: keys of SIGNATURES, one of which a file must begin as; none: any bytes are accepted.
        """
        distinct = list(dict.fromkeys(names))
        self.counts[what] = self.counts.get(what, 0) + len(distinct)
        self.faults += faults(folder, distinct, *formats)


def faults(folder: str | Path, names: Iterable[str], *formats: str) -> Iterator[Fault]:
    """Yield the faults of files, in the order of `names`; see `Inventory.check_files`.

    Many threads open files, since on a network disk each open waits for an answer.
    """
    root = Path(folder).resolve()

    def fault(name: str) -> Fault | None:
        reason = _reason(root, name, formats)
        return Fault(os.path.join(root, name), reason) if reason else None

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from (found for found in pool.map(fault, names) if found)


def _reason(root: Path, name: str, formats: tuple[str, ...]) -> str | None:
    try:
        if reason := fault_inside(root, name):
            return reason
        with (root / name).open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if not start:
        return "is empty"
    begins = (all(start[at : at + len(part)] == part for at, part in SIGNATURES[each]) for each in formats)
    return f"is not {' or '.join(formats)}" if formats and not any(begins) else None
