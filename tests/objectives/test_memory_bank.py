import numpy as np
import pytest
import safetensors.torch
import torch

from hcmoco.errors import UserError
from hcmoco.objectives import Bank, bank_state, load_bank_state
from tests.helpers import objective_references as reference


class PlainBank:
    """The update rule on one row at a time, in a dictionary."""

    def __init__(self):
        self.rows: dict[int, np.ndarray] = {}

    def update(self, embeddings, index, present, momentum):
        last = {
            int(i): np.asarray(f, np.float64) for f, i, here in zip(embeddings, index, present, strict=True) if here
        }
        for i, f in last.items():
            f = f / np.linalg.norm(f)
            mixed = momentum * self.rows[i] + (1 - momentum) * f if i in self.rows else f
            self.rows[i] = mixed / np.linalg.norm(mixed)


def filled(rng: np.random.Generator, size: int, visited: list[int], width: int = 4) -> Bank:
    bank = Bank.empty(size, width)
    index = torch.tensor(visited)
    bank.update(reference.unit(rng, len(visited), width), index, torch.ones(len(visited), dtype=torch.bool), 0.5)
    return bank


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_updates_equal_the_rule_row_by_row(momentum):
    rng = np.random.default_rng(0)
    bank, plain = Bank.empty(20, 6), PlainBank()
    for _ in range(12):
        embeddings, index, present = (
            reference.unit(rng, 8, 6, dtype=torch.float32),
            rng.integers(0, 20, 8),
            rng.random(8) < 0.6,
        )
        bank.update(embeddings, torch.from_numpy(index), torch.from_numpy(present), momentum)
        plain.update(embeddings, index, present, momentum)
        assert bank.visited.nonzero().flatten().tolist() == sorted(plain.rows)
        assert bank.count == len(plain.rows)
        assert sorted(bank.order[: len(plain.rows)].tolist()) == sorted(plain.rows)
        for i in range(20):
            assert bank.rows[i].numpy() == pytest.approx(plain.rows.get(i, np.zeros(6)), abs=2e-6)
    assert bank.order[20] == 20


def test_the_last_of_several_rows_with_one_address_counts():
    rng = np.random.default_rng(1)
    embeddings = reference.unit(rng, 4, 6, dtype=torch.float32)
    index, present = torch.tensor([3, 3, 5, 3]), torch.tensor([True, True, True, False])
    bank = Bank.empty(8, 6)
    bank.update(embeddings, index, present, 0.5)
    assert torch.allclose(bank.rows[3], embeddings[1], atol=1e-7)
    assert bank.count == 2
    assert bank.order[:2].tolist() == [3, 5]

    many = reference.unit(rng, 500, 6, dtype=torch.float32)
    bank.update(many, torch.full((500,), 7), torch.ones(500, dtype=torch.bool), 0.5)
    assert bank.count == 3
    assert torch.allclose(bank.rows[7], many[-1], atol=1e-7)


def test_absent_rows_change_nothing_even_where_they_hold_nan():
    bank = filled(np.random.default_rng(0), 6, [0, 1, 2])
    before = {name: each.clone() for name, each in bank_state({"rgb": bank}).items()}
    bank.update(torch.full((4, 4), torch.nan), torch.tensor([0, 1, 4, 4]), torch.zeros(4, dtype=torch.bool), 0.5)
    assert all(torch.equal(each, before[name]) for name, each in bank_state({"rgb": bank}).items())


def test_rows_stay_unit_length_from_half_precision_embeddings():
    rng = np.random.default_rng(0)
    bank = Bank.empty(10, 128)
    for _ in range(5):
        bank.update(
            reference.unit(rng, 10, 128, dtype=torch.bfloat16), torch.arange(10), torch.ones(10, dtype=torch.bool), 0.5
        )
    assert bank.rows.dtype == torch.float32
    assert bank.rows.norm(dim=1).numpy() == pytest.approx(np.ones(10), abs=1e-6)


def test_draws_take_visited_rows_by_their_number():
    bank = filled(np.random.default_rng(0), 100, [40, 7, 93, 11])
    u = torch.tensor([0.0, 0.26, 0.74], dtype=torch.float64)
    drawn = bank.gather(torch.cat([u, torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64)])[1:])
    assert drawn.address.tolist() == [7, 93, 11]
    assert drawn.eligible.all()
    assert torch.equal(drawn.rows, bank.rows[[7, 93, 11]])


@pytest.mark.parametrize("count", [1, 3, 7, 1000, 999_983])
def test_the_largest_draw_below_one_stays_inside(count):
    bank = Bank(
        torch.zeros(1_000_000, 1), torch.ones(1_000_000, dtype=torch.bool), torch.arange(1_000_001), torch.tensor(count)
    )
    bank.order[count:] = -1
    drawn = bank.gather(torch.tensor([np.nextafter(1.0, 0.0)], dtype=torch.float64))
    assert drawn.address.tolist() == [count - 1]


