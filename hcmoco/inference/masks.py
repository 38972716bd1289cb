"""Remove the background from depth pictures before a model that has seen the person alone reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.datasets.few import spread
from hcmoco.datasets.segmentation import Background, MaskFolder, MaskRcnn, Request, Segmenter, stage
from hcmoco.datasets.segmentation.background import MAX_FRAMES, near_box
from hcmoco.errors import UserError
from hcmoco.inference.images import read_depth, read_rgb
from hcmoco.inference.inputs import ImageFile


@dataclass(frozen=True)
class DepthMask:
    """What finds the person in depth pictures.

    Attributes:
        segmenter: of the pictures.
        rgb: folder of the RGB pictures beside them, for a Mask R-CNN; or the one such picture.
    """

    segmenter: Segmenter
    rgb: str | None = None

    def apply(self, name: str, depth_HW: np.ndarray, box_4: Sequence[float] | None = None) -> np.ndarray:
        """Return a depth picture with the person alone.

        Args:
            name: of the picture, see `ImageFile`.
            depth_HW: millimeters, 0 = no reading.
            box_4: of the person, x0, y0, x1, y1, pixels; None: not known.

        Raises:
            ValueError: the picture has no mask, one of another size, or one without a reading on it.
        """
        if isinstance(self.segmenter, Background):
            front_HW = self.segmenter.remove(depth_HW)
            return front_HW if box_4 is None else near_box(front_HW, box_4)
        if isinstance(self.segmenter, MaskFolder):
            mask_HW = self.segmenter.read(name, upright=True)
        else:
            mask_HW = self.segmenter.mask(self._rgb(name), box_4)
        if mask_HW.shape != depth_HW.shape:
            (height, width), (own_height, own_width) = depth_HW.shape, mask_HW.shape
            raise ValueError(f"the depth picture is {width} x {height}, its mask {own_width} x {own_height} pixels")
        masked_HW = np.where(mask_HW, depth_HW, depth_HW.dtype.type(0))
        if depth_HW.any() and not masked_HW.any():
            raise ValueError("no pixel on the mask has a depth reading; it is of another picture, or not registered")
        return masked_HW

    def _rgb(self, name: str) -> np.ndarray:
        assert self.rgb is not None  # see make_mask
        return rgb_beside(self.rgb, name)


def rgb_beside(rgb: str, name: str) -> np.ndarray:
    """Return uint8 [H, W, 3]: the RGB picture that shows the same as a depth picture, upright.

    Args:
        rgb: folder of the RGB pictures, or the one such picture.
        name: of the depth picture, see `ImageFile`.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    folder, found = MaskFolder(rgb, "--rgb").find(name)
    return read_rgb(Path(folder, found))


def make_mask(
    request: Request,
    files: Sequence[ImageFile],
    *,
    unit: str | None,
    tolerance_mm: float,
    min_score: float,
    side: int,
    rgb: str | None,
) -> tuple[DepthMask, dict[str, Any]]:
    """Return what masks pictures, and facts about it as JSON values.

    Args:
        request: the way of segmentation.
        files: the depth pictures.
        unit: of their numbers; None: mm for whole numbers, m for floating point.
        tolerance_mm, min_score, side: see `SegmentOptions`.
        rgb: folder of the RGB pictures, or the one RGB picture.

    Raises:
        UserError: it cannot be used on these pictures.
    """
    segmenter: Segmenter
    if (request.kind == "mask-rcnn") != (rgb is not None):
        raise UserError(
            "--mask with a Mask R-CNN looks at RGB: name the folder of pictures that show the same with --rgb"
            if rgb is None
            else "--rgb is for --mask with the weight file of a Mask R-CNN: drop it, or give such a file"
        )
    if request.kind == "masks":
        if Path(request.path).is_file() and len(files) > 1:
            raise UserError(
                f"--mask {request.path} is one mask, and there are {len(files)} pictures; give the folder of their "
                "masks"
            )
        segmenter = MaskFolder(request.path, "--mask")
        return DepthMask(segmenter), segmenter.facts()
    if request.kind == "mask-rcnn":
        segmenter = MaskRcnn(request.path, min_score, side)
        return DepthMask(segmenter, rgb), {**segmenter.facts(), "rgb": rgb}
    try:
        if request.kind == "empty scene":
            segmenter = stage.empty_scene(request.path, unit, tolerance_mm, upright=True)
        else:
            segmenter = stage.of_frames(_frames(files, unit), tolerance_mm, "--mask")
    except ValueError as error:
        raise UserError(f"--mask {request.path or 'background'}: {error}") from None
    return DepthMask(segmenter), segmenter.facts()


def _frames(files: Sequence[ImageFile], unit: str | None) -> list[np.ndarray]:
    """Depth of some of the pictures, spread over them, in millimeters; what cannot be read is rejected later."""
    found = []
    for file in spread(files, MAX_FRAMES):
        try:
            found.append(read_depth(file.path, unit)[0])
        except ValueError:
            continue
    return found
