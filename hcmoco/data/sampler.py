"""The sampler: which row is read at which step by which lane, a pure function of (seed, step, lane).

Every data set is an endless stream of passes over its rows. A pass is a permutation of the row groups. Runs of at least
MIX_GROUPS groups of it are then permuted row by row. A fixed number of lanes share the streams: in each window of
`window_steps` steps a lane takes one contiguous run of each stream, so that a work item (window, lane) touches few row
groups. Worker r of W serves the lanes r, r + W, ..., so the rows of a global step are the same for every W.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from hcmoco.data.mixture import Mixture
from hcmoco.errors import UserError
from hcmoco.rng import make_rng

MIX_GROUPS = 4
# Increased whenever the same fields would give another order.
ORDER_VERSION = 1


class Row(NamedTuple):
    """One row: number of its data set in the mixture, row group (over all files of the data set), row in the group."""

    source: int
    group: int
    row: int


@dataclass(frozen=True)
class SourcePlan:
    """One data set as the plan sees it.

    Attributes:
        name: unique in the mixture.
        rows: rows in the data set.
        group_rows: rows of each row group, files in the manifest's order.
        weight: share of the batch, relative to the other data sets; above 0.
        content: fingerprint of the stored bytes; part of the plan's identity.
    """

    name: str
    rows: int
    group_rows: tuple[int, ...]
    weight: float = 1.0
    content: str = ""

    def __post_init__(self):
        if self.rows < 1 or sum(self.group_rows) != self.rows or min(self.group_rows, default=0) < 1:
            raise UserError(
                f"data set {self.name}: {self.rows} rows in {len(self.group_rows)} row groups of together "
                f"{sum(self.group_rows)}; the groups must be non-empty and add up to at least one row"
            )


@dataclass(frozen=True)
class Plan:
    """The order of a run.

    Steps count from 0. `steps` bounds the run and does not affect the order of earlier steps.

    Attributes:
        seed: keys every permutation.
        sources: data sets of the mixture, in order; their weights are shares of `batch_size_per_lane`.
        lanes: fixed number of parallel micro-batches per step; a world size must divide it.
        batch_size_per_lane: rows in one lane's micro-batch.
        window_steps: steps that one work item covers.
        steps: length of the run.
    """

    seed: int
    sources: tuple[SourcePlan, ...]
    lanes: int
    batch_size_per_lane: int
    window_steps: int
    steps: int

    def __post_init__(self):
        for name in ("lanes", "batch_size_per_lane", "window_steps", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise UserError(
                f"data sets of the mixture: {', '.join(names) or 'none'}; give at least one, each name once"
            )
        _ = self._mixture  # report bad weights here, not at the first step

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in fields(self)}  # without the caches

    # --- identity

    @property
    def description(self) -> dict:
        """Return everything that decides the order, as JSON values. A checkpoint keeps it to compare with."""
        return {
            "order_version": ORDER_VERSION,
            "seed": self.seed,
            "lanes": self.lanes,
            "batch_size_per_lane": self.batch_size_per_lane,
            "window_steps": self.window_steps,
            "sources": [
                {
                    "name": source.name,
                    "rows": source.rows,
                    # Not `config.fingerprint`: train states hold this digest of the numbers joined by commas.
                    "row_groups": hashlib.sha256(",".join(map(str, source.group_rows)).encode()).hexdigest(),
                    "weight": source.weight,
                    "content": source.content,
                }
                for source in self.sources
            ],
        }

    # --- shape

    @property
    def windows(self) -> int:
        """Return the number of windows that cover the run.

        The last may reach beyond `steps`, so that all items have equally many rows.
        """
        return -(-self.steps // self.window_steps)

    def window_of(self, step: int) -> int:
        """Return the window that holds a step."""
        return step // self.window_steps

    @property
    def offsets(self) -> tuple[int, ...]:
        """Return the first memory-bank row of each data set, followed by the total size of the bank."""
        return tuple(np.cumsum([0, *(source.rows for source in self.sources)]).tolist())

    def lanes_of(self, rank: int, world: int) -> range:
        """Return the lanes that worker `rank` of `world` serves; raise UserError unless `world` divides `lanes`."""
        if world < 1 or self.lanes % world:
            fitting = [str(count) for count in range(1, self.lanes + 1) if self.lanes % count == 0]
            raise UserError(
                f"{world} workers cannot share {self.lanes} lanes evenly; use {', '.join(fitting)}, "
                "or change the plan's lanes"
            )
        return range(rank, self.lanes, world)

    @property
    def mixture_period(self) -> int:
        """Return the number of steps after which the composition repeats."""
        return self._mixture.period

    def composition(self, step: int) -> tuple[int, ...]:
        """Return the rows of each data set in every lane's micro-batch at `step`; they sum to `batch_size_per_lane`."""
        return tuple((self._mixture.cumulative(step + 1) - self._mixture.cumulative(step)).tolist())

    def epochs_at(self, step: int) -> dict[str, float]:
        """Return the epochs of each data set after `step` steps: rows drawn / rows of the data set."""
        cum = self._mixture.cumulative(step) * self.lanes
        return {source.name: float(count / source.rows) for source, count in zip(self.sources, cum, strict=True)}

    # --- rows

    def item(self, window: int, lane: int) -> list[list[Row]]:
        """Return the rows of one work item.

        Args:
            window: number of the window, from 0.
            lane: number of the lane.

        Returns:
            `window_steps` lists of `batch_size_per_lane` rows, data sets in order.

        Raises:
            ValueError: the window or lane does not exist.
        """
        if window < 0 or not 0 <= lane < self.lanes:
            raise ValueError(f"item ({window}, {lane}): windows count from 0, lanes are 0..{self.lanes - 1}")
        first = window * self.window_steps
        cum = np.stack([self._mixture.cumulative(first + t) for t in range(self.window_steps + 1)])
        steps: list[list[Row]] = [[] for _ in range(self.window_steps)]
        for d in range(len(self.sources)):
            located = self._locate(d, self._positions(d, cum[:, d], lane))
            bounds = (cum[:, d] - cum[0, d]).tolist()
            for t, rows in enumerate(steps):
                rows.extend(located[bounds[t] : bounds[t + 1]])
        return steps

    def rows(self, step: int, lane: int) -> list[Row]:
        """Return the rows of one lane's micro-batch at `step`."""
        window, t = divmod(step, self.window_steps)
        return self.item(window, lane)[t]

    def _positions(self, d: int, cum: np.ndarray, lane: int) -> np.ndarray:
        """Ascending positions in the stream of data set d that `lane` takes in one window.

        They are contiguous, except in a window in which a pass ends. There the stream is dealt step by step, so that no
        row of the next pass comes at an earlier step than a row of the pass before.
        """
        start, stop = self.lanes * int(cum[0]), self.lanes * int(cum[-1])
        share = int(cum[-1] - cum[0])
        if start // self.sources[d].rows == max(start, stop - 1) // self.sources[d].rows:
            return np.arange(start + lane * share, start + (lane + 1) * share)
        counts = np.diff(cum)
        starts = self.lanes * cum[:-1] + lane * counts
        return np.concatenate([np.arange(begin, begin + count) for begin, count in zip(starts, counts, strict=True)])

    def _locate(self, d: int, positions: np.ndarray) -> list[Row]:
        passes, offsets = np.divmod(positions, self.sources[d].rows)
        rows: list[Row] = []
        done = 0
        while done < len(positions):
            p, offset = int(passes[done]), int(offsets[done])
            chunk_starts, _ = self._pass(d, p)
            chunk = int(np.searchsorted(chunk_starts, offset, side="right")) - 1
            end = self.sources[d].rows * p + int(chunk_starts[chunk + 1])
            upto = int(np.searchsorted(positions, end))
            groups, inside = self._chunk(d, p, chunk)
            picked = offsets[done:upto] - chunk_starts[chunk]
            rows.extend(
                Row(d, group, row) for group, row in zip(groups[picked].tolist(), inside[picked].tolist(), strict=True)
            )
            done = upto
        return rows

    # --- cached pieces; each is a pure function of the fields

    @cached_property
    def _mixture(self) -> Mixture:
        return Mixture(tuple(source.weight for source in self.sources), self.batch_size_per_lane)

    @cached_property
    def _sizes(self) -> list[np.ndarray]:
        return [np.array(source.group_rows, np.int64) for source in self.sources]

    @cached_property
    def _pass(self) -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
        return lru_cache(maxsize=4 * len(self.sources))(self._make_pass)

    @cached_property
    def _chunk(self) -> Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]:
        return lru_cache(maxsize=64 * len(self.sources))(self._make_chunk)

    def _make_pass(self, d: int, p: int) -> tuple[np.ndarray, np.ndarray]:
        """First row of each chunk in pass p and, last, the pass's rows; and the permutation of the row groups."""
        sizes = self._sizes[d]
        order = make_rng(self.seed, "pass", d, p).permutation(len(sizes))
        ends = np.cumsum(sizes[order])
        chunks = max(1, len(sizes) // MIX_GROUPS)
        inner = ends[MIX_GROUPS - 1 :: MIX_GROUPS][: chunks - 1]
        return np.concatenate([[0], inner, ends[-1:]]), order

    def _make_chunk(self, d: int, p: int, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """(group, row in group) of every row of a chunk, permuted. The last chunk takes the remaining groups."""
        starts, order = self._pass(d, p)
        last = chunk == len(starts) - 2
        groups = order[chunk * MIX_GROUPS : None if last else (chunk + 1) * MIX_GROUPS]
        sizes = self._sizes[d][groups]
        inside = np.concatenate([np.arange(size) for size in sizes])
        mixed = make_rng(self.seed, "mix", d, p, chunk).permutation(len(inside))
        return np.repeat(groups, sizes)[mixed], inside[mixed]
