"""Ray Data carries out the plan: it neither shuffles nor chooses.

One dataset per start of the workers, whose elements are the plan's work items in order, one task and one block each.
`streaming_split` then deals item k to worker k mod W, because every item has equally many rows; the feed checks it all the same.
"""

import logging
from collections.abc import Callable, Iterator

import pyarrow as pa

from hcmoco.errors import UserError
from hcmoco.training.feed import Feed
from hcmoco.training.state import States

_MISTAKE = "mistake"


def dataset(feed: Feed, first_step: int):
    """A `ray.data.Dataset` of the work items from the window of `first_step` on."""
    import ray.data

    from pipelines._pace import Rest

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.custom_execution_callback_classes = [Rest]
    context.target_max_block_size = None  # a task's output is one block, whatever its size
    lanes = feed.plan.lanes
    # A run that has taken its last step reads nothing more, but a dataset of nothing cannot be.
    first = min(first_step // feed.plan.window_steps, feed.plan.windows - 1) * lanes
    count = feed.plan.windows * lanes - first

    def read(batch: dict) -> pa.Table:
        try:
            return feed.item(*divmod(first + int(batch["id"][0]), lanes))
        except UserError as error:
            # Raised here it would be wrapped, and its kind lost, on the way to the worker; so it travels as an item of the same length.
            return pa.table({_MISTAKE: [str(error)] * feed.item_rows})

    return ray.data.range(count, override_num_blocks=count).map_batches(read, batch_size=None)


def newest_dataset(feed: Feed, states: str) -> Callable:
    """What a Trainer calls at each start of its workers: the dataset from the newest train state on. Workers ask the same folder."""
    return lambda: dataset(feed, States(states).newest_step)


def items(shard) -> Iterator[pa.Table]:
    """A worker's work items, one table each, from its share of the dataset. UserError where one could not be read."""
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        if _MISTAKE in table.column_names:
            raise UserError(table[_MISTAKE][0].as_py())
        yield table
