"""The recipes paper-w18 and as-released build, and the second is the first with every switch of the release."""

import math
from pathlib import Path

import pytest
import torch

from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo
from hcmoco.objectives import ObjectiveConfig, ReleaseOptions
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.training.lr_schedule import learning_rate

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def recipe(name: str, *overrides: str) -> PretrainConfig:
    return build(PretrainConfig, merge(load_recipe(RECIPES / f"{name}.yaml"), parse_overrides(list(overrides))), name)


def parameters(module) -> int:
    return sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize("name", ["paper-w18", "as-released"])
def test_builds_the_published_model(name):
    config = recipe(name)
    with torch.device("meta"):
        model = HCMoCo(config.model, seed=config.seed, load=False)
        assert (parameters(model.rgb), parameters(model.depth), parameters(model.keypoints)) == (
            9_562_260,
            9_562_260,
            299_468,
        )
        assert parameters(model) == 19_509_876
        model.add_dense_mappers()
    assert parameters(model) == 19_579_252
    assert sum(model.rgb.channels) == 270
    for encoder in (model.rgb, model.depth):
        upsampling = {
            (each.mode, each.align_corners) for each in encoder.modules() if isinstance(each, torch.nn.Upsample)
        }
        assert upsampling == {("bilinear", False)}
        assert {each.momentum for each in encoder.modules() if isinstance(each, torch.nn.BatchNorm2d)} == {0.01}


@pytest.mark.parametrize("name", ["paper-w18", "paper-w18-coco", "paper-w32"])
def test_rows_with_a_dagger_start_both_encoders_from_imagenets_file(name):
    config = recipe(name)
    width = config.model.rgb.name.removeprefix("hrnet_w")
    wanted = f"data/hrnetv2_w{width}_imagenet_pretrained.pth"
    assert config.model.rgb.init == config.model.depth.init == wanted


def test_other_rows_are_paper_w18_but_for_what_their_names_say():
    plain = recipe("paper-w18").model_dump()
    star = recipe("paper-w18-star").model_dump()
    assert star["model"]["rgb"].pop("init") == star["model"]["depth"].pop("init") == "scratch"
    coco = recipe("paper-w18-coco").model_dump()
    assert coco["data"]["sources"].keys() == {"ntu", "coco"}
    assert coco["data"]["sources"]["ntu"] == plain["data"]["sources"]["ntu"]
    assert coco["model"]["joint_set"] == "common-13"
    assert coco["stages"]["stage1_steps"] == 100 * math.ceil(433_000 / 224)
    for each in (plain["model"]["rgb"], plain["model"]["depth"]):
        each.pop("init")
    for name in ("objective", "optim", "augment", "stages", "model", "train"):
        assert star[name] == plain[name], name
    for name in ("objective", "optim", "augment"):
        assert coco[name] == plain[name], name


def test_a_missing_file_is_a_line_that_says_where_to_get_it(tmp_path):
    missing = tmp_path / "hrnetv2_w18_imagenet_pretrained.pth"
    config = recipe("paper-w18", f"model.rgb.init={missing}")
    with pytest.raises(UserError) as error:
        HCMoCo(config.model, seed=0)
    said = str(error.value)
    assert "\n" not in said
    for part in (str(missing), "https://github.com/HRNet/HRNet-Image-Classification", "put it there", "model.rgb.init"):
        assert part in said


@pytest.mark.parametrize(
    ("name", "trunk", "stage1", "stage2"),
    [
        ("paper-w32", 29_305_536, 59_050_188, 59_173_324),
        ("paper-w48", 65_325_120, 131_150_796, 131_335_372),
    ],
)
def test_larger_backbones_have_the_parameters_of_the_published_code(name, trunk, stage1, stage2):
    """Counted by running the published code: the trunk, and the whole model in either stage."""
    config = recipe(name)
    with torch.device("meta"):
        model = HCMoCo(config.model, seed=config.seed, load=False)
        assert (parameters(model.rgb), parameters(model.depth), parameters(model)) == (trunk, trunk, stage1)
        model.add_dense_mappers()
    assert parameters(model) == stage2
    assert sum(model.rgb.channels) == {"paper-w32": 480, "paper-w48": 720}[name]


