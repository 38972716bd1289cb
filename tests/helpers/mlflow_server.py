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
        admin: name and password of the user of MLflow's own basic authentication; None: everybody is let in.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "127.0.0.1",
        *,
        backend: str | None = None,
        admin: tuple[str, str] | None = None,
    ):
        self.folder = folder
        self._address = address
        self._port = free_port(address)
        self._backend = backend or f"sqlite:///{folder / 'server.db'}"
        self._admin = admin
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
        command += [f"--backend-store-uri={self._backend}", f"--artifacts-destination={self.folder / 'artifacts'}"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        inherited["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # more processes, for what no test asks
        if self._admin:
            command.append("--app-name=basic-auth")
            users = self.folder / "users.ini"
            users.write_text(
                f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.folder / 'users.db'}\n"
                f"admin_username = {self._admin[0]}\nadmin_password = {self._admin[1]}\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            inherited |= {"MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-tests"}
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--workers=1"],
                env=inherited,
                stdout=log,
                stderr=log,
                cwd=self.folder,
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
