"""Ray Data carries out the plan: it neither shuffles nor chooses.

One dataset per start of the workers, whose elements are work items in order, one task and one block each. `streaming_split` then deals
item k to worker k mod W, because every item has equally many rows; whoever reads the plan's items checks it all the same.
"""

import logging
from collections.abc import Callable, Iterator

import pyarrow as pa

from hcmoco.errors import UserError
from hcmoco.tasks.feed import EvaluationFeed
from hcmoco.training.feed import PlanFeed
from hcmoco.training.state import States

_MISTAKE = "mistake"


def dataset(feed: PlanFeed, first_step: int):
    """A `ray.data.Dataset` of a plan's work items from the window of `first_step` on."""
    lanes = feed.plan.lanes
    # A run that has taken its last step reads nothing more, but a dataset of nothing cannot be.
    first = min(first_step // feed.plan.window_steps, feed.plan.windows - 1) * lanes
    return _dataset(lambda number: feed.item(*divmod(first + number, lanes)), feed.plan.windows * lanes - first, feed.item_rows)


def newest_dataset(feed: PlanFeed, states: str) -> Callable:
    """Makes the dataset from the newest train state on. Workers ask the same folder."""
    return lambda: dataset(feed, States(states).newest_step)


def evaluation_dataset(feed: EvaluationFeed):
    """A `ray.data.Dataset` of every piece of an evaluation; it can be gone through any number of times."""
    return _dataset(feed.item, feed.pieces, feed.piece_rows)


def _dataset(item: Callable[[int], pa.Table], count: int, rows: int):
    """`count` items of `rows` rows each, in order."""
    import ray.data

    from pipelines._pace import Rest

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.custom_execution_callback_classes = [Rest]
    context.target_max_block_size = None  # a task's output is one block, whatever its size

    def read(batch: dict) -> pa.Table:
        try:
            return item(int(batch["id"][0]))
        except UserError as error:
            # Raised here it would be wrapped, and its kind lost, on the way to the worker; so it travels as an item of the same length.
            return pa.table({_MISTAKE: [str(error)] * rows})

    return ray.data.range(count, override_num_blocks=count).map_batches(read, batch_size=None)


def items(shard) -> Iterator[pa.Table]:
    """A worker's work items, one table each, from its share of the dataset. UserError where one could not be read."""
    for table in shard.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        if _MISTAKE in table.column_names:
            raise UserError(table[_MISTAKE][0].as_py())
        yield table
