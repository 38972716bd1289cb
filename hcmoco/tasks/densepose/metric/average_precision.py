"""Average precision and recall over a data set, from the matches of each image.

Source: `COCOeval.accumulate` of pycocotools.
Shapes: D detections, T thresholds, R = 101 points of recall.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcmoco.tasks.densepose.metric.matching import THRESHOLDS, Matches

_RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares 0..1 at each threshold; all NaN if there is no person to find.

    Attributes:
        precision: [T], average precision: the mean over 101 recalls of the best precision at that recall or above.
        recall: [T], share of the people found.
    """

    precision: np.ndarray
    recall: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Return ap, ap50, ap75, ar, ar50, ar75: means over the thresholds, and the values at 0.5 and 0.75."""
        values = {}
        for name, share_T in (("ap", self.precision), ("ar", self.recall)):
            values[name] = float(share_T.mean())
            for percent in (50, 75):
                values[f"{name}{percent}"] = float(share_T[np.abs(THRESHOLDS - percent / 100).argmin()])
        return values


def precision_recall(scores: Sequence[np.ndarray], matches: Sequence[Matches]) -> PrecisionRecall:
    """Score the detections of all images together, by descending score; equal scores keep their order.

    Args:
        scores: one [D] per image, in descending order.
        matches: of the same images.
    """
    people = sum(match.people for match in matches)
    if not people:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return PrecisionRecall(nothing, nothing)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    matched_TD = np.concatenate([match.matched for match in matches], axis=1)[:, order]
    counts_TD = ~np.concatenate([match.ignored for match in matches], axis=1)[:, order]
    right_TD = np.cumsum(matched_TD & counts_TD, axis=1, dtype=np.float64)
    wrong_TD = np.cumsum(~matched_TD & counts_TD, axis=1, dtype=np.float64)
    precision_TD = right_TD / np.maximum(right_TD + wrong_TD, 1)
    best_TD = np.maximum.accumulate(precision_TD[:, ::-1], axis=1)[:, ::-1]
    # One column more: the precision at a recall that is never reached is 0.
    best_TD = np.concatenate([best_TD, np.zeros((len(best_TD), 1))], axis=1)
    recall_TD = right_TD / people
    average_T = np.array(
        [best[np.searchsorted(recall, _RECALL_POINTS)].mean() for best, recall in zip(best_TD, recall_TD, strict=True)]
    )
    reached_T = recall_TD[:, -1] if recall_TD.shape[1] else np.zeros(len(THRESHOLDS))
    return PrecisionRecall(average_T, reached_T)
