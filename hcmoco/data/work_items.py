"""Read the work items of a plan: stored rows, still encoded.

A loader of a downstream task holds the task, and with it PyTorch. What is here holds neither: a cluster's tasks that
only read start without importing them, which takes seconds of each of their processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import RowGroups, read_rows


@dataclass(frozen=True)
class WorkItems:
    """The work items of a plan.

    Attributes:
        plan: which rows, when.
        sources: the data sets, in the plan's order.
        columns: names of the columns that are read.
    """

    plan: Plan
    sources: tuple[RowGroups, ...]
    columns: Sequence[str]

    def read(self, window: int, lane: int) -> pa.Table:
        """Read the work item of a window and lane. All items of a run have equally many rows.

        Raises:
            UserError: a shard is not what its manifest says.
        """
        return labeled(self.rows(window, lane), window, lane)

    def rows(self, window: int, lane: int) -> pa.Table:
        """Read the rows of a work item, with the number of their data set in the column `source`."""
        rows = [row for step in self.plan.item(window, lane) for row in step]
        return read_rows(self.sources, rows, self.columns).append_column(
            "source", pa.array([row.source for row in rows], pa.int32())
        )


def labeled(table: pa.Table, window: int, lane: int) -> pa.Table:
    """Add the columns that say which work item a table is."""
    for name, number in (("window", window), ("lane", lane)):
        table = table.append_column(name, pa.array(np.full(len(table), number)))
    return table
