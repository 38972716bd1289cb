"""What a node finds out about itself. Each function returns plain values, which `judge.py` takes for good or bad.

These functions run in a process of the node. They import what they need themselves, so that a library that cannot be
imported there fails its own check alone.
"""

import hashlib
import os
import shutil
import socket
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

_ROUND_TRIPS = 50
_CLOCK_ANSWERS_S = 60.0
_CHECK = ".hcmoco-check-"  # hidden where folders are listed, see hcmoco.storage
# A server that takes connections and never answers must not use up the node's time.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
SETTINGS = (
    "RAY_health_check_initial_delay_ms",
    "RAY_health_check_period_ms",
    "RAY_health_check_timeout_ms",
    "RAY_health_check_failure_threshold",
    "RAY_idle_worker_killing_time_threshold_ms",
    "RAY_JOB_STOP_WAIT_TIME_S",
    "RAY_memory_usage_threshold",
    "RAY_local_fs_capacity_threshold",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
)
"""Variables of `ray start` that the verdicts depend on. The processes of a node inherit them."""


def machine(session_folder: str, home: str) -> dict[str, Any]:
    """Look at the machine: its name, memory, disks, limits, and how its Ray was started.

    Args:
        session_folder: of the node's Ray.
        home: folder below which runs lie, on the machine of the program.

    Returns:
        `name`, and the addresses it `resolves` to (none where it is not known); `memory_used` and `memory_total`,
        `disk_ray` and `disk_home` as (free, total) in bytes, `disk_home` None where there is no such folder here;
        `shm_total` in bytes, `plasma_folder` of the object store; `open_files`, the soft and the hard limit;
        `settings`, those of SETTINGS that are set; `announced_s`, how long before its end this node announces it, as
        text, None where it does not.
    """
    from hcmoco_ray.compat import node_memory

    used, total = node_memory()
    commands = _commands_above()
    return {
        "name": socket.gethostname(),
        "resolves": _resolve(socket.gethostname()),
        "memory_used": used,
        "memory_total": total,
        "disk_ray": _disk(session_folder),
        "disk_home": _disk(home) if Path(home).is_dir() else None,
        "shm_total": shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        "plasma_folder": _option(commands, "--plasma_directory"),
        "open_files": _open_files(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "announced_s": announced_grace(commands),
    }


def _resolve(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _disk(path: str) -> tuple[int, int]:
    # What an ordinary user may still write, as a share of what it can hold: that is how Ray counts.
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize, (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize


def _open_files() -> tuple[int, int] | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def announced_grace(commands: Sequence[Sequence[str]]) -> str | None:
    """Return the seconds of `--grace` of `hcmoco_ray node` among command lines; None if it is not there."""
    for command in commands:
        own = list(command[: command.index("--")] if "--" in command else command)
        programs = [Path(before).name for before, word in pairwise(own) if word == "node"]
        if not {"hcmoco", "hcmoco_ray", "__main__.py"}.intersection(programs):
            continue
        for number, word in enumerate(own):
            if word == "--grace" and number + 1 < len(own):
                return own[number + 1]
            if word.startswith("--grace="):
                return word.partition("=")[2]
        return "30"
    return None


def _commands_above() -> list[list[str]]:
    """Return the command lines of this process's ancestors: raylet, `ray start --block`, and what started that."""
    import psutil

    commands = []
    for process in psutil.Process().parents():
        try:
            commands.append(process.cmdline())
        except psutil.Error:
            continue
    return commands


def _option(commands: Sequence[Sequence[str]], name: str) -> str | None:
    values = (word.partition("=")[2] for command in commands for word in command if word.startswith(f"{name}="))
    return next(values, None)


def versions() -> dict[str, str | None]:
    """Return the versions of what a training runs on; `cuda` is PyTorch's build, None of a build without.

    `code` is a digest of the source of both packages, as this node imports them: two checkouts may differ in what
    neither's version says.
    """
    import platform

    import ray
    import torch

    import hcmoco
    import hcmoco_ray

    digest = hashlib.sha256()
    for package in (hcmoco, hcmoco_ray):
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return {
        "python": platform.python_version(),
        "ray": ray.__version__,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hcmoco": hcmoco.__version__,
        "code": digest.hexdigest()[:8],
    }


class Clock:
    """The clock of the node that it runs on, as an actor."""

    def now(self) -> float:
        """Return the seconds since 1970."""
        return time.time()


def clock(reference: Any) -> dict[str, float]:
    """Measure how far this node's clock is ahead of another's, by round trips.

    In a round trip the other clock is read at some moment between asking and answer. So this clock's middle of the two
    differs from that moment by at most half of the trip. The shortest of many trips bounds it best.

    Args:
        reference: an actor of `Clock`.

    Returns:
        `offset_s` and its `uncertainty_s`.
    """
    import ray

    ray.get(reference.now.remote(), timeout=_CLOCK_ANSWERS_S)  # the first call makes the connection
    trips = []
    for _ in range(_ROUND_TRIPS):
        begun, there = time.perf_counter(), time.time()
        theirs = ray.get(reference.now.remote(), timeout=_CLOCK_ANSWERS_S)
        trip = time.perf_counter() - begun
        trips.append((trip, there + trip / 2 - theirs))
    trip, offset = min(trips)
    return {"offset_s": offset, "uncertainty_s": trip / 2}


def storage(uri: str, token: str | None, num_bytes: int) -> dict[str, Any]:
    """Write a file, read it back and delete it.

    Args:
        uri: of a folder. A local one need not exist: then the nearest one above it is tried.
        token: a file that the program has written into a local folder, which this node should see; None: there is none.
        num_bytes: of the file.

    Returns:
        `write_mb_s`, `read_mb_s`, and `sees_token`, None where there is none.

    Raises:
        StorageError, UserError: as `hcmoco.storage.Folder`.
        OSError: a local disk does not take it.
    """
    from hcmoco.storage import Folder, existing_parent, is_local
    from hcmoco_ray.cluster.shared_disk import missing_files

    if is_local(uri):
        uri = str(existing_parent(Folder(uri).local_path))
    folder, name, data = Folder(uri), f"{_CHECK}{uuid.uuid4().hex}", os.urandom(num_bytes)
    sees = not missing_files([token]) if token else None
    try:
        begun = time.perf_counter()
        folder.write(name, data)
        written = time.perf_counter()
        if is_local(uri):
            _forget_cached(folder.local_path / name)
        again = time.perf_counter()
        back = folder.read(name)
        read = time.perf_counter()
    finally:
        folder.delete(name)
    if back != data:
        raise OSError(f"{uri} does not give back what is written to it")
    megabytes = num_bytes / 1e6
    return {"write_mb_s": megabytes / (written - begun), "read_mb_s": megabytes / (read - again), "sees_token": sees}


def _forget_cached(path: Path) -> None:
    """Let the next read of a file come from its disk, where the system can do that."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def mlflow(uri: str, variables: dict[str, str]) -> dict[str, float]:
    """Ask a tracking server for an experiment.

    Args:
        uri: of the server, or of its database.
        variables: MLflow's of the program, with user and password.

    Returns:
        `median_ms` of an answer.

    Raises:
        UserError: it does not answer, or not to this user.
    """
    os.environ.update({**_MLFLOW, **variables})
    from mlflow import MlflowClient

    from hcmoco.errors import UserError
    from hcmoco_ray.tracking import mlflow_errors
    from hcmoco_ray.tracking.mlflow_store import store_errors

    client, times = MlflowClient(uri), []
    for _ in range(3):
        begun = time.perf_counter()
        try:
            client.search_experiments(max_results=1)
        except store_errors() as error:
            raise UserError(mlflow_errors.reason(error)) from None
        times.append(time.perf_counter() - begun)
    return {"median_ms": statistics.median(times) * 1e3}


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "versions": versions,
    "clock": clock,
    "storage": storage,
    "mlflow": mlflow,
    "ready": dict,
}


class Probe:
    """An actor on one node, which does one thing after the other that it is asked for."""

    def ask(self, check: str, *arguments: Any) -> dict[str, Any]:
        """Return `{"value": ...}` of a check, or `{"error": a line}` where it failed."""
        from hcmoco.errors import one_line
        from hcmoco_ray.doctor import all_reduce, gpus

        known: dict[str, Callable[..., dict[str, Any]]] = {
            **CHECKS,
            "gpus": gpus.gpus,
            "host": all_reduce.host,
            "all_reduce": all_reduce.all_reduce,
        }
        try:
            return {"value": known[check](*arguments)}
        except Exception as error:
            return {"error": one_line(error, 400)}
