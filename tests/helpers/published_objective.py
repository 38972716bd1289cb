"""The published objective in float64, written without the package: one column of bank rows per sample, every joint a
row of one product."""

import torch
import torch.nn.functional as F
from torch import Tensor

TAU = 0.07
MODALITIES = ("rgb", "depth", "keypoints")
PAIRS = [(a, c) for a in MODALITIES for c in MODALITIES if a != c]


def published_sample_level(
    f: dict, has_depth: Tensor, index: Tensor, banks: dict, drawn_BK: Tensor
) -> dict[str, Tensor]:
    columns = torch.cat([index[:, None], drawn_BK], 1)  # column 0: the sample's own row
    result = {}
    for a, c in PAIRS:
        logits = torch.einsum("bd,bkd->bk", f[a], banks[c][columns]) / TAU
        loss = F.cross_entropy(logits, torch.zeros(len(index), dtype=torch.int64), reduction="none")
        loss = loss[has_depth] if "depth" in (a, c) else loss
        result[f"g/{a}-{c}"] = loss.mean() if len(loss) else logits.sum() * 0
    return result


def published_dense(rgb_NPD: Tensor, depth_NPD: Tensor, cells_NP2: Tensor) -> dict[str, Tensor]:
    """Of the images that have a valid cell."""
    away = cells_NP2[:, :, None] - cells_NP2[:, None]
    weights = (-away.square().sum(3).sqrt()).softmax(1)  # [image, m, n], a distribution over m
    result = {}
    for name, anchors, others in (("d/rgb-depth", rgb_NPD, depth_NPD), ("d/depth-rgb", depth_NPD, rgb_NPD)):
        log = (torch.einsum("bmd,bnd->bmn", others, anchors) / TAU).log_softmax(1)
        result[name] = -(weights * log).sum(1).mean()
    return result


def published_sparse(
    skeleton_BJD: Tensor, rgb_BJD: Tensor, depth_BJD: Tensor, visible_BJ: Tensor, has_depth: Tensor
) -> dict[str, Tensor]:
    result = {}
    for name, dense_BJD, rows_BJ in (
        ("rgb", rgb_BJD, visible_BJ),
        ("depth", depth_BJD, visible_BJ & has_depth[:, None]),
    ):
        log = (torch.einsum("bid,bjd->bij", skeleton_BJD, dense_BJD) / TAU).log_softmax(1)
        loss = -log.diagonal(dim1=1, dim2=2)[rows_BJ]
        result[f"s/{name}-keypoints"] = loss.mean() if len(loss) else log.sum() * 0
    z = torch.cat([rgb_BJD.flatten(0, 1), depth_BJD.flatten(0, 1)])
    samples, joints = visible_BJ.shape
    joint = torch.arange(joints).repeat(2 * samples)
    there = torch.cat([torch.ones(samples, dtype=torch.bool), has_depth]).repeat_interleave(joints)
    positive = (joint[:, None] == joint) & there[:, None] & there & ~torch.eye(len(z), dtype=torch.bool)
    log = (z @ z.T / TAU).log_softmax(1)
    result["s/inter"] = -((log * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()
    return result
