"""Waiting for what another process or thread does: for the event, with a ceiling that only counts when something is
broken."""

import subprocess
import time
from collections.abc import Callable

CEILING = 1500
"""Seconds. A slow and busy machine must not come near it; pytest's own time limit is a little above."""


def wait_until(
    happened: Callable[[], object], process: subprocess.Popen | None = None, *, pause: float = 0.005
) -> None:
    """Returns as soon as `happened()` is true. AssertionError where `process` ends before, or after CEILING seconds."""
    end = time.monotonic() + CEILING
    while not happened():
        assert process is None or process.poll() is None, f"the program ended with status {process.poll()}"
        assert time.monotonic() < end, f"not after {CEILING} s"
        time.sleep(pause)
