"""The interface between a task and a user's images: an image becomes rows, and predictions become results of the image.

Coordinates are x, y in pixels of the upright image, from its upper left corner: the center of the first pixel is
(0.5, 0.5). Shapes: H, W rows and columns of the image, h, w of a preview of it, L side of a prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hcmoco.inference.coco import CocoForm
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.masks import DepthMask
from hcmoco.inference.people import PeopleFinder
from hcmoco.inference.video.frames import VideoFrame
from hcmoco.tasks.base import Prediction, Task, TaskBatch

WORKING_SIDE = 4096
"""Images with a longer side, in pixels, are shrunk before crops are cut from them. Results keep the image's pixels."""

PREVIEW_SIDE = 480
"""Longer side of a preview, pixels; a smaller picture is enlarged for its overlay until it has as much."""
OVERLAY_SIDE = 1600
"""Longer side of an overlay at most, pixels; that of a video's frame has the frame's own size."""
PICTURE = "picture"
BOX_COLOR = (255, 225, 40)


@dataclass(frozen=True)
class PredictOptions:
    """The user's options for the images.

    Attributes:
        box: of the person, x0, y0, x1, y1, the same on every image; PICTURE: the person fills the image; None: unknown.
        boxes: of the people on each image by its name, instead of `box`; images without a box are rejected. Boxes
            under the name of a video count for its frames without boxes of their own.
        people: finds the boxes of the people on each image, instead of `box`.
        camera: fx, fy, cx, cy in pixels of the whole image.
        depth_unit: of depth files, see hcmoco.data.depth_units; None: mm for whole numbers, m for floating point.
        min_score: detections below are dropped, 0..1.
        mask: removes the background from depth; None: pictures are read as they are.
        unit_advice: what a message tells the user to do where depth is in another unit, with {unit} in it.
    """

    box: tuple[float, float, float, float] | str | None = None
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None
    camera: tuple[float, float, float, float] | None = None
    depth_unit: str | None = None
    min_score: float = 0.3
    mask: DepthMask | None = None
    people: PeopleFinder | None = None
    unit_advice: str = "give --depth-unit {unit}"


