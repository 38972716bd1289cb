"""A command in a node of `nodes.py`: what it says goes to a file, and signals go to the command itself."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.helpers.waiting import CEILING, wait_until

_SPACES = ("--net", "--uts", "--ipc", "--pid", "--mount")


class Command:
    """Enters the namespaces of process `init` and starts `command` there, in a session of its own."""

    def __init__(self, init: int, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]):
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._said: str | None = None  # once it is closed
        self.process = subprocess.Popen(
            ["nsenter", "--target", str(init), *_SPACES, f"--wd={cwd}", "--", "setsid", "--wait", *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def said(self) -> str:
        """Stdout and stderr together, up to now, in whole lines while it runs."""
        if self._said is not None:
            return self._said
        text = os.pread(self._output.fileno(), 1 << 26, 0).decode(errors="replace")
        return text if self.process.poll() is not None else text[: text.rfind("\n") + 1]

    def until(self, pattern: str) -> re.Match:
        """Waits for a line that a regular expression finds. AssertionError, with what was said, if it ends before."""
        found: list[re.Match] = []

        def happened() -> bool:
            found.extend(re.finditer(pattern, self.said, re.MULTILINE))
            return bool(found)

        try:
            wait_until(happened, self.process, pause=0.02)
        except AssertionError as error:
            if not happened():
                raise AssertionError(f"{pattern!r} was not said, {error}: {self.said}") from None
        return found[0]

    def wait(self) -> int:
        """Waits for its end and returns its status; minus the signal's number where one ended it."""
        return self.process.wait(CEILING)

    def send_signal(self, number: int) -> None:
        """Sends a signal to the command; `nsenter` would keep it for itself."""
        for child in psutil.Process(self.process.pid).children():
            child.send_signal(number)

    def resume(self) -> None:
        """`nsenter` stops with its child, outside the node."""
        if self.process.poll() is None:
            psutil.Process(self.process.pid).resume()

    def close(self) -> None:
        """Ends it; what it said is kept."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
        self.process.wait()
        self._said = self.said
        self._output.close()
