"""Turn the plan into batches: stored rows become work items, and work items become the batches of a worker.

A work item is one (window, lane) of the plan. Items are requested in the order (window 0, lane 0), (window 0, lane 1),
...; with W workers item k belongs to worker k mod W. Subclasses define what becomes of the rows: pre-training
(`PretrainLoader`) and each downstream task have their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa

from hcmoco.data.arrow import binary_column
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, make_micro_batch
from hcmoco.data.prefetch import prefetch_map
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.data.shards.reader import RowGroups
from hcmoco.data.work_items import WorkItems, labeled
from hcmoco.errors import UserError

_COLUMNS = ("id", "index", "size", "rgb", "depth", "crop", "box", "keypoints")
_ARRAYS = tuple(field.name for field in fields(Batch) if field.name != "step")

BatchT = TypeVar("BatchT")
Decode = Literal["worker", "tasks", "device"]


def not_as_prepared(error: ValueError) -> UserError:
    """Return the UserError for a record that does not decode.

    Records are checked before they are stored. So this one was written by another program, or it was changed together
    with its checksum.
    """
    return UserError(
        f"{error}; its data set is not as `python pipelines/prepare.py` leaves one: "
        "see what its verify says, then prepare it again"
    )


@dataclass(frozen=True)
class PlanLoader(ABC, Generic[BatchT]):
    """Everything that turns a plan into batches. It is small to pickle, so that a cluster's tasks can hold it.

    Attributes:
        plan: which rows, when.
        sources: the data sets, in the plan's order.
    """

    plan: Plan
    sources: tuple[RowGroups, ...]

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """Return the names of the columns that are read."""

    @abstractmethod
    def make(self, rows: list[dict], step: int, lane: int) -> BatchT:
        """Collate a lane's micro-batch. This is a pure function and is called in threads.

        Args:
            rows: the rows, whose `source` is the number of their data set.
            step: step of the run, from 0.
            lane: number of the lane.

        Raises:
            ValueError: a row does not decode; the message names its id.
        """

    @abstractmethod
    def join(self, batches: list[BatchT], step: int) -> BatchT:
        """Concatenate the micro-batches of one step, in order."""

    @property
    def item_rows(self) -> int:
        """Return the number of rows of a work item."""
        return self.plan.window_steps * self.plan.batch_size_per_lane

    def item(self, window: int, lane: int) -> pa.Table:
        """Read the work item of a window and lane. All items of a run have equally many rows.

        Raises:
            UserError: a shard is not what its manifest says, or a row does not decode.
        """
        return self.work_items.read(window, lane)

    @property
    def work_items(self) -> WorkItems:
        """Return what reads the work items, without what makes batches of them."""
        return WorkItems(self.plan, self.sources, tuple(self.columns))

    @property
    def item_reader(self) -> Callable[[int, int], pa.Table]:
        """Return `item`, in a form that holds only what it needs: it goes to a cluster's tasks."""
        return self.work_items.read

    def batches(
        self,
        items: Iterable[pa.Table],
        *,
        rank: int,
        world: int,
        first_step: int,
        threads: int,
        ahead: int,
        then: Callable[[BatchT], BatchT] = lambda batch: batch,
    ) -> Iterator[BatchT]:
        """Yield this worker's batch of each step from `first_step` to the plan's end.

        Args:
            items: this worker's items, from the window of `first_step` on.
            rank: number of this worker.
            world: number of workers.
            first_step: first step to yield.
            threads: decoding threads.
            ahead: how many batches they prepare in advance.
            then: called on each batch by the thread that made it.

        Raises:
            RuntimeError: an item is not the one that the plan deals to this worker next, or the items have ended.
            UserError: a row does not decode.
        """
        jobs = self._jobs(iter(items), rank, world, first_step)
        return prefetch_map(lambda job: then(self._batch(*job)), jobs, threads=threads, ahead=ahead)

    def own_items(self, *, rank: int, world: int, first_step: int) -> Iterator[tuple[int, int]]:
        """Yield (window, lane) of this worker's items, in order, for a worker that reads them itself."""
        for window in range(self.plan.window_of(first_step), self.plan.windows):
            for lane in self.plan.lanes_of(rank, world):
                yield window, lane

    def _jobs(
        self, items: Iterator[pa.Table], rank: int, world: int, first_step: int
    ) -> Iterator[tuple[int, list[pa.Table]]]:
        lanes = self.plan.lanes_of(rank, world)
        for window in range(self.plan.window_of(first_step), self.plan.windows):
            tables = []
            for lane in lanes:
                table = next(items, None)
                if table is None:
                    raise RuntimeError(
                        f"worker {rank} of {world} has no item (window, lane) = {(window, lane)}: its items have ended"
                    )
                got = (table["window"][0].as_py(), table["lane"][0].as_py())
                if got != (window, lane):
                    raise RuntimeError(
                        f"worker {rank} of {world} was handed item (window, lane) = {got}, "
                        f"the plan says {(window, lane)}"
                    )
                tables.append(table)
            for t in range(self.plan.window_steps):
                step = window * self.plan.window_steps + t
                if first_step <= step < self.plan.steps:
                    yield step, tables

    def _batch(self, step: int, tables: list[pa.Table]) -> BatchT:
        t = step % self.plan.window_steps
        return self.join([self._micro_batch(table, t, step, lane=table["lane"][0].as_py()) for table in tables], step)

    def _micro_batch(self, table: pa.Table, t: int, step: int, lane: int) -> BatchT:
        rows = table.slice(t * self.plan.batch_size_per_lane, self.plan.batch_size_per_lane).to_pylist()
        try:
            return self.make(rows, step, lane)
        except ValueError as error:
            raise not_as_prepared(error) from None


