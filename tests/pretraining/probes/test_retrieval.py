"""Retrieval: the credit of a first place, known embeddings, chance, and the layout baseline."""

import math

import cv2
import numpy as np
import pytest
import torch

from hcmoco.pretraining.probes.nearest import closeness, cosine, credit
from hcmoco.pretraining.probes.retrieval import layout, retrieve


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_credit_is_shared_among_equals_and_nothing_for_nan():
    similarity = torch.tensor([[1.0, 0.5, 1.0], [0.0, 0.2, 0.1], [-torch.inf, -torch.inf, -3.0], [math.nan, 0.0, 1.0]])
    correct = torch.tensor([[True, False, False], [False, True, False], [True, True, False], [True, True, True]])
    assert credit(similarity, correct).tolist() == [0.5, 1.0, 0.0, 0.0]


def test_cosine_ignores_length_and_closeness_is_exact():
    a, b = normal(7, 5), normal(9, 5, seed=1)
    assert torch.allclose(
        cosine(a * 7, b * 0.1), torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1), atol=1e-6
    )
    places = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij"), dim=-1).reshape(-1, 2)
    distances = -closeness(places[:50], places)
    assert torch.equal(distances.square().round(), (places[:50, None] - places[None]).square().sum(-1).double())
    assert torch.allclose(distances.square(), distances.square().round(), atol=1e-9)


def test_perfect_is_all_and_a_derangement_is_nothing():
    embeddings = normal(256, 128)
    assert retrieve(cosine(embeddings, 3 * embeddings)).mean() == 1
    assert retrieve(cosine(embeddings, embeddings.roll(1, dims=0))).sum() == 0


def test_half_right_is_half():
    embeddings = normal(64, 32)
    gallery = torch.cat([embeddings[:32], embeddings[32:].roll(1, dims=0)])
    assert retrieve(cosine(embeddings, gallery)).tolist() == [1.0] * 32 + [0.0] * 32


@pytest.mark.parametrize("width", [1, 128])
def test_collapsed_embedding_scores_exactly_chance(width: int):
    constant = normal(1, width).expand(256, width)
    assert torch.equal(retrieve(cosine(constant, constant)), torch.full((256,), 1 / 256))


def test_random_embedding_is_at_chance():
    """300 independent trials of 64 people: hits are Binomial(19200, 1/64) up to the gallery that a trial's queries
    share; 4 sigma."""
    hits = torch.stack(
        [retrieve(cosine(normal(64, 128, seed=2 * k), normal(64, 128, seed=2 * k + 1))) for k in range(300)]
    )
    sigma = math.sqrt(1 / 64 * (1 - 1 / 64) / hits.numel())
    assert abs(hits.mean().item() - 1 / 64) < 4 * sigma


def test_layout_is_the_bounding_box():
    random = np.random.default_rng(5)
    silhouettes = np.zeros((20, 48, 48), bool)
    for each in silhouettes[1:]:
        each[tuple(random.integers(0, 48, (2, random.integers(1, 6))))] = True
    boxes = [cv2.boundingRect(each.astype(np.uint8)) for each in silhouettes]
    expected = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes]) / 48
    assert torch.equal(layout(torch.from_numpy(silhouettes)), expected)


def test_layout_alone_solves_equal_crops():
    silhouettes = torch.zeros(100, 48, 48, dtype=torch.bool)
    for row in range(100):
        silhouettes[row, row // 10 : 20 + row % 10, 5 : 30 + row // 10] = True
    boxes = layout(silhouettes)
    assert retrieve(closeness(boxes, boxes)).mean() == 1
