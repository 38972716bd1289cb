"""Read the MATLAB files that are published with DensePose: the surface, its seams, its symmetry."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hcmoco.errors import UserError, one_line

_MATLAB_73 = b"MATLAB 7.3 MAT-f"

ContentT = TypeVar("ContentT")


def read_published(path: Path, read: Callable[[bytes], ContentT], where: str) -> ContentT:
    """Return what `read` makes of a file's bytes.

    Args:
        path: of a MATLAB 5 file.
        read: raises ValueError for a damaged file. (SciPy's reader may crash the process over one.)
        where: how to get the file, for messages.

    Raises:
        UserError: the file is missing, of another version, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {where}")
    try:
        data = path.read_bytes()
        if data.startswith(_MATLAB_73):
            raise UserError(
                f"{path} is a MATLAB 7.3 file; the published one is of MATLAB 5, or store it again with -v7"
            )
        return read(data)
    except (OSError, ValueError, MemoryError) as error:
        raise UserError(f"{path} does not read as a MATLAB file ({one_line(error)}); fetch it again") from None
