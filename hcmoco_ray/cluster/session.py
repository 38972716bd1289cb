"""What every Ray program does first and last: join or start a cluster quietly, and turn a user's mistake into one line and status 2.

Ray is imported only when a cluster is asked for: `--help` and a wrong argument must not wait for it.
"""

import errno
import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hcmoco.errors import UserError
from hcmoco.storage import is_local
from hcmoco_ray.cluster import interrupts

# The second Parquet reader starts an actor per footer reader at every execution: seconds before the first batch.
RAY_ENV = {"RAY_DATA_USE_DATASOURCE_V2": "0"}
ROOT = Path(__file__).resolve().parents[2]
OBJECT_STORE_BYTES = 512 << 20
_USERS_OS_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}


@dataclass(frozen=True)
class Cluster:
    """What a program runs on: alive nodes, and the CPUs of all of them together."""

    nodes: int
    cpus: int

    def refuse_local(self, what: str, uri: str) -> None:
        """UserError for a path on one machine's disk where there are several machines."""
        if self.nodes > 1 and is_local(uri):
            raise UserError(
                f"{what} {uri} is a path on one machine's disk, and the cluster has {self.nodes} nodes; "
                "give a place that all of them reach, such as s3://bucket/folder"
            )


def cpus_here() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(
    num_cpus: int | None = None, *, object_store_bytes: int = OBJECT_STORE_BYTES, worker_output: bool = False
) -> Cluster:
    """Joins the cluster of RAY_ADDRESS (`ray job submit` sets it), else starts one for this program alone; a second call changes nothing.

    Args:
        num_cpus: CPUs of a cluster that is started here; at least 2 unless told, so that a worker and its input can run side by side.
        object_store_bytes: size of its object store.
        worker_output: show what tasks and workers print.

    UserError where no cluster answers at RAY_ADDRESS.
    """
    for name, value in RAY_ENV.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with interrupts.kept():
        return _start(num_cpus, object_store_bytes, worker_output)


def _start(num_cpus: int | None, object_store_bytes: int, worker_output: bool) -> Cluster:
    import ray

    if not ray.is_initialized():
        quiet = {"log_to_driver": worker_output, "logging_level": logging.ERROR}
        address = os.environ.get("RAY_ADDRESS")
        try:
            if address:
                _knock(address)
                ray.init(address, runtime_env=_environment(), **quiet)
            else:
                cpus = num_cpus or max(2, cpus_here())
                ray.init(
                    "local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=object_store_bytes,
                    runtime_env=_environment(),
                    **quiet,
                )
        except OSError as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS={address} ({_line(error)}); start it, or unset RAY_ADDRESS"
            ) from None
        except Exception as error:  # Ray raises a plain Exception here
            if "timed out during startup" not in str(error):
                raise
            raise UserError(
                "Ray did not start in time, most likely because this machine is busy; run the same command again when it is less so"
            ) from None
    alive = sum(node["Alive"] for node in ray.nodes())
    return Cluster(nodes=alive, cpus=max(1, int(ray.cluster_resources().get("CPU", 1))))


def grow(bundles: list[dict[str, float]], seconds: float) -> Cluster:
    """Asks an autoscaling cluster to hold all of `bundles`, and returns when it does or `seconds` have passed."""
    import ray
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
    wanted = {name: sum(each.get(name, 0) for each in bundles) for name in ("CPU", "GPU")}
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(
        ray.cluster_resources().get(name, 0) < count for name, count in wanted.items()
    ):
        time.sleep(2)
    return start()


def _knock(address: str) -> None:
    """OSError at once where nothing listens at host:port; Ray itself tries for two minutes. Other forms are left to Ray."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _environment() -> dict:
    """Runtime environment of tasks and workers: they import this checkout, unless a submitted job brings its own copy of it."""
    variables = {name: os.environ[name] for name in RAY_ENV}
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"env_vars": variables, "worker_process_setup_hook": _import_whole}


def _import_whole() -> None:
    """Imports, as a worker process starts, what must not be imported by half.

    Ray Data cancels what it no longer needs with an interrupt. One that hits the first `import pandas` leaves its submodules behind
    without their package, and every later task of that process fails: "module 'pandas' has no attribute 'core'".
    """
    import pandas  # noqa: F401


def find_user_error(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is, wraps or was caused by, through Ray's task and worker-group errors; None if there is none."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        cause = getattr(
            each, "cause", None
        )  # RayTaskError: an instance of its cause's class whose own text is a traceback
        failures = getattr(each, "worker_failures", None)
        waiting += [each.__cause__, cause if isinstance(cause, BaseException) else None]
        waiting += failures.values() if isinstance(failures, dict) else []
        if isinstance(each, UserError) and not isinstance(cause, BaseException):
            return each
    return None


def main_wrapper(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorates a program's `main`: a user's mistake becomes `error: ...` on stderr and status 2, a Ctrl-C or SIGTERM the line
    that says so and status 130 or 143."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> int:
        with interrupts.heard():
            try:
                status = main(*args, **kwargs) or 0
                interrupts.check()
                return status
            except BaseException as error:
                if (
                    isinstance(error, KeyboardInterrupt) or interrupts.noted()
                ):  # what fails on the way out is of no interest
                    return interrupts.say_stopped(str(error) if isinstance(error, KeyboardInterrupt) else "")
                mistake = find_user_error(error)
                if mistake is None and isinstance(error, OSError) and error.errno in _USERS_OS_ERRORS:
                    mistake = UserError(_line(error))
                if mistake is None:
                    raise
                print(f"error: {mistake}", file=sys.stderr)
                return 2

    return wrapped


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
