"""What a sweep's table, picture and recipe say."""

import io
import math

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import yaml

from hcmoco.config import build
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.sweep.config import Dimension, SweepConfig
from hcmoco_ray.experiments.sweep.report import best, draw_panel, picture, ranked, recipe, round_values, table
from tests.helpers.sweep_program import RECIPE

SPACE = {"objective.lambda_d": Dimension(loguniform=(0.1, 10)), "optim.name": Dimension(choice=("adam", "adamw"))}


def record(
    number: int, status: str, score: float | None, steps: int = 6, lambda_d: float = 1.0, name: str = "adam"
) -> dict:
    values = {"objective.lambda_d": lambda_d, "optim.name": name}
    schedule = [{"step": 0, "values": values}]
    return {
        "number": number,
        "values": values,
        "status": status,
        "score": score,
        "steps": steps,
        "seconds": 12.4,
        "schedule": schedule,
    }


RECORDS = [
    record(0, "done", 20.0, lambda_d=0.5),
    record(1, "stopped", 90.0, steps=2, lambda_d=5.0, name="adamw"),
    record(2, "failed: loss/d became nan in step 3 | lower optim.lr", None, steps=2, lambda_d=9.0),
    record(3, "done", 35.5, lambda_d=0.2, name="adamw"),
    record(4, "stopped", 10.0, steps=4),
]


def test_the_best_came_to_its_end():
    assert [each["number"] for each in ranked(RECORDS)] == [3, 0, 4, 1, 2]
    assert best(RECORDS)["number"] == 3
    assert best([RECORDS[1], RECORDS[2]]) is None
    assert best([]) is None
    undefined = record(5, "done", math.nan)
    assert ranked([undefined, *RECORDS])[:3] == [RECORDS[3], RECORDS[0], undefined]
    assert best([undefined]) is None
    assert table([undefined], SPACE, "mIoU").splitlines()[-1].startswith("| 0005 | - |")


def test_the_table_is_sorted_and_whole():
    lines = table(RECORDS, SPACE, "mIoU").splitlines()
    assert lines[0] == "| trial | mIoU, % | objective.lambda_d | optim.name | steps | seconds | status |"
    assert lines[2] == "| 0003 | 35.50 | 0.2 | adamw | 6 | 12 | done |"
    assert lines[-1] == "| 0002 | - | 9 | adam | 2 | 12 | failed: loss/d became nan in step 3 / lower optim.lr |"
    assert {line.count("|") for line in lines} == {8}


@pytest.fixture
def axis():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def places(axis) -> dict[str, list[tuple[float, float]]]:
    return {
        each.get_label(): [tuple(place) for place in np.asarray(each.get_offsets()).tolist()]
        for each in axis.collections
    }


def test_a_panel_shows_every_trial_where_it_was(axis):
    draw_panel(axis, RECORDS, RECORDS[3], "objective.lambda_d", SPACE["objective.lambda_d"])
    assert axis.get_xscale() == "log"
    assert axis.get_xlim()[0] <= 0.1 < 10 <= axis.get_xlim()[1]
    shown = places(axis)
    assert shown["to its end"] == [(0.5, 20.0), (0.2, 35.5)]
    assert shown["stopped early"] == [(5.0, 90.0), (1.0, 10.0)]
    assert shown["best: trial 0003"] == [(0.2, 35.5)]
    ((where, below),) = shown["failed"]
    assert where == 9.0
    assert below < 10.0


def test_ticks_can_be_read(axis):
    assert round_values(0.02, 0.5) == [0.02, 0.05, 0.1, 0.2, 0.5]
    assert round_values(0.1, 10) == [0.1, 1, 10]
    assert round_values(1e-5, 10) == [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10]
    assert round_values(3, 4) == []
    draw_panel(axis, [], None, "optim.lr", Dimension(loguniform=(0.001, 0.01)))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.001", "0.002", "0.005", "0.01"]


def test_a_choice_has_a_place_for_each_value(axis):
    draw_panel(axis, RECORDS, RECORDS[3], "optim.name", SPACE["optim.name"])
    assert axis.get_xscale() == "linear"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["adam", "adamw"]
    assert places(axis)["to its end"] == [(0.0, 20.0), (1.0, 35.5)]


def test_the_picture_has_a_panel_per_key():
    def wide(space) -> int:
        return matplotlib.image.imread(io.BytesIO(picture(RECORDS, space, "mIoU"))).shape[1]

    one = wide({"objective.lambda_d": SPACE["objective.lambda_d"]})
    assert wide(SPACE) > 1.7 * one
    assert picture([], SPACE, "mIoU").startswith(b"\x89PNG")


def test_the_best_trial_is_a_recipe_of_its_own(tmp_path):
    config = SweepConfig(recipe="tiny", output_dir="o", num_trials=5, space=SPACE)
    text = recipe(RECIPE, RECORDS[3], config, "mine", "mIoU")
    values = yaml.safe_load(text)
    built = build(PretrainRecipe, values, "best")
    assert (built.objective.lambda_d, built.optim.name) == (0.2, "adamw")
    assert (built.name, built.output_dir, built.train.workers) == ("tiny-best", "runs/tiny-best", 1)
    assert built.train.save_every == RECIPE["train"]["save_every"]
    base = build(PretrainRecipe, RECIPE, "tiny")
    assert {key: value for key, value in built.identity().items() if key not in ("objective", "optim")} == {
        key: value for key, value in base.identity().items() if key not in ("objective", "optim")
    }
    assert text.startswith("# The best of 5 trials of the sweep mine: trial 0003, mIoU 35.50 %.\n")


def test_a_recipe_says_that_values_changed_on_the_way():
    changed = record(7, "done", 50.0, lambda_d=2.0)
    changed["schedule"] = [
        {"step": 0, "values": {"objective.lambda_d": 4.0}},
        {"step": 20, "from": 3, "values": {"objective.lambda_d": 2.0}},
    ]
    text = recipe(
        RECIPE, changed, SweepConfig(recipe="tiny", output_dir="o", num_trials=5, space=SPACE), "mine", "mIoU"
    )
    assert "#   step 20: objective.lambda_d = 2 (resumed from the state of trial 0003)" in text
    assert yaml.safe_load(text)["objective"]["lambda_d"] == 2.0
