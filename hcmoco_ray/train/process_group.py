"""The training workers as a group of torch.distributed, which they make by themselves.

Where Ray Train makes it, its controller imports PyTorch at each start of the workers: three seconds of CPU time, and
0.4 GB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch.distributed as dist

TIMEOUT = timedelta(minutes=30)
"""Of the meeting and of every exchange; as Ray Train sets it."""


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a group meet.

    Attributes:
        host: address of rank 0's node.
        port: of the store that rank 0 serves there.
        world: number of workers.
        backend: "nccl" between GPUs, else "gloo".
    """

    host: str
    port: int
    world: int
    backend: Literal["nccl", "gloo"]


def open_meeting(world: int, *, gpu: bool) -> tuple[dist.Store, Meeting]:
    """Serve a meeting on this node, for rank 0, which keeps the store as long as the group exists."""
    import ray.util

    address = ray.util.get_node_ip_address()
    store = dist.TCPStore(address, 0, world, is_master=True, timeout=TIMEOUT, wait_for_workers=False)
    return store, Meeting(address, store.port, world, "nccl" if gpu else "gloo")


@contextmanager
def joined(meeting: Meeting, rank: int, store: dist.Store | None = None) -> Iterator[None]:
    """Be one of the group while the block runs, which begins once all have come.

    After an error the connections stay as they are: the other workers would lose them, and be told of that instead.

    Args:
        meeting: of rank 0's `open_meeting`.
        rank: of this worker.
        store: that `open_meeting` returned, on rank 0.
    """
    if store is None:
        store = dist.TCPStore(meeting.host, meeting.port, meeting.world, is_master=False, timeout=TIMEOUT)
    dist.init_process_group(meeting.backend, store=store, rank=rank, world_size=meeting.world, timeout=TIMEOUT)
    yield
    dist.destroy_process_group()
