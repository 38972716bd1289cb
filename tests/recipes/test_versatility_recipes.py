"""The versatility recipes are valid, and the one that claims the published protocol holds its constants."""

import pytest

from hcmoco_ray import cli
from hcmoco_ray.experiments.versatility.run import load


@pytest.mark.parametrize("name", [path.stem for path in sorted((cli.RECIPES / "versatility").glob("*.yaml"))])
def test_each_is_valid_and_compares_all_nine(name):
    config = load(name, [])
    assert config.name == f"versatility-{name}"
    assert len(config.experiments) * len(config.methods) == 9
    data = config.data
    assert data.unlabeled.weight == data.labeled.weight, "half of a step's rows are labelled"
    made = [each.people for each in (data.unlabeled, data.labeled, data.test, data.validation) if each and each.people]
    assert len({each.seed for each in made}) == len(made), "nobody is trained on and tested"


def test_as_published():
    config = load("paper-w18", [])
    assert (config.train.lanes * config.train.batch_size_per_lane, config.train.precision) == (180, "float32")
    assert (config.task_weight, config.class_weights, config.num_background_anchors) == (10, "parsing-4k", 0)
    assert (config.optim.name, config.optim.lr, config.optim.momentum, config.optim.weight_decay) == (
        "sgd",
        0.03,
        0.9,
        1e-4,
    )
    assert (config.objective.num_negatives, config.objective.num_anchors, config.augment.size) == (16384, 400, 320)
    weights = {method: config.model_copy(update={"method": method}).weights for method in config.methods}
    assert {method: (each.lambda_g, each.lambda_d, each.lambda_s) for method, each in weights.items()} == {
        "none": (0, 0, 0), "cmc": (1, 0, 0), "hcmoco": (1, 1, 1),
    }  # fmt: skip