@dataclass(frozen=True)
class PretrainLoader(PlanLoader[Batch]):
    """The batches of a pre-training.

    Attributes:
        collate: what becomes of a row.
        decode: "worker": items hold encoded rows, about 30 to 160 kB each, and the worker that trains decodes them.
            "device": the same, and the device that trains decodes RGB, see `hcmoco.data.device_decode`.
            "tasks": items hold micro-batches that were decoded where the item was read.
    """

    collate: CollateConfig
    decode: Decode = "worker"

    @property
    def columns(self) -> Sequence[str]:
        return (*_COLUMNS, "camera") if self.collate.num_points else _COLUMNS

    @property
    def item_rows(self) -> int:
        return self.plan.window_steps if self.decode == "tasks" else super().item_rows

    def item(self, window: int, lane: int) -> pa.Table:
        if self.decode != "tasks":
            return super().item(window, lane)
        table, first = self.work_items.rows(window, lane), window * self.plan.window_steps
        packed = _packed(
            [super(PretrainLoader, self)._micro_batch(table, t, first + t, lane) for t in range(self.plan.window_steps)]
        )
        return labeled(packed, window, lane)

    @property
    def item_reader(self) -> Callable[[int, int], pa.Table]:
        return self.item if self.decode == "tasks" else super().item_reader

    def _micro_batch(self, table: pa.Table, t: int, step: int, lane: int) -> Batch:
        return super()._micro_batch(table, t, step, lane) if self.decode != "tasks" else self._unpacked(table, t, step)

    def join(self, batches: list[Batch], step: int) -> Batch:
        return Batch.concatenate(batches)

    def make(self, rows: list[dict], step: int, lane: int) -> Batch:
        infos = SourceInfo.of(self.sources, self.plan.offsets)
        numbers = [row["source"] for row in rows]
        key = SampleKey(self.plan.seed, step, lane)
        return make_micro_batch(rows, numbers, infos, self.collate, key, rgb_decoded=self.decode != "device")

    def _unpacked(self, table: pa.Table, t: int, step: int) -> Batch:
        like = _empty_batch(self.plan.batch_size_per_lane, self.collate)
        arrays = {}
        for name in _ARRAYS:
            form = getattr(like, name)
            arrays[name] = np.frombuffer(table[name][t].as_buffer(), form.dtype).reshape(form.shape)
        return replace(like, step=step, **arrays)


def _empty_batch(rows: int, config: CollateConfig) -> Batch:
    """A batch of zeros with the right shapes and types."""
    one = make_micro_batch([], [], [], config, SampleKey(0, 0))
    return replace(
        one, **{name: np.zeros((rows, *getattr(one, name).shape[1:]), getattr(one, name).dtype) for name in _ARRAYS}
    )


def _packed(batches: list[Batch]) -> pa.Table:
    """One row per micro-batch, its arrays as bytes. They are copied once."""
    stacked = {name: np.stack([getattr(batch, name) for batch in batches]) for name in _ARRAYS}
    return pa.table({name: binary_column(array, len(batches)) for name, array in stacked.items()})
