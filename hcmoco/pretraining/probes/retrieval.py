"""Retrieval of a person across modalities: is the nearest of N embeddings of another modality the same person in the
same view?

Crops of one person share their framing over modalities, and how a crop is framed tells people apart almost as well as
the people do. So read the figure for different crops beside the one for the same crop, and both beside `layout`.
"""

import torch
from torch import Tensor

from hcmoco.pretraining.probes.nearest import credit


def retrieve(similarity_NN: Tensor) -> Tensor:
    """Top-1 retrieval.

    Args:
        similarity_NN: [N, N], query n against gallery m; the right answer of query n is gallery entry n.
    Returns:
        float [N]: 1 where the right entry is nearest, 1/k where it shares the first place with k - 1 others, else 0.
        Chance is 1/N.
    """
    return credit(similarity_NN, torch.eye(len(similarity_NN), dtype=torch.bool, device=similarity_NN.device))


def layout(silhouettes_NSS: Tensor) -> Tensor:
    """float [N, 4]: left, top, right and bottom of each silhouette as shares of the crop's side: all that a crop's
    framing tells.

    Nearest by these is the baseline of an embedding that knows where the person is in the crop and nothing about them.
    A crop without a silhouette has all zeros.
    """
    side = silhouettes_NSS.shape[-1]
    edges = []
    for axis in (1, 2):  # columns that the person touches, then rows
        touched_NS = silhouettes_NSS.any(dim=axis)
        places_S = torch.arange(side, device=touched_NS.device)
        first_N = torch.where(touched_NS, places_S, side).amin(dim=1)
        last_N = torch.where(touched_NS, places_S + 1, 0).amax(dim=1)
        edges.append((torch.minimum(first_N, last_N), last_N))
    (left_N, right_N), (top_N, bottom_N) = edges
    return torch.stack([left_N, top_N, right_N, bottom_N], dim=1).float() / side
