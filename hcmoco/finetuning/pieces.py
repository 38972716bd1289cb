"""Read the pieces of an evaluation: stored rows, still encoded. Imports no PyTorch, as hcmoco/data/work_items.py."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from hcmoco.data.sampler import Row
from hcmoco.data.shards.reader import read_rows
from hcmoco.finetuning.label_subset import Subset


@dataclass(frozen=True)
class Pieces:
    """The rows of an evaluation, a piece of `piece_rows` rows after the other.

    Attributes:
        rows: to score.
        piece_rows: number of rows that are predicted together.
        columns: names of the columns that are read.
    """

    rows: Subset
    piece_rows: int
    columns: Sequence[str]

    def read(self, piece: int) -> pa.Table:
        """Read a piece. It always has `piece_rows` rows: the column `real` is False for those that fill it up.

        Raises:
            UserError: a shard is not what its manifest says.
        """
        starts = [0]
        for _, rows in self.rows.groups:
            starts.append(starts[-1] + len(rows))
        first = piece * self.piece_rows
        places = [_place(starts, position) for position in range(first, min(first + self.piece_rows, starts[-1]))]
        real = len(places)
        places += [_place(starts, 0)] * (self.piece_rows - real)
        table = read_rows((self.rows,), [Row(0, *place) for place in places], self.columns)
        return table.append_column("real", pa.array([position < real for position in range(self.piece_rows)]))


def _place(starts: list[int], position: int) -> tuple[int, int]:
    """(group, row in it) of a row by its position."""
    group = bisect_right(starts, position) - 1
    return group, position - starts[group]
