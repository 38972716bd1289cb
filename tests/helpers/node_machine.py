"""One node of `nodes.py`, seen from the test process: a first process in namespaces of its own, and what runs there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.helpers import node_init
from tests.helpers.namespaces import UNSHARE
from tests.helpers.node_command import Command

ROOT = Path(__file__).parents[2]


class Machine:
    """Up once it is made, without a network.

    Args:
        hostname: its name, which its /etc/hosts gives a loopback address.
        folder: a new folder for its files; `folder / "tmp"` is its /tmp.
        hide: folders that it does not reach.
        shm_bytes: size of its /dev/shm.
    """

    def __init__(self, hostname: str, folder: Path, *, hide: Sequence[Path], shm_bytes: int):
        folder.mkdir()
        self.hostname = hostname
        self.commands: list[Command] = []
        kept = {str(path) for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix)) if path.is_relative_to("/tmp")}
        given = {
            "hostname": hostname,
            "folder": str(folder),
            "keep": sorted(kept),
            "hide": [str(path) for path in hide],
            "shm_bytes": shm_bytes,
        }
        with (folder / "errors").open("w") as errors:
            self._unshare = subprocess.Popen(
                [*UNSHARE, sys.executable, "-I", "-S", node_init.__file__, json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self._unshare.stdout is not None
        ready = self._unshare.stdout.readline() == "ready\n"
        if not ready:
            self._unshare.kill()
            self._unshare.wait()
        assert ready, f"node {hostname} did not start: {(folder / 'errors').read_text()}"
        self.pid = psutil.Process(self._unshare.pid).children()[0].pid
        self._space = os.readlink(f"/proc/{self.pid}/ns/pid")

    def processes(self) -> list[psutil.Process]:
        """All of its processes, without those that have ended."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/pid") == self._space and (
                    process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def popen(self, command: Sequence[str], environment: Mapping[str, str]) -> Command:
        """Starts a command in the checkout's folder."""
        started = Command(self.pid, command, cwd=ROOT, environment=environment)
        self.commands.append(started)
        return started

    def run(self, command: Sequence[str], environment: Mapping[str, str], *, check: bool) -> str:
        """Runs a command and returns what it printed. AssertionError where it fails and `check` is true."""
        started = self.popen(command, environment)
        status, said = started.wait(), started.said
        self.close(started)
        assert not check or status == 0, f"{' '.join(command)} in {self.hostname} ended with {status}: {said}"
        return said

    def close(self, command: Command) -> None:
        """Ends a command and forgets it."""
        self.commands.remove(command)
        command.close()

    def pause(self) -> None:
        """SIGSTOP for all processes, those that are made meanwhile too."""
        while running := [each for each in self.processes() if each.status() != psutil.STATUS_STOPPED]:
            for process in running:
                process.suspend()
            time.sleep(0.01)

    def resume(self) -> None:
        """SIGCONT for all processes."""
        for process in self.processes():
            process.resume()
        for command in self.commands:
            command.resume()

    def kill(self) -> None:
        """SIGKILL for the first process; the kernel kills all others with it."""
        if self._unshare.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self._unshare.wait()
        for command in list(self.commands):
            self.close(command)
