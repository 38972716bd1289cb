"""Let the workers of several nodes find each other: the network interface of gloo, and the line where they do not meet.

PyTorch's gloo offers other workers the address that the machine's own name resolves to. On Debian and Ubuntu that is
127.0.1.1, so workers on other nodes connect to themselves. The interface of the node's own Ray address is reached from
every node, or Ray itself would not work.

This module imports little: every process of Ray imports it as it starts.
"""

import os
import re

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
NCCL_INTERFACE = "NCCL_SOCKET_IFNAME"
_MEETING = re.compile(
    r"connectFullMesh|DistNetworkError|DistStoreError|client socket|ncclInternalError|unhandled system"
)
_REMOTE = re.compile(r"remote=\[([^\]]+)\]")


def choose_interface() -> None:
    """Set gloo's network interface to that of this node's Ray address, unless the user has chosen one.

    NCCL keeps its own choice: it takes the loopback only where there is no other interface.
    """
    if GLOO_INTERFACE in os.environ:
        return
    import ray.util

    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ[GLOO_INTERFACE] = name


def interface_of(address: str) -> str | None:
    """Return the name of this machine's network interface that has an IP address, None if there is none."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            return name
    return None


def failed_meeting(reason: str, nodes: list[str]) -> str | None:
    """Return the line for workers that could not connect to each other, None if `reason` is another failure.

    Args:
        reason: text of the error.
        nodes: addresses of the workers' nodes, as far as they are known.
    """
    if not _MEETING.search(reason):
        return None
    remote = _REMOTE.search(reason)
    reached = f"one of them tried {remote[1]}" if remote else "the reason is in Ray's log"
    variable = NCCL_INTERFACE if "nccl" in reason.lower() else GLOO_INTERFACE
    value = "=eth0" if variable == NCCL_INTERFACE else "eth0"
    return (
        f"the workers on {' and '.join(sorted(set(nodes))) or 'different nodes'} could not connect to each other "
        f"({reached}); let every port between these nodes through, or name the network interface that they share: "
        f"{variable}={value} in the environment of `ray start` on each node"
    )
