"""Ray Data carries out the plan: it neither shuffles nor chooses.

One dataset per start of the workers, whose elements are work items in order, one task and one block each. `streaming_split` then deals
item k to worker k mod W, because every item has equally many rows; whoever reads the plan's items checks it all the same.

Ray Data lists its inputs before it begins, at about a millisecond each, which for a long run would be minutes at every start. So where
there are many items, one task counts their numbers out while they are needed. A block of that dataset is a single row, else the numbers
would come in one block; an item then travels as one value.
"""

import logging
from collections.abc import Callable, Iterator

import pyarrow as pa

from hcmoco.data.loader import PlanLoader
from hcmoco.errors import UserError
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.training.checkpoint import States

_MISTAKE = "mistake"
_PACKED = "item"
# Up to so many items are listed.
LISTED = 1000


def dataset(feed: PlanLoader, first_step: int):
    """A `ray.data.Dataset` of a plan's work items from the window of `first_step` on."""
    lanes = feed.plan.lanes
    # A run that has taken its last step reads nothing more, but a dataset of nothing cannot be.
    first = min(first_step // feed.plan.window_steps, feed.plan.windows - 1) * lanes
    return _dataset(
        lambda number: feed.item(*divmod(first + number, lanes)), feed.plan.windows * lanes - first, feed.item_rows
    )


def newest_dataset(feed: PlanLoader, states: str) -> Callable:
    """Makes the dataset from the newest train state on. Workers ask the same folder."""
    return lambda: dataset(feed, States(states).newest_step)


def evaluation_dataset(feed: EvalLoader):
    """A `ray.data.Dataset` of every piece of an evaluation; it can be gone through any number of times."""
    return _dataset(feed.item, feed.pieces, feed.piece_rows)


def _dataset(item: Callable[[int], pa.Table], count: int, rows: int):
    """`count` items of `rows` rows each, in order."""
    import ray.data

    from hcmoco_ray.ingest.throttle import Rest

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.custom_execution_callback_classes = [Rest]
    few = count <= LISTED
    # Without a limit a task's output is one block, whatever its size; with this one every row is a block.
    context.target_max_block_size = None if few else 1

    def read(batch: dict) -> pa.Table:
        try:
            table = item(int(batch["id"][0]))
        except UserError as error:
            # Raised here it would be wrapped, and its kind lost, on the way to the worker; so it travels as an item of the same length.
            table = pa.table({_MISTAKE: [str(error)] * rows})
        return table if few else _packed(table)

    numbers = ray.data.range(count, override_num_blocks=count) if few else _counted_out(count)
    return numbers.map_batches(read, batch_size=None)


def _counted_out(count: int):
    """A dataset of the numbers below `count`, one a block, of a task that takes no CPU and makes them as they are asked for."""
    import ray.data
    from ray.data.block import BlockMetadata

    class Numbers(ray.data.Datasource):
        def estimate_inmemory_data_size(self) -> int:
            return 8 * count

        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None) -> list:
            metadata = BlockMetadata(num_rows=count, size_bytes=8 * count, input_files=None, exec_stats=None)
            return [ray.data.ReadTask(lambda: (pa.table({"id": [number]}) for number in range(count)), metadata)]

    return ray.data.read_datasource(Numbers(), override_num_blocks=1, num_cpus=0)


def _packed(table: pa.Table) -> pa.Table:
    """A table as the one value of another, over the same memory when it is read."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    return pa.table({_PACKED: pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])})


def items(shard) -> Iterator[pa.Table]:
    """A worker's work items, one table each, from its share of the dataset. UserError where one could not be read."""
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        if table.column_names == [_PACKED]:
            table = pa.ipc.open_stream(table[_PACKED][0].as_buffer()).read_all()
        if _MISTAKE in table.column_names:
            raise UserError(table[_MISTAKE][0].as_py())
        yield table