@pytest.mark.parametrize("name", ["paper-w32", "paper-w48"])
def test_larger_backbones_are_all_that_differs_from_paper_w18(name):
    """And what goes with their rows of a step: as many epochs, a state an epoch."""
    config, paper = recipe(name), recipe("paper-w18")
    rows = config.train.lanes * config.train.batch_size_per_lane
    epoch = math.ceil(350_000 / rows)
    assert config.stages.stage1_steps == config.stages.stage2_steps == 100 * epoch
    assert config.train.save_every == epoch
    width = name[-3:]
    encoder = {
        **paper.model.rgb.model_dump(),
        "name": f"hrnet_{width}",
        "init": f"data/hrnetv2_{width}_imagenet_pretrained.pth",
    }
    rate = {"paper-w32": 0.03, "paper-w48": 0.02}[name]
    same = paper.model_dump()
    same |= {"name": name, "output_dir": f"runs/{name}", "stages": config.stages.model_dump()}
    same["model"] |= {"rgb": encoder, "depth": encoder}
    same["optim"] |= {"lr": rate}
    same["train"] |= {"batch_size_per_lane": {"paper-w32": 18, "paper-w48": 12}[name], "save_every": epoch}
    assert config.model_dump() == same


def test_points_are_all_that_differs_from_paper_w18():
    """And the data that have depth with a camera, the published 160 rows of a step, and as many epochs."""
    config, paper = recipe("paper-w18-points"), recipe("paper-w18")
    assert config.train.lanes * config.train.batch_size_per_lane == 160
    epoch = math.ceil(330_000 / 160)
    assert config.stages.stage1_steps == config.stages.stage2_steps == 100 * epoch
    assert config.data.sources.keys() == {"ntu", "parsing"}
    same = paper.model_dump()
    same |= {"name": "paper-w18-points", "output_dir": "runs/paper-w18-points", "stages": config.stages.model_dump()}
    same["data"]["sources"] = config.model_dump()["data"]["sources"]
    same["model"]["depth"] = EncoderConfig(name="pointnet2_msg", args={"num_points": 4096}).model_dump()
    same["train"] |= {"batch_size_per_lane": 20, "save_every": epoch}
    assert config.model_dump() == same
    with torch.device("meta"):
        model = HCMoCo(config.model, seed=config.seed, load=False)
        assert parameters(model.depth) == 2_674_992
        model.add_dense_mappers()
    # Counted by running the published code, whose dense mapper of points has batch norm's 256 and no 128 biases.
    assert parameters(model) == 12_655_760 - 256 + 128


def test_a_stage_of_paper_w18_is_100_epochs_of_its_assumed_rows():
    """Section 4.1 of the paper: 100 epochs per stage, half of every batch from each data set."""
    config = recipe("paper-w18")
    rows_per_step = config.train.lanes * config.train.batch_size_per_lane
    assert config.stages.stage1_steps == config.stages.stage2_steps == 100 * math.ceil(350_000 / rows_per_step)
    assert len({source.weight for source in config.data.sources.values()}) == 1


def test_paper_w18_restarts_the_published_cosine_in_each_stage():
    """The release: lowest + (lr - lowest) (1 + cos(pi epoch / 100)) / 2, with lowest a thousandth of the peak."""
    config = recipe("paper-w18")
    assert config.optim.restart
    steps = config.stages.stage1_steps
    lowest = config.optim.lr * 0.001
    for epoch, cosine in ((0, 1.0), (25, 0.5**0.5), (50, 0.0), (75, -(0.5**0.5)), (100, -1.0)):
        expected = lowest + (config.optim.lr - lowest) * (1 + cosine) / 2
        assert learning_rate(config.optim, epoch * steps // 100, steps) == pytest.approx(expected, rel=1e-9)


def test_initial_weights_are_turned_off_as_the_recipe_says():
    config = recipe("as-released", "model.rgb.init=scratch", "model.depth.init=scratch")
    assert (config.model.rgb.init, config.model.depth.init) == ("scratch", "scratch")
    assert config.model.rgb.fusion == "bilinear"


def test_as_released_is_paper_w18_with_every_switch():
    paper, released = recipe("paper-w18").model_dump(), recipe("as-released").model_dump()
    assert released["objective"] == ObjectiveConfig.released().model_dump()
    assert paper["objective"] == ObjectiveConfig().model_dump()
    assert released["model"] == {**paper["model"], "polluted_keypoints": True}
    same = {"name", "output_dir", "objective", "model"}
    assert {key: value for key, value in released.items() if key not in same} == {
        k: v for k, v in paper.items() if k not in same
    }


def test_no_switch_is_left_at_our_way():
    """A switch has "the release" in its description, and not as a source; one that is added later must be set."""
    released, ours = recipe("as-released"), recipe("paper-w18")
    found = set()
    for given, other in (
        (released.objective, ours.objective),
        (released.objective.release, ours.objective.release),
        (released.model, ours.model),
    ):
        for name, field in type(given).model_fields.items():
            if "the release" in (field.description or "").lower().split("source:")[0]:
                assert getattr(given, name) != getattr(other, name), name
                found.add(name)
    assert found >= {"in_batch_negatives", "release", "polluted_keypoints"}
    options = ReleaseOptions.model_fields
    left = {name for name in options if getattr(released.objective.release, name) == options[name].default}
    assert not left
