"""A clock that is ahead, for the processes that get an environment: libfaketime moves the time of day alone."""

import shutil
import subprocess
from pathlib import Path

REASON = "no clock can be moved here"
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

# libfaketime 0.9.10 refuses sleeps up to a moment of the clock that it leaves alone, as Python's time.sleep asks for
# them. They go to the kernel.
_SLEEP = """
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
}
"""


def unavailable() -> str | None:
    """Why not, None where it can be done."""
    if not _LIBRARIES:
        return "libfaketime is missing (Debian: apt-get install libfaketime)"
    return None if shutil.which("cc") else "there is no C compiler (cc)"


def environment(folder: Path, seconds: float) -> dict[str, str]:
    """Makes what is needed in a folder, and returns the variables of a process whose clock is `seconds` ahead."""
    source, library = folder / "sleep.c", folder / "sleep.so"
    source.write_text(_SLEEP)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return {
        "LD_PRELOAD": f"{library} {_LIBRARIES[0]}",
        "FAKETIME": f"{seconds:+}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
