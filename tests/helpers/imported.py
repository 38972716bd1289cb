"""Which of the processes that this one has started have PyTorch in their memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hcmoco_ray.tracking.progress import beside


@contextmanager
def with_pytorch(*names: str) -> Iterator[dict[str, bool]]:
    """Look at processes while the block runs.

    Args:
        names: parts of command lines.

    Yields:
        For each name that was seen, whether a process of this name has loaded PyTorch; filled while the block runs.
    """
    seen: dict[str, bool] = {}

    def look(over: threading.Event) -> None:
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, OSError):
                    line = " ".join(process.cmdline())
                    # The memory maps of all processes would take so long to read that short tasks are missed.
                    for name in (each for each in names if each in line):
                        loaded = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
                        seen[name] = seen.get(name, False) or loaded

    with beside(look):
        yield seen
