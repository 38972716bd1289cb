"""What the pages in docs/data prepare is what the published recipes read; other data is used with a warning."""

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from hcmoco.config import build, load_recipe
from hcmoco.data.schema import Person
from hcmoco.data.shards.writer import write_shards
from hcmoco.datasets.mpii import MpiiConfig
from hcmoco.training.config import SourceConfig
from hcmoco_ray.prepare import ensure
from hcmoco_ray.prepare.reader import Source, add_arguments, from_arguments

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("paper-*.yaml") if path.parent.name != "grids")


def commands() -> dict[str, Source]:
    """Folder -> the `prepare.py NAME ... --out FOLDER` of the pages."""
    found = {}
    for page in sorted((ROOT / "docs" / "data").glob("*.md")):
        for line in re.findall(
            r"^\s*python pipelines/prepare.py (.*--out data/[\w-]+.*)$", page.read_text(), re.MULTILINE
        ):
            kind, *flags = shlex.split(line)
            if kind != "NAME":
                parser = argparse.ArgumentParser()
                parser.add_argument("--output-dir", "--out")
                add_arguments(parser, kind)
                parsed = parser.parse_args(flags)
                found[parsed.output_dir] = from_arguments(kind, parsed)
    return found


def data_sets(values: dict) -> list[SourceConfig]:
    """All data sets that a recipe names."""
    if "path" in values:
        return [build(SourceConfig, values, "recipe")]
    return [each for value in values.values() if isinstance(value, dict) for each in data_sets(value)]


@pytest.mark.parametrize("recipe", RECIPES, ids=[f"{path.parent.name}/{path.stem}" for path in RECIPES])
def test_the_pages_prepare_what_the_published_recipes_read(recipe):
    prepared = commands()
    named = data_sets(load_recipe(recipe)["data"])
    assert named
    for source in named:
        arguments = prepared[source.path].arguments
        assert {name: arguments[name] for name in source.prepared_with} == source.prepared_with, source.path


def test_mpii_crops_are_as_wide_as_published():
    """The loaders grow the box of 200 * scale pixels by a quarter, and cut 0.75 to 1.25 of it."""
    recipe = load_recipe(ROOT / "recipes" / "paper-w18.yaml")
    padding = recipe["data"]["sources"]["mpii"]["prepared_with"]["padding"]
    assert [padding * each * 200 for each in recipe["augment"]["scale"]] == [200 * 1.25 * 0.75, 200 * 1.25 * 1.25]


@pytest.mark.parametrize(("padding", "warned"), [(1.0, True), (1.25, False)])
def test_other_padding_is_said_when_data_is_opened(tmp_path, capsys, padding, warned):
    about = Source("mpii", MpiiConfig(padding=padding)).about
    people = [
        Person(
            f"mpii/{k}/0",
            "mpii",
            "train",
            32,
            rgb=b"not read",
            keypoints=np.ones((16, 3)),
            box=np.float32([4, 4, 28, 28]),
        )
        for k in range(3)
    ]
    write_shards(str(tmp_path / "mpii"), people, about)
    source = SourceConfig(path=str(tmp_path / "mpii"), prepared_with={"padding": 1.25})
    ensure.open_data("sources.mpii", source)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == warned
    if warned:
        assert lines[0].startswith(
            f"warning: data.sources.mpii: {tmp_path}/mpii was prepared with --padding 1.0, this recipe is made for "
            "--padding 1.25;"
        )
    ensure.open_data("sources.mpii", SourceConfig(path=source.path))
    assert not capsys.readouterr().out, "a recipe that expects nothing"


def test_an_option_that_a_reader_does_not_know_is_not_compared(tmp_path):
    about = Source("mpii", MpiiConfig()).about
    manifest = write_shards(str(tmp_path / "mpii"), [Person("mpii/a/0", "mpii", "train", 32, rgb=b"not read")], about)
    source = SourceConfig(path=str(tmp_path / "mpii"), prepared_with={"stored": "whole"})
    assert ensure.other_options("train", source, manifest) == ""
