"""A bank of `bank_rows` rows is the whole bank's rows of a uniform sample of the people, and of nobody else."""

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.objectives import (
    MODALITIES,
    Bank,
    ObjectiveConfig,
    bank_state,
    choose_members,
    new_bank,
    sample_terms,
    update_banks,
)
from hcmoco.pretraining.banks import bank_bytes, make_banks
from tests.helpers import objective_references as reference

N, M, D, B = 30, 11, 6, 8


def chosen(samples: int, rows: int, seed: int = 0) -> np.ndarray:
    members = choose_members(samples, rows, np.random.default_rng(seed))
    assert members is not None
    return members


def bounded(members: np.ndarray, **release) -> Bank:
    config = ObjectiveConfig(num_negatives=4, bank_rows=len(members), release=release)
    return new_bank(config, N, D, np.random.default_rng(0), members=members)


def batches(seed: int, count: int = 40):
    """Batches of people in which some come twice and some lack the modality."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        index = torch.from_numpy(rng.integers(0, N, B))
        yield reference.unit(rng, B, D, dtype=torch.float32), index, reference.flags(rng, B)


@pytest.mark.parametrize("rows", [1, 2, 7, 12, 13, 100, None])
def test_members_are_as_many_distinct_people_as_there_are_rows(rows):
    if rows is None or rows >= 13:
        assert choose_members(13, rows, np.random.default_rng(0)) is None
        return
    for seed in range(50):
        members = chosen(13, rows, seed)
        assert members.dtype == np.int64
        assert len(members) == rows
        assert (np.diff(members) > 0).all()
        assert 0 <= members[0] <= members[-1] < 13


@pytest.mark.parametrize("rows", [1, 5, 9, 12])
def test_everybody_is_as_likely_a_member(rows):
    """Also where the runs of people that one is taken of are not equally long."""
    rounds, people = 6000, 13
    generator = np.random.default_rng(1)
    counts = np.zeros(people)
    for _ in range(rounds):
        counts[choose_members(people, rows, generator)] += 1
    share = rows / people
    spread = np.sqrt(rounds * share * (1 - share))
    assert np.abs(counts - rounds * share).max() < 4.5 * spread


def test_every_data_set_has_its_share_of_the_rows():
    sizes = np.array([400, 3, 57, 1540])
    for seed in range(30):
        members = chosen(2000, 301, seed)
        held = np.histogram(members, np.cumsum([0, *sizes]))[0]
        assert np.abs(held - sizes * 301 / 2000).max() < 2


def test_the_choice_of_a_large_run_is_quick_and_small():
    members = chosen(3_000_000_000, 1000)
    assert members[0] < 10e6
    assert members[-1] > 2.99e9


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_its_rows_are_the_whole_banks_bit_for_bit(momentum):
    members = chosen(N, M)
    whole, part = Bank.empty(N, D), bounded(members)
    for batch in batches(2):
        whole.update(*batch, momentum)
        part.update(*batch, momentum)
        assert torch.equal(part.rows, whole.rows[members])
        assert torch.equal(part.visited, whole.visited[members])
        visits = [each for each in whole.order[: int(whole.count)].tolist() if each in members]
        assert members[part.order[: int(part.count)]].tolist() == visits
        assert part.order[M] == M
    assert int(part.count) == M


def test_a_batch_of_others_changes_nothing():
    members = chosen(N, M)
    part = bounded(members)
    others = torch.from_numpy(np.setdiff1d(np.arange(N), members))
    everyone = torch.ones(len(others), dtype=torch.bool)
    part.update(torch.full((len(others), D), torch.nan), others, everyone, 0.5)
    assert not part.visited.any()
    assert not part.rows.any()
    assert part.count == 0


@pytest.mark.parametrize("draws", [5, M, 40])
def test_draws_name_people_and_nobody_is_their_own_negative(draws):
    members = chosen(N, M)
    part = bounded(members)
    for batch in batches(3):
        part.update(*batch, 0.5)
    drawn = part.gather(torch.rand(draws, dtype=torch.float64))
    assert drawn.eligible.all()
    assert set(drawn.address.tolist()) <= set(members.tolist())
    for row, person in zip(drawn.rows, drawn.address.tolist(), strict=True):
        assert torch.equal(row, part.rows[members.tolist().index(person)])
    anchors = torch.arange(N)
    masked = drawn.similarity(torch.randn(N, D), anchors).isinf()
    assert torch.equal(masked, anchors[:, None] == drawn.address)


def test_draws_are_uniform_over_the_members():
    members = chosen(5000, 50)
    config = ObjectiveConfig(num_negatives=40, bank_rows=50)
    part = new_bank(config, 5000, 4, np.random.default_rng(0), members=members)
    rng = np.random.default_rng(3)
    part.update(reference.unit(rng, 5000, 4), torch.arange(5000), torch.ones(5000, dtype=torch.bool), 0.5)
    addresses = np.concatenate([part.gather(torch.from_numpy(rng.random(40))).address.numpy() for _ in range(100)])
    counts = np.bincount(addresses, minlength=5000)[members]
    assert counts.sum() == 4000
    assert ((counts - 80) ** 2 / 80).sum() < 100, "chi-squared of 49 degrees of freedom: mean 49, standard deviation 10"


def test_the_sum_over_negatives_is_that_of_the_whole_bank_on_average():
    """Eq. 2's sum over other people, where choice and draw are both random."""
    rng = np.random.default_rng(4)
    embeddings, anchor = reference.unit(rng, N, D, dtype=torch.float32), reference.unit(rng, 1, D, dtype=torch.float32)
    index, everyone, rounds = torch.arange(N), torch.ones(N, dtype=torch.bool), 1500
    sums = []
    for seed in range(rounds):
        part = bounded(chosen(N, M, seed))
        part.update(embeddings, index, everyone, 0.5)
        drawn = part.gather(torch.from_numpy(rng.random(4)))
        sums.append((drawn.similarity(anchor, torch.tensor([N])) / 0.5).exp().mean().item())
    exact = ((anchor @ embeddings.T) / 0.5).exp().mean().item()
    assert abs(np.mean(sums) - exact) < 4 * np.std(sums) / np.sqrt(rounds)


