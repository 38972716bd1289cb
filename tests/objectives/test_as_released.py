"""The recipe as-released against the published objective, written down once more in float64: term by term, and one
whole step.

The formulas, in `published_objective`, share nothing with the package, nor does the step composed of them here: dense
maps are upsampled, concatenated and mapped whole.
"""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.data.schema import Batch
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from hcmoco.objectives import (
    MODALITIES,
    Bank,
    ObjectiveConfig,
    dense_terms,
    new_bank,
    sample_terms,
    sparse_terms,
    total,
    update_banks,
)
from hcmoco.pretraining.losses import compute_terms, draw_negatives
from hcmoco.pretraining.views import Views, to_device
from hcmoco.rng import make_rng
from tests.helpers import objective_references as reference
from tests.helpers.published_objective import published_dense, published_sample_level, published_sparse

B, J, P, D, N, K, SIDE = 6, 16, 12, 8, 30, 40, 64
GRID = SIDE // 4
RELEASED = ObjectiveConfig.released(num_negatives=K, num_anchors=P)
# NTU and MPII half and half: the second half has no depth.
MIXTURE = torch.tensor([True, True, True, False, False, False])


def present(has_depth: Tensor) -> dict[str, Tensor]:
    everyone = torch.ones(len(has_depth), dtype=torch.bool)
    return {"rgb": everyone, "depth": has_depth, "keypoints": everyone}


def check(terms, expected: dict[str, Tensor], rel: float = 1e-9) -> None:
    assert {name: value.item() for name, value in terms.values.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=rel, abs=1e-12
    )


# --- term by term


@pytest.mark.parametrize(
    "has_depth", [MIXTURE, ~MIXTURE, torch.ones(B, dtype=torch.bool), torch.zeros(B, dtype=torch.bool)]
)
@pytest.mark.parametrize("repeated", [False, True])
def test_sample_level(has_depth, repeated):
    rng = np.random.default_rng(0)
    f = {name: reference.unit(rng, B, D).requires_grad_() for name in MODALITIES}
    banks = {name: new_bank(RELEASED, N, D, rng) for name in MODALITIES}
    index = torch.from_numpy(rng.permutation(N)[:B])
    if repeated:
        index[4] = index[1]
    u = torch.from_numpy(rng.random((B, K)))
    drawn = (u * N).floor().long()
    assert (drawn == index[:, None]).any(), "an own row is among the draws"
    assert drawn[0].unique().numel() < K, "a row is drawn twice"

    terms = sample_terms(RELEASED, f, present(has_depth), index, banks, u)
    expected = published_sample_level(
        f, has_depth, index, {name: bank.rows.double() for name, bank in banks.items()}, drawn
    )
    check(terms, expected)
    if not has_depth.any():
        assert all(value.item() == 0 for name, value in terms.values.items() if "depth" in name)
    got = torch.autograd.grad(total(terms.values, RELEASED, "sample"), list(f.values()))
    wanted = torch.autograd.grad(torch.stack(list(expected.values())).sum(), list(f.values()))
    for each, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-12)


