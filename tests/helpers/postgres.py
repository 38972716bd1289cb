"""A real PostgreSQL server of Debian's package, with an empty database, in a temporary folder."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.helpers.free_port import free_port
from tests.helpers.waiting import CEILING, wait_until

REASON = "no PostgreSQL server to start"
USER = "postgres"  # PostgreSQL refuses to run as root


def _programs() -> Path | None:
    """The folder of the newest version's programs; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


def unavailable() -> str | None:
    """Why no server can be started here, None where one can."""
    if _programs() is None:
        return "Debian's package postgresql is not installed"
    if os.geteuid() != 0:
        return "the tests do not run as root"
    if USER not in {each.pw_name for each in pwd.getpwall()}:
        return f"this machine has no user {USER}"
    if importlib.util.find_spec("psycopg2") is None:
        return "Python's psycopg2 is not installed"
    return None


class Postgres:
    """Runs from `with` on, on a free port of `address`, and trusts whoever connects there."""

    def __init__(self, address: str = "127.0.0.1"):
        self._address = address
        self._port = free_port(address)

    @property
    def uri(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg2://{USER}@{self._address}:{self._port}/postgres"

    def __enter__(self) -> "Postgres":
        programs = _programs()
        assert programs is not None
        self._folder = Path(tempfile.mkdtemp(prefix="hcmoco-postgres-", dir="/var/tmp"))
        shutil.chown(self._folder, USER)
        data, log = self._folder / "data", self._folder / "log"
        as_user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": [], "cwd": self._folder}
        with log.open("w") as output:
            subprocess.run(
                [programs / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync"],
                check=True,
                stdout=output,
                stderr=output,
                **as_user,
            )
            self._process = subprocess.Popen(
                [
                    programs / "postgres",
                    "-D",
                    data,
                    "-h",
                    self._address,
                    "-p",
                    str(self._port),
                    "-k",
                    self._folder,
                    "-F",
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
                **as_user,
            )
        ask = [programs / "pg_isready", "-q", "-h", self._address, "-p", str(self._port)]
        try:
            wait_until(lambda: subprocess.run(ask).returncode == 0, self._process, pause=0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)  # its fast shutdown: connections are cut
        self._process.wait(CEILING)
        shutil.rmtree(self._folder, ignore_errors=True)
