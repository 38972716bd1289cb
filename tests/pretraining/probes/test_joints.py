"""The same joint across people: known features, chance, partners, and where a joint's feature is read."""

import math

import numpy as np
import pytest
import torch

from hcmoco.data.skeletons import COMMON_13, MPII_16
from hcmoco.pretraining.probes.joints import at_joints, draw_partners, either_side, same_joint
from hcmoco.pretraining.probes.nearest import closeness

PEOPLE, JOINTS = 60, len(MPII_16)


@pytest.fixture
def visible() -> torch.Tensor:
    return torch.rand(PEOPLE, JOINTS, generator=torch.Generator().manual_seed(4)) < 0.7


@pytest.fixture
def partners() -> torch.Tensor:
    return torch.from_numpy(draw_partners([""] * PEOPLE, 4, np.random.default_rng(2)))


def test_joint_code_is_perfect_and_mixed_up_joints_are_nothing(visible: torch.Tensor, partners: torch.Tensor):
    code = torch.eye(JOINTS).expand(PEOPLE, JOINTS, JOINTS)
    score, chance = same_joint(code, 5 * code, visible, visible, partners)
    assert (score == 1).all()
    assert 1 / JOINTS < chance.mean() < 0.2
    all_seen = torch.ones_like(visible)
    assert same_joint(code, code.roll(1, dims=1), all_seen, all_seen, partners)[0].sum() == 0


def test_chance_is_one_over_the_visible_joints_of_the_partner():
    seen = torch.zeros(2, JOINTS, dtype=torch.bool)
    seen[0, :5] = True
    seen[1, 3:11] = True
    features = torch.ones(2, JOINTS, 8)
    score, chance = same_joint(features, features, seen, seen, torch.tensor([[1], [0]]))
    assert torch.allclose(chance, torch.tensor([1 / 8, 1 / 5]))
    assert torch.allclose(score, chance)  # a constant feature is a blind guess, exactly


def test_random_features_are_at_chance(visible: torch.Tensor, partners: torch.Tensor):
    """Each question is a draw with its own chance; 4 sigma over all questions, which are independent up to a shared
    gallery."""
    random = torch.Generator().manual_seed(8)
    query, gallery = torch.randn(2, PEOPLE, JOINTS, 128, generator=random)
    score, chance = same_joint(query, gallery, visible, visible, partners)
    questions = sum(int((visible & visible[partners[:, k]]).sum()) for k in range(4))
    assert questions > 1000
    mean = chance.mean().item()
    assert abs(score.mean().item() - mean) < 4 * math.sqrt(mean * (1 - mean) / questions)


def test_sides_can_be_forgiven():
    """A code that knows the joint but not its side: half of the paired joints by chance, all of them when sides are
    forgiven."""
    kinds = [name.removeprefix("left_").removeprefix("right_") for name in MPII_16.joints]
    code = torch.tensor([[float(a == b) for b in kinds] for a in kinds]).expand(4, JOINTS, JOINTS)
    seen = torch.ones(4, JOINTS, dtype=torch.bool)
    partners = torch.tensor([[1], [2], [3], [0]])
    strict, _ = same_joint(code, code, seen, seen, partners)
    forgiving, chance = same_joint(code, code, seen, seen, partners, same_JJ=either_side(MPII_16.flip))
    assert torch.allclose(strict, torch.full((4,), (12 * 0.5 + 4) / 16))
    assert (forgiving == 1).all()
    assert torch.allclose(chance, torch.full((4,), (12 * 2 + 4) / 16 / 16))


def test_position_measure_finds_people_who_stand_alike():
    places = torch.rand(1, len(COMMON_13), 2, generator=torch.Generator().manual_seed(0)) * 96
    places = places.expand(3, -1, -1)
    seen = torch.ones(3, len(COMMON_13), dtype=torch.bool)
    score, _ = same_joint(places, places, seen, seen, torch.tensor([[1], [2], [0]]), measure=closeness)
    assert (score == 1).all()


def test_no_partner_no_number(visible: torch.Tensor):
    features = torch.randn(PEOPLE, JOINTS, 8, generator=torch.Generator().manual_seed(1))
    score, chance = same_joint(features, features, visible, visible, torch.full((PEOPLE, 2), -1))
    assert torch.isnan(score).all()
    assert torch.isnan(chance).all()


def test_partners_are_distinct_others():
    subjects = ["a", "a", "b", "c", "", "", "a"]
    partners = draw_partners(subjects, 3, np.random.default_rng(0))
    for row, chosen in enumerate(partners):
        assert len(set(chosen)) == 3
        assert row not in chosen
        assert all(subjects[each] != subjects[row] or not subjects[row] for each in chosen)
    assert (draw_partners(["a", "a"], 2, np.random.default_rng(0)) == -1).all()
    assert draw_partners(["a", "a", "b"], 2, np.random.default_rng(0))[:2].tolist() == [[2, -1], [2, -1]]


def test_feature_is_read_at_the_cell_of_the_joint():
    maps = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6)
    keypoints = torch.tensor([[[0.0, 0.0, 1], [3.999, 4.0, 1]], [[23.9, 8.5, 1], [-5.0, 99.0, 0]]])
    read = at_joints(maps, keypoints)
    assert torch.equal(read[0, 0], maps[0, :, 0, 0])
    assert torch.equal(read[0, 1], maps[0, :, 1, 0])
    assert torch.equal(read[1, 0], maps[1, :, 2, 5])
    assert torch.equal(read[1, 1], maps[1, :, 5, 0])
