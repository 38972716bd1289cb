"""Dense intra-sample level (Eq. 3 to 5): a place on the body in RGB finds the same place in depth, and near places
nearly so.

RGB and depth may be cropped differently. Then an anchor is a pair of cells, one of each map, and distances are taken
where both maps' cells have been brought.

Shape suffixes: B samples of the batch, P anchors of a sample, D embedding width.
"""

from typing import Literal

from torch import Tensor

from hcmoco.objectives.loss_terms import NEG_INF, Terms, at_least_float32, masked_mean, no_autocast, zero_where_not
from hcmoco.objectives.scope import LOCAL, Scope


def soft_target(
    cells_BP2: Tensor, valid_BP: Tensor, distance_scale: float = 1.0, others_BP2: Tensor | None = None
) -> Tensor:
    """Eq. 4's weights [B, P, P]: entry [b, n, m] is the weight of the other modality's cell m for anchor n, a softmax
    over the valid m of minus their distance.

    The paper prints exp(+distance), by which the farthest cell would weigh most; the published release, and its text,
    mean exp(-distance). Rows and columns of cells that are not valid are arbitrary but finite.

    Args:
        cells_BP2: (row, column) of each cell, in cells.
        distance_scale: what a distance of one cell counts, per cell; larger is harder.
        others_BP2: likewise of the other modality's cells, in the same coordinates; None: they are the same.
    """
    out_BP = _out(valid_BP)
    # Cells of one crop are whole numbers, so squares and their sums are exact. The expanded form a^2 + b^2 - 2ab would
    # lose the small distances, which carry nearly all the weight.
    row_BP, column_BP = cells_BP2.unbind(2)
    to_row_BP, to_column_BP = (cells_BP2 if others_BP2 is None else others_BP2).unbind(2)
    down_BPP, across_BPP = row_BP[:, :, None] - to_row_BP[:, None], column_BP[:, :, None] - to_column_BP[:, None]
    distance_BPP = down_BPP.square_().addcmul_(across_BPP, across_BPP).sqrt_()
    return distance_BPP.mul_(-distance_scale).masked_fill_(out_BP[:, None], NEG_INF).softmax(2)


def dense_intra(
    rgb_BPD: Tensor,
    depth_BPD: Tensor,
    cells_BP2: Tensor,
    valid_BP: Tensor,
    *,
    tau: float,
    target: Literal["soft", "hard"] = "soft",
    distance_scale: float = 1.0,
    rgb_cells_BP2: Tensor | None = None,
    scope: Scope = LOCAL,
) -> Terms:
    """`d/rgb-depth` and `d/depth-rgb`: with W the target's weights, a sample's loss is the mean over its valid anchors
    n of

        -sum over valid m of W[n, m] * log softmax over valid m of (anchor_n . other_m / tau),

    and the term is the mean over samples that have a valid anchor: the nested expectations of Eq. 5 over Eq. 3, so that
    a person who fills the picture weighs no more than a small one. (Eq. 3 averages over m too; as in the published
    release W sums to 1 and m is summed.)

    Args:
        rgb_BPD, depth_BPD: embeddings at the same places, unit norm; cells that are not valid may hold anything.
        cells_BP2: (row, column) of each depth cell, in cells; floating.
        valid_BP: bool; False for padding, all False for a sample without one of the modalities.
        tau: temperature, > 0.
        target: "soft" is Eq. 4; "hard" is InfoNCE, weight 1 for the same anchor and 0 else.
        distance_scale: see `soft_target`.
        rgb_cells_BP2: of each RGB cell, in the coordinates of `cells_BP2`; None: they are the same.
        scope: whose samples the term is the mean of.
    """
    with no_autocast(rgb_BPD):
        rgb_BPD, depth_BPD = (
            zero_where_not(at_least_float32(rgb_BPD), valid_BP),
            zero_where_not(at_least_float32(depth_BPD), valid_BP),
        )
        logits_BPP = (rgb_BPD / tau) @ depth_BPD.mT
        out_BP = _out(valid_BP)
        # -sum W log softmax = logsumexp - sum W logits.
        if target == "soft":
            cells_BP2 = cells_BP2.to(rgb_BPD.dtype)
            if rgb_cells_BP2 is None:
                to_depth_BPP = to_rgb_BPP = soft_target(cells_BP2, valid_BP, distance_scale)
            else:
                rgb_cells_BP2 = rgb_cells_BP2.to(rgb_BPD.dtype)
                to_depth_BPP = soft_target(rgb_cells_BP2, valid_BP, distance_scale, cells_BP2)
                to_rgb_BPP = soft_target(cells_BP2, valid_BP, distance_scale, rgb_cells_BP2)
            expected_rgb_BP, expected_depth_BP = (
                (to_depth_BPP * logits_BPP).sum(2),
                (to_rgb_BPP * logits_BPP.mT).sum(2),
            )
        else:
            expected_rgb_BP = expected_depth_BP = logits_BPP.diagonal(dim1=1, dim2=2)
        from_rgb_BP = logits_BPP.masked_fill(out_BP[:, None], NEG_INF).logsumexp(2) - expected_rgb_BP
        from_depth_BP = logits_BPP.masked_fill(out_BP[:, :, None], NEG_INF).logsumexp(1) - expected_depth_BP
        anchors_B = valid_BP.sum(1)
        valid_B = anchors_B > 0

        def term(name: str, loss_BP: Tensor) -> Terms:
            loss_B = zero_where_not(loss_BP, valid_BP).sum(1) / anchors_B.clamp(min=1)
            return Terms.of(name, masked_mean(loss_B, valid_B, scope), anchors_B.sum(), valid_B)

        return term("d/rgb-depth", from_rgb_BP) | term("d/depth-rgb", from_depth_BP)


def _out(valid_BP: Tensor) -> Tensor:
    """Positions out of a softmax's sum; none in a sample where all would be, so that its unused rows stay finite."""
    return ~valid_BP & valid_BP.any(1, keepdim=True)