@pytest.mark.parametrize("rows", [N, N + 1, 10**9])
@pytest.mark.parametrize("start", ["empty", "random"])
def test_as_many_rows_as_people_are_the_same_bits_as_no_bound(rows, start):
    configs = [ObjectiveConfig(num_negatives=7, bank_rows=each, release={"bank_start": start}) for each in (None, rows)]
    both = [make_banks(each, samples=N, width=D, seed=3, device="cpu") for each in configs]
    generator = np.random.default_rng(5)
    for embedding, index, present in batches(6):
        flags, draws = dict.fromkeys(MODALITIES, present), torch.from_numpy(generator.random(7))
        inputs = {name: embedding.roll(shift, 0) for shift, name in enumerate(MODALITIES)}
        losses = [
            sample_terms(config, inputs, flags, index, banks, draws).values
            for config, banks in zip(configs, both, strict=True)
        ]
        assert {name: value.item() for name, value in losses[0].items()} == {
            name: value.item() for name, value in losses[1].items()
        }
        for config, banks in zip(configs, both, strict=True):
            update_banks(config, banks, inputs, flags, index)
        one, other = (bank_state(banks) for banks in both)
        assert all(torch.equal(each, other[name]) for name, each in one.items())


def test_the_published_start_and_draw_work_with_fewer_rows():
    members = chosen(N, M)
    part = bounded(members, bank_start="random", per_sample_negatives=True)
    assert part.visited.all()
    drawn = part.gather_per_sample(torch.rand(B, 4, dtype=torch.float64))
    assert drawn.similarity(torch.randn(B, D), torch.arange(B)).shape == (B, 4)
    stale = part.own(torch.arange(N))
    assert stale.visited.nonzero().flatten().tolist() == members.tolist()


def test_all_modalities_hold_the_same_people_and_take_the_bytes_that_are_said():
    config = ObjectiveConfig(num_negatives=7, bank_rows=M)
    banks = make_banks(config, samples=N, width=D, seed=3, device="cpu")
    first, *others = (bank.members for bank in banks.values())
    assert all(torch.equal(first, each) for each in others)
    assert not np.array_equal(first, chosen(N, M, 3)), "keyed by purpose, not by the seed alone"
    for each in (config, ObjectiveConfig(num_negatives=7), ObjectiveConfig(num_negatives=0)):
        state = bank_state(make_banks(each, samples=N, width=D, seed=3, device="cpu"))
        assert sum(tensor.nbytes for tensor in state.values()) == bank_bytes(each, samples=N, width=D)


def test_nothing_waits_for_the_device():
    part = bounded(chosen(N, M))
    for name in ("rows", "visited", "order", "count", "members"):
        setattr(part, name, getattr(part, name).to("meta"))
    index, present = torch.zeros(B, dtype=torch.int64, device="meta"), torch.ones(B, dtype=torch.bool, device="meta")
    part.update(torch.zeros(B, D, device="meta"), index, present, 0.5)
    drawn = part.gather(torch.zeros(4, dtype=torch.float64, device="meta"))
    assert drawn.similarity(torch.zeros(B, D, device="meta"), index).shape == (B, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bank_rows": 0}, "bank_rows = 0: .*at least 1"),
        ({"bank_rows": 100}, "bank_rows = 100 is less than num_negatives = 16384.*; raise bank_rows, or lower"),
        ({"bank_rows": 20000, "release": {"positive": "bank"}}, "release.positive: bank.*; set bank_rows: null"),
    ],
)
def test_what_a_bound_cannot_be_is_said_in_one_line(values, message):
    with pytest.raises(UserError, match=message) as error:
        build(ObjectiveConfig, values, "objective")
    assert "\n" not in str(error.value)


def test_without_a_bank_a_bound_is_as_idle_as_its_momentum():
    for values in ({"num_negatives": 0}, {"method": "mmv"}):
        assert make_banks(ObjectiveConfig(bank_rows=5, **values), samples=9, width=2, seed=0, device="cpu") == {}


def test_no_bound_is_no_part_of_a_runs_identity():
    assert "bank_rows" not in ObjectiveConfig().identity()
    assert ObjectiveConfig(bank_rows=20000).identity()["bank_rows"] == 20000
