import math

import numpy as np
import pytest
import torch

from hcmoco.objectives import ReleaseOptions, joint_inter, joint_intra
from tests.helpers import objective_references as reference

TAU = 0.07
RELEASED = {"release": ReleaseOptions.all_on()}


def keep_invisible(on: bool) -> ReleaseOptions:
    return ReleaseOptions(intra_invisible_in_denominator=on)


def case(seed: int, samples: int = 4, joints: int = 5, width: int = 6):
    """Skeleton, RGB and depth embeddings at the joints and which of RGB's and depth's are visible; the last sample has
    no depth."""
    rng = np.random.default_rng(seed)
    embeddings = [reference.unit(rng, samples, joints, width) for _ in range(3)]
    rgb_visible, depth_visible = reference.flags(rng, samples, joints), reference.flags(rng, samples, joints)
    depth_visible[-1] = False
    return *embeddings, rgb_visible, depth_visible


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("released", [False, True])
def test_intra_equals_equation_6(seed, released):
    skeleton, _, depth, _, visible = case(seed)
    terms = joint_intra(
        skeleton,
        depth,
        visible,
        tau=TAU,
        modality="depth",
        release=keep_invisible(released),
    )
    assert terms.values["s/depth-keypoints"].item() == pytest.approx(
        reference.intra(skeleton, depth, visible, TAU, released), rel=1e-9
    )
    assert terms.counts["s/depth-keypoints"] == visible.sum()
    assert terms.samples["s/depth-keypoints"].tolist() == visible.any(1).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_inter_equals_equation_6(seed):
    _, rgb, depth, rgb_visible, depth_visible = case(seed)
    rgb_visible[:, 1] = depth_visible[:, 1] = False
    rgb_visible[2, 1] = True  # a row without a positive: in the sums, no anchor
    terms = joint_inter(rgb, depth, rgb_visible, depth_visible, tau=TAU)
    expected = reference.inter(rgb, depth, rgb_visible, depth_visible, TAU)
    assert terms.values["s/inter"].item() == pytest.approx(expected, rel=1e-9)
    both = rgb_visible.sum(0) + depth_visible.sum(0)
    assert terms.counts["s/inter"] == both[both > 1].sum()


@pytest.mark.parametrize("seed", range(4))
def test_inter_as_released_equals_its_description(seed):
    _, rgb, depth, _, _ = case(seed)
    has_rgb, has_depth = torch.tensor([True, True, True, seed < 2]), torch.tensor([True, False, True, False])
    used = [has[:, None].expand(4, 5) for has in (has_rgb, has_depth)]
    terms = joint_inter(rgb, depth, *used, tau=TAU, **RELEASED)
    assert terms.values["s/inter"].item() == pytest.approx(
        reference.released_inter(rgb, depth, has_rgb, has_depth, TAU), rel=1e-9
    )


@pytest.mark.parametrize("how", [{}, RELEASED])
def test_gradients_equal_finite_differences(how):
    skeleton, rgb, depth, rgb_visible, depth_visible = case(5, samples=3, joints=3, width=3)

    def summed(skeleton, rgb, depth):
        value = joint_inter(rgb, depth, rgb_visible, depth_visible, tau=0.3, **how).values["s/inter"]
        terms = joint_intra(
            skeleton,
            rgb,
            rgb_visible,
            tau=0.3,
            modality="rgb",
            release=keep_invisible(bool(how)),
        )
        return value + terms.values["s/rgb-keypoints"]

    assert torch.autograd.gradcheck(summed, [each.requires_grad_() for each in (skeleton, rgb, depth)])


def test_nobody_visible_gives_exact_zeros_that_stay_in_the_graph():
    skeleton, rgb, depth, _, _ = case(0)
    nobody = torch.zeros(4, 5, dtype=torch.bool)
    leaves = [each.requires_grad_() for each in (skeleton, rgb, depth)]
    with torch.autograd.set_detect_anomaly(
        True
    ):  # raises for a NaN anywhere on the way, also where a mask would hide it
        _check_zeros(skeleton, rgb, depth, nobody, leaves)


def _check_zeros(skeleton, rgb, depth, nobody, leaves):
    for terms in (
        joint_intra(skeleton, rgb, nobody, tau=TAU, modality="rgb"),
        joint_intra(skeleton, rgb, nobody, tau=TAU, modality="rgb", release=ReleaseOptions.all_on()),
        joint_inter(rgb, depth, nobody, nobody, tau=TAU),
        joint_inter(rgb, depth, nobody, nobody, tau=TAU, **RELEASED),
    ):
        (value,) = terms.values.values()
        assert value.item() == 0.0
        for grad in torch.autograd.grad(value, leaves, materialize_grads=True):
            assert torch.equal(grad, torch.zeros_like(grad))


