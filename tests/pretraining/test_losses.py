import copy

import numpy as np
import pytest
import torch

from hcmoco.models.multimodal import HCMoCo
from hcmoco.objectives import MODALITIES, dense_terms, new_bank, sample_terms, sparse_terms, total
from hcmoco.pretraining.losses import compute_terms, draw_negatives, encode
from hcmoco.pretraining.views import to_device
from tests.helpers import local_pretraining as tiny
from tests.helpers.tolerances import assert_step_close, flat_gradient


@pytest.fixture
def model():
    model = HCMoCo(tiny.tiny_config().model, seed=1)
    model.add_dense_mappers()
    return model.train()


@pytest.fixture
def objective():
    return tiny.tiny_config().objective


@pytest.fixture
def banks(objective):
    """Banks that have seen most samples."""
    rng = np.random.default_rng(0)
    banks = {name: new_bank(objective, 120, 16, rng) for name in MODALITIES}
    for bank in banks.values():
        rows = torch.from_numpy(rng.standard_normal((90, 16), np.float32))
        bank.update(rows, torch.from_numpy(rng.permutation(120)[:90]), torch.ones(90, dtype=torch.bool), 0.5)
    return banks


def negatives(objective, step=0):
    return torch.from_numpy(draw_negatives(objective, seed=0, step=step, lanes=range(2), batch_size_per_lane=5))


def terms_of(model, objective, batch, banks, stage=2):
    views = to_device(batch, torch.device("cpu"), model, encode_absent=objective.release.encode_absent)
    return compute_terms(model, objective, views, banks, negatives(objective), stage=stage)


def statistics(model, part):
    return {
        name: value.clone()
        for name, value in getattr(model, part).state_dict().items()
        if "running" in name or "batches" in name
    }


