"""Renamed keys: `upgrade` follows them, `canonical` reverses them, and a digest of its result stays the same."""

from typing import ClassVar, Literal

import pytest
from pydantic import Field

from hcmoco.config import Config, build, canonical, fingerprint, first_difference, upgrade
from hcmoco.errors import UserError


class Head(Config):
    renamed: ClassVar = {"blocks": "num_blocks"}
    num_blocks: int = 1


class Other(Config):
    width: int = 3


class Release(Config):
    loose: bool = False


class Parent(Config):
    renamed: ClassVar = {"out": "output_dir"}
    output_dir: str = "here"


class Run(Parent):
    renamed: ClassVar = {"keep": "num_kept", "loose": "release.loose", "gone": "removed: it did nothing"}
    renamed_values: ClassVar = {"schedule": {"drops": "multistep"}}
    num_kept: int = 1
    schedule: Literal["cosine", "multistep"] = "cosine"
    release: Release = Release()
    head: Head | Other = Head()
    heads: tuple[Head, ...] = ()
    named: dict[str, Head] = Field({})


OLD = {
    "out": "there",
    "keep": 2,
    "schedule": "drops",
    "loose": True,
    "head": {"blocks": 4},
    "heads": [{"blocks": 5}, {"blocks": 6}],
    "named": {"a": {"blocks": 7}},
}
NEW = Run(
    output_dir="there",
    num_kept=2,
    schedule="multistep",
    release=Release(loose=True),
    head=Head(num_blocks=4),
    heads=(Head(num_blocks=5), Head(num_blocks=6)),
    named={"a": Head(num_blocks=7)},
)


def test_what_an_earlier_version_wrote_is_upgraded_and_comes_back():
    assert Run.model_validate(upgrade(Run, OLD)) == NEW
    assert canonical(Run, NEW.model_dump(mode="json")) == OLD
    assert fingerprint(canonical(Run, NEW.model_dump(mode="json"))) == fingerprint(OLD)


def test_upgrade_leaves_todays_keys_alone_and_canonical_the_first_ones():
    today = NEW.model_dump(mode="json")
    assert upgrade(Run, today) == today
    assert canonical(Run, OLD) == OLD


def test_a_key_of_another_value_gives_another_digest():
    other = NEW.model_copy(update={"head": Head(num_blocks=5)})
    assert fingerprint(canonical(Run, other.model_dump(mode="json"))) != fingerprint(OLD)


@pytest.mark.parametrize(
    ("key", "line"), [("out", "'out' is now called 'output_dir'"), ("keep", "'keep' is now called 'num_kept'")]
)
def test_an_old_key_in_a_recipe_is_told_also_where_a_base_class_renamed_it(key, line):
    with pytest.raises(UserError, match=line):
        build(Run, {key: 3}, "recipe r")


def test_the_first_difference_is_named_by_its_key():
    now = {"b": {"x": [1, 2], "y": 3}, "a": 1}
    assert first_difference(now, {"a": 1, "b": {"y": 3, "x": [1, 2]}}) is None
    assert first_difference({**now, "b": {"x": [1, 4], "y": 3}}, now) == ("b.x.1", 4, 2)
    assert first_difference({**now, "b": {"x": [1], "y": 3}}, now) == ("b.x", [1], [1, 2])
    assert first_difference({**now, "old": True}, now) == ("old", True, None)
    assert first_difference({"a": 1}, now) == ("b", None, now["b"])
    assert first_difference({}, now) == ("a", None, 1)
    assert first_difference({}, now, sort=False) == ("b", None, now["b"])
