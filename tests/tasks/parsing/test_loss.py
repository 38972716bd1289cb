"""Cross entropy against PyTorch's, and the rule behind the published class weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hcmoco.data.body_parts import IGNORE
from hcmoco.tasks.parsing import PARSING_4K_WEIGHTS
from hcmoco.tasks.parsing.loss import class_counts, cross_entropy, frequency_weights


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_pytorchs_weighted_mean(weighted: bool):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 25, 9, 9, generator=random)
    labels = torch.randint(0, 25, (3, 9, 9), generator=random)
    labels[:, 2:4] = IGNORE
    weights = torch.rand(25, generator=random) + 0.1 if weighted else None
    torch.testing.assert_close(
        cross_entropy(logits, labels, weights), F.cross_entropy(logits, labels, weights, ignore_index=IGNORE)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_labeled_costs_nothing(weighted: bool):
    logits = torch.randn(1, 25, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 4, 4), IGNORE), torch.ones(25) if weighted else None)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_loss_of_half_precision_logits_is_computed_in_single():
    logits = torch.randn(1, 25, 4, 4, dtype=torch.bfloat16)
    labels = torch.randint(0, 25, (1, 4, 4))
    loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))


def test_counts_leave_out_what_is_ignored():
    maps = [np.uint8([[0, 0], [24, IGNORE]]), np.uint8([[3, IGNORE]])]
    counts = class_counts(maps)
    assert counts.shape == (25,)
    assert {int(number): int(counts[number]) for number in counts.nonzero()[0]} == {0: 2, 3: 1, 24: 1}


def test_weights_of_known_shares():
    counts = np.array([75, 25, *([0] * 23)])
    weights = frequency_weights(counts)
    assert weights[0] == pytest.approx(1 / math.log(1.77))
    assert weights[1] == pytest.approx(1 / math.log(1.27))
    assert weights[2:] == pytest.approx(1 / math.log(1.02))
    assert frequency_weights(np.zeros(25, np.int64)) == pytest.approx(1 / math.log(1.02))


def test_published_weights_follow_the_rule():
    """Solved for the shares they come from, they make a whole: 97.5 % background, the rest the body."""
    shares = np.exp(1 / np.array(PARSING_4K_WEIGHTS)) - 1.02
    assert shares[0] == pytest.approx(0.975, abs=1e-3)
    assert shares.sum() == pytest.approx(1, abs=2e-3)
    assert frequency_weights(np.round(shares * 10**9).astype(np.int64)) == pytest.approx(PARSING_4K_WEIGHTS, rel=3e-3)
