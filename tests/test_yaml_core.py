"""What is typed is read as typed, and no key is dropped."""

from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field

from hcmoco import yaml_core
from hcmoco.config import Config, build, load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe, as_yaml

RECIPES = sorted(cli.RECIPES.rglob("*.yaml"))


class Below(Config):
    name: str = "below"
    number: int = 0


class Fields(Config):
    text: str = ""
    perhaps: str | None = None
    texts: tuple[str, ...] = ()
    named: dict[str, str] = Field({})
    choice: Literal["60", "auto"] = "auto"
    whole: int = 0
    wholes: tuple[int, ...] = ()
    number: float = Field(0.0, ge=0)
    flag: bool = False
    free: dict[str, bool | int | float | str] = Field({})
    below: Below = Below()
    mapped: dict[str, Below] = Field({})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.relative_to(cli.RECIPES).as_posix())
def test_the_committed_recipes_hold_the_same_values_as_by_yaml_1_1(path):
    text = path.read_text()
    assert yaml_core.load(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("010", 10), ("064", 64), ("+1", 1), ("-0", 0), ("0o10", 8), ("0x1F", 31), ("1e-3", 0.001), ("1E3", 1000.0)],
        *[(".5", 0.5), ("5.", 5.0), ("1.0e-05", 1e-5), ("-.inf", -float("inf")), (".INF", float("inf"))],
        *[("true", True), ("FALSE", False), ("~", None), ("Null", None), ("", None)],
        *[(text, text) for text in ("1:30", "1:30.5", "no", "Yes", "on", "OFF", "y", "2024_01", "1_0.5", "0b11")],
        *[(text, text) for text in ("2024-01-01", "tRue", "1e", ".e3", "0x", "08a", "+-1", "=", ".")],
    ],
)
def test_scalars_are_those_of_the_core_schema(text, value):
    found = yaml_core.load(f"key: {text}")["key"]
    assert found == value
    assert isinstance(found, type(value))


def test_not_a_number_is_one():
    assert yaml_core.load("[.nan, .NaN]")[0] != yaml_core.load("[.nan]")[0]


@pytest.mark.parametrize("text", ["010", "1e3", "2024_01", "1:30", "no", "0x10", "1.50", "2024-01-01", "+7"])
def test_a_text_is_what_was_typed(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"text: {text}\nperhaps: {text}\ntexts: [{text}]\nnamed: {{{text}: {text}}}\n"
        f"below: {{name: {text}}}\nmapped: {{{text}: {{name: {text}}}}}\n"
    )
    overrides = [f"text={text}", f"perhaps={text}", f"texts=[{text}]", f"named.{text}={text}", f"below.name={text}"]
    overrides[3:4] = [] if "." in text else overrides[3:4]  # a dot parts two keys
    for config in (build(Fields, load_recipe(path), "recipe"), build(Fields, parse_overrides(overrides), "overrides")):
        assert (config.text, config.perhaps, config.texts, config.below.name) == (text, text, (text,), text)
        assert config.named in ({text: text}, {})
        assert all(type(value) is str for value in (config.text, config.perhaps, *config.texts))
    assert build(Fields, load_recipe(path), "recipe").mapped[text].name == text


@pytest.mark.parametrize(
    "text",
    ["runs/a #1", "%20 a", "@x", "a: b", "- x", "&x", "#1", "!x", "a*", "*a", "?", "|x", "`x`", "ä ö", "{a: 1}", "[1]"],
)
def test_a_text_on_the_command_line_is_no_yaml(text):
    assert build(Fields, parse_overrides([f"text={text}"]), "overrides").text == text


@pytest.mark.parametrize("quoted", ["'[x'", '"[x"', "'[x' # a remark"])
def test_quotes_hold_what_would_be_open_brackets(quoted):
    with pytest.raises(UserError, match="override 'text=\\[x': the value is not valid YAML; quote it if it is text"):
        parse_overrides(["text=[x"])
    assert build(Fields, parse_overrides([f"text={quoted}"]), "overrides").text == "[x"


def test_true_as_a_text_needs_the_quotes_that_the_message_names():
    for override in ("text=true", "texts=[true]"):
        with pytest.raises(UserError, match="must be text; put it in double quotes"):
            build(Fields, parse_overrides([override]), "overrides")
    assert build(Fields, parse_overrides(['text="true"', 'texts=["true"]']), "overrides").texts == ("true",)
    assert build(Fields, yaml_core.load('text: "true"'), "recipe").text == "true"


def test_a_number_is_the_decimal_that_was_typed():
    config = build(Fields, parse_overrides(["whole=010", "wholes=[064, 1]", "number=1e-3", "free.a=010"]), "overrides")
    assert (config.whole, config.wholes, config.number, config.free) == (10, (64, 1), 0.001, {"a": 10})
    assert {type(each) for each in (config.whole, *config.wholes, config.free["a"])} == {int}
    assert type(config.number) is float
    assert build(Fields, parse_overrides(["choice=60"]), "overrides").choice == "60"


