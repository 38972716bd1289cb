"""Have Ray Data embed parts on a pool of actors, until all are written, whoever is lost on the way."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.embed.worker import MISTAKE, WORK, Embedder, Job
from hcmoco_ray.ingest.opened_once import OpenedOnce
from hcmoco_ray.tracking.progress import say

_TRIES = 3  # processes that are lost in a row, without a part between, before the program gives up
_AT_ONCE = 8  # parts that an actor is given together, at most
_ROUNDS = 4  # and how often it is given some, at least


@dataclass(frozen=True)
class Pool:
    """What the actors ask of the cluster.

    Attributes:
        workers: number of actors; None: as many as there is room for.
        cpus, gpus: of each.
        threads: of each.
    """

    workers: int | None
    cpus: float
    gpus: float
    threads: int

    def size(self, parts: int) -> int:
        """Return the number of actors for so many parts. Raises UserError where there is no room for one."""
        room = ResourceRequest("worker", self.cpus, self.gpus, self.threads).at_once()
        return max(1, min(room if self.workers is None else self.workers, parts))


def finished_parts(folder: Folder) -> dict[int, dict[str, Any]]:
    """Return the records of the parts that are written, by number. What is cut short does not count."""
    sizes, found = folder.sizes(), {}
    for name in folder.sizes(WORK):
        if not (name.startswith("part-") and name.endswith(".json")):
            continue
        try:
            record = json.loads(folder.read(f"{WORK}/{name}"))
            file = record["file"]
            if file is None or sizes.get(file["name"]) == file["bytes"]:
                found[record["part"]] = record
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def embed_parts(job: Job, pool: Pool, done: dict[int, dict[str, Any]], add: Callable[[int], object]) -> None:
    """Embed the parts that are missing.

    Args:
        job: what is embedded.
        pool: on what.
        done: records of the parts that are written, by number; completed here.
        add: called with the number of people of each part that is written.

    Raises:
        UserError: somebody's record is damaged, the weights do not serve, or the cluster has no room.
        ray.exceptions.RayError: processes were lost several times without a part between.
    """
    import ray

    shared, tries = OpenedOnce(job), 0
    while missing := [number for number in range(job.parts) if number not in done]:
        try:
            for table in _outcomes(shared, missing, pool):
                interrupts.raise_if_interrupted()
                for text in table["outcome"].to_pylist():
                    record = json.loads(text)
                    if MISTAKE in record:
                        raise UserError(record[MISTAKE])
                    if record["part"] not in done:
                        add(record["people"])
                    done[record["part"]] = record
            if any(number not in done for number in missing):
                raise RuntimeError("Ray Data ended before all parts were written")
        except ray.exceptions.RayError as error:
            if not compat.is_lost_actor(error):
                raise
            for number, record in finished_parts(Folder(job.out)).items():  # written, and not told any more
                if number not in done:
                    add(record["people"])
                    done[number] = record
            left = sum(number not in done for number in missing)
            tries = 0 if left < len(missing) else tries + 1
            if tries >= _TRIES:
                raise
            say(
                f"a process that embeds was lost ({type(error).__name__}); {left} of {job.parts} parts are left, and "
                f"go on in others ({len(alive_nodes())} nodes)"
            )


def _outcomes(job: OpenedOnce[Job], missing: Sequence[int], pool: Pool) -> Iterator[pa.Table]:
    """Yield tables of `worker.OUTCOME`, in any order."""
    import ray.data

    size = pool.size(len(missing))
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # every outcome is a block, and arrives at once
    at_once = max(1, min(_AT_ONCE, len(missing) // (_ROUNDS * size)))
    with ray.data.DataContext.current(context):
        rows = [{"part": number} for number in missing]
        data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // at_once))
        data = compat.actor_pool(
            data,
            Embedder,
            (job, bool(pool.gpus), pool.threads),
            size=size,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            batch_size=None,
            at_once=True,
        )
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
