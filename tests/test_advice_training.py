"""What a line of error advises about trainings, encoders and weights is done here, and it helps."""

import itertools
import re

import pytest
import torch

from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.label_subset import LabelsConfig, split
from hcmoco.models.compiled import compile_for_training
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from hcmoco.tasks.parsing import DepthParsing, ParsingConfig, RgbParsing
from hcmoco_ray import config as run_config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.versatility.run import load as load_versatility
from tests.helpers import local_finetuning as tiny
from tests.helpers.parsing_rows import ABOUT


@pytest.mark.parametrize(
    ("mistake", "advice", "remedies"),
    [
        (["train.precision=tf32"], "set train.gpu=true, or train.precision=float32", [
            ["train.precision=tf32", "train.gpu=true"],
            ["train.precision=float32"],
        ]),
        (["probe.beside=true", "train.precision=tf32", "train.gpu=true"], "set probe.beside=false, or", [
            ["probe.beside=false", "train.precision=tf32", "train.gpu=true"],
            ["probe.beside=true", "train.precision=float32"],
        ]),
        (["train.compile=graphs"], "set train.gpu=true, or train.compile=true", [
            ["train.compile=graphs", "train.gpu=true"],
            ["train.compile=true"],
        ]),
        (["train.compile=graphs", "train.gpu=true", "train.micro_rows=4"], "or leave train.micro_rows out", [
            ["train.compile=true", "train.gpu=true", "train.micro_rows=4"],
            ["train.compile=graphs", "train.gpu=true"],
        ]),
        (["train.compile=true", "train.global_batch=true"], "set train.micro_rows too", [
            ["train.compile=true", "train.global_batch=true", "train.micro_rows=4"],
            ["train.compile=false", "train.global_batch=true"],
        ]),
    ],
)  # fmt: skip
def test_a_pre_training(mistake, advice, remedies):
    with pytest.raises(UserError, match=re.escape(advice)):
        run_config.load(PretrainRecipe, "people-cpu", mistake)
    for remedy in remedies:
        run_config.load(PretrainRecipe, "people-cpu", remedy)


def test_a_co_training_without_validation():
    mistake = ["data.validation=null", "num_evals=2"]
    with pytest.raises(UserError, match="name such a data set, or set num_evals: 0"):
        load_versatility("people-cpu", mistake)
    load_versatility("people-cpu", ["data.validation=null", "num_evals=0"])


def test_parsing_that_is_to_move_pictures_in_the_published_way():
    mistake = {"geometry": "multi-scale", "shift": 0.1, "rotation": 15}
    with pytest.raises(UserError, match="set shift and rotation to 0, or take geometry=square"):
        build(ParsingConfig, {"name": "parsing-rgb", "augment": mistake}, "recipe")
    for remedy in ({"shift": 0, "rotation": 0}, {"geometry": "square"}):
        build(ParsingConfig, {"name": "parsing-rgb", "augment": {**mistake, **remedy}}, "recipe")


def test_rgb_with_another_number_of_channels():
    encoder = build_encoder(EncoderConfig(name="test_resnet", in_chans=1))
    with pytest.raises(UserError, match="leave it at 3 or take parsing-depth"):
        RgbParsing(ParsingConfig(name="parsing-rgb"), ABOUT).make_model(encoder)
    DepthParsing(ParsingConfig(name="parsing-depth"), ABOUT).make_model(encoder)
    RgbParsing(ParsingConfig(name="parsing-rgb"), ABOUT).make_model(build_encoder(EncoderConfig(name="test_resnet")))


@pytest.mark.parametrize("size", [(100, 64), (30, 33)])
def test_a_size_that_the_strides_do_not_divide(size):
    encoder = build_encoder(EncoderConfig(name="test_resnet"))
    with pytest.raises(UserError, match=r"; use (\d+) x (\d+)$") as refused:
        encoder.check_size(*size)
    encoder.check_size(*map(int, re.findall(r"\d+", str(refused.value).rpartition("use")[2])))


def test_layers_that_draw_are_not_compiled():
    with pytest.raises(UserError, match="leave drop_path_rate, drop_rate and proj_drop_rate out of the encoder's args"):
        compile_for_training(build_encoder(EncoderConfig(name="convnext_atto", args={"drop_path_rate": 0.2})), "rgb")
    compile_for_training(build_encoder(EncoderConfig(name="convnext_atto")), "rgb")