@pytest.mark.parametrize("override", ["whole=2024_01", "wholes=[1_0]", "number=1_0.5", "whole=1:30", "whole=no"])
def test_what_is_no_number_is_refused(override):
    with pytest.raises(UserError, match=r"must be a (whole )?number"):
        build(Fields, parse_overrides([override]), "overrides")


@pytest.mark.parametrize(("text", "value"), [("no", False), ("on", True), ("True", True), ("false", False)])
def test_a_flag_takes_the_words_for_true_and_false(text, value):
    assert build(Fields, parse_overrides([f"flag={text}"]), "overrides").flag is value


def test_a_config_file_reads_the_same_by_either_version():
    config = build(
        Fields,
        {"text": "1e3", "perhaps": "010", "texts": ["no", "1:30", "2024_01", "0o7"], "free": {"a": "1e3", "b": 1e-5}},
        "test",
    )
    text = as_yaml(config)
    assert yaml_core.load(text) == yaml.safe_load(text) == config.model_dump(mode="json")
    assert build(Fields, yaml_core.load(text), "again") == config


def test_the_config_file_of_an_earlier_version_is_read_as_before():
    config = run_config.load(PretrainRecipe, "people-cpu", ["output_dir=1e3"])
    old = yaml.safe_dump({**config.model_dump(mode="json"), "output_dir": "1e3"}, sort_keys=False)
    assert "output_dir: 1e3\n" in old  # not quoted: YAML 1.1's numbers have a dot
    read = PretrainRecipe.model_validate(yaml_core.load(old))
    assert read.output_dir == "1e3"
    assert read.identity() == config.identity()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("optim: {lr: 0.011}\nname: x\noptim: {name: adamw}\n", "'optim' appears twice, in lines 1 and 3"),
        ("optim:\n  lr: 1\n  name: sgd\n  lr: 2\n", "'lr' appears twice, in lines 2 and 4"),
        ("optim: {lr: 1, 'lr': 2}\n", "'lr' appears twice, in line 1"),
        ("a: [{b: 1, b: 2}]\n", "'b' appears twice, in line 1"),
        ("1: a\n'1': b\n", "'1' appears twice, in lines 1 and 2"),
    ],
)
def test_a_key_twice_in_a_recipe_is_refused_with_both_places(tmp_path, text, where):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(caught.value) == f"recipe {path} is not valid YAML: the key {where}; keep one of them"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["optim.lr=1", "optim.lr=2"], "optim.lr is given twice, by 'optim.lr=1' and by 'optim.lr=2'"),
        (["optim.lr=1", "optim.lr=1"], "optim.lr is given twice, by 'optim.lr=1' and by 'optim.lr=1'"),
        (["optim={lr: 1}", "optim.lr=2"], "optim.lr is given twice, by 'optim={lr: 1}' and by 'optim.lr=2'"),
        (["optim.lr=2", "optim=null"], "optim.lr is given twice, by 'optim.lr=2' and by 'optim=null'"),
        (["optim={lr: 1, lr: 2}"], "override 'optim={lr: 1, lr: 2}': the key 'lr' appears twice, in line 1"),
    ],
)
def test_a_key_twice_among_overrides_is_refused_with_both(overrides, line):
    with pytest.raises(UserError) as caught:
        parse_overrides(overrides)
    assert str(caught.value) == f"{line}; keep one of them"


def test_overrides_of_different_keys_merge():
    assert parse_overrides(["a={b: 1}", "a.c=2", "a.d.e=null", "a.d.f=3"]) == {
        "a": {"b": 1, "c": 2, "d": {"e": None, "f": 3}}
    }


def test_a_recipe_may_have_anchors_and_extend_another(tmp_path):
    (tmp_path / "base.yaml").write_text("optim: {lr: 0.011, momentum: 0.9}\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: base\nx: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\noptim: {name: adamw}\n"
    )
    assert load_recipe(tmp_path / "mine.yaml") == {
        "optim": {"lr": 0.011, "momentum": 0.9, "name": "adamw"},
        "x": {"a": 1, "b": 2},
        "y": {"a": 1, "b": 3},
    }


def test_no_other_module_reads_yaml():
    root = Path(yaml_core.__file__).parents[1]
    files = [path for part in ("hcmoco", "hcmoco_ray") for path in (root / part).rglob("*.py")]
    users = [path.name for path in files if "yaml.safe_load" in path.read_text() or "yaml.load" in path.read_text()]
    assert users == []


def test_merging_keeps_what_was_typed():
    values = merge({"below": {"number": 1}}, parse_overrides(["below.name=010"]))
    assert build(Fields, values, "test").below.name == "010"
