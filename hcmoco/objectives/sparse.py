"""Sparse structure-aware level (Eq. 6): a joint finds itself, in the skeleton of its own sample and in other people.

Shape suffixes: B samples of the batch, G samples of the scope, J joints, D embedding width, R = 2BJ rows (both dense
modalities' joints), N = 2GJ rows of the scope.
"""

import torch
from torch import Tensor

from hcmoco.objectives.config import PAPER, ReleaseOptions
from hcmoco.objectives.loss_terms import NEG_INF, Terms, at_least_float32, masked_mean, no_autocast, zero_where_not
from hcmoco.objectives.scope import LOCAL, Scope


def joint_intra(
    skeleton_BJD: Tensor,
    dense_BJD: Tensor,
    visible_BJ: Tensor,
    *,
    tau: float,
    modality: str,
    release: ReleaseOptions = PAPER,
    scope: Scope = LOCAL,
) -> Terms:
    """`s/<modality>-keypoints`: the mean over visible joints j of all samples of

        -log softmax over joints i of the same sample's skeleton of (skeleton_i . dense_j / tau), taken at i = j.

    Eq. 6 within a sample, between a dense modality and the skeleton, anchored at the dense side as the published
    release has it. In a batch without a visible joint (for depth: without depth) it is exactly 0 with zero gradients;
    the release's is NaN there.

    Args:
        skeleton_BJD: the skeleton encoder's joint embeddings, unit norm.
        dense_BJD: the dense embedding at each joint's place, unit norm; joints that are not visible may hold anything.
        visible_BJ: bool; all False for a sample without the modality or without keypoints.
        tau: temperature, > 0.
        modality: name of the dense modality, for the term's name.
        release: of it, `intra_invisible_in_denominator`.
        scope: whose joints the term is the mean of.
    """
    with no_autocast(dense_BJD):
        skeleton_BJD, dense_BJD = (
            at_least_float32(skeleton_BJD),
            zero_where_not(at_least_float32(dense_BJD), visible_BJ),
        )
        if not release.intra_invisible_in_denominator:
            skeleton_BJD = zero_where_not(skeleton_BJD, visible_BJ)
        logits_BJJ = (dense_BJD / tau) @ skeleton_BJD.mT  # [b, anchor j, skeleton joint i]
        positive_BJ = logits_BJJ.diagonal(dim1=1, dim2=2)
        if not release.intra_invisible_in_denominator:
            # Rows of invisible anchors are not used and stay whole, which keeps them finite.
            logits_BJJ = logits_BJJ.masked_fill(visible_BJ[:, :, None] & ~visible_BJ[:, None], NEG_INF)
        loss_BJ = logits_BJJ.logsumexp(2) - positive_BJ
        return Terms.of(
            f"s/{modality}-keypoints", masked_mean(loss_BJ, visible_BJ, scope), visible_BJ.sum(), visible_BJ.any(1)
        )


def joint_inter(
    rgb_BJD: Tensor,
    depth_BJD: Tensor,
    used_rgb_BJ: Tensor,
    used_depth_BJ: Tensor,
    *,
    tau: float,
    release: ReleaseOptions = PAPER,
    scope: Scope = LOCAL,
) -> Terms:
    """`s/inter`: supervised contrast (Khosla et al., NeurIPS 2020) with the joint as the class, over the rows of both
    dense modalities:

        the mean over rows i of -(mean over rows p of the same joint, p != i, of log softmax over rows k != i of (z_i .
        z_k / tau)[p]).

    Eq. 6 between samples, where the same joint of another person, or of the other modality, is what should be near.
    Only used rows are anchors, positives or in the softmax; a row without a positive does not enter. Skeletons take no
    part, as in the published release.

    Args:
        rgb_BJD, depth_BJD: embeddings at each joint's place, unit norm; rows that are not used may hold anything.
        used_rgb_BJ, used_depth_BJ: bool: the joint is visible and the sample has the modality. (The release uses every
        joint of a sample
            that has the modality.)
        tau: temperature, > 0.
        release: of it, the options `inter_*_in_denominator` and `inter_mean_over_all_rows`. With the first, exp(1 /
            tau) outweighs all else in the softmax. With the second, rows that are not used must hold numbers.
        scope: whose joints a joint is compared with.
    """
    B, J, _ = rgb_BJD.shape
    with no_autocast(rgb_BJD):
        rows_2BJD, used_2BJ = (
            at_least_float32(torch.stack((rgb_BJD, depth_BJD))),
            torch.stack((used_rgb_BJ, used_depth_BJ)),
        )
        clean_2BJD = zero_where_not(rows_2BJD, used_2BJ)
        all_used_2GJ = scope.gather(used_2BJ.transpose(0, 1)).transpose(0, 1)
        all_clean_2GJD = scope.gather(clean_2BJD.transpose(0, 1)).transpose(0, 1)
        G = all_used_2GJ.shape[1]
        positives_2BJ = all_used_2GJ.sum((0, 1)) - used_2BJ.int()
        valid_2BJ = used_2BJ & (positives_2BJ > 0)
        # A mean of dot products is the dot product with the mean, so the positives never need an R x N mask.
        others_2BJD = all_clean_2GJD.sum((0, 1)) - clean_2BJD
        positive_2BJ = (clean_2BJD * others_2BJD).sum(3) / tau / positives_2BJ.clamp(min=1)

        if release.inter_unused_in_denominator:
            rows_RD = rows_2BJD.flatten(0, 2)
            all_rows_ND = scope.gather(rows_2BJD.transpose(0, 1)).transpose(0, 1).flatten(0, 2)
        else:
            rows_RD, all_rows_ND = clean_2BJD.flatten(0, 2), all_clean_2GJD.flatten(0, 2)
        # Rows that do not enter stay whole, which keeps them finite.
        out_RN = torch.zeros(len(rows_RD), len(all_rows_ND), dtype=torch.bool, device=rows_RD.device)
        if not release.inter_unused_in_denominator:
            out_RN |= valid_2BJ.flatten()[:, None] & ~all_used_2GJ.flatten()
        if not release.inter_self_in_denominator:
            own_2GJ = torch.arange(2 * G * J, device=rows_RD.device).view(2, G, J)
            own_R = own_2GJ[:, scope.places(B, rows_RD.device)].flatten()
            out_RN.scatter_(1, own_R[:, None], True)
        logits_RN = ((rows_RD / tau) @ all_rows_ND.T).masked_fill(out_RN, NEG_INF)
        loss_2BJ = logits_RN.logsumexp(1).view(2, B, J) - positive_2BJ
        if release.inter_mean_over_all_rows:
            rows = torch.full((), used_2BJ.numel(), device=rows_RD.device)
            value = scope.mean(zero_where_not(loss_2BJ, valid_2BJ).sum(), rows)
        else:
            value = masked_mean(loss_2BJ, valid_2BJ, scope)
        return Terms.of("s/inter", value, valid_2BJ.sum(), valid_2BJ.any(2).any(0))
