"""Read the work items of a plan with Ray Data, which neither shuffles nor chooses.

Each start of the workers has one dataset. Its elements are work items in order, one task and one block each.
`streaming_split` then deals item k to worker k mod W, because every item has the same number of rows; the loader checks
that it did.

Ray Data lists its inputs before it starts, at about a millisecond each. For a long run that would be minutes at every
start. So if there are many items, one task yields their numbers as they are needed. A block of that dataset is a single
row, else the numbers would come in one block, and an item is packed into one value.

What an item is made with, manifests and a plan, goes to the tasks by `OpenedOnce`.

The tasks, and the actors that hold a dataset, import this module: it must not import PyTorch.
"""

import logging
from collections.abc import Callable, Iterator
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
    from hcmoco.finetuning.loader import EvalLoader

_MISTAKE = "mistake"
_PACKED = "item"
# Up to this number of items Ray Data lists them.
LISTED = 1000


@dataclass(frozen=True)
class Readers:
    """What the tasks that read a dataset request of the cluster.

    A task that only reads takes no CPU: no worker can take from it what it does not need, so reading goes on whatever
    the workers hold. Tasks that decode compute; they are bound to a placement group, whose CPUs no worker can take.

    Attributes:
        tasks: number of tasks at a time, at least 1.
        group: the placement group that holds one CPU for each of them; None: they take no CPU.
    """

    tasks: int
    group: Any = None

    @property
    def num_cpus(self) -> int:
        """CPUs that each task requests."""
        return 0 if self.group is None else 1


FREE_READERS = Readers(tasks=2)


def dataset(loader: "PlanLoader", first_step: int, readers: Readers = FREE_READERS) -> "Dataset":
    """Return the dataset of a plan's work items.

    Args:
        loader: of the plan.
        first_step: items start at the window of this step.
        readers: what the reading tasks request.
    """
    plan = loader.plan
    # A run that has taken its last step reads nothing more, but Ray Data has no empty dataset.
    first = min(first_step // plan.window_steps, plan.windows - 1) * plan.lanes
    count = plan.windows * plan.lanes - first
    read, lanes = loader.item_reader, plan.lanes
    return _dataset(lambda number: read(*divmod(first + number, lanes)), count, loader.item_rows, readers)


def evaluation_dataset(loader: "EvalLoader", readers: Readers = FREE_READERS) -> "Dataset":
    """Return the dataset of every piece of an evaluation; it can be iterated any number of times."""
    return _dataset(loader.item_reader, loader.pieces, loader.piece_rows, readers)


def _dataset(item: Callable[[int], pa.Table], count: int, rows: int, readers: Readers) -> "Dataset":
    """Return the dataset of `count` items of `rows` rows each, in order."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    compat.throttle_executor(context)
    compat.place_tasks(context, readers.group)
    few = count <= LISTED
    # Without a limit a task's output is one block, whatever its size; with this one every row is a block.
    context.target_max_block_size = None if few else 1

    opened = OpenedOnce(item)

    def read(batch: dict) -> pa.Table:
        try:
            table = opened.value(int(batch["id"][0]))
        except UserError as error:
            # Ray would wrap an error that is raised here, and its type would be lost. So it is sent as an item of the
            # same length.
            table = pa.table({_MISTAKE: [str(error)] * rows})
        return table if few else _packed(table)

    # What both operators request is equal, so that Ray Data fuses them into one task.
    num_cpus, tasks = readers.num_cpus, min(readers.tasks, count)
    numbers = compat.numbers(count, num_cpus, tasks) if few else compat.stream_of_numbers(count)
    return numbers.map_batches(read, batch_size=None, num_cpus=num_cpus, concurrency=tasks)


def _packed(table: pa.Table) -> pa.Table:
    """Pack a table into one value of another table. Reading it copies no memory."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.table({_PACKED: binary_column(sink.getvalue(), 1)})


def items(shard: Any) -> Iterator[pa.Table]:
    """Iterate over a worker's work items, one table each.

    Args:
        shard: the worker's share of the dataset: a Dataset, or a DataIterator of Ray Train.

    Raises:
        UserError: an item could not be read.
    """
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        if table.column_names == [_PACKED]:
            table = pa.ipc.open_stream(table[_PACKED][0].as_buffer()).read_all()
        if _MISTAKE in table.column_names:
            raise UserError(table[_MISTAKE][0].as_py())
        yield table
