import math

import numpy as np
import pytest
import torch

from hcmoco.objectives import dense_intra, soft_target
from tests.helpers import objective_references as reference
from tests.helpers.tolerances import FLOAT64

TAU = 0.07


def case(seed: int, images: int = 4, anchors: int = 7, width: int = 5):
    """Random cells with padding, the last image without a valid cell."""
    rng = np.random.default_rng(seed)
    rgb, depth = reference.unit(rng, images, anchors, width), reference.unit(rng, images, anchors, width)
    cells = torch.from_numpy(rng.integers(0, 12, (images, anchors, 2))).double()
    valid = reference.flags(rng, images, anchors)
    valid[-1] = False
    return rgb, depth, cells, valid


def figures(terms) -> dict[str, float]:
    return {name: value.item() for name, value in terms.values.items()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("target", "scale"), [("soft", 1.0), ("soft", 0.3), ("hard", 1.0)])
def test_equals_equations_3_to_5(seed, target, scale):
    rgb, depth, cells, valid = case(seed)
    terms = dense_intra(rgb, depth, cells, valid, tau=TAU, target=target, distance_scale=scale)
    expected = {
        "d/rgb-depth": reference.dense_one_way(rgb, depth, cells, valid, TAU, target, scale),
        "d/depth-rgb": reference.dense_one_way(depth, rgb, cells, valid, TAU, target, scale),
    }
    assert figures(terms) == pytest.approx(expected, rel=1e-9)
    for name in expected:
        assert terms.counts[name] == valid.sum()
        assert terms.samples[name].tolist() == valid.any(1).tolist()


