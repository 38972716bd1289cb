"""Remove the background from the depth of prepared rows, for a model that has seen the person alone.

A row's image is a square that was cut from a picture and perhaps shrunk; `crop` says which. What is known of the whole
picture is cut the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hcmoco.data.codecs import decode_depth, decode_labels, decode_rgb, encode_depth
from hcmoco.data.shards.manifest import Manifest
from hcmoco.data.transforms import resize_nearest
from hcmoco.datasets.person_crop import cut_square
from hcmoco.datasets.segmentation import Background, MaskFolder, MaskRcnn, Request, Segmenter, stage
from hcmoco.datasets.segmentation.background import near_box
from hcmoco.errors import UserError

ROWS = "rows"
"""The word that asks for the masks that the rows have themselves."""


@dataclass(frozen=True)
class RowMask:
    """What finds the person in the depth of rows. Small to pickle.

    Attributes:
        codec: of depth.
        segmenter: of the pictures that rows are cut from, or, a Mask R-CNN, of the rows' own RGB; None: the rows have
            masks.
    """

    codec: str
    segmenter: Segmenter | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that a row needs for it, besides `id` and `depth`."""
        if self.segmenter is None:
            return ("mask",)
        return ("rgb", "box") if isinstance(self.segmenter, MaskRcnn) else ("crop", "box")

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row whose depth shows the person alone.

        Raises:
            UserError: what the user gave has no mask for the row, or none that fits, or no reading is left on it.
        """
        if row.get("depth") is None:
            return dict(row)
        depth_HW = decode_depth(row["depth"], self.codec)
        try:
            person_HW = self._person(row, depth_HW)
        except ValueError as error:
            raise UserError(f"--mask: record {row['id']!r}: {error}") from None
        masked_HW = np.where(person_HW, depth_HW, np.uint16(0))
        if depth_HW.any() and not masked_HW.any():
            raise UserError(f"--mask: record {row['id']!r}: no pixel on the mask has a depth reading")
        return {**row, "depth": encode_depth(masked_HW, self.codec)}

    def _person(self, row: Mapping[str, Any], depth_HW: np.ndarray) -> np.ndarray:
        """Bool [H, W]: the person in a row's image."""
        box_4 = None if row.get("box") is None else [float(each) for each in row["box"]]
        segmenter = self.segmenter
        if segmenter is None:
            if row.get("mask") is None:
                raise ValueError("the row has no mask; give --mask with a folder or a Mask R-CNN's weight file")
            return decode_labels(row["mask"]) > 0
        if isinstance(segmenter, MaskRcnn):
            if row.get("rgb") is None:
                raise ValueError("a Mask R-CNN looks at RGB, and the row has none")
            return segmenter.mask(decode_rgb(row["rgb"]), box_4)
        if row.get("crop") is None:
            raise ValueError("the row does not say what of its picture it is")
        if isinstance(segmenter, MaskFolder):
            mask = segmenter.read(_picture_name(row["id"]), upright=True)
            return _cut_like(row, mask, len(depth_HW))
        behind = Background(
            _cut_like(row, segmenter.depth_HW, len(depth_HW)), segmenter.tolerance_mm, segmenter.by, segmenter.frames
        )
        front = np.where(behind.foreground(depth_HW), depth_HW, np.uint16(0))
        return (front if box_4 is None else near_box(front, box_4)) > 0


def _cut_like(row: Mapping[str, Any], picture_HW: np.ndarray, stored: int) -> np.ndarray:
    """What of a whole picture a row's image shows, [stored, stored]."""
    x0, y0, side, width, height = (round(float(each)) for each in row["crop"])
    if picture_HW.shape != (height, width):
        raise ValueError(
            f"its picture was {width} x {height}, the mask's is {picture_HW.shape[1]} x {picture_HW.shape[0]} pixels"
        )
    return resize_nearest(cut_square(picture_HW, x0, y0, side), stored)


def _picture_name(id: str) -> str:
    """The name of a record's picture: its id without the data set and the number of the person."""
    return id.partition("/")[2].partition("#")[0]


def make_row_mask(text: str, request: Request | None, manifest: Manifest, settings: Mapping[str, Any]) -> RowMask:
    """Return what masks the rows of a data set.

    Args:
        text: as the user gave it, for messages.
        request: the way of segmentation; None: the rows' own masks.
        manifest: of the data set.
        settings: tolerance_mm, min_score and side, see `SegmentOptions`.

    Raises:
        UserError: the data set lacks what it needs.
    """
    codec, count = manifest.depth_codec, manifest.modalities
    if request is None:
        if count.get("mask", 0) < count.get("depth", 0):
            raise UserError(
                f"--mask {ROWS}: {count.get('mask', 0)} of the {count.get('depth', 0)} rows with depth have a mask; "
                "give a folder of masks, or prepare the data set again with --segment"
            )
        return RowMask(codec)
    if request.kind == "mask-rcnn":
        if count.get("rgb", 0) < count.get("depth", 0):
            raise UserError(f"--mask {text}: a Mask R-CNN looks at RGB, and rows with depth have none")
        rcnn = MaskRcnn(request.path, settings["min_score"], settings["side"])
        return RowMask(codec, MaskRcnn(rcnn.path, rcnn.min_score, rcnn.side, rcnn.facts()["sha256"]))
    if request.kind == "masks":
        return RowMask(codec, MaskFolder(request.path, "--mask"))
    if request.kind == "frames":
        raise UserError(
            f"--mask {text}: prepared rows are cuts, which do not tell what stays behind; give a depth picture of the "
            "empty scene, or prepare the data set again with --segment background"
        )
    try:
        return RowMask(codec, stage.empty_scene(request.path, None, settings["tolerance_mm"], upright=True))
    except ValueError as error:
        raise UserError(f"--mask {text}: {error}") from None


def facts(mask: RowMask) -> dict[str, Any]:
    """Return what results have to say of it, as JSON values."""
    if mask.segmenter is None:
        return {"by": "the rows' own masks"}
    return mask.segmenter.facts()
