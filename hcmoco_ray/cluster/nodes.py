"""The alive nodes of a cluster, and a question that each of them answers itself."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from hcmoco.errors import UserError, one_line
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.tracking.progress import say

_SAY_EVERY_S = 60.0


def alive_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each alive node."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def ask_each(
    nodes: Sequence[dict[str, Any]],
    question: Callable[..., Any],
    *arguments: Any,
    whether: str,
    key: str = "",
    otherwise: str = "",
    num_gpus: float = 0,
) -> list[Any]:
    """Call a function on nodes, by a task on each that takes no CPU.

    Args:
        nodes: as `alive_nodes` returns them.
        question: the function.
        arguments: of the function.
        whether: what it finds out, for messages: "it reaches /data".
        key: of the config that asks, for messages.
        otherwise: what the user can do where a node does not answer, beside trying again.
        num_gpus: that the task takes.

    Returns:
        The answers, in the order of the nodes.

    Raises:
        UserError: a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(question)
    address_of = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = remote.options(num_cpus=0, num_gpus=num_gpus, max_retries=0, scheduling_strategy=there)
        address_of[task.remote(*arguments)] = node["NodeManagerAddress"]
    waiting, until = list(address_of), time.monotonic() + _SAY_EVERY_S
    while waiting:
        interrupts.raise_if_interrupted()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
        if waiting and time.monotonic() > until:
            until += _SAY_EVERY_S
            say(f"waiting for node {address_of[waiting[0]]} to say whether {whether}")
    answers = []
    for task, address in address_of.items():
        try:
            answers.append(ray.get(task))
        except ray.exceptions.RayError as error:
            raise UserError(
                f"{f'{key}: ' if key else ''}node {address} does not say whether {whether} ({one_line(error)}); "
                f"run the same command again{f', or {otherwise}' if otherwise else ''}"
            ) from None
    return answers
