"""Read the work items of a plan with Ray Data, which neither shuffles nor chooses.

Item k belongs to worker k mod W. Each worker has Ray Data read its own items, in its own process, with nothing between
the two: one dataset for each reading process, whose only task yields one item after the other and is held back while
they are not taken. With a task for each item reading waits: while one task runs, Ray Data looks for others that have
ended every 0.1 s only.

A reading process that is lost costs its items since the last one that arrived; another one goes on from there.

The tasks import this module: it must not import PyTorch.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hcmoco.data.arrow import binary_column
from hcmoco.errors import UserError
from hcmoco_ray import compat
from hcmoco_ray.ingest.opened_once import OpenedOnce

if TYPE_CHECKING:
    from ray.data import Dataset

    from hcmoco.data.loader import PlanLoader
    from hcmoco.data.sampler import Plan
    from hcmoco.finetuning.loader import EvalLoader

TRAIN, EVALUATION = "train", "evaluation"
"""Names of what a job reads."""

_MISTAKE = "mistake"
_PACKED = "item"
# Reading processes that are lost in a row, without an item between, before the worker gives up.
_TRIES = 3
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Readers:
    """What the tasks that read for a worker request of the cluster.

    A task that only reads takes no CPU, and runs on its worker's node: no worker can take from it what it does not
    need, so reading goes on whatever the workers hold. Tasks that decode compute; they are bound to a placement group,
    whose CPUs no worker can take.

    Attributes:
        tasks: number of tasks of each worker, at least 1.
        group: the placement group that holds one CPU for each task of all workers; None: they take no CPU.
    """

    tasks: int = 1
    group: Any = None


@dataclass(frozen=True)
class Items:
    """The work items of a plan, or the pieces of an evaluation. A copy is small, see `OpenedOnce`.

    Attributes:
        reader: reads the item of a number.
        count: how many there are, of all workers.
    """

    reader: OpenedOnce[Callable[[int], pa.Table]]
    count: int

    def of_worker(self, rank: int, world: int, first: int = 0) -> range:
        """Return the numbers of a worker's items.

        Args:
            rank: of the worker.
            world: number of workers; divides `first`.
            first: number of the first item that is read, of all workers.
        """
        return range(first + rank, self.count, world)


def plan_items(loader: "PlanLoader") -> Items:
    """Return the work items of a plan; item k is (window, lane) = divmod(k, lanes)."""
    read, lanes = loader.item_reader, loader.plan.lanes
    return Items(OpenedOnce(lambda number: read(*divmod(number, lanes))), loader.plan.windows * lanes)


def first_item(plan: "Plan", step: int) -> int:
    """Return the number of the first of `plan_items` that a training reads which begins with a step."""
    return plan.window_of(step) * plan.lanes


def evaluation_items(loader: "EvalLoader") -> Items:
    """Return the pieces of an evaluation."""
    return Items(OpenedOnce(loader.item_reader), loader.pieces)


def read(
    items: Items, numbers: range, readers: Readers | None = None, lost: Callable[[str], None] = lambda line: None
) -> Iterator[pa.Table]:
    """Yield items, one table each.

    Args:
        items: of all workers.
        numbers: of those to yield, in this order.
        readers: what the reading tasks request; None: one task that takes no CPU.
        lost: is told in a line that a reading process was lost.

    Raises:
        UserError: an item could not be read.
        ray.exceptions.RayError: reading processes were lost several times without an item between.
    """
    readers = readers or Readers()
    tasks = min(readers.tasks, len(numbers))
    streams = [_stream(items.reader, numbers[task::tasks], readers.group, lost) for task in range(tasks)]
    try:
        for position in range(len(numbers)):
            yield next(streams[position % tasks])
    finally:
        for stream in streams:
            stream.close()


def _stream(
    reader: OpenedOnce[Callable[[int], pa.Table]], numbers: range, group: Any, lost: Callable[[str], None]
) -> Generator[pa.Table]:
    """Yield items that one process reads; if it is lost, another one goes on."""
    done = tries = 0
    while done < len(numbers):
        try:
            for item in _run(_dataset(reader, numbers[done:], group)):
                done, tries = done + 1, 0
                yield item
            if done < len(numbers):
                raise RuntimeError(f"Ray Data ended after {done} of {len(numbers)} items")
        except Exception as error:
            tries += 1
            if not compat.is_lost_reader(error) or tries > _TRIES:
                raise
            lost(f"a process that reads the data was lost ({type(error).__name__}); reading goes on in another one")
            time.sleep(_PAUSE_S)  # before that Ray may take a process that is about to end


def _dataset(reader: OpenedOnce[Callable[[int], pa.Table]], numbers: range, group: Any) -> "Dataset":
    """Return the dataset of some items: each is a block of one row, packed into one value."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    # Without a limit a task's output is one block, whatever its size; with this one every row is a block.
    context.target_max_block_size = 1
    compat.hold_back_executor(context)

    def stream(_: pa.Table) -> Iterator[pa.Table]:
        for number in numbers:
            try:
                item = reader.value(number)
            except UserError as error:
                # Ray would wrap an error that is raised here, and its type would be lost.
                yield _packed(pa.table({_MISTAKE: [str(error)]}))
                return
            yield _packed(item)

    with ray.data.DataContext.current(context):
        return compat.one_task(stream, group)


def _packed(table: pa.Table) -> pa.Table:
    """Pack a table into one value of another table. Reading it copies no memory."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.table({_PACKED: binary_column(sink.getvalue(), 1)})


def _run(dataset: "Dataset") -> Iterator[pa.Table]:
    """Execute a dataset and yield its items."""
    for row in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        table = pa.ipc.open_stream(row[_PACKED][0].as_buffer()).read_all()
        if _MISTAKE in table.column_names:
            raise UserError(table[_MISTAKE][0].as_py())
        yield table
