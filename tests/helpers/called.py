"""What a call of a program returned, printed and left."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Called:
    """Of a call of a program's `main`."""

    status: int
    out: str
    err: str
    folder: Path
