"""Collate stored rows into a Batch: decode, crop, convert joints, draw anchors.

The result is a pure function of the rows and of (seed, step, lane). Nothing here holds state. Decoding and warping
release the interpreter lock, so one call per thread scales; callers with their own pool set `cv2.setNumThreads(1)`.
Shapes: B rows, S side of the result, J joints of the run's set, P anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcmoco.data.codecs import check_rgb, decode_depth, decode_rgb
from hcmoco.data.crop_pairs import between, matched_cells
from hcmoco.data.encoded_images import EncodedImages
from hcmoco.data.points import crop_rays, draw_points, require_camera
from hcmoco.data.released_keypoints import released_keypoints
from hcmoco.data.schema import MAP_STRIDE, Batch
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


@dataclass(frozen=True)
class SourceInfo:
    """What the manifest knows about a row and the row does not.

    Attributes:
        joint_set: name of the data set's joint set.
        depth_codec: codec of the stored depth.
        bank_offset: first memory-bank row of the data set.
    """

    joint_set: str
    depth_codec: str = "png16"
    bank_offset: int = 0

    @classmethod
    def of(cls, sources: Sequence[RowGroups], bank_offsets: Sequence[int]) -> "list[SourceInfo]":
        """Return the infos of the data sets of a mixture.

        Args:
            sources: the data sets, in the mixture's order.
            bank_offsets: first memory-bank row of each; further entries are ignored.
        """
        pairs = zip(sources, bank_offsets, strict=False)
        return [cls(source.manifest.joints, source.manifest.depth_codec, offset) for source, offset in pairs]


@dataclass(frozen=True)
class CollateConfig:
    """What becomes of a row in a batch.

    Attributes:
        augment: how rows are cropped.
        joint_set: name of the run's joint set; keypoints are converted to it by joint name.
        num_anchors: P, positions drawn per row for the dense terms.
        anchors_with_replacement: see `draw_anchors`.
        num_points: N, pixels of depth that are read as points, which needs each row's camera; 0: depth is read as a
            picture.
    """

    augment: AugmentConfig
    joint_set: str
    num_anchors: int = 0
    anchors_with_replacement: bool = False
    num_points: int = 0


@dataclass(frozen=True)
class SampleKey:
    """What the random draws of one row depend on, and nothing else.

    Attributes:
        seed: of the run.
        step: of the run, from 0.
        lane: which of the parallel micro-batches of the step.
        position: of the row in its micro-batch.
        view: 0, or the number of another independent crop of the same row (probes).
    """

    seed: int
    step: int
    lane: int = 0
    position: int = 0
    view: int = 0

    def at(self, position: int) -> "SampleKey":
        """Return the key of another row of the micro-batch."""
        return replace(self, position=position)

    def make_rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of one kind of draw, e.g. "augment"."""
        key = (self.step, self.lane, self.position)
        return make_rng(self.seed, purpose, *(key if self.view == 0 else (*key, self.view)))


def row_augmentation(row: dict, config: AugmentConfig, key: SampleKey, *, train: bool = True) -> Augmentation:
    """Return the crop of one row as `make_micro_batch` uses it, for callers that need the matrix itself.

    It is the crop of all modalities, or with `independent` that of RGB.

    Args:
        row: of `person_schema`; `size` and `box` are used.
        config: how rows are cropped.
        key: what the draws depend on.
        train: False gives the centered crop, without randomness.

    Raises:
        ValueError: a box that is not finite or has no area.
    """
    box = None if row.get("box") is None else np.asarray(row["box"], np.float64)
    image_size = (row["size"], row["size"])
    if not train:
        return center_affine(config, box, image_size)
    return draw_affine(config, box, image_size, key.make_rng("augment"))


@dataclass(frozen=True)
class RowCrops:
    """The crops of one row, by modality."""

    rgb: Augmentation
    depth: Augmentation
    keypoints: Augmentation


def row_crops(row: dict, config: AugmentConfig, key: SampleKey, *, train: bool = True) -> RowCrops:
    """Return the crops of one row: one for all modalities, or with `independent` one for each.

    A row that lacks RGB or depth has no dense terms and keeps one crop. All crops of a row have the same mirror: a
    mirrored person's left arm is a right arm, in every modality.

    The keypoints have an affine of their own. Their position and size in the crop are normalized away before the
    skeleton encoder sees them, but the crop's rotation and which joints it cuts off are not: a skeleton in the crop of
    RGB could be told by these.

    Args and errors: see `row_augmentation`.
    """
    first = row_augmentation(row, config, key, train=train)
    if not (train and config.independent) or row.get("rgb") is None or row.get("depth") is None:
        return RowCrops(first, first, first)
    box = None if row.get("box") is None else np.asarray(row["box"], np.float64)

    def another(modality: str) -> Augmentation:
        rng = key.make_rng(f"augment {modality}")
        return draw_affine(config, box, (row["size"], row["size"]), rng, flipped=first.flipped)

    return RowCrops(first, another("depth"), another("keypoints"))


def draw_anchors(
    depth_SS: np.ndarray,
    count: int,
    rng: np.random.Generator,
    *,
    replace: bool = False,
    among_G: np.ndarray | None = None,
) -> np.ndarray:
    """Draw positions of the stride-4 map that have a depth reading.

    Args:
        depth_SS: uint16 [S, S]; position (row, column) of the map looks at pixel (4 * row, 4 * column).
        count: P.
        rng: source of the draws.
        replace: draw with replacement, as the published release does.
        among_G: bool [(S / 4)²], positions that may be drawn; None: all.

    Returns:
        int64 [P], row * (S // 4) + column. Without `replace` they are distinct, followed by -1 where there are fewer
        than P positions with a reading. With `replace` they are all -1 if there is none.
    """
    cells = np.flatnonzero(depth_SS[::MAP_STRIDE, ::MAP_STRIDE])
    if among_G is not None:
        cells = cells[among_G[cells]]
    if replace and len(cells):
        cells = rng.choice(cells, count)
    elif len(cells) > count:
        cells = rng.choice(cells, count, replace=False)
    return np.concatenate([cells, np.full(count - len(cells), -1)]).astype(np.int64)


