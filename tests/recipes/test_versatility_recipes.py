"""The versatility recipes are valid, and lead to the co-trainings that the paper compares."""

import pytest

from hcmoco import yaml_core
from hcmoco.config import load_recipe
from hcmoco.cotraining.config import CoTrainingConfig, CoTrainingSettings
from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray.experiments.versatility.run import load


@pytest.mark.parametrize("name", [path.stem for path in sorted((cli.RECIPES / "versatility").glob("*.yaml"))])
def test_each_is_valid_and_compares_all_nine(name):
    config = load(name, [])
    assert config.name == f"versatility-{name}"
    assert len(config.experiments) * len(config.methods) == 9
    data = config.data
    assert data.unlabeled.weight == data.labeled.weight, "half of a step's rows are labeled"
    made = [each.people for each in (data.unlabeled, data.labeled, data.test, data.validation) if each and each.people]
    assert len({each.seed for each in made}) == len(made), "people are trained on or tested, never both"


def test_a_method_trains_the_levels_that_the_paper_compares():
    """Tables 6 and 7 of the paper: no contrastive term, CMC (the sample level), HCMoCo (all three levels)."""
    recipe = load("paper-w18", [])
    settings = {name: getattr(recipe, name) for name in CoTrainingSettings.model_fields}
    weights = {method: CoTrainingConfig(**settings, init="i", method=method).weights for method in recipe.methods}
    assert weights["hcmoco"] == recipe.objective
    levels = {method: (each.lambda_g > 0, each.lambda_d > 0, each.lambda_s > 0) for method, each in weights.items()}
    assert levels == {"none": (False, False, False), "cmc": (True, False, False), "hcmoco": (True, True, True)}


@pytest.mark.parametrize("key", ["experiment", "method", "seed"])
def test_a_key_of_one_co_training_is_refused(key, tmp_path):
    values = load_recipe(cli.RECIPES / "versatility" / "people-cpu.yaml")
    (tmp_path / "mine.yaml").write_text(yaml_core.dump({**values, key: values.get(f"{key}s", 0)}))
    with pytest.raises(UserError, match=f"{key!r} is now called '{key}s'"):
        load(str(tmp_path / "mine.yaml"), [])
