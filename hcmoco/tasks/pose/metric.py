"""Scores of predicted joints: distances in the camera's frame, and the share of small ones.

Shape suffixes: R rows, J joints, 3 meters.
"""

from collections.abc import Sequence

import numpy as np

from hcmoco.errors import UserError
from hcmoco.tasks.base import Metric, Prediction, Result

THRESHOLD = 0.10
AUC_LIMIT = 0.20


class PoseMetric(Metric):
    """Accuracy at 10 cm, mean error, and area under the curve of accuracy.

    The metrics, each over all annotated (row, joint) pairs, as published for ITOP:
        acc_10cm: share of joints that are less than 0.10 m from the truth.
        error_cm: mean distance, centimeters.
        auc_20cm: mean accuracy over all thresholds from 0 to 20 cm. The curve is a sum of steps, so this is exact: the
            mean of max(0, 1 - distance / 0.20 m).
    `per_class` has the same by joint, and the number of annotated ones. A prediction that is not finite misses, and
    makes error_cm infinite.

    Args:
        joints: names of the J joints.
    """

    def __init__(self, joints: Sequence[str]):
        self.joints = tuple(joints)
        self._errors: list[np.ndarray] = []

    def update(self, batch, predictions: Sequence[Prediction]) -> None:
        """See `Metric.update`. Reads `truth` [R, J, 3] and `annotated` [R, J] of the batch."""
        if not len(predictions):
            return
        predicted_RJ3 = np.stack([prediction["joints3d"] for prediction in predictions]).astype(np.float64)
        error_RJ = np.linalg.norm(predicted_RJ3 - batch.truth.astype(np.float64), axis=-1)
        error_RJ[~np.isfinite(error_RJ)] = np.inf
        error_RJ[~batch.annotated] = np.nan
        self._errors.append(error_RJ)

    def state(self) -> np.ndarray:
        """Return errors, float64 [R, J], meters: infinite for predictions that are not finite, NaN without a label."""
        return np.concatenate([np.zeros((0, len(self.joints))), *self._errors])

    def merge(self, state: np.ndarray) -> None:
        self._errors.append(np.asarray(state, np.float64).reshape(-1, len(self.joints)))

    def compute(self) -> Result:
        """See `Metric.compute`. Raises UserError if no joint is annotated."""
        error_RJ = self.state()
        if np.isnan(error_RJ).all():
            raise UserError(
                f"pose: none of the {len(error_RJ)} rows to be scored has an annotated joint; evaluate on rows with "
                "joints3d"
            )
        rows: list[tuple[str | float, ...]] = []
        for name, error_R in zip(self.joints, error_RJ.T, strict=True):
            error_R = error_R[~np.isnan(error_R)]
            scores = _scores(error_R) if len(error_R) else dict.fromkeys(_scores(np.zeros(1)), float("nan"))
            rows.append((name, *scores.values(), float(len(error_R))))
        metrics = _scores(error_RJ[~np.isnan(error_RJ)])
        return Result(metrics, len(error_RJ), ("joint", *metrics, "annotated"), tuple(rows))


def _scores(error: np.ndarray) -> dict[str, float]:
    # Sums of floats depend on their order, which must not depend on that of the rows.
    error = np.sort(error)
    return {
        "acc_10cm": float((error < THRESHOLD).mean()),
        "error_cm": float(100 * error.mean()),
        "auc_20cm": float(np.maximum(0.0, 1.0 - error / AUC_LIMIT).mean()),
    }
