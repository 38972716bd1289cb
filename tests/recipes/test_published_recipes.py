"""The recipes paper-w18 and as-released build, and the second is the first with every switch of the release."""

from pathlib import Path

import pytest
import torch

from hcmoco.config import build, load_recipe, merge, parse_overrides
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo
from hcmoco.objectives import ObjectiveConfig
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


def test_paper_w18_has_the_published_constants():
    config = recipe("paper-w18")
    train, objective = config.train, config.objective
    assert train.lanes * train.batch_size_per_lane == 224
    assert train.lanes // train.workers * train.batch_size_per_lane == 56
    assert (train.gpu, train.precision) == (True, "float32")
    assert (objective.negatives, objective.anchors, objective.bank_momentum) == (16384, 400, 0.5)
    assert {objective.tau_g, objective.tau_d, objective.tau_s} == {0.07}
    assert {objective.lambda_g, objective.lambda_d, objective.lambda_s} == {1}
    assert len({source.weight for source in config.data.sources.values()}) == 1
    assert (config.augment.size, config.model.joint_set, config.data.held_out) == (320, "mpii-16", None)
    assert config.stages.stage1_steps == config.stages.stage2_steps == 100 * -(-350_000 // 224)
    for encoder in (config.model.rgb, config.model.depth):
        assert encoder == EncoderConfig(
            name="hrnet_w18",
            fusion="bilinear",
            batch_norm_momentum=0.01,
            conv_init="normal-0.001",
            init=config.model.rgb.init,
        )
        assert encoder.init.endswith("hrnetv2_w18_imagenet_pretrained.pth")


def test_paper_w18_learning_rate_is_the_published_cosine_anew_in_each_stage():
    optim = recipe("paper-w18").optim
    assert (optim.name, optim.momentum, optim.weight_decay, optim.restart, optim.clip_norm) == (
        "sgd",
        0.9,
        1e-4,
        True,
        0,
    )
    lowest = 0.03 * 0.001
    for epoch, cosine in ((0, 1.0), (25, 0.5**0.5), (50, 0.0), (75, -(0.5**0.5)), (100, -1.0)):
        expected = lowest + (0.03 - lowest) * (1 + cosine) / 2
        assert learning_rate(optim, epoch * 1563, 156_300) == pytest.approx(expected, rel=1e-9)


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
    for given, other in ((released.objective, ours.objective), (released.model, ours.model)):
        for name, field in type(given).model_fields.items():
            if "the release" in (field.description or "").lower().split("source:")[0]:
                assert getattr(given, name) != getattr(other, name), name
                found.add(name)
    switches = {name for name, field in ObjectiveConfig.model_fields.items() if field.annotation is bool}
    assert found == switches | {"positive", "bank_start", "polluted_keypoints"}
