"""YOLO pose models as ONNX, as Ultralytics exports them: one output with boxes, scores and joints of all people.

The output is [1, 5 + 3 J, A] for A candidates: center x, center y, width and height of the box, score, then x, y and
confidence of each joint, in pixels of the input; or, from an export with `nms=True` and of models without that step,
[1, A, 6 + 3 J]: two corners of the box, score, class, joints. Source: https://docs.ultralytics.com/modes/export and
/tasks/pose; head Pose of ultralytics/nn/modules/head.py. A picture is made smaller to fit the input, and gray around it
(LetterBox, value 114).

Shapes: K people, J joints, A candidates.
"""

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from hcmoco.detection.detector import Detected
from hcmoco.detection.onnx_model import OnnxModel

KIND = "YOLO pose"
MIN_CONFIDENCE, MIN_SCORE = 0.5, 0.25
WHOSE = "Ultralytics' own, of a joint and of a person"
_GRAY = 114
_OVERLAP = 0.7  # Ultralytics' own: of two boxes that overlap more, the one of the lower score is dropped
_MOST = 1000  # people that an export with nms=True gives; YOLOv5 and v7 have more rows, of another meaning


def recognize(shapes: list[tuple[int, ...]]) -> tuple[bool, int] | None:
    """Return whether boxes are sorted out already, and the number of joints, of a model with outputs of these shapes;
    None if it is no such model.
    """
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] != 1:
        return None
    _, first, second = shapes[0]
    if second > first > 5 and (first - 5) % 3 == 0:
        return False, (first - 5) // 3
    if first <= _MOST and second > 6 and (second - 6) % 3 == 0:
        return True, (second - 6) // 3
    return None


class Yolo:
    """A detector.

    Args:
        model: with an output that `recognize` knows.
        sorted_out, num_joints: as `recognize` returned them.
        min_score: people below it are left out.
    """

    finds_people, takes_boxes = True, False

    def __init__(self, model: OnnxModel, sorted_out: bool, num_joints: int, min_score: float = MIN_SCORE):
        self.num_joints = num_joints
        self._model, self._sorted_out, self._min_score = model, sorted_out, min_score

    def detect(self, rgb: np.ndarray, boxes: np.ndarray | None = None) -> list[Detected]:
        """Return the people of a picture; see `Detector`."""
        shown, scale, corner = self._letterbox(rgb)
        output = self._model.run(shown[None])[0][0].astype(np.float64)
        if self._sorted_out:
            corners, score, joints = output[:, :4], output[:, 4], output[:, 6:]
        else:
            output = output.T
            center, half, score, joints = output[:, :2], output[:, 2:4] / 2, output[:, 4], output[:, 5:]
            corners = np.concatenate([center - half, center + half], 1)
        if not np.isfinite(output).all() or score.max(initial=0) > 1 or score.min(initial=0) < 0:
            raise ValueError("the model's scores are not within 0 and 1; look at --detect-input")
        kept = np.flatnonzero(score >= self._min_score)
        kept = kept[np.argsort(-score[kept], kind="stable")]
        if not self._sorted_out:
            order = nms(torch.from_numpy(corners[kept]), torch.from_numpy(score[kept]), _OVERLAP)
            kept = kept[order.numpy()]
        people = []
        for k in kept:
            places = joints[k].reshape(self.num_joints, 3).copy()
            places[:, :2] = (places[:, :2] - corner) / scale
            box = ((corners[k].reshape(2, 2) - corner) / scale).ravel()
            people.append(Detected(box, float(score[k]), places))
        return people

    def _letterbox(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The picture as the model sees it, how much smaller it is there in x and y, and where it begins."""
        size, picture = np.array(self._model.size), np.array(rgb.shape[1::-1])
        fitted = np.maximum(np.rint(picture * (size / picture).min()).astype(int), 1)
        corner = (size - fitted) // 2
        shown = np.full((size[1], size[0], 3), _GRAY, np.uint8)
        resized = cv2.resize(rgb, tuple(int(each) for each in fitted), interpolation=cv2.INTER_LINEAR)
        shown[corner[1] : corner[1] + fitted[1], corner[0] : corner[0] + fitted[0]] = resized
        return shown, fitted / picture, corner.astype(np.float64)
