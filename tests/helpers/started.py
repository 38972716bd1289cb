"""A program in a process and a session of its own, which gets a signal, and what of it is left then."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
CEILING_S = 60.0  # the promise is 10 seconds on a machine that is not busy
_REACHES_S = 300.0


class Started:
    """`command`, relative to the checkout, after the name of Python.

    What it prints goes to a file, which nobody has to read meanwhile.
    """

    def __init__(self, *command: str, **environment: str):
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_"))}
        self._command = [sys.executable, *command]
        self._environment = {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        self._start()

    def _start(self) -> None:
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by kill)
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._begun = psutil.Process(self.process.pid).create_time()

    @property
    def said(self) -> str:
        """Stdout and stderr together, up to now."""
        return os.pread(self._output.fileno(), 1 << 24, 0).decode()

    def until(self, moment: Callable[[], object] | str) -> "Started":
        """Waits for a moment, or for a line of output that a regular expression finds. Where Ray did not start
        in time, because the machine is busy, the program is started again."""
        deadline = time.monotonic() + _REACHES_S
        while not (re.search(moment, self.said, re.MULTILINE) if isinstance(moment, str) else moment()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.said
                self.kill()
                if "most likely because it is busy" not in said or time.monotonic() > deadline:
                    raise AssertionError(f"{moment} was not reached: {said}")
                self._start()
            time.sleep(0.005)
        return self

    def family(self) -> list[psutil.Process]:
        """All processes of its session, and all below them."""
        found = {}
        for each in psutil.process_iter():
            try:
                if os.getsid(each.pid) == self.process.pid and each.create_time() >= self._begun:
                    found |= {child.pid: child for child in (each, *each.children(recursive=True))}
            except (psutil.Error, OSError):
                continue
        return [each for each in found.values() if each.pid != self.process.pid]

    def stop(self, number: int, *, group: bool = False, times: int = 1) -> tuple[int, str]:
        """Sends a signal to the process, or to all of its group as a terminal does, and returns the exit status and
        what was said from then on. AssertionError if anything of it is left in the end."""
        family, before, begun = self.family(), len(self.said), time.monotonic()
        for _ in range(times):
            (os.killpg if group else os.kill)(self.process.pid, number)
            time.sleep(0.1)
        try:
            status = self.process.wait(CEILING_S)
            family += self.family()
            while (left := [each for each in family if _lives(each)]) and time.monotonic() < begun + CEILING_S:
                time.sleep(0.05)
            print(f"{time.monotonic() - begun:.1f} s from the signal to the end of {len(family) + 1} processes")
            assert not left, left
            self.whole = self.said
            return status, self.whole[before:]
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends all that is left."""
        for each in [*self.family(), self.process]:
            try:
                each.kill()
            except psutil.Error:
                continue
        self.process.wait()
        self._output.close()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
