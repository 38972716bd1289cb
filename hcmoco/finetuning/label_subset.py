"""Choose the labeled rows of a fine-tuning: a function of (data set, share, seed).

Subsets are nested: the rows of 1 % are among those of 10 %. Rows are ranked by id, not by their place in the shards: a
data set that is prepared again in another order gives the same subset.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from hcmoco.config import Config, fingerprint
from hcmoco.data.sampler import SourcePlan
from hcmoco.data.shards.manifest import Manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.rng import make_rng

STRIDES = {"itop-10%": 10, "itop-1%": 100, "itop-0.5%": 200, "itop-0.2%": 500, "itop-0.1%": 1000}
"""The published subsets of ITOP: rows 0, s, 2s, ... of the list sorted by frame, floor(rows / s) rows; 17 at s =
1000."""

_READERS = 8


class LabelsConfig(Config):
    """The share of the labels that is used."""

    renamed: ClassVar = {"samples": "num_samples", "validation": "num_val_rows"}

    fraction: float = Field(1.0, gt=0, le=1, description="share of the labeled rows that are not validation rows")
    num_samples: int | None = Field(None, ge=1, description="number of rows instead of a share")
    subset: str | None = Field(None, description=f"a published subset instead of a share: {', '.join(STRIDES)}")
    labels_seed: int | None = Field(None, ge=0, description="draws the rows; null: the run's seed")
    num_val_rows: int = Field(
        256,
        ge=0,
        description="rows kept for choosing the model, the same for every fraction, num_samples and seed; 0: none",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "LabelsConfig":
        given = [name for name in ("num_samples", "subset") if getattr(self, name) is not None] + ["fraction"] * (
            self.fraction != 1
        )
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; give one of fraction, num_samples and subset")
        if self.subset is not None and self.subset not in STRIDES:
            raise ValueError(f"subset = {self.subset!r}: allowed are {', '.join(STRIDES)}")
        return self

    @property
    def text(self) -> str:
        """Return the name of the share in tables: "10%", "17 samples", "itop-1%"."""
        if self.num_samples is not None:
            return f"{self.num_samples} samples"
        return self.subset or f"{100 * self.fraction:g}%"


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, by row group; a source of a plan.

    Attributes:
        shards: the data set.
        groups: (row group, rows inside it) in storage order; groups without a row are skipped.
        digest: SHA-256 of the sorted ids.
    """

    shards: Shards
    groups: tuple[tuple[int, tuple[int, ...]], ...]
    digest: str

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.groups)

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the whole data set."""
        return self.shards.manifest

    def read_group(
        self, group: int, columns: Sequence[str] | None = None, rows: Sequence[int] | None = None
    ) -> pa.Table:
        """See `Shards.read_group`; groups and rows count within the subset."""
        real, inside = self.groups[group]
        return self.shards.read_group(real, columns, inside if rows is None else [inside[row] for row in rows])

    def source_plan(self, name: str) -> SourcePlan:
        """Return this subset as a source of a `Plan`."""
        return SourcePlan(name, len(self), tuple(len(rows) for _, rows in self.groups), 1.0, self.digest)

    def rows(self, columns: Sequence[str], limit: int | None = None) -> Iterator[dict]:
        """Yield the rows, or the first `limit`, in storage order, as dicts."""
        left = len(self) if limit is None else limit
        for group in range(len(self.groups)):
            if left <= 0:
                return
            yield from self.read_group(group, columns).slice(0, left).to_pylist()
            left -= len(self.groups[group][1])


def all_rows(shards: Shards, needed: Sequence[str]) -> Subset:
    """Return all rows that have the columns `needed`. Raises UserError if there is none."""
    ids, places = _candidates(shards, needed)
    return _subset(shards, ids, places, np.arange(len(ids)))


def _more_rows(config: LabelsConfig, count: int, held_out: int) -> str:
    """What to give where no row is left to train on."""
    left = count - held_out
    advice = [] if left else [f"give num_val_rows={count // 5}" + ("" if count >= 5 else " and select=last")]
    if config.subset is not None:
        advice.append("take num_samples=1 or more instead of subset")
    elif left:
        advice.append(f"give fraction={1 / left + 5e-5:.4f} or more, or num_samples=1 or more")
    return ", and ".join(advice)


def split(shards: Shards, config: LabelsConfig, needed: Sequence[str], *, seed: int) -> tuple[Subset, Subset | None]:
    """Choose the rows to train on and the rows to validate on.

    Args:
        shards: the data set.
        config: the share of the labels.
        needed: columns that a row must have: inputs and labels.
        seed: of the run, for a config without `labels_seed`.
    Returns:
        The training rows, and the validation rows or None.
    Raises:
        UserError: no row has the labels, or no row is left to train on.
    """
    ids, places = _candidates(shards, needed)
    count = len(ids)
    held_out = make_rng(0, "validation rows").permutation(count)
    if config.subset is not None:
        stride = STRIDES[config.subset]
        chosen = np.arange(count // stride) * stride
        held_out = held_out[~np.isin(held_out, chosen)][: config.num_val_rows]
    else:
        held_out, pool = held_out[: config.num_val_rows], np.sort(held_out[config.num_val_rows :])
        wanted = (
            config.num_samples if config.num_samples is not None else int(np.floor(config.fraction * len(pool) + 1e-9))
        )
        if wanted > len(pool):
            raise UserError(
                f"num_samples = {wanted}: {shards.uri} has {count} labeled rows, of which {len(held_out)} are kept for "
                f"validation; at most {len(pool)}, or a smaller num_val_rows"
            )
        ranked = pool[
            make_rng(seed if config.labels_seed is None else config.labels_seed, "labels").permutation(len(pool))
        ]
        chosen = ranked[:wanted]
    if not len(chosen):
        raise UserError(
            f"{config.text} of the {count} labeled rows of {shards.uri} leaves no row to train on: num_val_rows = "
            f"{config.num_val_rows} of them are kept for validation; {_more_rows(config, count, len(held_out))}"
        )
    return _subset(shards, ids, places, chosen), _subset(shards, ids, places, held_out) if len(held_out) else None


def _candidates(shards: Shards, needed: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Sorted ids of the rows that have all `needed` columns, and their row groups and rows, int64 [N, 2]."""
    manifest = shards.manifest
    counts = {name: manifest.modalities.get(name, 0) for name in needed}
    missing = [name for name, rows in counts.items() if not rows]
    if missing:
        has = ", ".join(name for name, rows in manifest.modalities.items() if rows)
        raise UserError(
            f"{shards.uri} has no {' and no '.join(missing)} (its rows have {has}); prepare or name a data set that has"
        )
    partial = [name for name, rows in counts.items() if rows < manifest.rows]

    def group(number: int) -> list[tuple[str, int, int]]:
        table = shards.read_group(number, ["id", *partial])
        valid = np.logical_and.reduce(
            [np.ones(len(table), bool), *(table[name].is_valid().to_numpy() for name in partial)]
        )
        return [(id, number, row) for row, id in enumerate(table["id"].to_pylist()) if valid[row]]

    with ThreadPoolExecutor(_READERS) as pool:
        found = sorted(row for rows in pool.map(group, range(len(shards.group_rows))) for row in rows)
    if not found:
        raise UserError(
            f"{shards.uri} has no row with {' and '.join(needed)} together; prepare or name a data set that has"
        )
    return [id for id, _, _ in found], np.array([place for _, *place in found], np.int64)


def _subset(shards: Shards, ids: list[str], places: np.ndarray, chosen: np.ndarray) -> Subset:
    chosen = np.sort(chosen)
    digest = fingerprint([ids[number] for number in chosen])
    stored = places[chosen]
    stored = stored[np.lexsort((stored[:, 1], stored[:, 0]))]
    numbers, starts = np.unique(stored[:, 0], return_index=True)
    rows = np.split(stored[:, 1], starts[1:])
    groups = tuple((int(number), tuple(inside.tolist())) for number, inside in zip(numbers, rows, strict=True))
    return Subset(shards, groups, digest)
