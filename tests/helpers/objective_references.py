"""Slow float64 oracles of the objective's terms, loop by loop from the paper's equations and from the description of
the release."""

import math

import numpy as np
import torch
from torch import Tensor

MODALITIES = ("rgb", "depth", "keypoints")


def unit(rng: np.random.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = rng.standard_normal(shape)
    return torch.from_numpy(x / np.linalg.norm(x, axis=-1, keepdims=True)).to(dtype)


def flags(rng: np.random.Generator, *shape: int, share: float = 0.7) -> Tensor:
    return torch.from_numpy(rng.random(shape) < share)


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def cross_entropy(positive: float, others: list[float]) -> float:
    """-log of the positive's share of the sum of exponentials over it and the others."""
    return -math.log(math.exp(positive) / (math.exp(positive) + math.fsum(math.exp(each) for each in others)))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def sample_level(embeddings, present, index, negatives, tau, in_batch=True) -> dict[str, float]:
    """Eq. 2; `negatives` maps a modality to its drawn (row, address) pairs, only those that may be used."""
    result = {}
    for a in MODALITIES:
        for c in MODALITIES:
            if a == c:
                continue
            losses = []
            for b in range(len(index)):
                if not (present[a][b] and present[c][b]):
                    continue
                anchor = embeddings[a][b]
                others = []
                for other in range(len(index)):
                    if in_batch and other != b and present[c][other] and int(index[other]) != int(index[b]):
                        others.append(dot(anchor, embeddings[c][other]) / tau)
                for row, address in negatives.get(c, ()):
                    if int(address) != int(index[b]):
                        others.append(dot(anchor, row) / tau)
                losses.append(cross_entropy(dot(anchor, embeddings[c][b]) / tau, others))
            result[f"g/{a}-{c}"] = mean(losses)
    return result


def released_sample_level(embeddings, has_depth, index, banks, drawn, tau) -> dict[str, float]:
    """The release: K + 1 bank rows per sample, the first of them its own and the positive; pairs with depth over
    samples with depth."""
    result = {}
    for a in MODALITIES:
        for c in MODALITIES:
            if a == c:
                continue
            losses = []
            for b in range(len(index)):
                if "depth" in (a, c) and not has_depth[b]:
                    continue
                addresses = [int(index[b]), *(int(each) for each in drawn[b])]
                logits = [dot(embeddings[a][b], banks[c][address]) / tau for address in addresses]
                losses.append(cross_entropy(logits[0], logits[1:]))
            result[f"g/{a}-{c}"] = mean(losses)
    return result


def dense_weights(cells, valid, scale, other_cells=None) -> dict[tuple[int, int], float]:
    """Eq. 4 with the sign that the text means: weight of the other's cell m for anchor n, keyed (m, n)."""
    others = cells if other_cells is None else other_cells
    usable = [p for p in range(len(valid)) if valid[p]]
    weights = {}
    for n in usable:
        near = {m: math.exp(-scale * math.dist(others[m].tolist(), cells[n].tolist())) for m in usable}
        weights.update({(m, n): value / math.fsum(near.values()) for m, value in near.items()})
    return weights


def dense_one_way(anchors_BPD, others_BPD, cells, valid, tau, target, scale, other_cells=None) -> float:
    """Eq. 3 per image, and the mean over images. `other_cells`: of the others, where they are not those of the
    anchors."""
    images = []
    for b in range(len(valid)):
        usable = [p for p in range(valid.shape[1]) if valid[b, p]]
        if not usable:
            continue
        weights = dense_weights(cells[b], valid[b], scale, None if other_cells is None else other_cells[b])
        per_anchor = []
        for n in usable:
            scores = {m: dot(anchors_BPD[b, n], others_BPD[b, m]) / tau for m in usable}
            whole = math.log(math.fsum(math.exp(each) for each in scores.values()))
            weight = {m: weights[m, n] if target == "soft" else float(m == n) for m in usable}
            per_anchor.append(-math.fsum(weight[m] * (scores[m] - whole) for m in usable))
        images.append(mean(per_anchor))
    return mean(images)


def intra(skeleton, dense, visible, tau, released=False) -> float:
    """Eq. 6 within a sample; the release keeps invisible skeleton joints in the sum."""
    losses = []
    B, J = visible.shape
    for b in range(B):
        for j in range(J):
            if not visible[b, j]:
                continue
            others = [
                dot(dense[b, j], skeleton[b, i]) / tau for i in range(J) if i != j and (released or visible[b, i])
            ]
            losses.append(cross_entropy(dot(dense[b, j], skeleton[b, j]) / tau, others))
    return mean(losses)


def inter(rgb, depth, visible_rgb, visible_depth, tau) -> float:
    """Eq. 6 between samples, corrected: rows are visible joints of present modalities, the row itself is out of the
    sum."""
    rows = []
    for embeddings, visible in ((rgb, visible_rgb), (depth, visible_depth)):
        rows += [(j, embeddings[b, j]) for b in range(len(visible)) for j in range(visible.shape[1]) if visible[b, j]]
    losses = []
    for i, (joint, z) in enumerate(rows):
        scores = {k: dot(z, other) / tau for k, (_, other) in enumerate(rows) if k != i}
        positives = [k for k in scores if rows[k][0] == joint]
        if positives:
            whole = math.log(math.fsum(math.exp(each) for each in scores.values()))
            losses.append(-mean([scores[k] - whole for k in positives]))
    return mean(losses)


def released_inter(rgb, depth, has_rgb, has_depth, tau) -> float:
    """The release: every joint of every sample is a row and in every sum, its own row too; absent modalities only lose
    their positives."""
    rows = []
    for embeddings, has in ((rgb, has_rgb), (depth, has_depth)):
        rows += [
            (j, bool(has[b]), embeddings[b, j]) for b in range(embeddings.shape[0]) for j in range(embeddings.shape[1])
        ]
    losses = []
    for i, (joint, here, z) in enumerate(rows):
        scores = [dot(z, other) / tau for _, _, other in rows]
        whole = math.log(math.fsum(math.exp(each) for each in scores))
        positives = [k for k, (other, there, _) in enumerate(rows) if k != i and other == joint and here and there]
        losses.append(-mean([scores[k] - whole for k in positives]) if positives else 0.0)
    return mean(losses)