@pytest.mark.parametrize("target", ["soft", "hard"])
def test_gradients_equal_finite_differences(target):
    rgb, depth, cells, valid = case(1, images=3, anchors=4, width=3)

    def summed(rgb, depth):
        return sum(dense_intra(rgb, depth, cells, valid, tau=0.3, target=target).values.values())

    assert torch.autograd.gradcheck(summed, (rgb.requires_grad_(), depth.requires_grad_()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", ["soft", "hard"])
def test_cells_of_two_crops_are_weighed_by_where_both_lie(seed, target):
    rgb, depth, cells, valid = case(seed)
    moved = cells + torch.from_numpy(np.random.default_rng(seed).normal(0, 0.4, cells.shape))
    given = {"tau": TAU, "target": target, "distance_scale": 0.7}
    terms = dense_intra(rgb, depth, cells, valid, rgb_cells_BP2=moved, **given)
    assert figures(terms) == pytest.approx(
        {
            "d/rgb-depth": reference.dense_one_way(rgb, depth, moved, valid, TAU, target, 0.7, cells),
            "d/depth-rgb": reference.dense_one_way(depth, rgb, cells, valid, TAU, target, 0.7, moved),
        },
        rel=1e-9,
    )
    # The modalities in each other's place exchange the two terms.
    swapped = dense_intra(depth, rgb, moved, valid, rgb_cells_BP2=cells, **given)
    assert figures(swapped) == pytest.approx(
        {"d/rgb-depth": figures(terms)["d/depth-rgb"], "d/depth-rgb": figures(terms)["d/rgb-depth"]}, rel=1e-12
    )
    alike = dense_intra(rgb, depth, cells, valid, rgb_cells_BP2=cells.clone(), **given)
    assert figures(alike) == pytest.approx(figures(dense_intra(rgb, depth, cells, valid, **given)), rel=1e-12)
    # The finite differences of the loss in both embeddings.
    few = (slice(0, 2), slice(0, 4))
    leaves = rgb[few].clone().requires_grad_(), depth[few].clone().requires_grad_()

    def summed(rgb, depth):
        found = dense_intra(rgb, depth, cells[few], valid[few], rgb_cells_BP2=moved[few], **{**given, "tau": 0.3})
        return sum(found.values.values())

    assert torch.autograd.gradcheck(summed, leaves)


def test_target_is_a_distribution_that_peaks_at_the_anchor():
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    cells = torch.stack((rows.flatten(), columns.flatten()), 1)[None]
    valid = torch.ones(1, 400, dtype=torch.bool)
    valid[0, ::3] = False
    weights = soft_target(cells, valid)[0]
    kept = valid[0]
    assert weights[kept][:, ~kept].abs().max() == 0
    assert weights[kept].sum(1).numpy() == pytest.approx(np.ones(int(kept.sum())), abs=1e-5)
    assert weights[kept].argmax(1).tolist() == kept.nonzero().flatten().tolist()
    # Two neighbors of one anchor weigh as exp(-distance) does: straight 1, diagonal the square root of 2.
    assert (weights[22, 23] / weights[22, 43]).item() == pytest.approx(math.exp(math.sqrt(2) - 1), rel=1e-5)


def test_small_distances_far_from_the_origin_are_exact():
    cells = torch.tensor([[[1000.3 + i, 2000.7] for i in range(30)]])
    weights = soft_target(cells, torch.ones(1, 30, dtype=torch.bool))
    assert weights[0, 10, 11].item() / weights[0, 10, 10].item() == pytest.approx(math.exp(-1), rel=1e-3)


def test_a_large_scale_turns_soft_into_hard():
    rgb, depth, cells, valid = case(2)
    cells = torch.arange(7.0).double()[None, :, None].expand(4, 7, 2).contiguous()  # all distinct
    hard = dense_intra(rgb, depth, cells, valid, tau=TAU, target="hard")
    soft = dense_intra(rgb, depth, cells, valid, tau=TAU, distance_scale=60.0)
    assert figures(soft) == pytest.approx(figures(hard), rel=1e-12)
    assert (
        abs(figures(dense_intra(rgb, depth, cells, valid, tau=TAU))["d/rgb-depth"] - figures(hard)["d/rgb-depth"])
        > 1e-3
    )


def test_equal_embeddings_cost_the_logarithm_of_the_anchors():
    rgb = torch.zeros(2, 50, 4)
    rgb[..., 0] = 1
    valid = torch.ones(2, 50, dtype=torch.bool)
    terms = dense_intra(rgb, rgb, torch.rand(2, 50, 2), valid, tau=TAU)
    assert list(figures(terms).values()) == pytest.approx([math.log(50)] * 2, rel=1e-5)


def test_nothing_valid_gives_exact_zeros_that_stay_in_the_graph():
    rgb, depth, cells, valid = case(0)
    terms = dense_intra(rgb.requires_grad_(), depth.requires_grad_(), cells, torch.zeros_like(valid), tau=TAU)
    assert list(figures(terms).values()) == [0.0, 0.0]
    assert [count.item() for count in terms.counts.values()] == [0, 0]
    with torch.autograd.set_detect_anomaly(
        True
    ):  # raises for a NaN anywhere on the way, also where a mask would hide it
        terms = dense_intra(rgb, depth, cells, torch.zeros_like(valid), tau=TAU)
        grads = torch.autograd.grad(sum(terms.values.values()), (rgb, depth))
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)


def test_padding_may_hold_nan_and_changes_nothing():
    rgb, depth, cells, valid = case(3)
    expected = figures(dense_intra(rgb, depth, cells, valid, tau=TAU))
    spoilt = [torch.where(valid[..., None], each, torch.nan).requires_grad_() for each in (rgb, depth)]
    terms = dense_intra(*spoilt, torch.where(valid[..., None], cells, -1.0), valid, tau=TAU)
    assert figures(terms) == expected
    sum(terms.values.values()).backward()
    assert all(torch.isfinite(each.grad).all() for each in spoilt)


def test_order_of_anchors_and_images_does_not_matter_and_images_weigh_alike():
    rgb, depth, cells, valid = case(4)
    valid[:2] = True
    valid[0, 2:] = False
    expected = figures(dense_intra(rgb, depth, cells, valid, tau=TAU))
    rng = np.random.default_rng(0)
    images, anchors = torch.from_numpy(rng.permutation(4)), torch.from_numpy(rng.permutation(7))
    moved = (each[images][:, anchors] for each in (rgb, depth, cells, valid))
    assert figures(dense_intra(*moved, tau=TAU)) == pytest.approx(expected, rel=1e-12)
    alone = [
        figures(dense_intra(rgb[b : b + 1], depth[b : b + 1], cells[b : b + 1], valid[b : b + 1], tau=TAU))
        for b in range(3)
    ]
    for name, value in expected.items():
        assert value == pytest.approx(np.mean([each[name] for each in alone]), rel=FLOAT64)
