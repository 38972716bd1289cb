"""A grid of fine-tunings: each cell once, whatever happens in between."""

import json
import math
from types import SimpleNamespace

import pytest
import yaml

from tuning import fractions
from tuning._cells import _difference, _mean, table

PEOPLE = {"domain": "indoor", "size": 64, "seed": 1}
RECIPE = {
    "name": "tiny",
    "out": "unused",
    "task": {"size": 64},
    "encoder": {"name": "test_resnet"},
    "data": {
        "train": {"path": "data/train", "people": {**PEOPLE, "count": 24}},
        "test": {"path": "data/test", "people": {**PEOPLE, "count": 6, "seed": 2}},
    },
    "steps": 2,
    "validations": 1,
    "validation": 4,
    "train": {"lanes": 1, "rows_per_lane": 4, "window_steps": 2},
}
GRID = {
    "out": "runs/grid",
    "baseline": "scratch",
    "inits": {"scratch": "scratch", "other": "scratch"},
    "cells": [{"tasks": ["parsing-rgb"], "labels": {"samples": 5}, "seeds": [0, 1]}],
}


@pytest.fixture
def home(ray_session, tmp_path, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def go(home, over=None, *arguments: str) -> int:
    (home / "grid.yaml").write_text(yaml.safe_dump({**GRID, "recipe": str(home / "tiny.yaml"), **(over or {})}))
    return fractions.main(["--grid", str(home / "grid.yaml"), *arguments])


def test_each_cell_is_done_once(home, capsys):
    assert go(home, None, "--plan") == 0
    assert "4 cells, 0 done, 4 to do" in capsys.readouterr().out
    assert not (home / "data").exists(), "a plan makes nothing"
    assert not (home / "runs/grid/table.md").exists()
    assert go(home) == 0
    assert "| parsing-rgb | 5 samples (5) | mIoU | 2 |" in capsys.readouterr().out
    files = sorted((home / "runs/grid/cells").iterdir())
    assert [each.name.rpartition("_")[0] for each in files] == [
        f"parsing-rgb_{init}_5-samples_seed{seed}" for init in ("other", "scratch") for seed in (0, 1)
    ]
    before = {each: each.stat().st_mtime_ns for each in files}
    results = [json.loads(each.read_text()) for each in files]
    # "other" is scratch under another name: the same seed gives the same figures, another seed others.
    assert results[0]["test"] == results[2]["test"]
    assert results[0]["labels"]["digest"] != results[1]["labels"]["digest"]
    assert not list((home / "runs/grid/work").iterdir())

    assert go(home) == 0
    assert "4 done, 0 to do" in capsys.readouterr().out
    assert {each: each.stat().st_mtime_ns for each in files} == before

    files[1].unlink()
    assert go(home) == 0
    assert "3 done, 1 to do" in capsys.readouterr().out
    assert json.loads(files[1].read_text())["test"] == results[1]["test"]
    assert all(each.stat().st_mtime_ns == time for each, time in before.items() if each != files[1])


def test_a_cell_that_fails_does_not_stop_the_others(home, capsys):
    cells = [{"tasks": ["parsing-rgb"], "labels": labels, "seeds": [0]} for labels in ({"samples": 5}, {"samples": 500})]
    assert go(home, {"cells": cells, "inits": {"scratch": "scratch"}}) == 1
    out = capsys.readouterr().out
    assert "failed: parsing-rgb_scratch_500-samples_seed0" in out
    assert "at most 20" in out
    assert "1 of 2" in out


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"baseline": "nobody"}, "baseline = 'nobody' is not among its inits"),
        ({"cells": [{"tasks": ["parsing"], "labels": {}, "seeds": [0]}]}, "'parsing' is not a task"),
        ({"inits": {"scratch": "scratch", "gone": "nowhere/at/all"}}, "nowhere/at/all cannot be read"),
        ({"seeds": 3}, "unknown key 'seeds'"),
    ],
)
def test_a_mistake_is_one_line(home, capsys, over, message):
    assert go(home, over) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(("argument", "message"), [("--cpus=0", "--cpus 0: must be"), ("seed=3", "seed=3: the grid says what")])
def test_a_mistaken_argument_is_one_line(home, capsys, argument, message):
    assert go(home, None, argument) == 2
    assert message in capsys.readouterr().err


def test_the_table_pairs_seeds():
    def cell(init, seed):
        return SimpleNamespace(task="t", init=init, labels="10%", name=f"{init}{seed}", config=SimpleNamespace(seed=seed))

    scores = {"a0": 0.10, "a1": 0.30, "b0": 0.15, "b1": 0.45, "b2": 0.90}
    cells = [cell(name[0], int(name[1])) for name in scores]
    results = {name: {"main": "m", "labels": {"rows": 9}, "test": {"figures": {"m": value}}} for name, value in scores.items()}
    row = table(cells, results, "a").splitlines()[-1]
    # 5 and 15 points over the two seeds that both have.
    assert row == f"| t | 10% (9) | m | 3 | 20.0 ± {math.sqrt(200):.1f} | 50.0 ± 37.7 | +10.0 ± 5.0 |"
    assert (_mean([]), _mean([3.0]), _difference([]), _difference([-2.0])) == ("-", "3.0", "-", "-2.0")
