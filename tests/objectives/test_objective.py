import math

import numpy as np
import pytest
import torch

from hcmoco.config import Config, build, canonical, upgrade
from hcmoco.errors import UserError
from hcmoco.objectives import (
    MODALITIES,
    Bank,
    ObjectiveConfig,
    ReleaseOptions,
    Terms,
    bank_state,
    dense_terms,
    draw_shape,
    new_bank,
    sample_terms,
    sparse_terms,
    total,
    update_banks,
)
from tests.helpers import objective_references as reference

NAMES = {
    *(f"g/{a}-{c}" for a in MODALITIES for c in MODALITIES if a != c),
    *("d/rgb-depth", "d/depth-rgb"),
    *("s/rgb-keypoints", "s/depth-keypoints", "s/inter"),
}


class Step:
    """Inputs of one step of the whole objective: 6 samples, one without depth and one without RGB."""

    def __init__(self, config: ObjectiveConfig, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu"):
        rng = np.random.default_rng(seed)
        B, P, J, D, N = 6, 9, 5, 8, 40

        def unit(*shape):
            return reference.unit(rng, *shape, D, dtype=dtype).to(device).requires_grad_()

        self.config = config
        self.embeddings = {name: unit(B) for name in MODALITIES}
        self.present = {name: torch.ones(B, dtype=torch.bool) for name in MODALITIES}
        self.present["depth"][2] = self.present["rgb"][4] = False
        self.index = torch.from_numpy(rng.permutation(N)[:B]).to(device)
        bank_rng = np.random.default_rng(seed + 1)  # its own, so that a config that draws more moves nothing else
        self.banks = {name: new_bank(config, N, D, bank_rng) for name in MODALITIES}
        everyone = torch.ones(N, dtype=torch.bool)
        for bank in self.banks.values():
            bank.update(reference.unit(bank_rng, N, D), torch.arange(N), everyone, 0.5)
            for name in ("rows", "visited", "order", "count"):
                setattr(bank, name, getattr(bank, name).to(device))
        self.draws = torch.from_numpy(bank_rng.random(draw_shape(config, B))).to(device)
        self.rgb_cells, self.depth_cells = unit(B, P), unit(B, P)
        self.cells = torch.from_numpy(rng.integers(0, 20, (B, P, 2))).to(device, dtype)
        self.valid = (reference.flags(rng, B, P) & self.present["depth"][:, None]).to(device)
        self.skeleton, self.rgb_joints, self.depth_joints = unit(B, J), unit(B, J), unit(B, J)
        self.visible = reference.flags(rng, B, J).to(device)
        self.present = {name: each.to(device) for name, each in self.present.items()}

    def leaves(self):
        dense = [self.rgb_cells, self.depth_cells, self.skeleton, self.rgb_joints, self.depth_joints]
        return [*self.embeddings.values(), *dense]

    def terms(self) -> Terms:
        sample = sample_terms(self.config, self.embeddings, self.present, self.index, self.banks, self.draws)
        dense = dense_terms(self.config, self.rgb_cells, self.depth_cells, self.cells, self.valid)
        sparse = sparse_terms(
            self.config,
            self.skeleton,
            self.rgb_joints,
            self.depth_joints,
            dict.fromkeys(MODALITIES, self.visible),
            self.present,
        )
        return sample | dense | sparse


def config(**over) -> ObjectiveConfig:
    return ObjectiveConfig(**{"num_negatives": 12, **over})


def test_all_eleven_terms_and_their_weighted_sum():
    settings = config(lambda_g=0.5, lambda_d=2.0, lambda_s=3.0)
    terms = Step(settings).terms()
    values = {name: value.item() for name, value in terms.values.items()}
    assert values.keys() == terms.counts.keys() == terms.samples.keys() == NAMES
    sums = {group: math.fsum(value for name, value in values.items() if name[0] == group) for group in "gds"}
    assert total(terms.values, settings, "full").item() == pytest.approx(
        0.5 * sums["g"] + 2 * sums["d"] + 3 * sums["s"], rel=1e-6
    )
    assert total(terms.values, settings, "sample").item() == pytest.approx(0.5 * sums["g"], rel=1e-6)
    released = Step(ObjectiveConfig.released(num_negatives=12))
    assert total(released.terms().values, released.config, "full").item() == pytest.approx(
        math.fsum(value.item() for value in released.terms().values.values()), rel=1e-6
    )


def test_absent_modalities_enter_no_term_of_theirs():
    terms = Step(config()).terms()
    for name, samples in terms.samples.items():
        if "depth" in name:
            assert not samples[2]
        if "rgb" in name and not name.startswith("d/"):
            assert not samples[4]
    assert terms.samples["s/inter"].all(), "each still has the joints of the modality it has"


def test_a_weight_of_zero_leaves_its_group_out_whatever_it_holds():
    values = {"g/rgb-depth": torch.tensor(1.5), "d/rgb-depth": torch.tensor(math.nan)}
    assert total(values, config(lambda_d=0.0, lambda_s=0.0), "full").item() == 1.5
    assert total(values, config(), "sample").item() == 1.5


def test_missing_unknown_and_repeated_terms_are_refused():
    one = torch.ones(())
    with pytest.raises(ValueError, match="lambda_s = 1 but there is no s/ term"):
        total({"g/rgb-depth": one, "d/rgb-depth": one}, config(), "full")
    with pytest.raises(ValueError, match="no known group: x/rgb-depth"):
        total({"g/rgb-depth": one, "x/rgb-depth": one}, config(), "sample")
    with pytest.raises(ValueError, match="nothing to train"):
        total({"g/rgb-depth": one}, config(lambda_g=0.0), "sample")
    with pytest.raises(ValueError, match="given twice: g/rgb-depth"):
        Terms.of("g/rgb-depth", one, one, one) | Terms.of("g/rgb-depth", one, one, one)


@pytest.mark.parametrize(
    "switch",
    [
        {"tau_g": 0.2},
        {"tau_d": 0.2},
        {"tau_s": 0.2},
        {"release": {"positive": "bank"}},
        {"release": {"per_sample_negatives": True, "bank_start": "random"}},
        {"in_batch_negatives": False},
        {"dense_target": "hard"},
        {"distance_scale": 3.0},
        {"release": {"intra_invisible_in_denominator": True}},
        {"release": {"inter_invisible_joints": True}},
        {"release": {"inter_self_in_denominator": True}},
        {"release": {"inter_unused_in_denominator": True}},
        {"release": {"inter_mean_over_all_rows": True}},
    ],
)
def test_each_switch_reaches_its_terms_and_no_other(switch):
    base, switched = Step(config()).terms().values, Step(config(**switch)).terms().values
    changed = {name for name in NAMES if abs(base[name].item() - switched[name].item()) > 1e-4}
    key = next(iter(switch.get("release", switch)))
    if key.startswith("inter"):
        assert changed == {"s/inter"}
    elif key.startswith("intra"):
        assert changed == {"s/rgb-keypoints", "s/depth-keypoints"}
    else:
        group = {"dense_target": "d", "distance_scale": "d", "tau_d": "d", "tau_s": "s"}.get(key, "g")
        assert changed == {name for name in NAMES if name[0] == group}


def test_released_inter_term_takes_invisible_joints_and_keeps_absent_modalities():
    step = Step(ObjectiveConfig.released(num_negatives=12), dtype=torch.float64)
    expected = reference.released_inter(
        step.rgb_joints, step.depth_joints, step.present["rgb"], step.present["depth"], 0.07
    )
    assert step.terms().values["s/inter"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("absent_in_bank", [False, True])
def test_banks_learn_the_batch_and_blank_images_only_where_asked(absent_in_bank):
    step = Step(config(release={"encode_absent": absent_in_bank, "absent_in_bank": absent_in_bank}))
    before = {name: each.clone() for name, each in bank_state(step.banks).items()}
    loss = total(step.terms().values, step.config, "full")
    update_banks(step.config, step.banks, step.embeddings, step.present, step.index)
    loss.backward()  # shared draws are copies, so the update may come first
    changed = (step.banks["depth"].rows != before["depth.rows"]).any(1).nonzero().flatten().tolist()
    expected = step.index if absent_in_bank else step.index[step.present["depth"]]
    assert changed == sorted(expected.tolist())


@pytest.mark.parametrize(
    "settings", [config(), config(release={"positive": "bank"}), ObjectiveConfig.released(num_negatives=12)]
)
def test_nothing_waits_for_the_device(settings):
    # Meta tensors have no values: an .item(), a branch on a tensor or a boolean index would raise.
    step = Step(settings, device="meta")
    terms = step.terms()
    total(terms.values, settings, "full").backward()
    update_banks(settings, step.banks, step.embeddings, step.present, step.index)
    assert all(value.shape == () for value in terms.values.values())


@pytest.mark.parametrize("settings", [config(), ObjectiveConfig.released(num_negatives=12)])
def test_autocast_changes_nothing(settings):
    plain, cast = Step(settings), Step(settings)
    expected = plain.terms()
    with torch.autocast("cpu", torch.bfloat16):
        terms = cast.terms()
        loss = total(terms.values, settings, "full")
    assert {name: value.item() for name, value in terms.values.items()} == {
        n: v.item() for n, v in expected.values.items()
    }
    total(expected.values, settings, "full").backward()
    loss.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.leaves(), cast.leaves(), strict=True))


