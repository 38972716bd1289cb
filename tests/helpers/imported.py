"""Which of Ray's processes that this one has started have PyTorch in their memory."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from hcmoco_ray.tracking.progress import beside


@contextmanager
def with_pytorch() -> Iterator[dict[int, set[str]]]:
    """Look at Ray's processes while the block runs.

    A title lasts as long as a task, which may be shorter than the time between two looks; a process that has imported
    PyTorch lives on with it for seconds. So what counts is which processes have it, and then what they were called.

    Yields:
        For each process that has loaded PyTorch, the titles under which it was seen; filled while the block runs.
    """
    seen: defaultdict[int, set[str]] = defaultdict(set)

    def look(over: threading.Event) -> None:
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, OSError):
                    title = " ".join(process.cmdline()).strip()
                    if title.startswith("ray::") and "libtorch" in Path(f"/proc/{process.pid}/maps").read_text():
                        seen[process.pid].add(title)

    with beside(look):
        yield seen