@dataclass(frozen=True)
class ImageTransform:
    """Maps pixels of the user's image to pixels of a row's image: `scale` times them plus `offset`, along x and y."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def to_picture(self, xy_N2: np.ndarray) -> np.ndarray:
        """Return float64 [N, 2]: pixels of the row's image as pixels of the user's image."""
        return (np.asarray(xy_N2, np.float64) - self.offset) / self.scale


@dataclass
class PreparedImage:
    """An image that was read and cut into rows.

    Attributes:
        name: see `ImageFile`.
        width, height: of the upright image, pixels.
        shown: uint8 [h, w, 3], RGB: the image in the size of its overlay.
        of_video: it is a frame of a video.
        batches: one row each, ready for the network.
        transforms: from the image to each row's image.
        known: what is known of each row's person before the prediction, as JSON values.
        unmasked: depth that is predicted on shows more than the person.
        skipped: why people whom the detector found are left out, one reason each.
    """

    name: str
    width: int
    height: int
    shown: np.ndarray
    of_video: bool = False
    batches: list[TaskBatch] = field(default_factory=list)
    transforms: list[ImageTransform] = field(default_factory=list)
    known: list[dict[str, Any]] = field(default_factory=list)
    unmasked: bool = False
    skipped: list[str] = field(default_factory=list)


@dataclass
class ImageResult:
    """The results of one image.

    Attributes:
        people: JSON values of each person.
        labels: PNG bytes of label images by (number of the person, key of `people` that gets the file's name).
        overlay: uint8 [h, w, 3], RGB: the prediction over the image, of the size of `PreparedImage.shown`.
        panels: further views of the same height, uint8 [h, w', 3]; none of a frame of a video.
        coco: COCO results of the image, see coco.py.
    """

    people: list[dict[str, Any]]
    labels: dict[tuple[int, str], bytes]
    overlay: np.ndarray
    panels: list[np.ndarray] = field(default_factory=list)
    coco: list[dict[str, Any]] = field(default_factory=list)


class Adapter(ABC):
    """Turns images into rows of one kind of task, and its predictions into results.

    Args:
        task: over data like that of its training.
        options: what the user says about the images.
    Raises:
        UserError: the task needs an option that is not given.
    """

    def __init__(self, task: Task, options: PredictOptions):
        self.task, self.options = task, options

    @abstractmethod
    def prepare(self, file: ImageFile | VideoFrame) -> PreparedImage:
        """Read an image and cut it into rows. Raises ValueError, with the reason, for one that cannot be used."""

    @abstractmethod
    def to_result(self, prepared: PreparedImage, predictions: Sequence[Prediction]) -> ImageResult:
        """Return the results of an image.

        Args:
            prepared: of `prepare`.
            predictions: one for each of its rows.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a reader of the results has to know, as JSON values, for about.json."""

    def legend(self, width: int) -> np.ndarray | None:
        """Return uint8 [h, width, 3], RGB, that explains the colors of the overlays; None if none is needed.

        Args:
            width: pixels, 480 at least.
        """
        return None

    @property
    def coco(self) -> CocoForm | None:
        """The form of the COCO results; None for a task that has none."""
        return None


def working_size(width: int, height: int, largest: int = WORKING_SIDE) -> tuple[int, int]:
    """Return width and height with the longer side at most `largest`, pixels."""
    scale = min(1.0, largest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shown_size(width: int, height: int, largest: int = OVERLAY_SIDE) -> tuple[int, int]:
    """Return width and height of an image's overlay: the longer side is PREVIEW_SIDE to `largest` pixels."""
    longer = max(width, height)
    scale = min(max(longer, PREVIEW_SIDE), largest) / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def preview(prepared: PreparedImage, result: ImageResult) -> np.ndarray:
    """Return uint8 [h, w, 3], RGB: an image beside its prediction, each with the longer side PREVIEW_SIDE."""
    height, width = prepared.shown.shape[:2]
    scale = PREVIEW_SIDE / max(width, height)
    rows = max(1, round(height * scale))
    views = [prepared.shown, result.overlay, *result.panels]
    return np.concatenate([resize(view, (max(1, round(view.shape[1] * scale)), rows)) for view in views], axis=1)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image at `size` (width, height): RGB averaged over areas where it shrinks, depth by nearest pixels."""
    height, width = image.shape[:2]
    if size == (width, height):
        return image
    if image.ndim == 2:
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in ((size[1], height), (size[0], width))
        )
        return image[rows[:, None], columns]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC)


def labels_on_image(
    labels_LL: np.ndarray, row_side: int, transform: ImageTransform, picture: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Place a square label map on the image. Pixels take the label under their center, and 0 outside the square.

    Args:
        labels_LL: predicted over a row's image, at any resolution.
        row_side: side of the row's image, pixels.
        transform: from the user's image to the row's image.
        picture: width and height of the user's image.
        size: width and height of the result, which shows all of the user's image.
    Returns:
        [size[1], size[0]], of the type of `labels_LL`.
    """
    side = len(labels_LL)
    index, inside = [], []
    for axis in (0, 1):
        center = (np.arange(size[axis]) + 0.5) * (picture[axis] / size[axis])
        at = np.floor((center * transform.scale[axis] + transform.offset[axis]) * (side / row_side)).astype(int)
        within = (at >= 0) & (at < side)
        index.append(at[within])
        inside.append(np.flatnonzero(within))
    result = np.zeros((size[1], size[0]), labels_LL.dtype)
    result[inside[1][:, None], inside[0]] = labels_LL[index[1][:, None], index[0]]
    return result


def draw_box(drawn_hw3: np.ndarray, box_4: Sequence[float], picture: tuple[int, int]) -> None:
    """Draw a box on a view of an image.

    Args:
        drawn_hw3: uint8, RGB; changed in place.
        box_4: x0, y0, x1, y1 in pixels of the image.
        picture: width and height of the image.
    """
    height, width = drawn_hw3.shape[:2]
    x0, y0, x1, y1 = (
        int(np.clip(value * zoom, -9, 9999))
        for value, zoom in zip(box_4, (width / picture[0], height / picture[1]) * 2, strict=True)
    )
    cv2.rectangle(drawn_hw3, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOR, max(1, round(max(width, height) / 640)))


def rounded(values: Any, digits: int = 3) -> list:
    """Return an array as nested lists of rounded numbers; None for values that are not finite, which JSON lacks."""
    array = np.asarray(values, np.float64)
    if array.ndim > 1:
        return [rounded(row, digits) for row in array]
    return [round(float(value), digits) if np.isfinite(value) else None for value in array]
