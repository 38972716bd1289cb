"""Which keys of the three configs decide a result: a new field decides unless it is declared not to."""

import pytest
from pydantic import Field

from hcmoco.config import FREE, Config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from tests.helpers import local_cotraining, local_finetuning, local_pretraining

TRAIN = {"lanes", "batch_size_per_lane", "window_steps", "precision"}
CONFIGS = {
    "pretraining": (
        local_pretraining.tiny_config(),
        {"seed", "augment", "model", "objective", "stages", "optim", "train"},
    ),
    "finetuning": (
        local_finetuning.tiny_config(),
        {
            *("fraction", "num_samples", "subset", "labels_seed", "num_val_rows"),
            *("seed", "task", "encoder", "steps", "epochs", "min_steps", "num_evals", "select"),
            *("optim", "encoder_lr", "train"),
        },
    ),
    "co-training": (
        local_cotraining.tiny_config(),
        {
            *("seed", "experiment", "method", "augment", "model", "objective", "num_background_anchors"),
            *("task_weight", "class_weights", "steps", "optim", "train", "num_evals", "num_val_rows", "weights"),
        },
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_keys_that_decide(name):
    config, expected = CONFIGS[name]
    identity = config.identity()
    assert identity.keys() == expected
    assert identity["train"].keys() == TRAIN
    assert identity["optim"] == config.optim.model_dump(mode="json")


@pytest.mark.parametrize(
    ("recipe", "plain"),
    [(PretrainRecipe, CONFIGS["pretraining"][0]), (FinetuneRecipe, CONFIGS["finetuning"][0])],
)
def test_where_it_runs_and_is_recorded_decides_nothing(recipe, plain):
    assert recipe(**plain.model_dump()).identity() == plain.identity()


class Inner(Config):
    decides: int = 1
    free: int = Field(2, json_schema_extra=FREE)


class Outer(Config):
    inner: Inner = Inner()
    named: dict[str, Inner] = Field(default={"a": Inner()})
    several: tuple[Inner, ...] = (Inner(), Inner(decides=3))
    free: Inner = Field(Inner(), json_schema_extra=FREE)


def test_what_is_free_is_left_out_at_any_depth():
    assert Outer().identity() == {
        "inner": {"decides": 1},
        "named": {"a": {"decides": 1}},
        "several": [{"decides": 1}, {"decides": 3}],
    }
