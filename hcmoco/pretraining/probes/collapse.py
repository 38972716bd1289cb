"""Signs that a pre-training fails, read off the embeddings of a probe's people: they need no labels either.

Shape suffixes: N people, D embedding.
"""

import torch
from torch import Tensor


def effective_rank(embeddings_ND: Tensor) -> float:
    """Return in how many directions the embeddings of people differ.

    This is exp of the entropy of the singular values of the centered embeddings, each as a share of their sum (Roy and
    Vetterli, "The effective rank", EUSIPCO 2007). 1: on a line. The most is the smaller of N - 1 and D.

    Args:
        embeddings_ND: at least two of them.

    Returns:
        From 1; 0 if all embeddings are the same, to the precision of float32.
    """
    centered_ND = embeddings_ND.double() - embeddings_ND.double().mean(0)
    values = torch.linalg.svdvals(centered_ND)
    if float(values.sum()) <= 1e-6 * float(embeddings_ND.double().norm()):
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def pair_gap(similarity_NN: Tensor) -> float:
    """Return how much more alike the two embeddings of one person are than those of two people.

    Args:
        similarity_NN: cosine similarities, query n against gallery m; n and n are the same person.

    Returns:
        Mean of the diagonal less mean of the rest, -2 to 2. 0: pairs are not told from others.
    """
    count = len(similarity_NN)
    pairs = similarity_NN.double().diagonal()
    rest = similarity_NN.double().sum() - pairs.sum()
    return float(pairs.mean() - rest / (count * (count - 1)))