def test_dense_level_with_repeated_cells_and_images_without_any():
    rng = np.random.default_rng(1)
    rgb, depth = (reference.unit(rng, B, P, D).requires_grad_() for _ in range(2))
    flat = torch.from_numpy(rng.integers(0, GRID * GRID, (B, P)))
    flat[:, 5] = flat[:, 2]
    flat[1] = flat[1, 0]  # an image with a single valid cell: P draws of it
    at = torch.stack([flat // GRID, flat % GRID], -1).double()
    # Equal cells hold equal embeddings.
    first = [[row.index(cell) for cell in row] for row in flat.tolist()]
    rgb_at, depth_at = (torch.stack([each[b, first[b]] for b in range(B)]) for each in (rgb, depth))

    terms = dense_terms(RELEASED, rgb_at, depth_at, at, MIXTURE[:, None].expand(B, P))
    expected = published_dense(rgb_at[MIXTURE], depth_at[MIXTURE], at[MIXTURE])
    check(terms, expected)
    got = torch.autograd.grad(torch.stack(list(terms.values.values())).sum(), (rgb, depth), retain_graph=True)
    wanted = torch.autograd.grad(torch.stack(list(expected.values())).sum(), (rgb, depth), retain_graph=True)
    for each, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-12)
    alone = dense_terms(RELEASED, rgb_at[1:2], depth_at[1:2], at[1:2], torch.ones(1, P, dtype=torch.bool))
    assert [value.item() for value in alone.values.values()] == pytest.approx([math.log(P)] * 2, rel=1e-9)


def test_dense_level_of_a_batch_without_depth_is_zero():
    rgb, depth = torch.full((2, B, P, D), math.nan, dtype=torch.float64).requires_grad_()
    terms = dense_terms(RELEASED, rgb, depth, torch.zeros(B, P, 2), torch.zeros(B, P, dtype=torch.bool))
    assert [value.item() for value in terms.values.values()] == [0, 0]


@pytest.mark.parametrize("has_depth", [MIXTURE, torch.ones(B, dtype=torch.bool), torch.zeros(B, dtype=torch.bool)])
def test_sparse_level(has_depth):
    rng = np.random.default_rng(2)
    leaves = [reference.unit(rng, B, J, D).requires_grad_() for _ in range(3)]
    visible = reference.flags(rng, B, J)
    visible[2] = False
    terms = sparse_terms(RELEASED, *leaves, dict.fromkeys(MODALITIES, visible), present(has_depth))
    expected = published_sparse(*leaves, visible, has_depth)
    check(terms, expected)
    got = torch.autograd.grad(torch.stack(list(terms.values.values())).sum(), leaves)
    wanted = torch.autograd.grad(torch.stack(list(expected.values())).sum(), leaves)
    for each, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-12)


def test_banks_move_half_way_for_every_row_blank_or_not():
    rng = np.random.default_rng(3)
    banks = {name: new_bank(RELEASED, N, D, rng) for name in MODALITIES}
    expected = {name: bank.rows.double().clone() for name, bank in banks.items()}
    for _ in range(4):
        f = {name: reference.unit(rng, B, D) for name in MODALITIES}
        index = torch.from_numpy(rng.permutation(N)[:B])
        index[5] = index[0]
        update_banks(RELEASED, banks, f, present(MIXTURE), index)
        for name, rows in expected.items():
            before = rows.clone()
            for b in range(B):  # in order, each from the row before the step: the last of a repeated address stays
                rows[index[b]] = F.normalize(0.5 * before[index[b]] + 0.5 * f[name][b], dim=0)
    for name, bank in banks.items():
        torch.testing.assert_close(bank.rows.double(), expected[name], rtol=0, atol=1e-6)


# --- a step


def small_model() -> HCMoCo:
    encoder = EncoderConfig(name="test_resnet", batch_norm_momentum=0.01)
    config = ModelConfig(
        rgb=encoder,
        depth=encoder,
        skeleton=SkeletonConfig(width=12, num_blocks=1),
        embedding=D,
        polluted_keypoints=True,
    )
    return HCMoCo(config, seed=0).double().train()


def mixed_batch(has_depth: Tensor) -> Batch:
    rng = np.random.default_rng(4)
    has_depth = has_depth.numpy()
    depth = np.zeros((B, SIDE, SIDE), np.uint16)
    depth[has_depth, 10:50, 20:44] = rng.integers(1000, 3000, (has_depth.sum(), 40, 24))
    keypoints = np.concatenate([rng.uniform(0, SIDE, (B, J, 2)), np.ones((B, J, 1))], 2).astype(np.float32)
    keypoints[rng.random((B, J)) < 0.3] = 0
    keypoints[2] = 0  # has keypoints by its flag, but none is in sight
    valid = [np.flatnonzero(each[::4, ::4]) for each in depth]
    images = {"rgb": rng.integers(0, 256, (B, SIDE, SIDE, 3)).astype(np.uint8), "depth": depth}
    released = rng.uniform(-1, 1, (B, J, 2)).astype(np.float32)
    index = rng.permutation(N)[:B]
    anchors = np.stack([rng.choice(each, P) if len(each) else np.full(P, -1) for each in valid])
    return Batch(
        step=0,
        **images,
        keypoints=keypoints,
        rgb_keypoints=keypoints,
        depth_keypoints=keypoints,
        released_keypoints=released,
        has_rgb=np.ones(B, bool),
        has_depth=has_depth,
        has_keypoints=np.ones(B, bool),
        index=index,
        source=(~has_depth).astype(np.int64),
        anchors=anchors,
        rgb_anchors=anchors,
        rgb_to_depth=np.tile(np.eye(2, 3, dtype=np.float32), (B, 1, 1)),
        points=np.full((B, 0), -1, np.int64),
        rays=np.zeros((B, 2, 3), np.float32),
    )


