import math

import numpy as np
import pytest
import torch

from hcmoco.objectives import MODALITIES, Bank, Drawn, DrawnPerSample, Stale, sample_level
from tests.helpers import objective_references as reference
from tests.helpers.tolerances import FLOAT64

TAU = 0.07


def case(seed: int, batch: int = 6, width: int = 5, drawn: int = 9, dtype: torch.dtype = torch.float64):
    """Embeddings with random modalities absent, a sample that comes twice, draws that repeat, hit the batch's own rows
    or hold nothing."""
    rng = np.random.default_rng(seed)
    embeddings = {name: reference.unit(rng, batch, width, dtype=dtype) for name in MODALITIES}
    present = {name: reference.flags(rng, batch) for name in MODALITIES}
    index = torch.from_numpy(rng.integers(0, 10, batch))
    index[1] = index[0]
    negatives = {
        name: Drawn(
            reference.unit(rng, drawn, width, dtype=dtype),
            torch.from_numpy(rng.integers(0, 10, drawn)),
            reference.flags(rng, drawn),
        )
        for name in MODALITIES
    }
    return embeddings, present, index, negatives


def usable(negatives: dict[str, Drawn]) -> dict:
    return {
        name: [(row, address) for row, address, eligible in zip(*drawn, strict=True) if eligible]
        for name, drawn in negatives.items()
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("in_batch", [True, False])
def test_equals_equation_2(seed, in_batch):
    embeddings, present, index, negatives = case(seed)
    terms = sample_level(embeddings, present, index, negatives, tau=TAU, in_batch=in_batch)
    expected = reference.sample_level(embeddings, present, index, usable(negatives), TAU, in_batch)
    assert len(expected) == 6
    assert {name: value.item() for name, value in terms.values.items()} == pytest.approx(expected, rel=1e-9)
    for name, samples in terms.samples.items():
        anchor, target = name.removeprefix("g/").split("-")
        assert samples.tolist() == [bool(a and c) for a, c in zip(present[anchor], present[target], strict=True)]
        assert terms.counts[name] == samples.sum()


@pytest.mark.parametrize("seed", range(3))
def test_released_form_equals_its_description(seed):
    rng = np.random.default_rng(seed)
    embeddings = {name: reference.unit(rng, 5, 8) for name in MODALITIES}
    has_depth = reference.flags(rng, 5)
    present = {"rgb": torch.ones(5, dtype=torch.bool), "depth": has_depth, "keypoints": torch.ones(5, dtype=torch.bool)}
    banks = {name: Bank.random(12, 8, rng) for name in MODALITIES}
    index = torch.from_numpy(rng.permutation(12)[:5])
    u = torch.from_numpy(rng.random((5, 30)))
    terms = sample_level(
        embeddings,
        present,
        index,
        {name: bank.gather_per_sample(u) for name, bank in banks.items()},
        tau=TAU,
        in_batch=False,
        stale={name: bank.own(index) for name, bank in banks.items()},
    )
    drawn = np.floor(u.numpy() * 12).astype(int)
    assert any(index[b] in drawn[b] for b in range(5)), "the case must hold an own row among the negatives"
    expected = reference.released_sample_level(
        embeddings, has_depth, index, {name: bank.rows for name, bank in banks.items()}, drawn, TAU
    )
    assert {name: value.item() for name, value in terms.values.items()} == pytest.approx(expected, rel=1e-9)


def test_gradients_equal_finite_differences():
    embeddings, present, index, negatives = case(3, batch=4, width=3, drawn=4)

    def summed(*tensors):
        return sum(
            sample_level(
                dict(zip(MODALITIES, tensors, strict=True)), present, index, negatives, tau=0.3
            ).values.values()
        )

    assert torch.autograd.gradcheck(summed, [embeddings[name].requires_grad_() for name in MODALITIES])


def test_current_positives_teach_both_sides_and_stale_ones_the_anchor_alone():
    embeddings, _, index, negatives = case(0)
    everyone = {name: torch.ones(6, dtype=torch.bool) for name in MODALITIES}
    stale = {name: Stale(each.clone(), everyone[name]) for name, each in embeddings.items()}
    leaves = {name: each.requires_grad_() for name, each in embeddings.items()}

    def grad_of_depth_in_rgb_to_depth(**how):
        value = sample_level(leaves, everyone, index, negatives, tau=TAU, in_batch=False, **how).values["g/rgb-depth"]
        rgb, depth = torch.autograd.grad(value, [leaves["rgb"], leaves["depth"]], materialize_grads=True)
        assert rgb.abs().sum() > 0
        return depth.abs().sum()

    assert grad_of_depth_in_rgb_to_depth() > 0
    assert grad_of_depth_in_rgb_to_depth(stale=stale) == 0


def test_stale_positives_leave_out_samples_the_bank_has_not_seen():
    embeddings, _, _, _ = case(0)
    everyone = {name: torch.ones(6, dtype=torch.bool) for name in MODALITIES}
    index = torch.arange(6)
    seen = torch.tensor([True, False, True, True, False, False])
    stale = {name: Stale(embeddings[name] * seen[:, None], seen) for name in MODALITIES}
    terms = sample_level(embeddings, everyone, index, {}, tau=TAU, stale=stale)
    assert all(samples.tolist() == seen.tolist() for samples in terms.samples.values())


def test_a_batch_without_depth_gives_exact_zeros_that_stay_in_the_graph():
    embeddings, present, index, negatives = case(1)
    present = {**present, "depth": torch.zeros(6, dtype=torch.bool)}
    leaves = {name: each.requires_grad_() for name, each in embeddings.items()}
    terms = sample_level(leaves, present, index, negatives, tau=TAU)
    with_depth = [name for name in terms.values if "depth" in name]
    assert len(with_depth) == 4
    for name in with_depth:
        assert terms.values[name].item() == 0.0
        assert terms.counts[name] == 0
    grads = torch.autograd.grad(sum(terms.values[name] for name in with_depth), list(leaves.values()))
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)
    assert terms.values["g/rgb-keypoints"] > 0


