"""Start a Ray, or reach one, by surfaces that Ray does not promise to keep; see `hcmoco_ray.compat`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

RAYS_WAIT_S = 30
"""Seconds after which Ray gives up a node that it starts."""


@contextmanager
def small_node() -> Iterator[None]:
    """Have `ray.init` start a node without two of its processes while the block runs.

    A program that starts a Ray for itself alone, and shows nothing of what its workers print, has no use for them. One
    looks through all log files ten times a second, 3 % of a core; the other asks for more nodes.
    """
    from ray._private import parameter

    whole: Any = parameter.RayParams  # its annotations name other types than its documentation
    setattr(parameter, "RayParams", partial(whole, include_log_monitor=False, no_monitor=True))  # noqa: B010 - for mypy
    try:
        yield
    finally:
        setattr(parameter, "RayParams", whole)  # noqa: B010


@contextmanager
def patient_start(seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, `ray.init` waits longer for the node that it starts. Ray's own limit, 30 s, is a constant in its code.

    Args:
        seconds: to wait at most, while the node's process lives.
        waiting: called once, where Ray itself would have given up.
    """
    import psutil
    from ray._private import services

    ask, begun = services.get_node, time.time()

    def get_node(*arguments: Any) -> Any:
        started, told = time.monotonic(), False
        while True:
            try:
                return ask(*arguments)
            except RuntimeError:  # it is not known yet
                passed = time.monotonic() - started
                raylets = [each for each in psutil.Process().children() if _is_raylet(each, begun)]
                if passed > seconds or (passed > RAYS_WAIT_S and not raylets):
                    raise
                if passed > RAYS_WAIT_S and not told:
                    told = True
                    waiting()
            time.sleep(0.5)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = ask


def _is_raylet(process: Any, since: float) -> bool:
    import psutil

    try:
        lives = process.status() != psutil.STATUS_ZOMBIE
        return lives and process.name() == "raylet" and process.create_time() > since - 1  # ticks of a clock
    except psutil.Error:
        return False


def refused_token(address: str, seconds: float = 10.0) -> str | None:
    """Ask a cluster's head who it is, and return what it says if it does not accept this program's token.

    Ray's own client asks for 20 seconds, logs a line for each, and then says only that it did not connect.

    Args:
        address: host:port of the head.
        seconds: to wait for the answer at most.

    Returns:
        Its words; None if it accepts the token, asks for none, or does not answer.
    """
    import grpc
    import ray
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    messages: Any = gcs_service_pb2
    with init_grpc_channel(address) as channel:
        try:
            gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).GetClusterId(
                messages.GetClusterIdRequest(), timeout=seconds
            )
        except grpc.RpcError as error:
            refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            return str(error.details()) if refused else None
        except ray.exceptions.AuthenticationError as error:  # this program's own token is not to be had
            return str(error).partition(". ")[0]
    return None
