"""Processes of Ray that wait to become actors. Ray does not promise to keep these surfaces; see `hcmoco_ray.compat`."""

import json
from collections.abc import Mapping
from typing import Any

SENT_TO_WORKERS = frozenset(
    {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER",
        "RAY_TRAIN_ENABLE_PRINT_PATCH",
    }
)
"""Which of our variables for Ray Train it puts into its workers' environment."""

ADDED_TO_WORKERS = {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0"}
"""What Ray Train adds to its workers' environment."""


def is_idle() -> bool:
    """Return whether this process of Ray waits for its first task, or to become an actor."""
    from ray import _raylet

    raylet: Any = _raylet  # compiled; its types are not told
    return raylet.getproctitle() == "ray::IDLE"


def start_idle_processes(count: int, seconds: float, variables: Mapping[str, str] | None = None) -> None:
    """Have this node's Ray start processes that wait to become actors of one environment. They end with this job.

    Args:
        count: of processes.
        seconds: for which Ray does not end them, although they do nothing.
        variables: what their environment sets beyond this process's own.

    Raises:
        RuntimeError: Ray refused, or did not answer.
    """
    import grpc
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc, runtime_environment_pb2

    common: Any = common_pb2
    messages: Any = node_manager_pb2
    environments: Any = runtime_environment_pb2
    context = ray.get_runtime_context()
    environment = json.loads(context.get_runtime_env_string())
    environment["env_vars"] = {**environment.get("env_vars", {}), **(variables or {})}
    # Ray compares environments by their text, and writes it so.
    text = json.dumps(environment, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (node,) = [each for each in ray.nodes() if each["NodeID"] == context.get_node_id()]
    request = messages.PrestartWorkersRequest(
        language=common.PYTHON,
        job_id=bytes.fromhex(context.get_job_id()),
        runtime_env_info=environments.RuntimeEnvInfo(serialized_runtime_env=text),
        keep_alive_duration_secs=int(seconds),
        num_workers=count,
    )
    with init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}") as channel:
        try:
            node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=30)
        except (grpc.RpcError, ray.exceptions.AuthenticationError) as error:
            raise RuntimeError(str(error)) from error
