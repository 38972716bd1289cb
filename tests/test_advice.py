"""What a line of error advises is done here, and it helps: for the keys of recipes and the options of programs."""

import re

import pytest

from hcmoco.config import build, load_recipe, merge, nest, parse_overrides
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.sweep.config import SweepConfig, check_space
from hcmoco_ray.experiments.versatility.run import load as load_versatility
from hcmoco_ray.tracking.config import TrackingConfig, store_uri
from hcmoco_ray.tracking.mlflow_store import open_store


@pytest.mark.parametrize(
    ("mistake", "advice", "remedies"),
    [
        (
            ["objective.num_negatives=0", "objective.in_batch_negatives=false"],
            "set in_batch_negatives: true or num_negatives > 0",
            [
                ["objective.num_negatives=0", "objective.in_batch_negatives=true"],
                ["objective.num_negatives=1", "objective.in_batch_negatives=false"],
            ],
        ),
        (
            ["objective.bank_rows=4096", "objective.release.positive=bank"],
            "set bank_rows: null, or release.positive: current",
            [
                ["objective.bank_rows=null", "objective.release.positive=bank"],
                ["objective.bank_rows=4096", "objective.release.positive=current"],
            ],
        ),
        (
            ["train.global_batch=true", "train.micro_rows=1000"],
            "take as many at most",
            [["train.global_batch=true", "train.micro_rows=2"]],
        ),
        (
            ["model.polluted_keypoints=true", "augment.flip_probability=0.5"],
            "set augment.flip_probability: 0",
            [["model.polluted_keypoints=true", "augment.flip_probability=0"]],
        ),
        (
            ["output_dir=true"],
            "put it in double quotes (on a command line with single ones around them)",
            [['output_dir="true"']],
        ),
        (["output_dir=[runs"], "quote it if it is text", [["output_dir='[runs'"]]),
        (["seed=1", "seed=2"], "keep one of them", [["seed=1"], ["seed=2"]]),
        (
            ["model.rgb.fusion=bilinear", "model.rgb.name=resnet18"],
            "leave it at as-trained",
            [["model.rgb.name=resnet18"]],
        ),
        (["augment.size=100"], "for example 96", [["augment.size=96"]]),
    ],
)
def test_a_pre_training(mistake, advice, remedies):
    with pytest.raises(UserError, match=re.escape(advice)):
        run_config.load(PretrainRecipe, "people-cpu", mistake)
    for remedy in remedies:
        run_config.load(PretrainRecipe, "people-cpu", remedy)


@pytest.mark.parametrize(
    ("mistake", "advice", "remedy"),
    [
        (["objective.method=cmc"], "leave it at hcmoco", ["objective.method=hcmoco"]),
        (["model.polluted_keypoints=true"], "set both to false", ["model.polluted_keypoints=false"]),
        (["train.workers=2", "train.lanes=2"], "set train.workers: 1", ["train.workers=1", "train.lanes=2"]),
        (["seed=1"], r"set seeds=[...]", ["seeds=[1]"]),
        (["method=cmc"], r"set methods=[...]", ["methods=[cmc]"]),
    ],
)
def test_a_co_training(mistake, advice, remedy):
    with pytest.raises(UserError, match=re.escape(advice)):
        load_versatility("people-cpu", mistake)
    load_versatility("people-cpu", remedy)


def test_weights_that_timm_does_not_publish():
    with pytest.raises(UserError, match="use scratch or a weights file"):
        build(EncoderConfig, {"name": "coatnet_0_224", "init": "timm"}, "recipe")
    for init in ("scratch", "weights.pth"):
        build(EncoderConfig, {"name": "coatnet_0_224", "init": init}, "recipe")


def test_shares_of_gpus_for_several_workers():
    with pytest.raises(UserError, match=r"give --gpus 1, or set train.workers=1"):
        ResourceRequest("trial", 1.0, 0.5, 1, workers=2)
    ResourceRequest("trial", 1.0, 1.0, 1, workers=2)
    ResourceRequest("trial", 1.0, 0.5, 1, workers=1)


def test_a_sweep_that_has_nobody_held_out():
    values = merge(load_recipe(cli.RECIPES / "sweeps" / "people-cpu.yaml"), {})
    config = build(SweepConfig, values, "sweep")
    base = cli.values(config.recipe, [])
    missing = merge(base, parse_overrides(["data.held_out=null"]))
    check_space(config, base, "people-cpu")
    with pytest.raises(UserError, match=r"set (probe.every and )?data.held_out in its recipe"):
        check_space(config, missing, "people-cpu")
    held_out = base["data"]["held_out"]
    check_space(config, merge(missing, nest(["data", "held_out"], held_out)), "people-cpu")


@pytest.mark.parametrize(("name", "part"), [("what?", "?"), ("a%20b", "%20"), ("%3f", "%3f")])
def test_a_name_that_the_uri_of_a_store_cannot_hold(tmp_path, name, part):
    out = tmp_path / name
    for config in (TrackingConfig(), TrackingConfig(uri=f"sqlite:///{out}/mlflow.db")):
        with pytest.raises(UserError, match=re.escape(f"/mlflow.db has {part} in it, which means something else")):
            store_uri(config, out)
    assert store_uri(TrackingConfig(uri="sqlite:////tmp/mlflow.db"), out) == "sqlite:////tmp/mlflow.db"


@pytest.mark.parametrize("name", ["a #é;x=1&", "-a 50%"])
def test_a_store_lies_below_any_other_name(tmp_path, name):
    out = tmp_path / name
    client, experiment = open_store(store_uri(TrackingConfig(), out), "tests")
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "text", "note.txt")
    assert [path.read_text() for path in out.rglob("note.txt")] == ["text"]
    assert list(tmp_path.iterdir()) == [out]
