"""Sample level (Eq. 2): the global embeddings of one person in two modalities find each other among other people's.

Shape suffixes: B samples of the batch, G samples of the scope, D embedding width, K drawn bank rows.
"""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor

from hcmoco.objectives.loss_terms import NEG_INF, Terms, at_least_float32, masked_mean, no_autocast, zero_where_not
from hcmoco.objectives.memory_bank import Drawn, DrawnPerSample, Stale
from hcmoco.objectives.scope import LOCAL, Scope


def sample_level(
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    index_B: Tensor,
    negatives: Mapping[str, Drawn | DrawnPerSample],
    *,
    tau: float,
    in_batch: bool = True,
    stale: Mapping[str, Stale] | None = None,
    scope: Scope = LOCAL,
) -> Terms:
    """`g/<a>-<c>` for every ordered pair (a, c) of modalities: the mean over samples that have both a and c of

        -log exp(f_a . f_c+ / tau) / (exp(f_a . f_c+ / tau) + sum over negatives of exp(f_a . f_c- / tau)).

    Eq. 2 with its whole set F_c stood in for by what a step can hold: f_c+ is the paired embedding of this step,
    negatives are the other samples of the batch that have c, and the drawn bank rows of c. A sample's own address never
    serves as its negative, whether it stands in the bank or a second time in the batch. Eq. 2 is the mean over pairs of
    modalities; as in the published release the pairs are summed, by `total`.

    Cost: a pair is one product [B, D] x [D, G] and one [B, D] x [D, K]; nothing is gathered per sample.

    Args:
        embeddings: modality -> [B, D], unit norm; rows without the modality may hold anything.
        present: modality -> bool [B].
        index_B: int64, each sample's address in the bank.
        negatives: modality -> bank rows; a modality may be missing, then only the batch serves.
        tau: temperature, > 0.
        in_batch: whether the batch's other samples are negatives (the release: no).
        stale: modality -> the bank's rows of this batch's samples; where given they are the positives (the release), so
            gradients flow through the anchor alone, and samples that the bank has not seen do not enter.
        scope: whose samples the batch's other samples are.
    """
    terms = Terms()
    with no_autocast(index_B):
        features = {
            name: zero_where_not(at_least_float32(each_BD), present[name]) for name, each_BD in embeddings.items()
        }
        others: dict[str, Tensor] = {}
        if in_batch:
            others = {name: scope.gather(each_BD) for name, each_BD in features.items()}
            same_BG = index_B[:, None] == scope.gather(index_B)
            out = {name: same_BG | ~scope.gather(present[name]) for name in features}
        for anchor, target in permutations(features, 2):
            anchor_BD, target_BD = features[anchor] / tau, features[target]
            valid_B = present[anchor] & present[target]
            if stale is None:
                positive_BD = target_BD
            else:
                positive_BD = stale[target].rows.to(anchor_BD.dtype)
                valid_B = valid_B & stale[target].visited
            logits = [(anchor_BD * positive_BD).sum(1, keepdim=True)]
            if in_batch:
                logits.append((anchor_BD @ others[target].T).masked_fill(out[target], NEG_INF))
            if target in negatives:
                logits.append(negatives[target].similarity(anchor_BD, index_B))
            loss_B = torch.cat(logits, 1).logsumexp(1) - logits[0][:, 0]
            terms |= Terms.of(f"g/{anchor}-{target}", masked_mean(loss_B, valid_B, scope), valid_B.sum(), valid_B)
    return terms
