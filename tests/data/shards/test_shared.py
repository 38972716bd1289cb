"""People who are in two data sets are counted, whatever these are called."""

from dataclasses import replace

import pytest

from hcmoco.data.schema import Person
from hcmoco.data.shards import shared
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.shared import count_shared
from hcmoco.data.shards.writer import write_shards
from tests.helpers.people_made_here import ABOUT, make_persons


@pytest.fixture(scope="module")
def everybody() -> list[Person]:
    return make_persons(70)


def written(root, persons: list[Person], name: str = "made", seed: int = 5) -> Shards:
    """The data set of some people, in an order of its own."""
    about = ABOUT.model_copy(update={"dataset": name})
    own = [replace(each, id=f"{name}/{each.id.partition('/')[2]}", dataset=name) for each in persons]
    write_shards(str(root), own, about, seed=seed, part_rows=32)
    return Shards.open(str(root))


@pytest.mark.parametrize("name", ["made", "other"])
def test_a_part_of_another_set_is_noticed(tmp_path, everybody, name):
    train = written(tmp_path / "train", everybody)
    test = written(tmp_path / "test", everybody[20:33], name, seed=9)
    assert count_shared(train, test) == 13
    assert count_shared(test, train) == 13


def test_the_same_number_is_not_the_same_person(tmp_path, everybody):
    """Ids alone prove nothing: every recording has a frame 000000."""
    train = written(tmp_path / "train", everybody[:30])
    others = [replace(each, id=own.id) for own, each in zip(everybody[:30], everybody[30:60], strict=True)]
    assert count_shared(train, written(tmp_path / "test", others)) == 0
    assert count_shared(train, written(tmp_path / "apart", everybody[30:])) == 0


def test_people_without_pictures_are_told_by_their_joints(tmp_path, everybody):
    drawn = [replace(each, rgb=None, depth=None) for each in everybody[:20]]
    train = written(tmp_path / "train", drawn)
    assert count_shared(train, written(tmp_path / "test", drawn[5:9])) == 4
    moved = [replace(each, keypoints=each.keypoints + 1) for each in drawn[5:9]]
    assert count_shared(train, written(tmp_path / "moved", moved)) == 0


def test_what_is_too_large_is_not_looked_through(tmp_path, everybody, monkeypatch):
    monkeypatch.setattr(shared, "_MOST_ROWS", 40)
    train = written(tmp_path / "train", everybody)
    assert count_shared(train, written(tmp_path / "test", everybody[:5])) == 0
