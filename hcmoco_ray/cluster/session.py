"""Join a Ray cluster, or start one, quietly.

Ray is imported only when a cluster is asked for: `--help` and a wrong argument must not wait for it.
"""

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hcmoco.errors import UserError
from hcmoco.masking import masked
from hcmoco.storage import absolute, is_local
from hcmoco_ray.cluster import interrupts, starting
from hcmoco_ray.cluster.cpus import cpus_here
from hcmoco_ray.cluster.idle_processes import is_idle
from hcmoco_ray.cluster.network import choose_interface
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.cluster.ray_start import patient_start, small_node
from hcmoco_ray.cluster.resources import count_fitting
from hcmoco_ray.cluster.shared_disk import unreached_nodes
from hcmoco_ray.compat import IMPORTS, hide_worker_messages, in_submitted_job

# The second Parquet reader starts an actor per footer reader at every execution: seconds before the first batch.
RAY_ENV = {"RAY_DATA_USE_DATASOURCE_V2": "0"}
ROOT = Path(__file__).resolve().parents[2]
# Of the processes of a Ray that is started here. By default one that has had nothing to do for a second is ended where
# a node has more processes than CPUs. Reading pauses longer between two items, and each new process costs two seconds.
START_ENV = {"RAY_idle_worker_killing_time_threshold_ms": "20000"}
OBJECT_STORE_BYTES = 512 << 20
_IDLE_S = 1.0
# Seconds that a node which is started here has to come up, the first time and the second.
_START_LIMITS_S = (180, 600)


@dataclass(frozen=True)
class Cluster:
    """The cluster of a program: its number of alive nodes."""

    nodes: int

    def require_shared_storage(
        self, *paths: tuple[str, str], data: Iterable[str] = (), weights: Iterable[str] = ()
    ) -> None:
        """Refuse paths that some node of the cluster does not reach. Each node is asked once, for all of them.

        Args:
            paths: how a message names a path, and the path or URI.
            data: folders or URIs of data sets.
            weights: values of `init`: a folder or URI, or a word such as "scratch".

        Raises:
            UserError: one is such a path, or a node does not answer.
        """
        named = [*paths, *(("the data set in", uri) for uri in data)]
        named += [("init", uri) for uri in weights if os.path.isabs(uri)]
        local = [(what, uri) for what, uri in dict.fromkeys(named) if is_local(uri)]
        if self.nodes < 2 or not local:
            return
        for (what, uri), unreached in zip(local, unreached_nodes([absolute(uri) for _, uri in local]), strict=True):
            if unreached:
                names = " and ".join(unreached[:3]) + (f" and {len(unreached) - 3} more" if len(unreached) > 3 else "")
                raise UserError(
                    f"{what} {uri} is not seen from node{'s' if len(unreached) > 1 else ''} {names}; give a folder "
                    f"that is mounted at the same path on all {self.nodes} nodes, or an object store such as "
                    "s3://bucket/folder"
                )


def connect(
    num_cpus: int | None = None, *, object_store_bytes: int = OBJECT_STORE_BYTES, worker_output: bool = False
) -> Cluster:
    """Join the cluster of RAY_ADDRESS (`ray job submit` sets it), else start one for this program alone.

    A second call changes nothing.

    Args:
        num_cpus: CPUs of a cluster that is started here; None: those that this program may use, at least 2, for a
            worker and its input.
        object_store_bytes: size of its object store.
        worker_output: show what tasks and workers print.

    Raises:
        UserError: no cluster answers at RAY_ADDRESS, it asks for a token, or Ray does not start here.
    """
    for name, value in RAY_ENV.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Where a program ends with its one line of error, Ray would add a traceback for each task that nobody asks for now.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    with interrupts.kept():
        return _connect(num_cpus, object_store_bytes, worker_output)


def joined_address() -> str:
    """Return the address of the cluster that a program joins; "" where it starts one of its own below itself."""
    address = os.environ.get(starting.ADDRESS, "").strip()
    return "" if address == "local" else address


