"""Decode a record and cut the person out, as `Pretrained.crop` does: the square of evaluations.

Shapes: S side of the crop, J joints of the model's joint set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.codecs import decode_depth, decode_labels, decode_rgb
from hcmoco.data.depth_masking import shows_background
from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.data.skeletons import convert
from hcmoco.data.transforms import AugmentConfig, center_affine, warp_depth, warp_keypoints, warp_labels, warp_rgb


@dataclass(frozen=True)
class Cropping:
    """How records become crops.

    Attributes:
        size: S, pixels.
        modalities: what is cut out.
        joints: joint set of the records' keypoints; "" where they have none.
        target_joints: that of the model.
        depth_codec: of the records.
        masking_known: the data set says whether depth shows the background, so no row is asked.
    """

    size: int
    modalities: tuple[Modality, ...]
    joints: str
    target_joints: str
    depth_codec: str
    masking_known: bool = False


@dataclass(frozen=True)
class Crop:
    """One person, cut out; None is what they lack.

    Attributes:
        index: number of the record in its source.
        id, source, subject: of the record.
        rgb: uint8 [S, S, 3].
        depth: uint16 [S, S], millimeters, 0 = no reading.
        keypoints: float32 [J, 3], x, y in pixels of the crop, visibility 0 or 1; None also where no joint is visible.
        unmasked: depth shows more than the person.
        silhouette: bool [S, S], the pixels on the person; None where nothing tells.
    """

    index: int
    id: str
    source: str
    subject: str
    rgb: np.ndarray | None
    depth: np.ndarray | None
    keypoints: np.ndarray | None
    unmasked: bool = False
    silhouette: np.ndarray | None = None

    @property
    def present(self) -> tuple[Modality, ...]:
        """Return the modalities that the person has."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)


def cut_out(row: Mapping[str, Any], how: Cropping, *, shown: bool = False) -> Crop:
    """Decode a row and cut the person out.

    Args:
        row: as of `Person.to_row`.
        how: what is cut out.
        shown: find the silhouette: by the mask, else the parts, else depth without its background.

    Raises:
        ValueError: a picture that does not decode, with the id of the record.
    """
    size, stored = how.size, row["size"]
    try:
        box = None if row["box"] is None else np.asarray(row["box"], np.float64)
        square = center_affine(_fixed(size), box, (stored, stored))
        rgb = depth = keypoints = silhouette = None
        unmasked = False
        if "rgb" in how.modalities and row["rgb"] is not None:
            rgb = warp_rgb(decode_rgb(row["rgb"], stored), square, size)
        if row["depth"] is not None and ("depth" in how.modalities or shown):
            whole = decode_depth(row["depth"], how.depth_codec, stored)
            depth = warp_depth(whole, square, size)
            unmasked = (shown or not how.masking_known) and shows_background(whole, box)
        if "keypoints" in how.modalities and row["keypoints"] is not None and how.joints:
            given = np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
            joints = convert(given, how.joints, how.target_joints)
            keypoints = warp_keypoints(joints, square, size, np.arange(len(joints)))  # nobody is mirrored
            keypoints = keypoints if (keypoints[:, 2] > 0).any() else None
        if shown:
            mask = _person(row)
            if mask is not None:
                silhouette = warp_labels(mask, square, size) > 0
            elif depth is not None and not unmasked:
                silhouette = depth > 0
    except (ValueError, cv2.error) as error:
        raise ValueError(f"record {row['id']!r}: {error}") from error
    return Crop(
        row["index"],
        row["id"],
        row["dataset"],
        row["subject"],
        rgb,
        depth if "depth" in how.modalities else None,
        keypoints,
        unmasked and "depth" in how.modalities,
        silhouette,
    )


@lru_cache(maxsize=8)
def _fixed(size: int) -> AugmentConfig:
    """The config of the fixed crop; to build one takes a third of the time of a crop."""
    return AugmentConfig(size=size)


def _person(row: Mapping[str, Any]) -> np.ndarray | None:
    """uint8 [H, W], 1 on the person; None where neither a mask nor parts tell."""
    if row.get("mask") is not None:
        return (decode_labels(row["mask"], row["size"]) > 0).astype(np.uint8)
    if row.get("parts") is not None:
        parts = decode_labels(row["parts"], row["size"])
        return ((parts > 0) & (parts != IGNORE)).astype(np.uint8)
    return None