def test_draws_are_uniform_over_visited_rows():
    rng = np.random.default_rng(3)
    visited = rng.permutation(5000)[:50].tolist()
    bank = filled(rng, 5000, visited)
    addresses = np.concatenate([bank.gather(torch.from_numpy(rng.random(40))).address.numpy() for _ in range(100)])
    counts = np.bincount(addresses, minlength=5000)[visited]
    assert counts.sum() == 4000
    assert ((counts - 80) ** 2 / 80).sum() < 100, "chi-squared of 49 degrees of freedom: mean 49, standard deviation 10"


@pytest.mark.parametrize(("size", "K"), [(12, 12), (12, 30), (100, 30)])
def test_no_more_visited_rows_than_draws_means_each_of_them_once(size, K):
    visited = [9, 2, 5, 11]
    drawn = filled(np.random.default_rng(0), size, visited).gather(torch.rand(K, dtype=torch.float64))
    assert sorted(drawn.address[drawn.eligible].tolist()) == sorted(visited)


def test_a_bank_never_visited_offers_nothing():
    for size in (5, 500):
        assert not Bank.empty(size, 4).gather(torch.rand(50, dtype=torch.float64)).eligible.any()


def test_drawn_rows_outlive_an_update():
    for size in (6, 200):
        bank = filled(np.random.default_rng(0), size, [0, 1, 2])
        drawn = bank.gather(torch.rand(50, dtype=torch.float64))
        before = [part.clone() for part in drawn]
        bank.update(torch.randn(6, 4), torch.arange(6), torch.ones(6, dtype=torch.bool), 0.5)
        assert all(torch.equal(part, old) for part, old in zip(drawn, before, strict=True))


def test_a_row_is_no_negative_of_its_own_sample():
    bank = filled(np.random.default_rng(0), 5, [0, 1, 2, 3])
    similarity = bank.gather(torch.rand(9, dtype=torch.float64)).similarity(torch.randn(2, 4), torch.tensor([1, 4]))
    assert torch.isinf(similarity).tolist() == [[False, True, False, False, True], [False, False, False, False, True]]


def test_a_step_gathers_at_most_30_megabytes():
    K, width = 16384, 128
    drawn = Bank.random(20_000, width, np.random.default_rng(0)).gather(torch.rand(K, dtype=torch.float64))
    assert 3 * sum(part.numel() * part.element_size() for part in drawn) <= 30e6


def test_float32_draws_are_refused():
    for gather in (Bank.empty(4, 2).gather, Bank.empty(4, 2).gather_per_sample):
        with pytest.raises(ValueError, match="float64"):
            gather(torch.rand(3))


def test_random_start_counts_every_row():
    bank = Bank.random(300, 16, np.random.default_rng(0))
    assert bank.count == 300
    assert bank.visited.all()
    assert bank.rows.norm(dim=1).numpy() == pytest.approx(np.ones(300), abs=1e-6)
    assert torch.equal(bank.rows, Bank.random(300, 16, np.random.default_rng(0)).rows)
    old = bank.rows[5].clone()
    bank.update(
        new := reference.unit(np.random.default_rng(1), 1, 16, dtype=torch.float32),
        torch.tensor([5]),
        torch.tensor([True]),
        0.5,
    )
    mixed = 0.5 * old + 0.5 * new[0]
    assert torch.allclose(bank.rows[5], mixed / mixed.norm(), atol=1e-6)
    assert bank.count == 300


def test_saved_state_resumes_the_same_bank(tmp_path):
    rng = np.random.default_rng(0)
    banks = {name: filled(rng, 30, rng.permutation(30)[:8].tolist()) for name in ("rgb", "depth")}
    safetensors.torch.save_file(bank_state(banks), tmp_path / "banks.safetensors")
    resumed = {name: Bank.empty(30, 4) for name in banks}
    load_bank_state(resumed, safetensors.torch.load_file(tmp_path / "banks.safetensors"))
    batch = reference.unit(rng, 6, 4), torch.from_numpy(rng.integers(0, 30, 6)), torch.ones(6, dtype=torch.bool)
    u = torch.rand(5, dtype=torch.float64)
    for name in banks:
        for bank in (banks[name], resumed[name]):
            bank.update(*batch, 0.5)
        assert all(torch.equal(a, b) for a, b in zip(banks[name].gather(u), resumed[name].gather(u), strict=True))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (bank_state({"rgb": Bank.empty(31, 4)}), r"rgb\.rows.*\[31, 4\].*\[30, 4\]"),
        (bank_state({"depth": Bank.empty(30, 4)}), r"differ in depth\.count, depth\.order"),
    ],
)
def test_state_of_another_run_is_refused_and_changes_nothing(state, message):
    banks = {"rgb": filled(np.random.default_rng(0), 30, [1, 2])}
    before = {name: each.clone() for name, each in bank_state(banks).items()}
    with pytest.raises(UserError, match=message) as error:
        load_bank_state(banks, state)
    assert "\n" not in str(error.value)
    assert all(torch.equal(each, before[name]) for name, each in bank_state(banks).items())
