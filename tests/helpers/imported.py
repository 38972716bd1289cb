"""Which of the processes that this one has started have PyTorch in their memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def with_pytorch(*names: str) -> Iterator[dict[str, bool]]:
    """Look at processes while the block runs.

    Args:
        names: parts of command lines.

    Yields:
        For each name that was seen, whether a process of this name has loaded PyTorch; filled while the block runs.
    """
    seen: dict[str, bool] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, OSError):
                    line = " ".join(process.cmdline())
                    for name in names:
                        if name in line:
                            loaded = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
                            seen[name] = seen.get(name, False) or loaded

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
