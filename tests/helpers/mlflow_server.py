"""A real MLflow server, which serves artifacts too, in processes of its own."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil

from tests.helpers.free_port import free_port
from tests.helpers.waiting import CEILING, wait_until


class MlflowServer:
    """Runs from `with` on, on a free port; `stop` and `start` are for tests in which it is away for a while.

    Args:
        folder: for its database, its artifacts and its output, `server.log`.
        address: to listen at; the host address of `nodes.Nodes` is one that the nodes reach.
        backend: SQLAlchemy's URI of its database, by default an SQLite file in `folder`.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", *, backend: str | None = None):
        self._folder = folder
        self._address = address
        self._port = free_port(address)
        self._backend = backend or f"sqlite:///{folder / 'server.db'}"
        self._process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://{self._address}:{self._port}"

    def __enter__(self) -> "MlflowServer":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it, with all that it held before, and waits until it answers."""
        assert self._process is None
        command = [sys.executable, "-m", "mlflow", "server", f"--host={self._address}", f"--port={self._port}"]
        command += [f"--backend-store-uri={self._backend}", f"--artifacts-destination={self._folder / 'artifacts'}"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        inherited["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # more processes, for what no test asks
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--workers=1"],
                env=inherited,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        wait_until(self.answers, self._process, pause=0.1)

    def answers(self) -> bool:
        """Whether it answers now."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(f"{self.uri}/health", timeout=5).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Kills it and its worker processes."""
        if self._process is None:
            return
        family = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.kill()  # first: it would start its workers again
        for each in family:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(CEILING)
        self._process = None
