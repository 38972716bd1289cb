"""A Ray that does not start here, and a cluster that cannot be joined, are one line, and what it says helps."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from hcmoco_ray.cluster import starting
from tests.helpers.started import Started

ROOT = Path(__file__).parents[3]
SHORT = "/tmp/hc-ray-of-tests"
_TOO_LONG = f"/tmp/{'x' * 60}"


def prepare(tmp_path: Path, *, within: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
    """The program, which makes two people on a Ray of its own or of RAY_ADDRESS; `within` is a command around it."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTEST_")) and key != "TMPDIR"
    }
    inherited |= {"HCMOCO_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", **environment}
    program = [sys.executable, str(ROOT / "pipelines" / "prepare.py"), "people", "--out=people", "--count=2"]
    return subprocess.run(
        [*within, *program], cwd=ROOT, env=inherited, capture_output=True, text=True, check=False, timeout=600
    )


def error_of(done: subprocess.CompletedProcess) -> str:
    """The one line; nothing but progress comes before it."""
    assert done.returncode == 2, done
    *before, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert not [each for each in before if not re.match("preparing|starting|joining|waiting up to", each)], done.stderr
    assert line.startswith("error: ")
    assert "RAY_ADDRESS=None" not in line
    return line


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:8265", "is the dashboard's address, which takes jobs; give .*ray job submit"),
        ("ray://127.0.0.1:10001", "cannot run through ray://; give the address of the head's GCS"),
        ("127.0.0.1", "is not of the form host:port"),
        ("127.0.0.1:", "is not of the form host:port"),
        ("127.0.0.1:head", "is not of the form host:port"),
        ("127.0.0.1:99999", "is not of the form host:port"),
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1 .*; start it with `ray start --head`"),
        ("no-such-name.invalid:6379", "does not know that name"),
    ],
)
def test_an_address_that_no_program_can_join(tmp_path, address, says):
    line = error_of(prepare(tmp_path, RAY_ADDRESS=address))
    assert re.search(says, line), line
    assert f"RAY_ADDRESS={address}" in line


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(own_cluster, tmp_path):
    token = own_cluster.environment["RAY_AUTH_TOKEN_PATH"]
    asked = {"RAY_ADDRESS": own_cluster.gcs, "HOME": str(tmp_path)}
    for own in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong" * 12}, {"RAY_AUTH_TOKEN_PATH": "/none"}):
        line = error_of(prepare(tmp_path, **asked, **own))
        assert "asks for a token" in line
        assert "RAY_AUTH_TOKEN_PATH to a file" in line
        assert "wrong" not in line
    # "auto" finds any Ray of the machine; what Ray says of the one that it took is this.
    said = ConnectionError(f"Failed to connect to Ray cluster at {own_cluster.gcs}")
    assert "RAY_ADDRESS=auto asks for a token" in str(starting.not_joined("auto", said))
    done = prepare(tmp_path, **asked, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token)
    assert done.returncode == 0, done


@pytest.fixture
def folder():
    """With a short name, as sockets need it."""
    path = Path(tempfile.mkdtemp(prefix="hc-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def helped(tmp_path: Path, within: tuple[str, ...], tmpdir: str) -> None:
    done = prepare(tmp_path, within=within, TMPDIR=tmpdir, RAY_TMPDIR=SHORT)
    assert done.returncode == 0, done
    shutil.rmtree(SHORT, ignore_errors=True)


@pytest.mark.slow
def test_a_folder_whose_name_is_too_long_for_sockets(tmp_path):
    line = error_of(prepare(tmp_path, TMPDIR=_TOO_LONG))
    assert f"Ray cannot start in {_TOO_LONG}: its name is too long" in line
    assert "set RAY_TMPDIR to a folder with a short name" in line
    helped(tmp_path, (), _TOO_LONG)
    longest = int(re.search(r"at most (\d+) bytes", line)[1]) - 1  # the next process may have a longer number
    exact = Path("/tmp", "y" * (longest - len("/tmp/")))
    try:
        assert prepare(tmp_path, TMPDIR=str(exact)).returncode == 0
    finally:
        shutil.rmtree(exact, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the tests do not run as root")
def test_the_folder_of_somebody_else(tmp_path, folder):
    """Somebody without a capability of root's is anybody else."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv of util-linux is not installed")
    within = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    os.chown(folder, 65534, 65534)
    line = error_of(prepare(tmp_path, within=within, TMPDIR=str(folder)))
    assert f"{folder} belongs to " in line
    assert "set RAY_TMPDIR to a folder of your own" in line
    helped(tmp_path, within, str(folder))


def test_a_file_in_place_of_the_folder(tmp_path, folder):
    (folder / "file").touch()
    assert f"{folder / 'file'} is not a folder" in error_of(prepare(tmp_path, TMPDIR=str(folder / "file")))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the tests do not run as root")
def test_a_full_disk(tmp_path, folder):
    mount = f'mount -t tmpfs -o size=3m tmpfs {folder} && head -c 2500000 /dev/zero > {folder}/full && exec "$@"'
    within = ("unshare", "--mount", "bash", "-c", mount, "bash")
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    line = error_of(prepare(tmp_path, within=within, TMPDIR=str(folder)))
    assert re.search(rf"Ray cannot start in {folder}/ray: its disk has \d MB free", line), line
    assert "set RAY_TMPDIR to a folder on another disk" in line
    helped(tmp_path, within, str(folder))


@pytest.mark.long
@pytest.mark.slow
def test_too_few_open_files(tmp_path):
    few = ("bash", "-c", 'ulimit -n 40 && exec "$@"', "bash")
    done = prepare(tmp_path, within=few)
    assert done.returncode == 2, done
    *_, line = done.stderr.splitlines()  # what Ray's own client writes comes before it
    assert line.startswith("error: Ray did not start on this machine: too many open files")
    assert line.endswith("ulimit -n 65536")


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ("The current node timed out during startup. This could happen because ...", True),
        ("Timed out while waiting for GCS to become available.", True),
        ("Deadline Exceeded", True),
        ("no such option", False),
    ],
)
def test_what_only_took_too_long_is_tried_again(said, again):
    reason = starting.not_started(Exception(said))
    assert starting.may_start(reason) is again
    assert ("run the same command again when it is less so" in str(reason)) is again


@pytest.mark.slow
@pytest.mark.long
def test_a_node_that_needs_longer_than_ray_waits(tmp_path):
    """Its process is stopped for longer than that."""
    program = Started("pipelines/prepare.py", "people", "--out=people", "--count=2", HCMOCO_HOME=str(tmp_path))

    def raylet() -> list[psutil.Process]:
        return [each for each in program.family() if each.name() == "raylet"]

    try:
        program.until(raylet)
        (slow,) = raylet()
        slow.suspend()
        program.until("waiting up to 180 s for Ray's node on this busy machine")
        slow.resume()
        program.until("people: prepared, 2 rows")
        assert "starting Ray again" not in program.said
    finally:
        program.kill()