def test_terms_are_those_of_the_parts_put_together_by_hand(model, objective, batch, banks):
    expected = {}
    with torch.no_grad():
        again = copy.deepcopy(model)
        present = {name: torch.from_numpy(getattr(batch, f"has_{name}")) for name in MODALITIES}
        B, D, J, P = len(batch), 16, 16, batch.anchors.shape[1]
        rgb = again.encode_rgb(again.prepare_rgb(torch.from_numpy(batch.rgb)))
        depth = again.encode_depth(again.prepare_depth(torch.from_numpy(batch.depth[batch.has_depth])))
        keypoints_BJ3 = torch.from_numpy(batch.keypoints)
        skeleton = again.encode_keypoints(again.prepare_keypoints(keypoints_BJ3), keypoints_BJ3[..., 2])
        embeddings = {
            "rgb": again.global_embedding("rgb", rgb),
            "keypoints": again.global_embedding("keypoints", skeleton),
        }
        embeddings["depth"] = torch.zeros(B, D)
        embeddings["depth"][present["depth"]] = again.global_embedding("depth", depth)
        expected |= sample_terms(
            objective, embeddings, present, torch.from_numpy(batch.index), banks, negatives(objective)
        ).values
        # Whole dense maps, and then one cell after the other.
        maps = {"rgb": again.dense_map("rgb", rgb), "depth": torch.zeros(B, D, 16, 16)}
        maps["depth"][present["depth"]] = again.dense_map("depth", depth)
        at = {name: (torch.zeros(B, P, D), torch.zeros(B, J, D)) for name in maps}
        for name, (anchors, joints) in at.items():
            for b in range(B):
                for p, cell in enumerate(batch.anchors[b]):
                    if cell >= 0:
                        anchors[b, p] = maps[name][b, :, cell // 16, cell % 16]
                for j, (x, y, visible) in enumerate(batch.keypoints[b]):
                    if visible:
                        joints[b, j] = maps[name][b, :, int(y // 4), int(x // 4)]
        cells = torch.from_numpy(np.stack([batch.anchors // 16, batch.anchors % 16], 2)).float()
        expected |= dense_terms(
            objective, at["rgb"][0], at["depth"][0], cells, torch.from_numpy(batch.anchors >= 0)
        ).values
        visible = keypoints_BJ3[..., 2] > 0
        joints = at["rgb"][1], at["depth"][1]
        seen = dict.fromkeys(MODALITIES, visible)
        expected |= sparse_terms(objective, again.joint_embedding(skeleton), *joints, seen, present).values

        got, got_embeddings = terms_of(model, objective, batch, banks)
    assert got.values.keys() == expected.keys()
    assert len(expected) == 11
    for name, value in expected.items():
        assert got.values[name].item() == pytest.approx(value.item(), rel=2e-5, abs=2e-6), name
    for name in MODALITIES:
        torch.testing.assert_close(got_embeddings[name], embeddings[name], rtol=1e-5, atol=1e-6)


def test_stage_1_is_the_sample_level_alone_and_needs_no_dense_mapper(objective, batch, banks):
    model = HCMoCo(tiny.tiny_config().model, seed=1).train()
    terms, _ = terms_of(model, objective, batch, banks, stage=1)
    assert {name[0] for name in terms.values} == {"g"}
    assert len(terms.values) == 6


@pytest.mark.parametrize("stage", [2, 1])
def test_every_parameter_learns_where_all_modalities_are_there(model, objective, batch, banks, stage):
    if stage == 1:
        model.dense_mappers = None
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(
                module.weight
            )  # timm begins residual branches at 0, which stops the gradient for one step
    terms, _ = terms_of(model, objective, batch, banks, stage=stage)
    total(terms.values, objective, "full" if stage == 2 else "sample").backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert idle == []


def test_rows_without_depth_never_reach_the_depth_encoder(model, objective, batch, banks):
    """Neither its batch norm nor its embeddings: as if the batch had only the rows with depth."""
    only = tiny.rows_of(batch, batch.has_depth)
    assert 0 < len(only) < len(batch)
    alone = copy.deepcopy(model)
    _, embeddings = terms_of(model, objective, batch, banks)
    _, expected = terms_of(alone, objective, only, banks)
    for name, value in statistics(alone, "depth").items():
        assert tiny.same_bits(value, statistics(model, "depth")[name]), name
    assert tiny.same_bits(embeddings["depth"][batch.has_depth], expected["depth"])
    assert not embeddings["depth"][~batch.has_depth].any()
    moved = [
        not torch.equal(value, statistics(model, "rgb")[name])
        for name, value in statistics(alone, "rgb").items()
        if "mean" in name
    ]
    assert all(moved), "the RGB encoder did see the other rows"


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_stands_where_a_modality_is_absent_reaches_nothing(model, objective, batch, banks, modality):
    batch, garbage = copy.deepcopy(batch), copy.deepcopy(batch)
    lacks = np.arange(len(batch)) % 3 == 0
    for each in (batch, garbage):
        getattr(each, f"has_{modality}")[lacks] = False
        getattr(each, modality)[lacks] = 0
        if modality == "depth":
            each.anchors[~each.has_depth] = -1
    absent = ~getattr(garbage, f"has_{modality}")
    getattr(garbage, modality)[absent] = np.nan if modality == "keypoints" else 77
    outcomes = []
    for each in (batch, garbage):
        copied = copy.deepcopy(model)
        terms, embeddings = terms_of(copied, objective, each, banks)
        total(terms.values, objective, "full").backward()
        outcomes.append((terms, embeddings, copied))
    (one, one_embeddings, one_model), (other, other_embeddings, other_model) = outcomes
    for name in one.values:
        assert tiny.same_bits(one.values[name], other.values[name]), name
        assert not one.samples[name][lacks].any() or modality not in name.replace("inter", "")
    for name in MODALITIES:
        assert tiny.same_bits(one_embeddings[name], other_embeddings[name])
    for (name, a), b in zip(one_model.named_parameters(), other_model.parameters(), strict=True):
        assert tiny.same_bits(a.grad, b.grad), name
    for name, value in one_model.state_dict().items():
        assert tiny.same_bits(value, other_model.state_dict()[name]), name


@pytest.mark.parametrize("stage", [2, 1])
@pytest.mark.parametrize(
    "gone", [("depth",), ("rgb",), ("keypoints",), ("depth", "keypoints"), ("rgb", "keypoints"), ("rgb", "depth")]
)
def test_a_batch_without_a_modality(model, objective, batch, banks, gone, stage):
    before = {part: statistics(model, part) for part in MODALITIES}
    terms, embeddings = terms_of(model, objective, tiny.without(batch, *gone), banks, stage=stage)
    for name, value in terms.values.items():
        assert value.isfinite(), name
        if any(modality in name for modality in gone):
            assert (value.item(), terms.counts[name].item(), terms.samples[name].any().item()) == (0, 0, False), name
    loss = total(terms.values, objective, "full" if stage == 2 else "sample")
    loss.backward()
    for modality in MODALITIES:
        assert embeddings[modality].any() == (modality not in gone)
        moved = [not torch.equal(value, before[modality][name]) for name, value in statistics(model, modality).items()]
        assert all(moved) if modality not in gone else not any(moved)
        for each in getattr(model, modality).parameters():
            assert each.grad is None or modality not in gone or not each.grad.any()


@pytest.mark.parametrize("kept", [(), ("rgb",), ("depth",), MODALITIES])
def test_a_single_row(model, objective, batch, banks, kept):
    row = tiny.rows_of(batch, np.flatnonzero(batch.has_depth)[:1])
    terms, embeddings = terms_of(model, objective, tiny.without(row, *set(MODALITIES) - set(kept)), banks)
    assert all(value.isfinite() for value in terms.values.values())
    assert {name for name in MODALITIES if embeddings[name].any()} == set(kept)
    if len(kept) < 2:
        assert not any(count.item() for name, count in terms.counts.items() if name != "s/inter")


def test_nobody_visible(model, objective, batch, banks):
    """Joints out of the picture: the skeleton is still nobody's, and its terms are 0."""
    batch = copy.deepcopy(batch)
    batch.keypoints[:] = 0
    batch.has_keypoints[:] = False
    batch.keypoints[..., :2] = 1e9
    terms, _ = terms_of(model, objective, batch, banks)
    assert all(value.isfinite() for value in terms.values.values())
    assert {name for name, count in terms.counts.items() if count} == {
        "g/rgb-depth",
        "g/depth-rgb",
        "d/rgb-depth",
        "d/depth-rgb",
    }


def test_one_joint_visible_is_in_the_picture_and_the_others_are_not(model, objective, batch, banks):
    batch = copy.deepcopy(batch)
    batch.keypoints[:, 1:] = 0
    terms, _ = terms_of(model, objective, batch, banks)
    assert terms.counts["s/rgb-keypoints"].item() == batch.keypoints[:, 0, 2].sum()
    assert terms.values["s/rgb-keypoints"].item() == 0, "one joint among one"
    assert all(value.isfinite() for value in terms.values.values())


def test_the_release_lets_the_encoders_see_blank_rows(model, batch, banks):
    released = tiny.tiny_config(objective={"release": {"encode_absent": True}}).objective
    blank = tiny.without(batch, "depth")
    before = statistics(model, "depth")
    terms, embeddings = terms_of(model, released, blank, banks)
    assert embeddings["depth"].any()
    assert any(not torch.equal(value, before[name]) for name, value in statistics(model, "depth").items())
    assert not any(terms.counts[name].item() for name in terms.counts if "depth" in name), (
        "they enter no term all the same"
    )


def test_bfloat16_is_near_float32(model, objective, batch, banks):
    exact, _ = terms_of(copy.deepcopy(model), objective, batch, banks)
    with torch.autocast("cpu", torch.bfloat16):
        rough, embeddings = terms_of(model, objective, batch, banks)
    loss = total(rough.values, objective, "full")
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(each.dtype == torch.float32 for each in embeddings.values())
    assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())
    for name, value in exact.values.items():
        # Eight bits of mantissa: cosines are off by about 0.01, logits by 0.01 / 0.07.
        assert rough.values[name].item() == pytest.approx(value.item(), abs=0.25), name
        assert rough.values[name].item() != value.item(), "else nothing was rounded"


def views_of(model, batch, dtype):
    views = to_device(batch, torch.device("cpu"), model)
    views.inputs = {name: each.to(dtype) for name, each in views.inputs.items()}
    return views


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_threads_change_a_step_by_rounding_alone(model, objective, batch, banks, dtype):
    steps = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        again = copy.deepcopy(model).to(dtype)
        terms, _ = compute_terms(again, objective, views_of(again, batch, dtype), banks, negatives(objective), stage=2)
        loss = total(terms.values, objective, "full")
        loss.backward()
        steps.append((loss.detach(), flat_gradient(again)))
    for one, other in zip(*steps, strict=True):
        assert_step_close(other, one)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pieces_of_a_batch_change_embeddings_and_gradients_by_rounding_alone(model, batch, dtype):
    """Batch norm takes its running statistics: rows do not see each other."""
    results = []
    for pieces in ([range(10)], [range(3), range(3, 10)]):
        again = copy.deepcopy(model).to(dtype).eval()
        found = []
        for rows in pieces:
            views = views_of(again, tiny.rows_of(batch, list(rows)), dtype)
            features, _ = encode(again, views)
            found.append(
                torch.cat(
                    [views.spread(name, again.global_embedding(name, each)) for name, each in features.items()], 1
                )
            )
        whole = torch.cat(found)
        whole.sin().sum().backward()
        results.append((whole.detach(), flat_gradient(again)))
    for one, other in zip(*results, strict=True):
        assert one.any()
        assert_step_close(other, one)


def test_draws_of_a_step_are_the_same_for_any_number_of_workers():
    for per_sample in (False, True):
        over = {"per_sample_negatives": per_sample, "bank_start": "random"}
        objective = tiny.tiny_config(objective={"release": over}).objective
        whole = draw_negatives(objective, seed=1, step=3, lanes=range(6), batch_size_per_lane=2)
        assert whole.dtype == np.float64
        for world in (1, 2, 3, 6):
            for rank in range(world):
                part = draw_negatives(objective, seed=1, step=3, lanes=range(rank, 6, world), batch_size_per_lane=2)
                mine = (
                    whole
                    if not per_sample
                    else np.concatenate([whole[2 * lane : 2 * lane + 2] for lane in range(rank, 6, world)])
                )
                np.testing.assert_array_equal(part, mine)
        assert not np.array_equal(
            whole, draw_negatives(objective, seed=1, step=4, lanes=range(6), batch_size_per_lane=2)
        )
        assert len(np.unique(whole)) == whole.size
