"""A Ray cluster of the tests' own, started as a person would, to which jobs are submitted."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.waiting import CEILING, wait_until

ROOT = Path(__file__).parents[2]
HEAD_PORTS = (
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
)


@dataclass(frozen=True)
class OwnCluster:
    """A head on loopback with token authentication.

    Attributes:
        address: takes jobs.
        gcs: the address that programs join.
        home: HCMOCO_HOME of its jobs.
    """

    address: str
    gcs: str
    environment: dict[str, str]
    home: Path

    def submit(
        self, *command: str, folder: Path, timeout: float = CEILING, working_dir: bool = True
    ) -> subprocess.CompletedProcess:
        """`ray job submit --working-dir . -- <command>` from `folder`; returns when the job has ended."""
        arguments = [_tool("ray"), "job", "submit", *(["--working-dir", "."] if working_dir else []), "--", *command]
        return subprocess.run(
            arguments, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@contextmanager
def head(num_cpus: int = 2, object_store_bytes: int = 200 << 20) -> Iterator[OwnCluster]:
    """Starts a head and ends it with every process that came from it; other clusters on the machine are not touched.

    It is started in the checkout, and its Python finds the checkout's packages, as `deploy/` and cluster.yaml do it.
    """
    import psutil

    folder = Path(
        tempfile.mkdtemp(prefix="hc-", dir="/tmp")
    )  # short: Ray puts sockets under it, whose paths end at 107 characters
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    ports = dict(zip(HEAD_PORTS, _free_ports(len(HEAD_PORTS)), strict=True))
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_"))}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_API_SERVER_ADDRESS": address,
        "HCMOCO_HOME": str(folder / "home"),
    }
    arguments = [_tool("ray"), "start", "--head", "--block", "--disable-usage-stats", "--dashboard-host=127.0.0.1"]
    arguments += [f"--{name}={port}" for name, port in ports.items()]
    arguments += [f"--num-cpus={num_cpus}", f"--object-store-memory={object_store_bytes}", f"--temp-dir={folder / 's'}"]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(process, address, folder)
        yield OwnCluster(address, f"127.0.0.1:{ports['port']}", environment, folder / "home")
    finally:
        # With --block every process of the cluster descends from this one, so that they can be found without a search
        # by name.
        tree = (
            [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            if process.poll() is None
            else []
        )
        for each in tree:
            _kill(each)
        process.wait()
        psutil.wait_procs(tree)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for(process: subprocess.Popen, address: str, folder: Path) -> None:
    request = urllib.request.Request(
        f"{address}/api/version", headers={"Authorization": f"Bearer {(folder / 'token').read_text()}"}
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=60):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, process, pause=0.3)
    except AssertionError as error:
        raise AssertionError((folder / "head.log").read_text()) from error


def _kill(process) -> None:
    import psutil

    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[OwnCluster]:
    """One head for all tests that submit jobs."""
    with head() as cluster:
        yield cluster


@pytest.fixture
def clean_copy(tmp_path: Path) -> Path:
    """The programs in a folder of their own, as someone has them who unpacked the sources and installed nothing."""
    for part in ("hcmoco", "hcmoco_ray", "pipelines", "tuning", "recipes"):
        shutil.copytree(ROOT / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory) -> Iterator[Path]:
    """HCMOCO_HOME of the tiny pre-trainings, with their recipe; the first of them makes the people."""
    from tests.helpers import pretrain_program

    home = tmp_path_factory.mktemp("home")
    pretrain_program.write_recipe(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HCMOCO_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def finished(ray_session, tiny_home):
    """A tiny pre-training of one worker that was let to its end."""
    from tests.helpers import pretrain_program

    return pretrain_program.call(tiny_home)


@pytest.fixture(scope="session")
def finetune_home(tmp_path_factory) -> Path:
    """Home of the tiny fine-tunings, with their recipes; the first of them makes the people."""
    from tests.helpers import finetune_program

    home = tmp_path_factory.mktemp("finetune")
    finetune_program.write_recipes(home)
    return home
