"""Whether the cluster has room for a training's workers, node by node, and the CPUs that decoding tasks hold.

A worker needs all of its CPUs and GPUs on one node: the sum over the cluster says nothing.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from hcmoco.errors import UserError
from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.cluster.resources import Resources, count_fitting
from hcmoco_ray.ingest.dataset import Readers
from hcmoco_ray.tracking.progress import format_duration, say

_SAY_EVERY_S = 60.0
_LOOK_EVERY_S = 1.0
_FREED_S = 5.0


def missing_room(nodes: Iterable[Resources], bundle: Resources, workers: int) -> str | None:
    """Say what is missing on these nodes for the workers.

    Args:
        nodes: the resources of each node.
        bundle: what a worker requests.
        workers: how many there are.

    Returns:
        A phrase such as "3 of 4 workers of 2 CPUs have room"; None if there is room for all.
    """
    fitting = sum(count_fitting(node, bundle) for node in nodes)
    if fitting >= workers:
        return None
    return f"{fitting} of {workers} {'workers' if workers > 1 else 'worker'} of {_text(bundle)} have room"


def check_room(bundle: Resources, workers: int, decoding: int) -> None:
    """Check that the cluster could hold the workers, and the tasks that decode, if it were empty.

    Args:
        bundle: what a worker requests.
        workers: how many there are.
        decoding: tasks that decode, each of which holds a CPU.

    Raises:
        UserError: it could not.
    """
    nodes = [node["Resources"] for node in alive_nodes()]
    largest = ", ".join(sorted({_text({k: node.get(k, 0) for k in bundle}) for node in nodes}))
    missing = missing_room(nodes, bundle, workers)
    if missing:
        raise UserError(
            f"train.workers = {workers}: {missing} on the cluster's {_nodes(len(nodes))} ({largest} each); "
            "lower train.workers or train.cpus_per_worker, add nodes, or wait for them with wait_for_nodes=SECONDS"
            + ("; or set train.gpu=false" if bundle.get("GPU") else "")
        )
    spare = sum(node.get("CPU", 0) for node in nodes) - workers * bundle.get("CPU", 0)
    if spare < decoding:
        raise UserError(
            f"ingest.decode = tasks: {workers} workers of {_text(bundle)} leave {spare:g} CPUs, and {decoding} tasks "
            "that decode, ingest.num_tasks for each worker, need as many; lower train.cpus_per_worker, train.workers "
            "or ingest.num_tasks, or set ingest.decode=worker"
        )


@contextmanager
def reading(tasks: int, decoding: int) -> Iterator[Readers]:
    """Yield what the tasks that read request. Where they decode, a CPU is reserved for each while the block runs.

    The reservation is made before the workers request theirs. Where a node is lost, Ray looks for another place for it.

    Args:
        tasks: that read for each worker.
        decoding: tasks of all workers that decode; 0 if they only read.
    """
    if not decoding:
        yield Readers(tasks)
        return
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([{"CPU": 1}] * decoding, strategy="PACK")
    try:
        yield Readers(tasks, group)
    finally:
        remove_placement_group(group)


def wait_for_room(bundle: Resources, counts: Sequence[int], readers: Readers, minutes: float) -> int:
    """Wait until the cluster has room for workers at this moment. Says once a minute what is missing.

    Args:
        bundle: what a worker requests.
        counts: how many there may be, the largest first.
        readers: whose reservation must have its place, too.
        minutes: to wait at most.

    Returns:
        The largest of `counts` that there is room for.

    Raises:
        UserError: the time is over.
    """
    began = said = time.monotonic()
    first = True
    while True:
        interrupts.raise_if_interrupted()
        now = time.monotonic()
        # What workers held that have just ended is free a moment later: fewer are taken only then.
        late = now - began >= _FREED_S
        for count in counts if late else counts[:1]:
            if (missing := _missing_now(bundle, count, readers)) is None:
                if not first:
                    say(f"there is room for {count} worker{'s' if count > 1 else ''}")
                return count
        waited = f"waited {format_duration(now - began)} of {format_duration(60 * minutes)}"
        if now - began >= 60 * minutes:
            raise UserError(
                f"no room for the workers: {missing} ({waited}); add nodes or end other programs, then give the same "
                "command: it resumes from the newest train state. train.wait_minutes=MINUTES waits longer"
            )
        if late and now - said >= (_FREED_S if first else _SAY_EVERY_S):
            first, said = False, now
            say(f"waiting for room: {missing}; add nodes, or end other programs ({waited})")
        time.sleep(_LOOK_EVERY_S)


def larger_count(bundle: Resources, counts: Sequence[int], workers: int) -> int | None:
    """Return the largest number of workers that there is room for beside those that run; None if it is not larger.

    Args:
        bundle: what a worker requests.
        counts: how many there may be, the largest first.
        workers: how many run.
    """
    fitting = sum(count_fitting(node, bundle) for node in _free_nodes())
    return next((count for count in counts if workers < count <= workers + fitting), None)


def _missing_now(bundle: Resources, workers: int, readers: Readers) -> str | None:
    nodes = _free_nodes()
    if readers.group is not None and not readers.group.wait(timeout_seconds=0):
        return f"the {readers.group.bundle_count} CPUs of the tasks that decode have no place"
    missing = missing_room(nodes, bundle, workers)
    return f"{missing} on {_nodes(len(nodes))}" if missing else None


def _free_nodes() -> list[dict[str, float]]:
    """Return what each node has to give at this moment, those aside that are about to be taken away."""
    draining = compat.draining_nodes()
    return [free for node, free in compat.free_resources().items() if node not in draining]


def _nodes(count: int) -> str:
    return f"{count} {'nodes' if count != 1 else 'node'}"


def _text(resources: Resources) -> str:
    return " and ".join(f"{count:g} {name}s" if count != 1 else f"1 {name}" for name, count in resources.items())
