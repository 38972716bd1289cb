"""Average precision and recall over a data set, from how each image's detections were matched (pycocotools' `COCOeval.accumulate`).

Shapes: D detections, T thresholds, R = 101 points of recall.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcmoco.tasks.densepose.metric.matching import THRESHOLDS, Matches

_RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares 0..1 at each threshold; NaN everywhere where there was nobody to be found.

    Attributes:
        precision: [T], average precision: the mean over 101 recalls of the best precision at that recall or a higher one.
        recall: [T], share of the people found.
    """

    precision: np.ndarray
    recall: np.ndarray

    def metrics(self) -> dict[str, float]:
        """ap, ap50, ap75, ar, ar50, ar75: means over the thresholds, and the values at 0.5 and 0.75."""
        values = {}
        for name, share_T in (("ap", self.precision), ("ar", self.recall)):
            values[name] = float(share_T.mean())
            for percent in (50, 75):
                values[f"{name}{percent}"] = float(share_T[np.abs(THRESHOLDS - percent / 100).argmin()])
        return values


def precision_recall(scores: Sequence[np.ndarray], matches: Sequence[Matches]) -> PrecisionRecall:
    """The detections of all images together, by falling score; those of equal score in the order given.

    Args:
        scores: one [D] per image, in falling order.
        matches: the same images' matches.
    """
    people = sum(each.people for each in matches)
    if not people:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return PrecisionRecall(nothing, nothing)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    matched_TD = np.concatenate([each.matched for each in matches], axis=1)[:, order]
    counts_TD = ~np.concatenate([each.left_out for each in matches], axis=1)[:, order]
    right_TD = np.cumsum(matched_TD & counts_TD, axis=1, dtype=np.float64)
    wrong_TD = np.cumsum(~matched_TD & counts_TD, axis=1, dtype=np.float64)
    precision_TD = right_TD / np.maximum(right_TD + wrong_TD, 1)
    best_TD = np.maximum.accumulate(precision_TD[:, ::-1], axis=1)[:, ::-1]
    # one column more: recalls that are never reached have no precision
    best_TD = np.concatenate([best_TD, np.zeros((len(best_TD), 1))], axis=1)
    recall_TD = right_TD / people
    average_T = np.array(
        [best[np.searchsorted(recall, _RECALL_POINTS)].mean() for best, recall in zip(best_TD, recall_TD, strict=True)]
    )
    reached_T = recall_TD[:, -1] if recall_TD.shape[1] else np.zeros(len(THRESHOLDS))
    return PrecisionRecall(average_T, reached_T)