def _connect(num_cpus: int | None, object_store_bytes: int, worker_output: bool) -> Cluster:
    import ray

    if not worker_output:
        hide_worker_messages()
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": worker_output, "logging_level": logging.ERROR}
        if address := joined_address():
            _join(address, quiet)
        else:
            _start_local(num_cpus or max(2, cpus_here()), object_store_bytes, quiet)
    return Cluster(nodes=len(alive_nodes()))


def _join(address: str, quiet: dict[str, Any]) -> None:
    import ray

    _say(masked(f"joining the Ray cluster at {address}"))
    starting.check_address(address)
    for again in (True, False):
        try:
            ray.init(address, runtime_env=_runtime_env(), **quiet)
            return
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            ray.shutdown()
            if not (again and starting.timed_out(error)):
                raise starting.not_joined(address, error) from None
        interrupts.raise_if_interrupted()
        _say("joining it again: it did not answer in time")


def _start_local(num_cpus: int, object_store_bytes: int, quiet: dict[str, Any]) -> None:
    """Start a cluster of one node: once, and where something timed out again, with more time.

    A busy machine only needs to be waited for. To start again throws away what it has done.
    """
    import ray

    for name, value in START_ENV.items():
        os.environ.setdefault(name, value)
    starting.check_folder()
    _say("starting Ray on this machine")
    for limit in _START_LIMITS_S:
        try:
            told = f"waiting up to {limit} s for Ray's node on this busy machine"
            small = nullcontext() if quiet["log_to_driver"] else small_node()
            with small, patient_start(limit, partial(_say, told)):
                ray.init(
                    "local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    object_store_memory=object_store_bytes,
                    runtime_env=_runtime_env(),
                    **quiet,
                )
            return
        except Exception as error:  # Ray raises a plain Exception here
            starting.check_folder()  # what it was at the start may have changed, as a disk fills
            reason = starting.not_started(error)  # its logs are those of the Ray that is up till now
            ray.shutdown()
            if not starting.may_start(reason) or limit == _START_LIMITS_S[-1]:
                raise reason from None
        interrupts.raise_if_interrupted()
        _say("starting Ray again")


def _say(what: str) -> None:
    """Print on stderr: stdout is for results, and a program may be asked for nothing else."""
    print(what, file=sys.stderr, flush=True)


def wait_for_nodes(bundles: list[dict[str, float]], seconds: float) -> Cluster:
    """Ask an autoscaling cluster to hold all of `bundles`, and return when it does or `seconds` have passed.

    Args:
        bundles: resources by name ("CPU", "GPU"), each of which one node must have.
        seconds: to wait at most.

    Returns:
        The cluster as it is then.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)
    kinds = [(bundle, bundles.count(bundle)) for number, bundle in enumerate(bundles) if bundle not in bundles[:number]]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        nodes = [node["Resources"] for node in alive_nodes()]
        if all(sum(count_fitting(node, bundle) for node in nodes) >= count for bundle, count in kinds):
            break
        interrupts.raise_if_interrupted()
        time.sleep(2)
    return connect()


def _runtime_env() -> dict[str, Any]:
    """Return the runtime environment of tasks: they import this checkout, unless a submitted job has its own copy."""
    variables = {name: os.environ[name] for name in RAY_ENV}
    if not in_submitted_job():
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"env_vars": variables, "worker_process_setup_hook": _set_up_process}


def _set_up_process() -> None:
    """Choose gloo's network interface, and import what the process will need.

    Pandas is imported here, where no interrupt can stop it: Ray Data cancels tasks that it no longer needs with an
    interrupt. One that hits the first `import pandas` leaves its submodules without their package, and every later task
    of that process fails: "module 'pandas' has no attribute 'core'".
    """
    import pandas  # noqa: F401

    choose_interface()
    if module := os.environ.get(IMPORTS):
        threading.Thread(target=_import_while_idle, args=(module,), daemon=True).start()


def _import_while_idle(module: str) -> None:
    """Import a module in a process that has nothing to do. What was started for a task or an actor has it by then."""
    time.sleep(_IDLE_S)
    if is_idle():
        with suppress(ImportError):  # it is missed where it is used, and told there
            importlib.import_module(module)
