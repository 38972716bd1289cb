import itertools

import numpy as np
import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import STRIDES, LabelsConfig, Subset, all_rows, split
from tests.helpers import local_finetuning as tiny

NEEDED = ("rgb", "parts")


def ids(subset: Subset) -> list[str]:
    return [row["id"] for row in subset.rows(["id"])]


def chosen(shards: Shards, seed: int = 0, **values) -> tuple[set[str], set[str]]:
    train, validation = split(shards, LabelsConfig(**values), NEEDED, seed=seed)
    return set(ids(train)), set(ids(validation)) if validation else set()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Shards:
    """2,100 rows that are only names, some without parts."""
    folder = tmp_path_factory.mktemp("many")
    people = [
        Person(id=f"many/{k:05d}", dataset="many", split="train", size=8, rgb=b"x", parts=b"x" if k % 3 else None)
        for k in range(3150)
    ]
    write_shards(str(folder / "rows"), people, tiny.about(dataset="many"), part_rows=1000)
    return Shards.open(str(folder / "rows"))


def test_smaller_shares_lie_inside_larger_ones(many):
    nested = [chosen(many, seed=3, fraction=share)[0] for share in (0.01, 0.1, 0.2, 1.0)]
    for small, large in itertools.pairwise(nested):
        assert small < large
    assert [len(each) for each in nested] == [18, 184, 368, 1844]  # of the 2,100 with parts, 256 are for validation
    assert chosen(many, seed=3, num_samples=17)[0] < nested[0]


def test_validation_rows_are_the_same_for_every_share_and_seed_and_never_trained_on(many):
    seen = [chosen(many, seed=seed, **how) for seed in (0, 1) for how in ({"fraction": 0.1}, {"num_samples": 5}, {})]
    assert len({frozenset(validation) for _, validation in seen}) == 1
    assert all(len(validation) == 256 and not train & validation for train, validation in seen)


def test_another_seed_takes_other_rows(many):
    one, other = (chosen(many, seed=seed, fraction=0.1)[0] for seed in (0, 1))
    assert len(one & other) < 0.3 * len(one)
    assert chosen(many, seed=8, labels_seed=0, fraction=0.1)[0] == one


def test_a_subset_does_not_depend_on_how_the_rows_are_stored(people_shards, tmp_path):
    other = tiny.write_people(tmp_path / "again", part_rows=7, order_seed=4)
    subsets = [
        split(shards, LabelsConfig(num_samples=11, num_val_rows=5), NEEDED, seed=2) for shards in (people_shards, other)
    ]
    assert ids(subsets[0][0]) != ids(subsets[1][0])
    assert sorted(ids(subsets[0][0])) == sorted(ids(subsets[1][0]))
    assert [each.digest for each in subsets[0]] == [each.digest for each in subsets[1]]
    assert (
        subsets[0][0].digest
        != split(people_shards, LabelsConfig(num_samples=11, num_val_rows=5), NEEDED, seed=3)[0].digest
    )


@pytest.mark.parametrize(("name", "stride"), STRIDES.items())
def test_the_strided_subsets_are_the_published_rows(many, name, stride):
    labeled = [f"many/{k:05d}" for k in range(3150) if k % 3]
    train, validation = chosen(many, subset=name, num_val_rows=100)
    assert train == set(labeled[::stride][: len(labeled) // stride])
    assert len(validation) == 100
    assert not train & validation
    assert {stride: 17991 // stride for stride in STRIDES.values()} == {10: 1799, 100: 179, 200: 89, 500: 35, 1000: 17}


def test_rows_without_the_labels_are_left_out(many):
    assert len(all_rows(many, ("rgb",))) == 3150
    assert {int(each[-5:]) % 3 for each in ids(all_rows(many, NEEDED))} == {1, 2}


def test_a_subset_reads_what_it_says(people_shards):
    train, _ = split(people_shards, LabelsConfig(num_samples=13, num_val_rows=4), NEEDED, seed=1)
    plan = train.source_plan("labeled")
    assert (len(train), plan.rows, sum(plan.group_rows)) == (13, 13, 13)
    read = [each for group in range(len(plan.group_rows)) for each in train.read_group(group, ["id"])["id"].to_pylist()]
    assert read == ids(train)
    last = len(plan.group_rows) - 1
    assert train.read_group(last, ["id"], rows=[plan.group_rows[last] - 1])["id"].to_pylist() == read[-1:]
    assert [row["id"] for row in train.rows(["id"], limit=5)] == read[:5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fraction": 0.0001, "num_val_rows": 0}, "0.01% of the 40 labeled rows"),
        ({"num_samples": 39, "num_val_rows": 2}, "num_samples = 39: .* at most 38"),
        ({"subset": "itop-1%"}, "itop-1% of the 40 labeled rows"),
        ({"num_val_rows": 40}, "leaves no row to train on"),
    ],
)
def test_a_share_that_leaves_nothing_is_refused(people_shards, values, message):
    with pytest.raises(UserError, match=message):
        split(people_shards, LabelsConfig(**values), NEEDED, seed=0)


def test_rows_without_any_label_are_refused(tmp_path):
    bare = [Person(id=f"bare/{k}", dataset="bare", split="train", size=8, rgb=b"x") for k in range(4)]
    write_shards(str(tmp_path / "bare"), bare, tiny.about(dataset="bare"))
    with pytest.raises(UserError, match=r"has no parts \(its rows have rgb\)"):
        all_rows(Shards.open(str(tmp_path / "bare")), NEEDED)


@pytest.mark.parametrize(
    "values", [{"fraction": 0.5, "num_samples": 3}, {"num_samples": 3, "subset": "itop-1%"}, {"subset": "itop-3%"}]
)
def test_one_way_to_choose(values):
    with pytest.raises(ValueError, match=r"given; give one of|allowed are"):
        LabelsConfig(**values)


def test_the_share_is_floored():
    assert np.floor(0.29 * 100) == 28  # what plain arithmetic would give
    assert LabelsConfig(fraction=0.29).text == "29%"
