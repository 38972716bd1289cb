"""How one kind of task sees pictures: a picture becomes rows, and predictions for the rows become what is said of the picture.

Coordinates are x, y in pixels of the upright picture, from its upper left corner: the first pixel's centre is (0.5, 0.5).
Shapes: H, W rows and columns of the picture, h, w of a drawing of it, L side of a prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from hcmoco.inference.images import ImageFile
from hcmoco.tasks.base import Prediction, Task, TaskBatch

WORKING_SIDE = 4096
"""Pictures with a longer side are made smaller before anything is cut from them; results are in pixels of the picture all the same."""

PREVIEW_SIDE = 480
PICTURE = "picture"
BOX_COLOR = (255, 225, 40)


@dataclass(frozen=True)
class PredictOptions:
    """What the user says about the pictures.

    Attributes:
        box: of the person, x0, y0, x1, y1, the same on every picture; PICTURE: the person fills the picture; None: not told.
        boxes: of the people on each picture by its name, in place of `box`; pictures without any are set aside.
        camera: fx, fy, cx, cy in pixels of the whole picture.
        units_per_metre: of depth files.
        min_score: detections below are left out.
    """

    box: tuple[float, float, float, float] | str | None = None
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None
    camera: tuple[float, float, float, float] | None = None
    units_per_meter: float = 1000.0
    min_score: float = 0.3


@dataclass(frozen=True)
class ImageTransform:
    """Where a row's image lies: pixels of it are `scale` times pixels of the picture, plus `offset`; along x and y."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def to_picture(self, xy_N2: np.ndarray) -> np.ndarray:
        """float64 [N, 2]: pixels of the row's image as pixels of the picture."""
        return (np.asarray(xy_N2, np.float64) - self.offset) / self.scale


@dataclass
class PreparedImage:
    """A picture that was read.

    Attributes:
        width, height: of the upright picture.
        preview: uint8 [h, w, 3], RGB: the picture in a size to look at.
        batches: one row each, ready for the network.
        transforms: of each row's image.
        known: what is known of each row's person beforehand, as JSON values.
    """

    name: str
    width: int
    height: int
    preview: np.ndarray
    batches: list[TaskBatch] = field(default_factory=list)
    transforms: list[ImageTransform] = field(default_factory=list)
    known: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class ImageResult:
    """What is said of a picture.

    Attributes:
        people: JSON values of each person.
        labels: PNG bytes by (number of the person, key of `people` under which the file's name is to stand).
        preview: uint8 [h, w', 3], RGB: the picture beside what was found.
    """

    people: list[dict[str, Any]]
    labels: dict[tuple[int, str], bytes]
    preview: np.ndarray


class Adapter(ABC):
    """One kind of task.

    Args:
        task: over data like that of its training.
        options: what the user says about the pictures. UserError where the task needs more.
    """

    def __init__(self, task: Task, options: PredictOptions):
        self.task, self.options = task, options

    @abstractmethod
    def prepare(self, file: ImageFile) -> PreparedImage:
        """Reads a picture. ValueError, with the reason, for one that cannot be used."""

    @abstractmethod
    def to_result(self, prepared: PreparedImage, predictions: Sequence[Prediction]) -> ImageResult:
        """What the predictions for the rows of a picture say of it."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a reader of the results has to know, as JSON values."""

    def legend(self) -> np.ndarray | None:
        """uint8 [h, w, 3], RGB: what the colours of the drawings mean."""
        return None


def working_size(width: int, height: int, largest: int = WORKING_SIDE) -> tuple[int, int]:
    """Width and height with the longer side at most `largest`."""
    scale = min(1.0, largest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def preview_size(width: int, height: int) -> tuple[int, int]:
    """Width and height with the longer side PREVIEW_SIDE, whatever it was."""
    scale = PREVIEW_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at `size` (width, height): RGB averaged over areas where it shrinks, depth by single pixels."""
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
    """uint8 [size[1], size[0]]: a square prediction where it belongs on the picture, 0 around it; pixels take what is under their centre.

    Args:
        labels_LL: predicted over a row's image of `row_side` pixels, at any resolution.
        picture: width and height of the picture. size: those of the result, which shows all of the picture.
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
    """Draws a box of the picture (width, height) on its drawing."""
    height, width = drawn_hw3.shape[:2]
    x0, y0, x1, y1 = (
        int(np.clip(each * zoom, -9, 9999))
        for each, zoom in zip(box_4, (width / picture[0], height / picture[1]) * 2, strict=True)
    )
    cv2.rectangle(drawn_hw3, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOR, 1)


def rounded(values: Any, digits: int = 3) -> list:
    """An array as rounded JSON values; None for what is not finite, which JSON does not have."""
    array = np.asarray(values, np.float64)
    if array.ndim > 1:
        return [rounded(each, digits) for each in array]
    return [round(float(each), digits) if np.isfinite(each) else None for each in array]
