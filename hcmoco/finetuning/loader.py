"""Load batches of a downstream task: for training in the order of a plan, for evaluation every row once.

Evaluation deals pieces of `piece_rows` rows to the workers in turn. The rows that are predicted together depend on the
data set and `piece_rows` alone, and every row counts once: scores are the same for any number of workers. Pieces of
another size, or another number of threads, change them by rounding (docs/reproducibility.md).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hcmoco.data.loader import PlanLoader, not_as_prepared
from hcmoco.data.prefetch import prefetch_map
from hcmoco.finetuning.label_subset import Subset
from hcmoco.finetuning.pieces import Pieces
from hcmoco.finetuning.row_mask import RowMask
from hcmoco.rng import make_rng
from hcmoco.tasks.base import Task, TaskBatch


@dataclass(frozen=True)
class TrainLoader(PlanLoader[TaskBatch]):
    """The labeled rows of a task in the order of a plan, augmented."""

    task: Task

    @property
    def columns(self) -> Sequence[str]:
        return self.task.columns

    def make(self, rows: list[dict], step: int, lane: int) -> TaskBatch:
        rngs = [make_rng(self.plan.seed, "augment", step, lane, position) for position in range(len(rows))]
        return self.task.make_batch(rows, rngs)

    def join(self, batches: list[TaskBatch], step: int) -> TaskBatch:
        return type(batches[0]).concatenate(batches)


@dataclass(frozen=True)
class EvalLoader:
    """Every row of a subset once.

    Attributes:
        task: over the data set of the rows.
        rows: to score.
        piece_rows: number of rows that are predicted together.
        world: number of workers that share the pieces.
        mask: removes the background from depth; None: rows are scored as they are.
    """

    task: Task
    rows: Subset
    piece_rows: int
    world: int = 1
    mask: RowMask | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        return tuple(dict.fromkeys((*self.task.columns, *(self.mask.columns if self.mask else ()))))

    @property
    def pieces(self) -> int:
        """Return the number of pieces. Every worker has equally many; the last ones may be empty."""
        pieces = -(-len(self.rows) // self.piece_rows)
        return -(-pieces // self.world) * self.world

    def item(self, piece: int) -> pa.Table:
        """Read a piece. It always has `piece_rows` rows: the column `real` is False for those that fill it up.

        Raises:
            UserError: a shard is not what its manifest says.
        """
        return self.item_reader(piece)

    @property
    def item_reader(self) -> Callable[[int], pa.Table]:
        """Return `item`, in a form that holds only what it needs: it goes to a cluster's tasks."""
        return Pieces(self.rows, self.piece_rows, self.columns).read

    def own_items(self, rank: int) -> Iterator[pa.Table]:
        """Yield the pieces of worker `rank`, for a worker that reads them itself."""
        return (self.item(piece) for piece in range(rank, self.pieces, self.world))

    def batches(self, items: Iterable[pa.Table], *, threads: int, ahead: int) -> Iterator[TaskBatch]:
        """Yield the batches of some pieces, in order. Raises UserError if a row does not decode."""
        for batch in prefetch_map(self._batch, iter(items), threads=threads, ahead=ahead):
            if batch is not None:
                yield batch

    def _batch(self, table: pa.Table) -> TaskBatch | None:
        rows = [row for row in table.to_pylist() if row["real"]]
        try:
            rows = [self.mask.apply(row) for row in rows] if self.mask else rows
            return self.task.make_batch(rows, None) if rows else None
        except ValueError as error:
            raise not_as_prepared(error) from None