def composed(
    model: HCMoCo, views: Views, batch: Batch, banks: dict, drawn_BK: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The published step from the encoders' inputs on: all rows through all encoders, maps brought to stride 4 and
    concatenated."""
    has_depth = torch.from_numpy(batch.has_depth)
    f, dense = {}, {}
    for name, encoder in (("rgb", model.rgb), ("depth", model.depth)):
        maps = encoder(views.inputs[name])
        f[name] = F.normalize(
            model.global_mappers[name].linear(torch.cat([each.mean((2, 3)) for each in maps], 1)), dim=1
        )
        merged = torch.cat(
            [F.interpolate(each, size=(GRID, GRID), mode="bilinear", align_corners=False) for each in maps], 1
        )
        dense[name] = F.normalize(model.dense_mappers[name].linear(merged.permute(0, 2, 3, 1)), dim=3)
    skeleton = model.keypoints(views.inputs["keypoints"])
    f["keypoints"] = F.normalize(model.global_mappers["keypoints"](skeleton.mean(1)), dim=1)
    terms = published_sample_level(f, has_depth, torch.from_numpy(batch.index), banks, drawn_BK)

    anchors = torch.from_numpy(batch.anchors)
    at = torch.stack([anchors // GRID, anchors % GRID], 2)
    every = torch.arange(B)[:, None]
    taken = {name: each[every, at[..., 0], at[..., 1]] for name, each in dense.items()}
    if has_depth.any():
        terms |= published_dense(taken["rgb"][has_depth], taken["depth"][has_depth], at[has_depth].double())
    else:
        terms |= dict.fromkeys(("d/rgb-depth", "d/depth-rgb"), torch.zeros((), dtype=torch.float64))
    column, row = (torch.from_numpy(batch.keypoints[..., axis] // 4).long().clamp(0, GRID - 1) for axis in (0, 1))
    joints = {name: each[every, row, column] for name, each in dense.items()}
    visible = torch.from_numpy(batch.keypoints[..., 2] > 0)
    assert not torch.stack([row, column])[:, ~visible].any(), "invisible joints are read at cell (0, 0)"
    return terms | published_sparse(F.normalize(skeleton, dim=2), joints["rgb"], joints["depth"], visible, has_depth), f


@pytest.mark.parametrize("has_depth", [MIXTURE, torch.zeros(B, dtype=torch.bool)])
def test_a_step_is_the_published_one_with_its_gradients_statistics_and_banks(has_depth):
    batch, model = mixed_batch(has_depth), small_model()
    model.add_dense_mappers()
    model.double()
    other = copy.deepcopy(model)
    views = to_device(batch, torch.device("cpu"), model, encode_absent=RELEASED.release.encode_absent)
    views.inputs = {name: each.double() for name, each in views.inputs.items()}
    rng = np.random.default_rng(5)
    banks = {name: new_bank(RELEASED, N, D, rng) for name in MODALITIES}
    before = {name: bank.rows.double().clone() for name, bank in banks.items()}
    u = torch.from_numpy(draw_negatives(RELEASED, seed=7, step=0, lanes=range(2), batch_size_per_lane=B // 2))

    terms, embeddings = compute_terms(model, RELEASED, views, banks, u, stage=2)
    expected, f = composed(other, views, batch, before, (u * N).floor().long())
    check(terms, expected)
    assert len(expected) == 6 + 2 + 2 + 1

    total(terms.values, RELEASED, "full").backward()
    torch.stack(list(expected.values())).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        ours, theirs = (torch.zeros_like(each) if each.grad is None else each.grad for each in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9, msg=name)
    for (name, ours), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=name)

    update_banks(RELEASED, banks, embeddings, views.present, views.index_B)
    for name, bank in banks.items():
        rows = before[name].clone()
        rows[batch.index] = F.normalize(0.5 * before[name][batch.index] + 0.5 * f[name].detach(), dim=1)
        torch.testing.assert_close(bank.rows.double(), rows, rtol=0, atol=1e-6)


def test_the_first_stage_has_the_sample_level_alone():
    batch, model = mixed_batch(MIXTURE), small_model()
    views = to_device(batch, torch.device("cpu"), model, encode_absent=True)
    views.inputs = {name: each.double() for name, each in views.inputs.items()}
    banks = {name: new_bank(RELEASED, N, D, np.random.default_rng(6)) for name in MODALITIES}
    u = torch.from_numpy(np.random.default_rng(7).random((B, K)))
    terms, f = compute_terms(model, RELEASED, views, banks, u, stage=1)
    rows = {name: bank.rows.double() for name, bank in banks.items()}
    check(terms, published_sample_level(f, MIXTURE, views.index_B, rows, (u * N).floor().long()))


def test_encoders_see_blank_rows_only_as_released():
    batch, model = mixed_batch(MIXTURE), small_model()
    batch.has_rgb = np.array([True, False, True, True, True, True])
    batch.rgb[1] = 0
    whole = to_device(batch, torch.device("cpu"), model, encode_absent=True)
    assert {name: len(each) for name, each in whole.inputs.items()} == dict.fromkeys(MODALITIES, B)
    assert not whole.inputs["depth"][3:].any()
    assert not whole.inputs["rgb"][1].any(), "zero after normalization, where black is not"
    assert whole.present["depth"].tolist() == MIXTURE.tolist()
    part = to_device(batch, torch.device("cpu"), model)
    assert {name: len(each) for name, each in part.inputs.items()} == {"rgb": 5, "depth": 3, "keypoints": 6}
    assert torch.equal(part.inputs["rgb"], whole.inputs["rgb"][[0, 2, 3, 4, 5]])
    assert torch.equal(part.inputs["depth"], whole.inputs["depth"][:3])


def test_skeletons_do_not_turn_with_the_image_as_released():
    batch, model = mixed_batch(MIXTURE), small_model()
    x = to_device(batch, torch.device("cpu"), model, encode_absent=True).inputs["keypoints"].numpy()
    np.testing.assert_array_equal(x, batch.released_keypoints * (batch.keypoints[..., 2:] > 0))
    batch.released_keypoints[:] = 0
    plain = HCMoCo(model.config.model_copy(update={"polluted_keypoints": False}), seed=0)
    assert to_device(batch, torch.device("cpu"), plain).inputs["keypoints"].any(), "by default the joints of the crop"


# --- draws


@pytest.mark.parametrize("settings", [RELEASED, ObjectiveConfig(num_negatives=K)])
def test_negatives_are_the_same_for_any_number_of_workers(settings):
    lanes, rows = 4, 3
    alone = draw_negatives(settings, seed=1, step=9, lanes=range(lanes), batch_size_per_lane=rows)
    assert alone.shape == ((lanes * rows, K) if settings.release.per_sample_negatives else (K,))
    assert alone.dtype == np.float64
    for world in (2, 4):
        for rank in range(world):
            served = range(rank, lanes, world)
            here = draw_negatives(settings, seed=1, step=9, lanes=served, batch_size_per_lane=rows)
            wanted = (
                alone.reshape(lanes, rows, K)[list(served)].reshape(-1, K)
                if settings.release.per_sample_negatives
                else alone
            )
            assert np.array_equal(here, wanted)
    assert not np.array_equal(
        alone, draw_negatives(settings, seed=1, step=10, lanes=range(lanes), batch_size_per_lane=rows)
    )


def test_random_banks_differ_by_modality_and_hold_unit_rows():
    banks = [new_bank(RELEASED, N, D, make_rng(0, "bank", number)) for number in range(3)]
    assert all(isinstance(bank, Bank) and bank.visited.all() for bank in banks)
    for bank in banks:
        torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(N))
    assert not torch.equal(banks[0].rows, banks[1].rows)
