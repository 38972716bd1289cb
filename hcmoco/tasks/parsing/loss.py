"""Cross entropy over part maps, and the class weights of the published depth protocol.

Shape suffixes: B batch, K classes, L side of the labels.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.data.body_parts import IGNORE, PART_NAMES


def cross_entropy(logits_BKLL: Tensor, labels_BLL: Tensor, weights_K: Tensor | None = None) -> Tensor:
    """Compute the mean of -log softmax at the true class over the labeled pixels, weighted by their classes.

    Args:
        logits_BKLL: of any floating type; the loss is computed in float32.
        labels_BLL: int64, class or IGNORE.
        weights_K: of each class; None counts all pixels alike.
    Returns:
        float32, 0-d; 0 if no pixel is labeled.
    """
    logits_BKLL = logits_BKLL.float()
    total = F.cross_entropy(logits_BKLL, labels_BLL, weights_K, ignore_index=IGNORE, reduction="sum")
    labeled = labels_BLL != IGNORE
    if weights_K is None:
        return total / labeled.sum().clamp(min=1)
    mass = (weights_K[labels_BLL.where(labeled, 0)] * labeled).sum()
    return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def class_counts(maps: Iterable[np.ndarray], classes: int = len(PART_NAMES)) -> np.ndarray:
    """Return int64 [K]: the number of labeled pixels of each of the K = `classes` classes in uint8 label maps."""
    counts_256 = np.zeros(256, np.int64)
    for labels in maps:
        counts_256 += np.bincount(labels.ravel(), minlength=256)
    return counts_256[:classes]


def frequency_weights(counts_K: np.ndarray) -> np.ndarray:
    """Return float64 [K]: 1 / ln(1.02 + share of the class among the labeled pixels), as the published weights.

    The weight is 1.42 for a class that covers everything and 50.5 for one that never occurs.
    """
    return 1 / np.log(1.02 + counts_K / max(1, counts_K.sum()))
