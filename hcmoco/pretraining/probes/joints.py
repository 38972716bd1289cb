"""The same joint across people: is the dense feature at a joint of one person nearest, among the joints of another, to
that same joint?

Shape suffixes: N people, J joints, D embedding width, H, W cells, K partners of each person.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hcmoco.models.mappers import cells_of
from hcmoco.pretraining.probes.correspondence import STRIDE
from hcmoco.pretraining.probes.nearest import cosine, credit


def at_joints(map_NDHW: Tensor, keypoints_NJ3: Tensor) -> Tensor:
    """float32 [N, J, D]: the map at the cell that each joint falls into (x, y in crop pixels); joints outside take the
    nearest cell."""
    rows, columns = map_NDHW.shape[2:]
    cells_NJ = cells_of(keypoints_NJ3[..., :2], (rows * STRIDE, columns * STRIDE), STRIDE)
    person_N1 = torch.arange(len(map_NDHW), device=map_NDHW.device)[:, None]
    return map_NDHW.flatten(2).permute(0, 2, 1)[person_N1, cells_NJ].float()


def draw_partners(subjects: Sequence[str], count: int, random: np.random.Generator) -> np.ndarray:
    """int64 [N, count]: for each row, distinct rows that show another subject; -1 where there are fewer. "" is a
    subject nobody shares."""
    names = np.array([name or f"\0{row}" for row, name in enumerate(subjects)])
    partners = np.full((len(names), count), -1, np.int64)
    for row, name in enumerate(names):
        others = np.flatnonzero(names != name)
        chosen = random.choice(others, size=min(count, len(others)), replace=False) if len(others) else others
        partners[row, : len(chosen)] = chosen
    return partners


def either_side(flip_J: np.ndarray) -> Tensor:
    """bool [J, J]: a joint and its mirror image (`JointSet.flip`) count as the same."""
    itself_JJ = torch.eye(len(flip_J), dtype=torch.bool)
    return itself_JJ | itself_JJ[torch.from_numpy(flip_J)]


def same_joint(
    query_NJD: Tensor,
    gallery_NJD: Tensor,
    query_visible_NJ: Tensor,
    gallery_visible_NJ: Tensor,
    partners_NK: Tensor,
    *,
    same_JJ: Tensor | None = None,
    measure: Callable[[Tensor, Tensor], Tensor] = cosine,
) -> tuple[Tensor, Tensor]:
    """Joints of each person found among the joints of their partners.

    Args:
        query_NJD, gallery_NJD: features at the joints, the query's of one modality, the gallery's of the same or
            another.
        query_visible_NJ, gallery_visible_NJ: bool; a joint is asked for where the person and the partner both show it,
            and the gallery holds all visible joints of the partner.
        partners_NK: int64, from `draw_partners`.
        same_JJ: bool, which joints count as the same; by default only the joint itself.
        measure: `cosine`, or `closeness` with the joints' places as features for the baseline of position alone.
    Returns:
        score, chance: float [N] in 0..1, mean over the joints asked for; NaN for a person without any. Chance is a
        blind guess among the visible joints of the partner.
    """
    count, joints = query_visible_NJ.shape
    device = query_NJD.device
    same_JJ = torch.eye(joints, dtype=torch.bool, device=device) if same_JJ is None else same_JJ.to(device)
    found_N, guessed_N, asked_N = (torch.zeros(count, device=device) for _ in range(3))
    for partner_N in partners_NK.T:
        person_M = (partner_N >= 0).nonzero()[:, 0]
        partner_M = partner_N[person_M]
        shown_M1J = gallery_visible_NJ[partner_M][:, None, :]
        # The joint itself must be there: its mirror image alone is no answer.
        asked_MJ = query_visible_NJ[person_M] & gallery_visible_NJ[partner_M]
        correct_MJJ = same_JJ & shown_M1J
        similarity_MJJ = measure(query_NJD[person_M], gallery_NJD[partner_M]).masked_fill(~shown_M1J, -torch.inf)
        found_MJ = credit(similarity_MJJ, correct_MJJ)
        guessed_MJ = correct_MJJ.sum(dim=-1) / shown_M1J.sum(dim=-1).clamp(min=1)
        found_N.index_add_(0, person_M, (found_MJ * asked_MJ).sum(dim=1))
        guessed_N.index_add_(0, person_M, (guessed_MJ * asked_MJ).sum(dim=1))
        asked_N.index_add_(0, person_M, asked_MJ.sum(dim=1).float())
    return found_N / asked_N, guessed_N / asked_N
