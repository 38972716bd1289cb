"""Who is nearest, scored so that a collapsed embedding gets its chance level and nothing more.

Shape suffixes: N people, Q queries, G gallery entries, D embedding width.
"""

import torch
from torch import Tensor

# Two similarities of unit vectors in float32 that differ by less than this are the same number computed in another
# order.
TIE = 1e-6


def credit(similarity_QG: Tensor, correct_QG: Tensor) -> Tensor:
    """How much of each query's first place is correct.

    Args:
        similarity_QG: float [..., Q, G]; -inf takes an entry out of the gallery.
        correct_QG: bool [..., Q, G].
    Returns:
        float [..., Q] in 0..1: 1 where the nearest entry is correct, 0 where it is not, and the share of correct ones
        where several are equally near. A constant embedding therefore scores exactly what a blind guess does. A query
        with NaN similarities finds nothing.
    """
    first_QG = similarity_QG >= similarity_QG.amax(dim=-1, keepdim=True) - TIE
    return (first_QG & correct_QG).sum(dim=-1) / first_QG.sum(dim=-1).clamp(min=1)


def cosine(query_QD: Tensor, gallery_GD: Tensor) -> Tensor:
    """float32 [..., Q, G]: cosine similarities; the inputs need not be normalized."""
    query_QD, gallery_GD = (torch.nn.functional.normalize(each.float(), dim=-1) for each in (query_QD, gallery_GD))
    return query_QD @ gallery_GD.transpose(-1, -2)


def closeness(query_QD: Tensor, gallery_GD: Tensor) -> Tensor:
    """float64 [..., Q, G]: negative Euclidean distances, for baselines that compare places instead of embeddings."""
    # The matrix-product form of cdist loses the digits that decide between neighboring cells.
    return -torch.cdist(query_QD.double(), gallery_GD.double(), compute_mode="donot_use_mm_for_euclid_dist")
