"""Rows with and without labels in one batch, cut alike; and the fixed crops of an evaluation.

Shape suffixes: B rows, S side of the crop in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE, LEFT_RIGHT_PAIRS, decode_parts
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, draw_anchors, make_micro_batch, row_augmentation
from hcmoco.data.loader import PlanLoader, not_as_prepared
from hcmoco.data.schema import Batch
from hcmoco.data.transforms import Augmentation, AugmentConfig, warp_labels
from hcmoco.finetuning.label_subset import Subset
from hcmoco.rng import make_rng

UNLABELED, LABELED = 0, 1
"""Numbers of the two data sets in the mixture."""
COLUMNS = ("id", "index", "size", "rgb", "depth", "box", "keypoints", "parts")


@dataclass
class LabeledBatch:
    """A batch of pre-training, and the parts of those of its rows that have labels.

    Attributes:
        batch: everything else; rows that lost a modality are without it there.
        parts_BSS: uint8 [B, S, S], cut as the row's RGB and depth are; IGNORE in rows without labels.
        labeled: bool [B].
    """

    batch: Batch
    parts_BSS: np.ndarray
    labeled: np.ndarray

    @property
    def step(self) -> int:
        return self.batch.step

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True)
class CoTrainingLoader(PlanLoader[LabeledBatch]):
    """The batches of a co-training; the plan's sources are the unlabeled and the labeled rows, in this order.

    Attributes:
        augment: how rows are cut.
        joint_set: the run's joint set.
        anchors: P, cells drawn per row for the dense terms.
        num_background_anchors: cells without a reading that are drawn beside them.
        lost: the modality that labeled rows are without, as if it had never been recorded; None: they keep all.
        num_points: see `CollateConfig`.
    """

    augment: AugmentConfig
    joint_set: str
    anchors: int
    num_background_anchors: int
    lost: str | None
    num_points: int = 0

    @property
    def columns(self) -> Sequence[str]:
        return columns(self.num_points)

    @property
    def bank_offsets(self) -> tuple[int, ...]:
        """First memory-bank row of each data set, and the banks' size: rows are numbered within whole data sets."""
        return tuple(accumulate((source.manifest.rows for source in self.sources), initial=0))

    def make(self, rows: list[dict], step: int, lane: int) -> LabeledBatch:
        numbers = [row["source"] for row in rows]
        seen = [
            {**row, self.lost: None} if self.lost and number == LABELED else row
            for row, number in zip(rows, numbers, strict=True)
        ]
        infos = SourceInfo.of(self.sources, self.bank_offsets)
        size = self.augment.size
        key = SampleKey(self.plan.seed, step, lane)
        collate = CollateConfig(self.augment, self.joint_set, self.anchors, num_points=self.num_points)
        batch = make_micro_batch(seen, numbers, infos, collate, key)
        if self.num_background_anchors:
            anchors = np.concatenate([batch.anchors, self._background(batch, step, lane)], axis=1)
            batch = replace(batch, anchors=anchors, rgb_anchors=anchors)
        parts_BSS = np.full((len(rows), size, size), IGNORE, np.uint8)
        for position, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            if number == LABELED:
                cut = row_augmentation(row, self.augment, key.at(position))
                parts_BSS[position] = cut_parts(row, cut, size)
        return LabeledBatch(batch, parts_BSS, np.array(numbers) == LABELED)

    def _background(self, batch: Batch, step: int, lane: int) -> np.ndarray:
        """int64 [B, num_background_anchors]: distinct cells of the stride-4 map without a reading, -1 where a row has
        no depth."""
        cells = np.full((len(batch), self.num_background_anchors), -1, np.int64)
        for position in np.flatnonzero(batch.has_depth):
            rng = make_rng(self.plan.seed, "background anchors", step, lane, int(position))
            cells[position] = draw_anchors(batch.depth[position] == 0, self.num_background_anchors, rng)
        return cells

    def join(self, batches: list[LabeledBatch], step: int) -> LabeledBatch:
        return LabeledBatch(
            Batch.concatenate([each.batch for each in batches]),
            np.concatenate([each.parts_BSS for each in batches]),
            np.concatenate([each.labeled for each in batches]),
        )


def cut_parts(row: dict, cut: Augmentation, size: int) -> np.ndarray:
    """uint8 [S, S]: the parts of a row, cut as its images are, left and right exchanged where it is mirrored; IGNORE
    outside the stored image. ValueError, with the id, for a row without parts and for one whose parts do not decode or
    hold labels that do not exist."""
    if row.get("parts") is None:
        raise ValueError(f"record {row.get('id')!r} has no parts")
    try:
        labels = decode_parts(row["parts"], row["size"])
    except (ValueError, cv2.error) as error:
        raise ValueError(f"record {row.get('id')!r}: parts: {error}") from error
    return warp_labels(labels, cut, size, LEFT_RIGHT_PAIRS, border=IGNORE)


def columns(num_points: int) -> Sequence[str]:
    """Return the columns that are read, with `num_points` also the camera."""
    return (*COLUMNS, "camera") if num_points else COLUMNS


def fixed_crops(
    rows: Subset, augment: AugmentConfig, joint_set: str, *, limit: int | None, together: int, num_points: int = 0
) -> Iterator[LabeledBatch]:
    """Yield the rows (or the first `limit`) in storage order, `together` at a time.

    Each is in its centered crop, with the same pixels every time.

    The release scores random crops of its training instead, anew at every evaluation. UserError where a row does not
    decode.
    """
    manifest = rows.manifest
    info = [SourceInfo(manifest.joints, manifest.depth_codec)]
    reading = rows.rows(columns(num_points), limit)
    while piece := list(islice(reading, together)):
        try:
            config, key = CollateConfig(augment, joint_set, num_points=num_points), SampleKey(0, 0)
            batch = make_micro_batch(piece, [0] * len(piece), info, config, key, train=False)
            cuts = [row_augmentation(row, augment, key, train=False) for row in piece]
            parts = [cut_parts(row, cut, augment.size) for row, cut in zip(piece, cuts, strict=True)]
        except ValueError as error:
            raise not_as_prepared(error) from None
        yield LabeledBatch(batch, np.stack(parts), np.ones(len(piece), bool))