def test_a_model_that_was_pickled_as_a_whole(tmp_path):
    encoder = build_encoder(EncoderConfig(name="test_resnet"))
    path = tmp_path / "weights.pth"
    torch.save(encoder.trunk, path)
    config = EncoderConfig(name="test_resnet")
    with pytest.raises(UserError, match=r"give a file that torch.save\(model.state_dict\(\), ...\) wrote"):
        load_encoder_init(str(path), config, "rgb")
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="save a model's state_dict"):
        load_encoder_init(str(path), config, "rgb")
    torch.save(encoder.trunk.state_dict(), path)
    load_encoder_init(str(path), config, "rgb")


def exported(folder, **encoder):
    """An export of untrained encoders."""
    config = EncoderConfig(**{"name": "test_resnet", **encoder})
    model = ModelConfig(rgb=config, depth=config, skeleton=SkeletonConfig(width=16, num_blocks=1), embedding=16)
    return export_encoders(HCMoCo(model, seed=0), folder, training={"stage": 2, "steps": 7, "terms": []})


@pytest.mark.parametrize(
    ("of_export", "of_config"),
    [
        ({}, {"name": "resnet18"}),
        ({}, {"args": {"drop_rate": 0.1}}),
        ({"args": {"drop_rate": 0.1}}, {}),
        ({"args": {"drop_rate": 0.1}}, {"args": {"drop_rate": 0.2, "zero_init_last": True}}),
    ],
)
def test_weights_of_another_encoder(tmp_path, of_export, of_config):
    """The overrides are given as the line has them, over a recipe that has the other encoder."""
    folder = exported(str(tmp_path / "export"), **of_export)
    recipe = {"encoder": {"name": "test_resnet", **of_config}}
    with pytest.raises(UserError, match=r"; set (encoder\..*) or take weights of that encoder") as refused:
        load_encoder_init(folder, build(EncoderConfig, recipe["encoder"], "recipe"), "rgb")
    overrides = re.search(r"; set (encoder\..*) or take", str(refused.value))[1].split()
    mended = merge(recipe, parse_overrides(overrides))
    load_encoder_init(folder, build(EncoderConfig, mended["encoder"], "recipe"), "rgb")


@pytest.mark.parametrize(
    ("count", "mistake"),
    [
        (30, {"num_val_rows": 8, "fraction": 0.01}),
        (30, {"num_val_rows": 30}),
        (30, {"num_val_rows": 64, "fraction": 0.5}),
        (3, {"num_val_rows": 3}),
        (30, {"num_val_rows": 8, "subset": "itop-1%"}),
        (30, {"num_val_rows": 30, "subset": "itop-1%"}),
    ],
)
def test_a_share_that_leaves_no_row(tmp_path, count, mistake):
    people = [Person(id=f"few/{k}", dataset="few", split="train", size=8, rgb=b"x", parts=b"x") for k in range(count)]
    write_shards(str(tmp_path / "few"), people, tiny.about(dataset="few"))
    shards = Shards.open(str(tmp_path / "few"))
    with pytest.raises(UserError, match="leaves no row to train on") as refused:
        split(shards, LabelsConfig(**mistake), ("rgb", "parts"), seed=0)
    advice = str(refused.value).rpartition("; ")[2]
    steps = [re.findall(r"(num_val_rows|fraction|num_samples)=([\d.]+)", each) for each in advice.split(", and ")]
    assert steps, advice
    assert all(steps), advice
    for choices in itertools.product(*steps):  # of each step one of its remedies
        remedy = {name: float(value) if name == "fraction" else int(value) for name, value in choices}
        kept = {name: value for name, value in mistake.items() if name != "subset" or "instead of subset" not in advice}
        if "num_samples" in remedy:
            kept.pop("fraction", None)
        train, _ = split(shards, LabelsConfig(**{**kept, **remedy}), ("rgb", "parts"), seed=0)
        assert len(train) >= 1, remedy


def test_an_export_that_exists(tmp_path):
    folder = exported(str(tmp_path / "export"))
    with pytest.raises(UserError, match="give another folder, or set overwrite"):
        exported(folder)
    exported(str(tmp_path / "another"))
    config = EncoderConfig(name="test_resnet")
    model = ModelConfig(rgb=config, depth=config, skeleton=SkeletonConfig(width=16, num_blocks=1), embedding=16)
    export_encoders(HCMoCo(model, seed=1), folder, training={"stage": 2, "steps": 7, "terms": []}, overwrite=True)


def test_recipes_are_named_in_the_line_about_a_folder():
    from hcmoco_ray import cli

    with pytest.raises(UserError, match="give a YAML file in it, or the name of a recipe"):
        load_recipe(cli.RECIPES)
    assert load_recipe(cli.RECIPES / "people-cpu.yaml")