def test_half_precision_embeddings_are_contrasted_in_float32():
    half = Step(config(), dtype=torch.bfloat16)
    values = half.terms().values
    assert {value.dtype for value in values.values()} == {torch.float32}
    full = Step(config(), dtype=torch.bfloat16)
    full.embeddings = {name: each.detach().float() for name, each in full.embeddings.items()}
    for name in ("rgb_cells", "depth_cells", "cells", "skeleton", "rgb_joints", "depth_joints"):
        setattr(full, name, getattr(full, name).detach().float())
    assert {n: v.item() for n, v in values.items()} == {n: v.item() for n, v in full.terms().values.items()}


def test_objective_learns_to_align_the_modalities():
    # Free embeddings of 12 people under plain gradient descent: every term must fall well below that of chance.
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    settings = config(lambda_d=0.0, lambda_s=0.0)
    raw = {name: reference.unit(rng, 12, 8, dtype=torch.float32).requires_grad_() for name in MODALITIES}
    everyone = {name: torch.ones(12, dtype=torch.bool) for name in MODALITIES}
    banks = {name: Bank.empty(12, 8) for name in MODALITIES}
    optimizer = torch.optim.SGD(list(raw.values()), lr=0.3)
    losses = []
    for _ in range(60):
        unit = {name: torch.nn.functional.normalize(each, dim=1) for name, each in raw.items()}
        draws = torch.from_numpy(rng.random(draw_shape(settings, 12)))
        terms = sample_terms(settings, unit, everyone, torch.arange(12), banks, draws)
        loss = total(terms.values, settings, "sample")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_banks(settings, banks, unit, everyone, torch.arange(12))
        losses.append(loss.item())
    assert losses[0] > 6 * math.log(12)
    assert losses[-1] < 0.2 * losses[0]
    unit = {name: torch.nn.functional.normalize(each, dim=1) for name, each in raw.items()}
    assert (unit["rgb"] @ unit["depth"].T).argmax(1).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tau_g": 0}, r"tau_g = 0: .*greater than 0"),
        ({"lambda_s": -1}, r"lambda_s = -1: .*at least 0"),
        ({"lambda_g": math.nan}, r"lambda_g = nan"),
        ({"bank_momentum": 1.0}, r"bank_momentum = 1.0: .*less than 1"),
        ({"num_anchors": 0}, r"anchors = 0"),
        ({"release": {"positive": "stale"}}, r"release.positive = 'stale': .*'current' or 'bank'"),
        ({"dense_target": "medium"}, r"'soft' or 'hard'"),
        ({"release": {"per_sample_negatives": True}}, r"needs bank_start: random"),
        ({"release": {"absent_in_bank": True}}, r"needs encode_absent: true"),
        ({"num_negatives": 0, "in_batch_negatives": False}, r"nothing to contrast with"),
        ({"tau": 0.1}, r"unknown key 'tau'; allowed here: method, lambda_g"),
    ],
)
def test_a_bad_value_is_one_line(values, message):
    with pytest.raises(UserError, match=message) as error:
        build(ObjectiveConfig, values, "objective")
    assert "\n" not in str(error.value)


