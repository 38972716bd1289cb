"""Signs of collapse, against closed forms."""

import math

import pytest
import torch

from hcmoco.pretraining.probes.collapse import effective_rank, pair_gap


def directions(*lengths: float) -> torch.Tensor:
    """Embeddings whose centered singular values are proportional to `lengths`: a pair of points on each axis."""
    axes = torch.diag(torch.tensor(lengths))
    return torch.cat([axes, -axes]) + 3.0  # where the middle lies does not matter


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_directions_count_as_themselves(count):
    assert effective_rank(directions(*[2.0] * count)) == pytest.approx(count)


def test_unequal_directions_count_by_their_entropy():
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(directions(3.0, 1.0)) == pytest.approx(math.exp(entropy))


def test_scale_and_rotation_do_not_matter():
    torch.manual_seed(0)
    embeddings = torch.randn(40, 16)
    turn, _ = torch.linalg.qr(torch.randn(16, 16))
    assert effective_rank(7 * embeddings @ turn) == pytest.approx(effective_rank(embeddings), rel=1e-5)
    assert 10 < effective_rank(embeddings) <= 16


def test_the_same_embedding_for_everybody_has_rank_zero():
    assert effective_rank(torch.full((9, 4), 0.123)) == 0
    assert effective_rank(torch.zeros(9, 4)) == 0


def test_the_gap_is_that_of_pairs_and_others():
    similarity = torch.full((3, 3), 0.2)
    similarity.fill_diagonal_(0.9)
    assert pair_gap(similarity) == pytest.approx(0.7)
    assert pair_gap(torch.ones(4, 4)) == 0
    assert pair_gap(torch.eye(2) * -2 + 1) == pytest.approx(-2)
