"""Measure how fast nodes add up tensors: a real all-reduce of torch.distributed with one worker on each node."""

import datetime
import socket
import statistics
import time
from typing import Any

_REPEATS = 5
_store: Any = None  # of rank 0, which lives as long as its process


def host(seconds: float) -> dict[str, Any]:
    """Open the meeting point of a group in this process, which will be rank 0; returns its `address` and `port`.

    Args:
        seconds: that a rank waits for the others.
    """
    import ray.util
    import torch.distributed as dist

    global _store
    address = ray.util.get_node_ip_address()
    wait = datetime.timedelta(seconds=seconds)
    _store = dist.TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=wait)
    return {"address": address, "port": _store.port}


def all_reduce(
    backend: str, address: str, port: int, rank: int, world_size: int, num_bytes: int, seconds: float
) -> dict[str, Any]:
    """Add up a tensor of all ranks several times, and measure the bus bandwidth.

    The bus bandwidth of n ranks is `2 (n - 1) / n * bytes / time`: what each rank has to send, and to receive, in the
    best algorithm. So it can be compared with the speed of the network, whatever the number of nodes. A step of a
    training that averages B bytes of gradients takes at least `2 (n - 1) / n * B / bandwidth` for that.

    Args:
        backend: "gloo", on the CPU, or "nccl", on the first GPU that this process sees.
        address: of the meeting point, as `host` returned it to rank 0.
        port: of the meeting point.
        rank: of this process; 0 must have called `host`.
        world_size: number of ranks.
        num_bytes: of the tensor, in float32.
        seconds: that a rank waits for the others.

    Returns:
        `gb_per_s`, the bus bandwidth by the median of the times, in 1e9 bytes/s; `interface`, that gloo was told.

    Raises:
        RuntimeError: the ranks do not meet, or the sum is wrong.
    """
    import os

    import torch
    import torch.distributed as dist

    wait = datetime.timedelta(seconds=seconds)
    if rank:
        # Where nothing answers, torch alone says only that the time is up.
        socket.create_connection((address, port), timeout=seconds).close()
        store = dist.TCPStore(address, port, is_master=False, timeout=wait)
    else:
        store = _store
    device = torch.device("cuda", 0) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    prefixed = dist.PrefixStore(backend, store)
    dist.init_process_group(backend, store=prefixed, rank=rank, world_size=world_size, timeout=wait)
    try:
        times = []
        for _ in range(_REPEATS + 1):
            values = torch.full((max(1, num_bytes // 4),), float(rank + 1), device=device)
            dist.barrier()
            begun = time.perf_counter()
            dist.all_reduce(values)
            if backend == "nccl":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        if not bool((values == world_size * (world_size + 1) / 2).all()):
            raise RuntimeError(f"the sum of {world_size} ranks is wrong: {values[0].item():g}")
    finally:
        dist.destroy_process_group()
    taken = statistics.median(times[1:])  # the first makes connections
    return {
        "gb_per_s": bus_bandwidth(num_bytes, world_size, taken) / 1e9,
        "interface": os.environ.get("GLOO_SOCKET_IFNAME"),
    }


def bus_bandwidth(num_bytes: int, world_size: int, seconds: float) -> float:
    """Return the bytes per second that each rank sends in an all-reduce: `2 (n - 1) / n * bytes / time`."""
    return 2 * (world_size - 1) / world_size * num_bytes / seconds
