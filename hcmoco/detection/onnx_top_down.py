"""Top-down pose models as ONNX: the joints of one person in a box, as heatmaps or as SimCC's vectors.

Heatmaps are one output [N, J, h, w], or [N, h, w, J] of a model whose input has its channels last. SimCC (Li et al.
2022; RTMPose) has two, [N, J, bins] for x and for y. Which joints these are, the file does not say.

As MMPose does (TopDownAffine), a box is made 1.25 times as large and gets the shape of the model's input, and what lies
outside the picture is black. The first and the last cell of a map lie on the first and the last pixel of the input
(Huang et al. 2020, UDP); models that place cells otherwise are off by half a cell at most. A joint is at the highest
cell, a quarter of a cell towards the higher neighbor (Newell et al. 2016); the height is its confidence. SimCC's bins
count pixels from 0; the confidence is the lower one of x and y (MMPose, get_simcc_maximum).

Shapes: N people, J joints, h, w of a map.
"""

import cv2
import numpy as np

from hcmoco.detection.detector import Detected
from hcmoco.detection.onnx_model import OnnxModel

PADDING = 1.25
HEATMAPS, SIMCC = "heatmaps", "SimCC"
MIN_CONFIDENCE = 0.3
WHOSE = "MMPose's and ViTPose's --kpt-thr"
_AT_ONCE = 16
# Above and below it are logits, or shares of something else.
_HIGHEST, _LOWEST = 1.5, -0.5


def recognize(model: OnnxModel, shapes: list[tuple[int, ...]]) -> tuple[str, int] | None:
    """Return the layout and the number of joints of a model with outputs of these shapes for one picture; None if it is
    no such model.
    """
    if len(shapes) == 1 and len(shapes[0]) == 4:
        return HEATMAPS, shapes[0][1 if model.channels_first else 3]
    if len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) == 3 and shapes[0][:2] == shapes[1][:2]:
        (width, height), bins = model.size, (shapes[0][2], shapes[1][2])
        # Where the input is a square, only the names tell x from y.
        names = [each.name.lower() for each in model.session.get_outputs()]
        told = width != height or (names[0].endswith("x") and names[1].endswith("y"))
        if bins[0] * height == bins[1] * width and told:
            return SIMCC, shapes[0][1]
    return None


class TopDown:
    """A detector that finds the joints of people whose boxes it is given.

    Args:
        model: with outputs that `recognize` knows.
        layout, num_joints: as `recognize` returned them.
    """

    finds_people, takes_boxes = False, True

    def __init__(self, model: OnnxModel, layout: str, num_joints: int):
        self.num_joints = num_joints
        self._model, self._layout = model, layout

    def detect(self, rgb: np.ndarray, boxes: np.ndarray | None = None) -> list[Detected]:
        """Return the people of a picture; see `Detector`."""
        given = np.empty((0, 4)) if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)
        people = []
        for first in range(0, len(given), _AT_ONCE):
            some = given[first : first + _AT_ONCE]
            regions = [self._region(box) for box in some]
            outputs = self._model.run(np.stack([self._cut(rgb, *region) for region in regions]))
            xy_NJ2, confidence_NJ = self._read(outputs)
            _check(confidence_NJ)
            for box, (corner, scale), xy, confidence in zip(some, regions, xy_NJ2, confidence_NJ, strict=True):
                joints = np.column_stack([(xy + 0.5) * scale + corner, confidence])
                people.append(Detected(box, 1.0, joints))
        return people

    def _region(self, box: np.ndarray) -> tuple[np.ndarray, float]:
        """Upper left corner of what the model is shown, and pixels of the picture for one of its input."""
        size = np.array(self._model.size, np.float64)
        scale = PADDING * float(np.maximum((box[2:] - box[:2]) / size, 1e-3).max())
        return (box[:2] + box[2:]) / 2 - scale * size / 2, scale

    def _cut(self, rgb: np.ndarray, corner: np.ndarray, scale: float) -> np.ndarray:
        # OpenCV counts pixels' centers from 0.
        shift = corner + 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        return cv2.warpAffine(rgb, matrix, self._model.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def _read(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Joints in pixels of the input, whose centers count from 0, [N, J, 2], and their confidences [N, J]."""
        width, height = self._model.size
        if self._layout == SIMCC:
            x, y = outputs
            xy = np.stack([x.argmax(2) * (width / x.shape[2]), y.argmax(2) * (height / y.shape[2])], 2)
            return xy, np.minimum(x.max(2), y.max(2)).astype(np.float64)
        maps = outputs[0] if self._model.channels_first else outputs[0].transpose(0, 3, 1, 2)
        cells, confidence = _highest(maps)
        last_input, last_map = np.array([width, height]) - 1, np.array(maps.shape[:1:-1]) - 1
        return cells * (last_input / np.maximum(last_map, 1)), confidence


def _highest(maps_NJhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the highest cells, [N, J, 2], moved by a quarter to their higher neighbors; and their heights."""
    number, joints, height, width = maps_NJhw.shape
    flat = maps_NJhw.reshape(number, joints, -1)
    at = flat.argmax(2)
    y, x = np.divmod(at, width)
    padded = np.pad(maps_NJhw, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    n, j = np.indices(at.shape)
    right, left = padded[n, j, y + 1, x + 2], padded[n, j, y + 1, x]
    below, above = padded[n, j, y + 2, x + 1], padded[n, j, y, x + 1]
    inner_x, inner_y = (x > 0) & (x < width - 1), (y > 0) & (y < height - 1)
    xy = np.stack([x + 0.25 * np.sign(right - left) * inner_x, y + 0.25 * np.sign(below - above) * inner_y], 2)
    return xy, np.take_along_axis(flat, at[..., None], 2)[..., 0].astype(np.float64)


def _check(confidence_NJ: np.ndarray) -> None:
    if not np.isfinite(confidence_NJ).all():
        raise ValueError("the model's output is not finite; look at --detect-input")
    low, high = float(confidence_NJ.min(initial=0)), float(confidence_NJ.max(initial=0))
    if high > _HIGHEST or low < _LOWEST:
        raise ValueError(
            f"the model's confidences reach from {low:.3g} to {high:.3g}, and 0 to 1 are needed; look at "
            "--detect-input, or export the model with the sigmoid or softmax of its output"
        )
