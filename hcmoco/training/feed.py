"""The plan carried out: stored rows become work items, and work items the batches of a worker.

A work item is one (window, lane) of the plan. Whoever executes the plan asks for items in the order (window 0, lane 0), (window 0,
lane 1), ...; with W workers item k belongs to worker k mod W. Where pixels are decoded is a choice: by the worker that trains, or by
whoever makes the item.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from hcmoco.errors import UserError
from hcmoco.loading import SourceInfo, make_micro_batch
from hcmoco.schema import Batch
from hcmoco.shards.plan import Plan
from hcmoco.shards.read import Shards, read_rows
from hcmoco.training.ahead import map_ahead
from hcmoco.transforms import AugmentConfig

_COLUMNS = ("id", "index", "size", "rgb", "depth", "box", "keypoints")
_ARRAYS = tuple(field.name for field in fields(Batch) if field.name != "step")


@dataclass(frozen=True)
class Feed:
    """Everything that turns a plan into batches; small to pickle, so that a cluster's tasks can hold it.

    Attributes:
        plan: which rows, when.
        sources: the data sets, in the plan's order.
        augment: how rows are cut.
        joint_set: the run's joint set.
        anchors: P, cells drawn per row for the dense terms.
        anchors_with_replacement: how they are drawn, see `loading.draw_anchors`.
        decode: "worker": items hold encoded rows, about 30 to 160 kB each; "tasks": items hold decoded micro-batches.
    """

    plan: Plan
    sources: tuple[Shards, ...]
    augment: AugmentConfig
    joint_set: str
    anchors: int
    decode: Literal["worker", "tasks"] = "worker"
    anchors_with_replacement: bool = False

    @property
    def item_rows(self) -> int:
        """Rows of a work item."""
        return self.plan.window_steps * (1 if self.decode == "tasks" else self.plan.rows_per_lane)

    def item(self, window: int, lane: int) -> pa.Table:
        """The work item of a window and lane. All items of a run have equally many rows.

        Raises UserError where a shard is not what its manifest says, or a row does not decode.
        """
        steps = self.plan.item(window, lane)
        rows = [row for step in steps for row in step]
        table = read_rows(self.sources, rows, _COLUMNS)
        table = table.append_column("source", pa.array([row.source for row in rows], pa.int32()))
        if self.decode == "tasks":
            first = window * self.plan.window_steps
            table = _packed([self._micro_batch(table, t, first + t, lane) for t in range(len(steps))])
        for name, number in (("window", window), ("lane", lane)):
            table = table.append_column(name, pa.array(np.full(len(table), number)))
        return table

    def batches(self, items: Iterable[pa.Table], *, rank: int, world: int, first_step: int, threads: int, ahead: int) -> Iterator[Batch]:
        """This worker's batch of each step from `first_step` to the plan's end.

        Args:
            items: this worker's items, from the window of `first_step` on.
            threads, ahead: decoding threads, and how many batches they stay in front of the step.
        Raises:
            RuntimeError: an item is not the one that the plan deals to this worker next, or there is none.
            UserError: a row does not decode.
        """
        jobs = self._jobs(iter(items), rank, world, first_step)
        return map_ahead(lambda job: self._batch(*job), jobs, threads=threads, ahead=ahead)

    def own_items(self, *, rank: int, world: int, first_step: int) -> Iterator[tuple[int, int]]:
        """(window, lane) of this worker's items, in order: for a worker that reads them itself."""
        for window in range(first_step // self.plan.window_steps, self.plan.windows):
            for lane in self.plan.lanes_of(rank, world):
                yield window, lane

    def _jobs(self, items: Iterator[pa.Table], rank: int, world: int, first_step: int) -> Iterator[tuple[int, list[pa.Table]]]:
        lanes = self.plan.lanes_of(rank, world)
        for window in range(first_step // self.plan.window_steps, self.plan.windows):
            tables = []
            for lane in lanes:
                table = next(items, None)
                if table is None:
                    raise RuntimeError(f"worker {rank} of {world} has no item (window, lane) = {(window, lane)}: its items have ended")
                got = (table["window"][0].as_py(), table["lane"][0].as_py())
                if got != (window, lane):
                    raise RuntimeError(f"worker {rank} of {world} was handed item (window, lane) = {got}, the plan says {(window, lane)}")
                tables.append(table)
            for t in range(self.plan.window_steps):
                step = window * self.plan.window_steps + t
                if first_step <= step < self.plan.steps:
                    yield step, tables

    def _batch(self, step: int, tables: list[pa.Table]) -> Batch:
        t = step % self.plan.window_steps
        if self.decode == "tasks":
            return Batch.concatenate([self._unpacked(table, t, step) for table in tables])
        return Batch.concatenate([self._micro_batch(table, t, step, lane=table["lane"][0].as_py()) for table in tables])

    def _micro_batch(self, table: pa.Table, t: int, step: int, lane: int) -> Batch:
        rows = table.slice(t * self.plan.rows_per_lane, self.plan.rows_per_lane).to_pylist()
        infos = [
            SourceInfo(shards.manifest.joints, shards.manifest.depth_codec, offset)
            for shards, offset in zip(self.sources, self.plan.offsets, strict=False)
        ]
        numbers = [row["source"] for row in rows]
        try:
            return make_micro_batch(
                rows,
                numbers,
                infos,
                step=step,
                lane=lane,
                seed=self.plan.seed,
                config=self.augment,
                joint_set=self.joint_set,
                anchors=self.anchors,
                anchors_with_replacement=self.anchors_with_replacement,
            )
        except ValueError as error:
            # Records are checked before they are stored; this one was stored by something else, or changed together with its checksum.
            raise UserError(
                f"{error}; its data set is not as `python pipelines/prepare.py` leaves one: see what its verify says, then prepare it again"
            ) from None

    def _unpacked(self, table: pa.Table, t: int, step: int) -> Batch:
        like = _empty_batch(self.plan.rows_per_lane, self.augment.size, self.joint_set, self.anchors)
        arrays = {}
        for name in _ARRAYS:
            form = getattr(like, name)
            arrays[name] = np.frombuffer(table[name][t].as_buffer(), form.dtype).reshape(form.shape)
        return replace(like, step=step, **arrays)


def _empty_batch(rows: int, size: int, joint_set: str, anchors: int) -> Batch:
    """A batch of the right shapes and types."""
    one = make_micro_batch([], [], [], step=0, lane=0, seed=0, config=AugmentConfig(size=size), joint_set=joint_set, anchors=anchors)
    return replace(one, **{name: np.zeros((rows, *getattr(one, name).shape[1:]), getattr(one, name).dtype) for name in _ARRAYS})


def _packed(batches: list[Batch]) -> pa.Table:
    """One row per micro-batch, its arrays as bytes, which are copied once."""
    return pa.table({name: _as_bytes(np.stack([getattr(batch, name) for batch in batches])) for name in _ARRAYS})


def _as_bytes(stacked: np.ndarray) -> pa.Array:
    """The entries along the first axis as binary values over the array's own memory."""
    offsets = np.arange(len(stacked) + 1, dtype=np.int64) * (stacked.nbytes // len(stacked))
    return pa.Array.from_buffers(pa.large_binary(), len(stacked), [None, pa.py_buffer(offsets), pa.py_buffer(stacked)])
