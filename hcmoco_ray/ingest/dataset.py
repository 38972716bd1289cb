"""Read the work items of a plan with Ray Data, which neither shuffles nor chooses.

Each start of the workers has one dataset. Its elements are work items in order, one task and one block each.
`streaming_split` then deals item k to worker k mod W, because every item has the same number of rows; the loader checks
that it did.

Ray Data lists its inputs before it starts, at about a millisecond each. For a long run that would be minutes at every
start. So if there are many items, one task yields their numbers as they are needed. A block of that dataset is a single
row, else the numbers would come in one block, and an item is packed into one value.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hcmoco.data.arrow import binary_column
from hcmoco.data.loader import PlanLoader
from hcmoco.errors import UserError
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.training.checkpoint import States
from hcmoco_ray import compat

if TYPE_CHECKING:
    from ray.data import Dataset

_MISTAKE = "mistake"
_PACKED = "item"
# Up to this number of items Ray Data lists them.
LISTED = 1000


def dataset(loader: PlanLoader, first_step: int) -> "Dataset":
    """Return the dataset of a plan's work items.

    Args:
        loader: of the plan.
        first_step: items start at the window of this step.
    """
    plan = loader.plan
    # A run that has taken its last step reads nothing more, but Ray Data has no empty dataset.
    first = min(first_step // plan.window_steps, plan.windows - 1) * plan.lanes
    count = plan.windows * plan.lanes - first
    return _dataset(lambda number: loader.item(*divmod(first + number, plan.lanes)), count, loader.item_rows)


def newest_dataset(loader: PlanLoader, states: str) -> Callable[[], "Dataset"]:
    """Return a function that builds the dataset of a plan's work items from the newest train state on.

    Args:
        loader: of the plan.
        states: folder of the states, from which the workers resume too.
    """
    return lambda: dataset(loader, States(states).newest_step)


def evaluation_dataset(loader: EvalLoader) -> "Dataset":
    """Return the dataset of every piece of an evaluation; it can be iterated any number of times."""
    return _dataset(loader.item, loader.pieces, loader.piece_rows)


def _dataset(item: Callable[[int], pa.Table], count: int, rows: int) -> "Dataset":
    """Return the dataset of `count` items of `rows` rows each, in order."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    compat.throttle_executor(context)
    few = count <= LISTED
    # Without a limit a task's output is one block, whatever its size; with this one every row is a block.
    context.target_max_block_size = None if few else 1

    def read(batch: dict) -> pa.Table:
        try:
            table = item(int(batch["id"][0]))
        except UserError as error:
            # Ray would wrap an error that is raised here, and its type would be lost. So it is sent as an item of the
            # same length.
            table = pa.table({_MISTAKE: [str(error)] * rows})
        return table if few else _packed(table)

    numbers = ray.data.range(count, override_num_blocks=count) if few else compat.stream_of_numbers(count)
    return numbers.map_batches(read, batch_size=None)


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
