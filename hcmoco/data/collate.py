"""From stored rows to a Batch: decode, cut, convert joints, choose anchors. A pure function of the rows and of (seed, step, lane).

Shapes: B rows, S side of the result, J joints of the run's set, P anchors. Nothing here holds state, and the decoding and warping
release the interpreter lock, so one call per thread scales; callers with a pool of their own set `cv2.setNumThreads(1)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hcmoco.data.codecs import decode_depth, decode_rgb
from hcmoco.data.released_keypoints import released_keypoints
from hcmoco.data.schema import Batch
from hcmoco.data.shards.reader import RowGroups
from hcmoco.data.skeletons import convert
from hcmoco.data.skeletons import joint_set as joint_set_named
from hcmoco.data.transforms import (
    Augmentation,
    AugmentConfig,
    center_affine,
    draw_affine,
    warp_depth,
    warp_keypoints,
    warp_rgb,
)
from hcmoco.rng import make_rng

ANCHOR_STRIDE = 4


@dataclass(frozen=True)
class SourceInfo:
    """What a row does not say about itself: its shard's joint set and depth codec, and the first memory-bank row of its data set."""

    joint_set: str
    depth_codec: str = "png16"
    bank_offset: int = 0

    @classmethod
    def of(cls, sources: Sequence[RowGroups], bank_offsets: Sequence[int]) -> "list[SourceInfo]":
        """One for each data set; `bank_offsets` may go on with where the last one ends."""
        pairs = zip(sources, bank_offsets, strict=False)
        return [cls(source.manifest.joints, source.manifest.depth_codec, offset) for source, offset in pairs]


def row_augmentation(
    row: dict,
    config: AugmentConfig,
    *,
    seed: int,
    step: int,
    lane: int,
    position: int,
    view: int = 0,
    train: bool = True,
) -> Augmentation:
    """How the row at `position` of a micro-batch is cut: what `make_micro_batch` uses, for those who need the matrix itself.

    Views other than 0 are further, independent crops of the same rows. With `train` False it is the centred crop, without randomness.
    """
    box = None if row.get("box") is None else np.asarray(row["box"], np.float64)
    image_size = (row["size"], row["size"])
    if not train:
        return center_affine(config, box, image_size)
    key = (step, lane, position) if view == 0 else (step, lane, position, view)
    return draw_affine(config, box, image_size, make_rng(seed, "augment", *key))


def draw_anchors(depth_SS: np.ndarray, count: int, rng: np.random.Generator, *, replace: bool = False) -> np.ndarray:
    """int64 [P]: up to `count` distinct cells of the stride-4 map whose pixel (4 * row, 4 * column) has a depth reading, then -1.

    With `replace` it is `count` draws with replacement, as the published release has them, or all -1 where no cell has a reading.
    """
    cells = np.flatnonzero(depth_SS[::ANCHOR_STRIDE, ::ANCHOR_STRIDE])
    if replace and len(cells):
        cells = rng.choice(cells, count)
    elif len(cells) > count:
        cells = rng.choice(cells, count, replace=False)
    return np.concatenate([cells, np.full(count - len(cells), -1)]).astype(np.int64)


def make_micro_batch(
    rows: Sequence[dict],
    numbers: Sequence[int],
    sources: Sequence[SourceInfo],
    *,
    step: int,
    lane: int,
    seed: int,
    config: AugmentConfig,
    joint_set: str,
    anchors: int,
    anchors_with_replacement: bool = False,
    view: int = 0,
    train: bool = True,
) -> Batch:
    """The rows of one micro-batch as a Batch with S = `config.size`.

    Args:
        rows: rows of `person_schema`, as dicts of Python or NumPy values.
        numbers: for each row, the number of its data set in the run's mixture.
        sources: the mixture, by number.
        step, lane, seed: what the draws depend on, beside a row's position.
        joint_set: name of the run's joint set; keypoints are converted to it by joint name.
        anchors: P, for the dense terms.
        anchors_with_replacement: see `draw_anchors`.
        view: 0, or the number of another independent crop of the same rows (probes).
        train: False gives every row its centred crop and draws nothing but the anchors.

    A flag is False, and the array zero, where the row's modality is null or the crop shows nothing of it: no visible joint, no depth
    reading. Raises ValueError with the record's id for a row that does not decode; records are checked when shards are written, so this
    means that a shard has changed since.
    """
    size, count = config.size, len(rows)
    target = joint_set_named(joint_set)
    flip_J = target.flip
    batch = Batch(
        step=step,
        rgb=np.zeros((count, size, size, 3), np.uint8),
        depth=np.zeros((count, size, size), np.uint16),
        keypoints=np.zeros((count, len(target), 3), np.float32),
        released_keypoints=np.zeros((count, len(target), 2), np.float32),
        has_rgb=np.zeros(count, bool),
        has_depth=np.zeros(count, bool),
        has_keypoints=np.zeros(count, bool),
        index=np.array(
            [row["index"] + sources[number].bank_offset for row, number in zip(rows, numbers, strict=True)], np.int64
        ),
        source=np.array(numbers, np.int64),
        anchors=np.full((count, anchors), -1, np.int64),
    )
    for position, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        source = sources[number]
        try:
            augmentation = row_augmentation(
                row, config, seed=seed, step=step, lane=lane, position=position, view=view, train=train
            )
            if row.get("rgb") is not None:
                batch.rgb[position] = warp_rgb(decode_rgb(row["rgb"], row["size"]), augmentation, size)
                batch.has_rgb[position] = True
            if row.get("depth") is not None:
                depth_SS = warp_depth(decode_depth(row["depth"], source.depth_codec, row["size"]), augmentation, size)
                batch.depth[position] = depth_SS
                batch.has_depth[position] = depth_SS.any()
                key = (step, lane, position) if view == 0 else (step, lane, position, view)
                rng = make_rng(seed, "anchors", *key)
                batch.anchors[position] = draw_anchors(depth_SS, anchors, rng, replace=anchors_with_replacement)
            if row.get("keypoints") is not None:
                stored_J3 = np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
                keypoints = convert(stored_J3, source.joint_set, joint_set)
                batch.keypoints[position] = warp_keypoints(keypoints, augmentation, size, flip_J)
                batch.released_keypoints[position] = released_keypoints(
                    stored_J3, row.get("crop"), row["size"], source.joint_set, joint_set
                )
                batch.has_keypoints[position] = batch.keypoints[position, :, 2].any()
        except (ValueError, IndexError, cv2.error) as error:
            raise ValueError(f"record {row.get('id')!r}: {error}") from error
    return batch