def test_a_single_visible_joint_has_nothing_to_contrast_with():
    skeleton, rgb, depth, _, _ = case(0)
    one = torch.zeros(4, 5, dtype=torch.bool)
    one[2, 3] = True
    rgb.requires_grad_()
    intra = joint_intra(skeleton, rgb, one, tau=TAU, modality="rgb")
    inter = joint_inter(rgb, depth, one, torch.zeros_like(one), tau=TAU)
    assert intra.values["s/rgb-keypoints"].item() == pytest.approx(0, abs=1e-12)
    assert intra.counts["s/rgb-keypoints"] == 1
    assert inter.values["s/inter"].item() == 0.0
    assert inter.counts["s/inter"] == 0
    (intra.values["s/rgb-keypoints"] + inter.values["s/inter"]).backward()
    assert torch.isfinite(rgb.grad).all()


def test_one_sample_pairs_its_two_modalities():
    rng = np.random.default_rng(0)
    rgb, depth = reference.unit(rng, 1, 5, 6), reference.unit(rng, 1, 5, 6)
    seen = torch.ones(1, 5, dtype=torch.bool)
    value = joint_inter(rgb, depth, seen, seen, tau=TAU).values["s/inter"].item()
    assert value == pytest.approx(reference.inter(rgb, depth, seen, seen, TAU), rel=1e-9)


def test_unused_rows_may_hold_nan():
    skeleton, rgb, depth, rgb_visible, depth_visible = case(1)

    def values(skeleton, rgb, depth):
        terms = joint_inter(rgb, depth, rgb_visible, depth_visible, tau=TAU)
        terms |= joint_intra(skeleton, rgb, rgb_visible, tau=TAU, modality="rgb")
        return list(terms.values.values())

    spoilt = [
        torch.where(visible[..., None], each, torch.nan).requires_grad_()
        for each, visible in ((skeleton, rgb_visible), (rgb, rgb_visible), (depth, depth_visible))
    ]
    result = values(*spoilt)
    assert [each.item() for each in result] == [each.item() for each in values(skeleton, rgb, depth)]
    sum(result).backward()
    assert all(torch.isfinite(each.grad).all() for each in spoilt)


@pytest.mark.parametrize("how", [{}, RELEASED])
def test_order_of_samples_and_joints_and_exchange_of_modalities_do_not_matter(how):
    _, rgb, depth, rgb_visible, depth_visible = case(2)
    expected = joint_inter(rgb, depth, rgb_visible, depth_visible, tau=TAU, **how).values["s/inter"].item()
    rng = np.random.default_rng(0)
    samples, joints = torch.from_numpy(rng.permutation(4)), torch.from_numpy(rng.permutation(5))
    moved = [each[samples][:, joints] for each in (depth, rgb, depth_visible, rgb_visible)]
    assert joint_inter(*moved, tau=TAU, **how).values["s/inter"].item() == pytest.approx(expected, rel=1e-12)


def test_uninformative_embeddings_cost_the_logarithm_of_what_there_is_to_choose_from():
    same = torch.zeros(3, 16, 8)
    same[..., 0] = 1
    seen = torch.ones(3, 16, dtype=torch.bool)
    assert joint_intra(same, same, seen, tau=TAU, modality="rgb").values["s/rgb-keypoints"].item() == pytest.approx(
        math.log(16), rel=1e-5
    )
    half = seen.clone()
    half[:, 8:] = False
    assert joint_intra(same, same, half, tau=TAU, modality="rgb").values["s/rgb-keypoints"].item() == pytest.approx(
        math.log(8), rel=1e-5
    )
    kept = (
        joint_intra(same, same, half, tau=TAU, modality="rgb", release=ReleaseOptions.all_on())
        .values["s/rgb-keypoints"]
        .item()
    )
    assert kept == pytest.approx(math.log(16), rel=1e-5)
    assert joint_inter(same, same, seen, half, tau=TAU).values["s/inter"].item() == pytest.approx(
        math.log(72 - 1), rel=1e-5
    )


def test_the_released_self_term_alone_costs_one_over_tau_on_random_features():
    rng = np.random.default_rng(0)
    rgb, depth = reference.unit(rng, 20, 16, 128), reference.unit(rng, 20, 16, 128)
    everyone = torch.ones(20, 16, dtype=torch.bool)
    rows, half_variance = 2 * 20 * 16, 0.5 / (TAU**2 * 128)
    released = joint_inter(rgb, depth, everyone, everyone, tau=TAU, **RELEASED).values["s/inter"].item()
    assert released == pytest.approx(1 / TAU, abs=0.1)
    corrected = joint_inter(rgb, depth, everyone, everyone, tau=TAU).values["s/inter"].item()
    assert corrected == pytest.approx(math.log(rows - 1) + half_variance, abs=0.1)