def make_micro_batch(
    rows: Sequence[dict],
    numbers: Sequence[int],
    sources: Sequence[SourceInfo],
    config: CollateConfig,
    key: SampleKey,
    *,
    train: bool = True,
    rgb_decoded: bool = True,
) -> Batch:
    """Collate the rows of one micro-batch.

    Args:
        rows: of `person_schema`, as dicts of Python or NumPy values.
        numbers: for each row, the number of its data set in the run's mixture.
        sources: the mixture, by number.
        config: what becomes of a row.
        key: of the first row; the others differ from it in their position.
        train: False gives every row its centered crop and draws nothing but the anchors.
        rgb_decoded: False leaves RGB encoded, for the device that trains.

    Returns:
        A Batch with S = `config.augment.size`. A flag is False, and the array zero, where the row's modality is null or
        the crop shows nothing of it: no visible joint, no depth reading.

    Raises:
        ValueError: with the record's id, a row that does not decode. Records are checked when shards are written, so a
            shard has changed since.
        UserError: with `config.num_points`, a row with depth and without a camera.
    """
    size, count = config.augment.size, len(rows)
    target = joint_set_named(config.joint_set)
    flip_J = target.flip
    files: list[bytes | None] = [None] * count
    crops_of_rgb: list[Augmentation] = []
    rgb = np.zeros((count if rgb_decoded else 0, size, size, 3), np.uint8)
    joints, anchors = (count, len(target), 3), (count, config.num_anchors)
    batch = Batch(
        step=key.step,
        rgb=rgb,
        depth=np.zeros((count, size, size), np.uint16),
        keypoints=np.zeros(joints, np.float32),
        rgb_keypoints=np.zeros(joints, np.float32),
        depth_keypoints=np.zeros(joints, np.float32),
        released_keypoints=np.zeros((count, len(target), 2), np.float32),
        has_rgb=np.zeros(count, bool),
        has_depth=np.zeros(count, bool),
        has_keypoints=np.zeros(count, bool),
        index=np.array(
            [row["index"] + sources[number].bank_offset for row, number in zip(rows, numbers, strict=True)], np.int64
        ),
        source=np.array(numbers, np.int64),
        anchors=np.full(anchors, -1, np.int64),
        rgb_anchors=np.full(anchors, -1, np.int64),
        rgb_to_depth=np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
        points=np.full((count, config.num_points), -1, np.int64),
        rays=np.zeros((count, 2, 3), np.float32),
    )
    for position, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        source = sources[number]
        try:
            own = key.at(position)
            crops = row_crops(row, config.augment, own, train=train)
            crops_of_rgb.append(crops.rgb)
            if row.get("rgb") is not None:
                if rgb_decoded:
                    rgb[position] = warp_rgb(decode_rgb(row["rgb"], row["size"]), crops.rgb, size)
                else:
                    check_rgb(row["rgb"], row["size"])
                    files[position] = row["rgb"]
                batch.has_rgb[position] = True
            if row.get("depth") is not None:
                depth_SS = warp_depth(decode_depth(row["depth"], source.depth_codec, row["size"]), crops.depth, size)
                batch.depth[position] = depth_SS
                batch.has_depth[position] = depth_SS.any()
                partner_G = among_G = None
                if crops.rgb is not crops.depth:
                    batch.rgb_to_depth[position] = between(crops.rgb.matrix_23, crops.depth.matrix_23)
                    partner_G = matched_cells(crops.depth.matrix_23, crops.rgb.matrix_23, size)
                    among_G = partner_G >= 0
                if config.num_points:
                    batch.rays[position] = crop_rays(require_camera(row), crops.depth.matrix_23)
                    batch.points[position], batch.anchors[position] = draw_points(
                        depth_SS, config.num_points, config.num_anchors, own.make_rng("points"), among_G=among_G
                    )
                else:
                    batch.anchors[position] = draw_anchors(
                        depth_SS,
                        config.num_anchors,
                        own.make_rng("anchors"),
                        replace=config.anchors_with_replacement,
                        among_G=among_G,
                    )
                cells = batch.anchors[position]
                batch.rgb_anchors[position] = cells if partner_G is None else np.where(cells < 0, -1, partner_G[cells])
            if row.get("keypoints") is not None:
                stored_J3 = np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
                keypoints = convert(stored_J3, source.joint_set, config.joint_set)
                batch.keypoints[position] = warp_keypoints(keypoints, crops.keypoints, size, flip_J)
                batch.rgb_keypoints[position] = warp_keypoints(keypoints, crops.rgb, size, flip_J)
                batch.depth_keypoints[position] = warp_keypoints(keypoints, crops.depth, size, flip_J)
                batch.released_keypoints[position] = released_keypoints(
                    stored_J3, row.get("crop"), row["size"], source.joint_set, config.joint_set
                )
                batch.has_keypoints[position] = batch.keypoints[position, :, 2].any()
        except (ValueError, IndexError, cv2.error) as error:
            raise ValueError(f"record {row.get('id')!r}: {error}") from error
    if not rgb_decoded:
        ids = tuple(str(row.get("id")) for row in rows)
        batch.rgb = EncodedImages(ids, tuple(files), tuple(crops_of_rgb), size)
    return batch
