"""Parsing scores from one confusion matrix of integers: they do not depend on batches, order or workers.

K is the number of classes. Rows of the matrix are the truth, columns the prediction.
"""

import math
from collections.abc import Sequence

import numpy as np

from hcmoco.data.body_parts import IGNORE, PART_NAMES
from hcmoco.tasks.base import Metric, Prediction, Result


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int = len(PART_NAMES)) -> np.ndarray:
    """Count pixels by true and predicted class. Pixels whose truth is IGNORE do not count.

    Args:
        truth, predicted: integer maps of one shape.
        classes: K.
    Returns:
        int64 [K, K].
    Raises:
        ValueError: the shapes differ, or a class is outside 0..K - 1.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"the prediction is {list(predicted.shape)} and the truth {list(truth.shape)}")
    counted = truth != IGNORE
    truth, predicted = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if len(truth) and (max(truth.max(), predicted.max()) >= classes or min(truth.min(), predicted.min()) < 0):
        raise ValueError(f"there are classes beyond 0..{classes - 1}")
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def scores(matrix_KK: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of each class: float64 [K] by name, NaN where a score is 0 / 0.

    Returns:
        iou: TP / (truth + predicted - TP).
        acc: TP / truth.
        share: of the class among the pixels.
    """
    hit_K, truth_K, predicted_K = np.diag(matrix_KK), matrix_KK.sum(1), matrix_KK.sum(0)
    with np.errstate(invalid="ignore"):
        return {
            "iou": hit_K / (truth_K + predicted_K - hit_K),
            "acc": hit_K / truth_K,
            "share": truth_K / truth_K.sum(),
        }


class ParsingMetric(Metric):
    """Scores of part maps.

    mIoU, mAcc: mean over all classes, background included. A class that never occurs counts as 0, as published.
    mIoU_present: mean over the classes that the truth holds.
    aAcc: share of the pixels.

    If no pixel is labeled, every metric is NaN. In `per_class`, the IoU of a class is NaN if it is neither labeled nor
    predicted, its accuracy if it is not labeled.

    Args:
        parts: names of the K classes.
    """

    def __init__(self, parts: tuple[str, ...] = PART_NAMES):
        self._parts = parts
        self._matrix_KK = np.zeros((len(parts), len(parts)), np.int64)
        self._rows = 0

    def update(self, batch, predictions: Sequence[Prediction]) -> None:
        """See `Metric.update`.

        Raises:
            ValueError: a row has no labels, or its prediction is of another size; with the id.
        """
        for id, truth, prediction in zip(batch.ids, batch.labels, predictions, strict=True):
            if truth is None:
                raise ValueError(f"record {id!r} has no parts to score by")
            try:
                self._matrix_KK += confusion(truth, prediction["parts"], len(self._parts))
            except ValueError as error:
                raise ValueError(f"record {id!r}: {error}") from error
            self._rows += 1

    def state(self) -> tuple[np.ndarray, int]:
        return self._matrix_KK, self._rows

    def merge(self, state: tuple[np.ndarray, int]) -> None:
        matrix_KK, rows = state
        self._matrix_KK = self._matrix_KK + matrix_KK
        self._rows += rows

    def compute(self) -> Result:
        per_class = scores(self._matrix_KK)
        iou_K, acc_K, share_K = per_class["iou"], per_class["acc"], per_class["share"]
        present_K = share_K > 0
        metrics = dict.fromkeys(("mIoU", "mAcc", "aAcc", "mIoU_present"), math.nan)
        if present_K.any():
            metrics = {
                "mIoU": float(np.nan_to_num(iou_K).mean()),
                "mAcc": float(np.nan_to_num(acc_K).mean()),
                "aAcc": float(np.trace(self._matrix_KK) / self._matrix_KK.sum()),
                "mIoU_present": float(iou_K[present_K].mean()),
            }
        return Result(
            metrics=metrics,
            rows=self._rows,
            columns=("part", "IoU", "Acc", "share"),
            per_class=tuple(
                (name, float(iou), float(acc), float(share))
                for name, iou, acc, share in zip(self._parts, iou_K, acc_K, share_K, strict=True)
            ),
            notes=_notes(int(present_K.sum()), len(present_K)),
        )


def _notes(present: int, classes: int) -> tuple[str, ...]:
    if present in (0, classes):
        return ()
    return (
        f"The labels hold {present} of the {classes} classes. mIoU and mAcc are means over all {classes}, as "
        f"published, where each of the others counts as 0: a perfect prediction has {100 * present / classes:.0f} %. "
        f"mIoU_present is the mean over the {present}.",
    )