def test_every_field_says_what_it_is():
    for cls in (ObjectiveConfig, ReleaseOptions):
        assert all(field.description for field in cls.model_fields.values())


def test_every_option_of_the_release_is_off_until_all_are_turned_on():
    ours, all_on = ReleaseOptions(), ReleaseOptions.all_on()
    assert all(getattr(ours, name) != getattr(all_on, name) for name in ReleaseOptions.model_fields)
    assert ObjectiveConfig().release == ours
    assert ObjectiveConfig.released().release == all_on


class _Recipe(Config):
    objective: ObjectiveConfig = ObjectiveConfig()


def test_keys_of_before_the_group_name_their_new_place_and_files_still_load():
    with pytest.raises(UserError, match=r"'objective.encode_absent' is now called 'objective.release.encode_absent'"):
        build(_Recipe, {"objective": {"encode_absent": True}}, "recipe")
    with pytest.raises(UserError, match=r"'objective.negatives' is now called 'objective.num_negatives'"):
        build(_Recipe, {"objective": {"negatives": 8}}, "recipe")
    old = {"negatives": 8, "anchors": 12, "positive": "bank", "bank_start": "random", "tau_g": 0.1}
    new = upgrade(ObjectiveConfig, old)
    assert ObjectiveConfig(**new).release == ReleaseOptions(positive="bank", bank_start="random")
    assert canonical(ObjectiveConfig, new) == old
