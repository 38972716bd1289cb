"""The plan carried out: stored rows become work items, and work items the batches of a worker.

A work item is one (window, lane) of the plan. Whoever executes the plan asks for items in the order (window 0, lane 0), (window 0,
lane 1), ...; with W workers item k belongs to worker k mod W. What is made of the rows is the caller's: pre-training (`Feed`) and each
downstream task have their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa

from hcmoco.data.collate import SourceInfo, make_micro_batch
from hcmoco.data.prefetch import prefetch_map
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.data.shards.reader import RowGroups, read_rows
from hcmoco.data.transforms import AugmentConfig
from hcmoco.errors import UserError

_COLUMNS = ("id", "index", "size", "rgb", "depth", "crop", "box", "keypoints")
_ARRAYS = tuple(field.name for field in fields(Batch) if field.name != "step")

BatchT = TypeVar("BatchT")


def not_as_prepared(error: ValueError) -> UserError:
    """The mistake behind a record that does not decode. Records are checked before they are stored: this one was stored by something else,
    or changed together with its checksum."""
    return UserError(
        f"{error}; its data set is not as `python pipelines/prepare.py` leaves one: see what its verify says, then prepare it again"
    )


@dataclass(frozen=True)
class PlanLoader(ABC, Generic[BatchT]):
    """Everything that turns a plan into batches; small to pickle, so that a cluster's tasks can hold it.

    Attributes:
        plan: which rows, when.
        sources: the data sets, in the plan's order.
    """

    plan: Plan
    sources: tuple[RowGroups, ...]

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """What is read of a row."""

    @abstractmethod
    def make(self, rows: list[dict], step: int, lane: int) -> BatchT:
        """A lane's micro-batch of rows, which say with `source` which data set they are of: a pure function, called in threads.

        Raises ValueError, with its id, for a row that does not decode.
        """

    @abstractmethod
    def join(self, batches: list[BatchT], step: int) -> BatchT:
        """The micro-batches of one step, in order, as one."""

    @property
    def item_rows(self) -> int:
        """Rows of a work item."""
        return self.plan.window_steps * self.plan.batch_size_per_lane

    def item(self, window: int, lane: int) -> pa.Table:
        """The work item of a window and lane. All items of a run have equally many rows.

        Raises UserError where a shard is not what its manifest says, or a row does not decode.
        """
        return _labeled(self._rows(window, lane), window, lane)

    def _rows(self, window: int, lane: int) -> pa.Table:
        rows = [row for step in self.plan.item(window, lane) for row in step]
        return read_rows(self.sources, rows, self.columns).append_column(
            "source", pa.array([row.source for row in rows], pa.int32())
        )

    def batches(
        self, items: Iterable[pa.Table], *, rank: int, world: int, first_step: int, threads: int, ahead: int
    ) -> Iterator[BatchT]:
        """This worker's batch of each step from `first_step` to the plan's end.

        Args:
            items: this worker's items, from the window of `first_step` on.
            threads, ahead: decoding threads, and how many batches they stay in front of the step.
        Raises:
            RuntimeError: an item is not the one that the plan deals to this worker next, or there is none.
            UserError: a row does not decode.
        """
        jobs = self._jobs(iter(items), rank, world, first_step)
        return prefetch_map(lambda job: self._batch(*job), jobs, threads=threads, ahead=ahead)

    def own_items(self, *, rank: int, world: int, first_step: int) -> Iterator[tuple[int, int]]:
        """(window, lane) of this worker's items, in order: for a worker that reads them itself."""
        for window in range(first_step // self.plan.window_steps, self.plan.windows):
            for lane in self.plan.lanes_of(rank, world):
                yield window, lane

    def _jobs(
        self, items: Iterator[pa.Table], rank: int, world: int, first_step: int
    ) -> Iterator[tuple[int, list[pa.Table]]]:
        lanes = self.plan.lanes_of(rank, world)
        for window in range(first_step // self.plan.window_steps, self.plan.windows):
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
                        f"worker {rank} of {world} was handed item (window, lane) = {got}, the plan says {(window, lane)}"
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
        augment: how rows are cut.
        joint_set: the run's joint set.
        anchors: P, cells drawn per row for the dense terms.
        decode: "worker": items hold encoded rows, about 30 to 160 kB each, and the worker that trains decodes them; "tasks": items hold
            decoded micro-batches, and whoever makes the item has decoded them.
        anchors_with_replacement: how anchors are drawn, see `loading.draw_anchors`.
    """

    augment: AugmentConfig
    joint_set: str
    anchors: int
    decode: Literal["worker", "tasks"] = "worker"
    anchors_with_replacement: bool = False

    columns: ClassVar[Sequence[str]] = _COLUMNS

    @property
    def item_rows(self) -> int:
        return self.plan.window_steps if self.decode == "tasks" else super().item_rows

    def item(self, window: int, lane: int) -> pa.Table:
        if self.decode == "worker":
            return super().item(window, lane)
        table, first = self._rows(window, lane), window * self.plan.window_steps
        packed = _packed(
            [super(PretrainLoader, self)._micro_batch(table, t, first + t, lane) for t in range(self.plan.window_steps)]
        )
        return _labeled(packed, window, lane)

    def _micro_batch(self, table: pa.Table, t: int, step: int, lane: int) -> Batch:
        return super()._micro_batch(table, t, step, lane) if self.decode == "worker" else self._unpacked(table, t, step)

    def join(self, batches: list[Batch], step: int) -> Batch:
        return Batch.concatenate(batches)

    def make(self, rows: list[dict], step: int, lane: int) -> Batch:
        infos = SourceInfo.of(self.sources, self.plan.offsets)
        return make_micro_batch(
            rows,
            [row["source"] for row in rows],
            infos,
            step=step,
            lane=lane,
            seed=self.plan.seed,
            config=self.augment,
            joint_set=self.joint_set,
            anchors=self.anchors,
            anchors_with_replacement=self.anchors_with_replacement,
        )

    def _unpacked(self, table: pa.Table, t: int, step: int) -> Batch:
        like = _empty_batch(self.plan.batch_size_per_lane, self.augment.size, self.joint_set, self.anchors)
        arrays = {}
        for name in _ARRAYS:
            form = getattr(like, name)
            arrays[name] = np.frombuffer(table[name][t].as_buffer(), form.dtype).reshape(form.shape)
        return replace(like, step=step, **arrays)


def _labeled(table: pa.Table, window: int, lane: int) -> pa.Table:
    for name, number in (("window", window), ("lane", lane)):
        table = table.append_column(name, pa.array(np.full(len(table), number)))
    return table


def _empty_batch(rows: int, size: int, joint_set: str, anchors: int) -> Batch:
    """A batch of the right shapes and types."""
    one = make_micro_batch(
        [], [], [], step=0, lane=0, seed=0, config=AugmentConfig(size=size), joint_set=joint_set, anchors=anchors
    )
    return replace(
        one, **{name: np.zeros((rows, *getattr(one, name).shape[1:]), getattr(one, name).dtype) for name in _ARRAYS}
    )


def _packed(batches: list[Batch]) -> pa.Table:
    """One row per micro-batch, its arrays as bytes, which are copied once."""
    return pa.table({name: _as_bytes(np.stack([getattr(batch, name) for batch in batches])) for name in _ARRAYS})


def _as_bytes(stacked: np.ndarray) -> pa.Array:
    """The entries along the first axis as binary values over the array's own memory."""
    offsets = np.arange(len(stacked) + 1, dtype=np.int64) * (stacked.nbytes // len(stacked))
    return pa.Array.from_buffers(pa.large_binary(), len(stacked), [None, pa.py_buffer(offsets), pa.py_buffer(stacked)])