def test_absent_rows_may_hold_nan():
    embeddings, present, index, negatives = case(2)
    expected = sample_level(embeddings, present, index, negatives, tau=TAU)
    spoilt = {
        name: torch.where(present[name][:, None], each, torch.nan).requires_grad_() for name, each in embeddings.items()
    }
    terms = sample_level(spoilt, present, index, negatives, tau=TAU)
    assert {name: value.item() for name, value in terms.values.items()} == {
        name: value.item() for name, value in expected.values.items()
    }
    sum(terms.values.values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in spoilt.values())


def test_one_sample_alone_has_nothing_to_contrast_with():
    embeddings, _, _, _ = case(0, batch=2)
    leaves = {name: each[:1].clone().requires_grad_() for name, each in embeddings.items()}
    bank = Bank.empty(100, 5)
    draws = {name: bank.gather(torch.zeros(7, dtype=torch.float64)) for name in MODALITIES}
    terms = sample_level(
        leaves, {name: torch.ones(1, dtype=torch.bool) for name in MODALITIES}, torch.tensor([4]), draws, tau=TAU
    )
    assert [value.item() for value in terms.values.values()] == pytest.approx([0.0] * 6, abs=1e-12)
    assert all(count == 1 for count in terms.counts.values())
    sum(terms.values.values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in leaves.values())


def test_order_of_samples_and_of_drawn_rows_does_not_matter():
    embeddings, present, index, negatives = case(4)
    expected = sample_level(embeddings, present, index, negatives, tau=TAU)
    rng = np.random.default_rng(0)
    order, drawn_order = torch.from_numpy(rng.permutation(6)), torch.from_numpy(rng.permutation(9))
    terms = sample_level(
        {name: each[order] for name, each in embeddings.items()},
        {name: each[order] for name, each in present.items()},
        index[order],
        {name: Drawn(*(part[drawn_order] for part in each)) for name, each in negatives.items()},
        tau=TAU,
    )
    assert {n: v.item() for n, v in terms.values.items()} == pytest.approx(
        {n: v.item() for n, v in expected.values.items()}, rel=1e-12
    )


def test_random_unit_vectors_give_the_value_of_a_normal_logit():
    # A dot product of independent unit vectors has variance 1 / width, so the log of the mean exponential is half the
    # logits' variance.
    rng = np.random.default_rng(5)
    batch, width, K = 256, 128, 4096
    embeddings = {name: reference.unit(rng, batch, width, dtype=torch.float32) for name in MODALITIES}
    everyone = {name: torch.ones(batch, dtype=torch.bool) for name in MODALITIES}
    rows = {name: reference.unit(rng, K, width, dtype=torch.float32) for name in MODALITIES}
    negatives = {
        name: Drawn(each, torch.arange(K) + batch, torch.ones(K, dtype=torch.bool)) for name, each in rows.items()
    }
    terms = sample_level(embeddings, everyone, torch.arange(batch), negatives, tau=TAU, in_batch=False)
    expected = math.log(K + 1) + 0.5 / (TAU**2 * width)
    # The positive's logit has a standard deviation of 1.26: 0.08 for the mean of 256.
    assert [value.item() for value in terms.values.values()] == pytest.approx([expected] * 6, abs=0.3)
    assert sum(terms.values.values()).item() == pytest.approx(6 * expected, abs=0.7)


def test_per_sample_draws_equal_shared_draws_where_all_samples_draw_the_same():
    embeddings, present, index, _ = case(0)
    rng = np.random.default_rng(1)
    bank = reference.unit(rng, 40, 5)
    address = torch.from_numpy(rng.integers(20, 40, 9))
    shared = {"depth": Drawn(bank[address], address, torch.ones(9, dtype=torch.bool))}
    own = {"depth": DrawnPerSample(bank, address.expand(6, 9))}
    one, other = (sample_level(embeddings, present, index, each, tau=TAU).values for each in (shared, own))
    assert {n: v.item() for n, v in one.items()} == pytest.approx({n: v.item() for n, v in other.items()}, rel=FLOAT64)
