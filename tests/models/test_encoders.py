"""Image encoders over several timm pyramids."""

import re

import pytest
import timm
import torch
from torch import nn

from hcmoco import yaml_core
from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import check_input_sizes
from hcmoco.models.encoders import EncoderConfig, build_encoder, check_sizes
from hcmoco.tasks.registry import REGISTRY

SMALL = "hrnet_w18_small"
BACKBONES = [
    ("hrnet_w18", {}),
    (SMALL, {}),
    ("resnet18", {}),
    ("convnext_atto", {}),
    ("mobilenetv3_small_050", {}),
    ("swin_tiny_patch4_window7_224", {"img_size": 96}),
    ("fastvit_t8", {}),
]


@pytest.mark.parametrize(("name", "args"), BACKBONES)
def test_pyramids_start_at_stride_4_and_halve(name, args):
    encoder = build_encoder(EncoderConfig(name=name, args=args, in_chans=2)).eval()
    with torch.no_grad():
        maps = encoder(torch.randn(2, 2, 96, 96))
    assert [tuple(each.shape) for each in maps] == [
        (2, c, 96 // s, 96 // s) for c, s in zip(encoder.channels, (4, 8, 16, 32), strict=True)
    ]
    assert encoder.strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("name", "size", "way"),
    [
        ("resnet18", 64, ""),
        ("convnext_atto", 96, ""),
        ("fastvit_t8", 96, ""),
        ("test_mambaout", 64, ""),
        ("swin_tiny_patch4_window7_224", 96, "args={img_size: 96}"),
        ("maxvit_nano_rw_256", 96, "args={img_size: 96}"),
        ("coatnet_nano_rw_224", 64, "args={img_size: 64}"),
        ("hiera_tiny_224", 96, "args={img_size: 96}"),
        ("gcvit_xxtiny", 96, ""),
        ("efficientformerv2_s0", 96, ""),
    ],
)
def test_a_backbone_runs_at_a_size_or_is_refused_with_what_lets_it_run(name, size, way):
    config = EncoderConfig(name=name)
    said = ""
    try:
        check_sizes(config, [(size, size)])
    except UserError as error:
        said = str(error)
        assert said.startswith(f"input of {size} x {size} pixels: {name} does not run at this size (")
        assert "\n" not in said
        if given := re.search(r"give the encoder args=(.*)$", said):
            config = EncoderConfig(name=name, args=yaml_core.load(given[1]))
        else:
            size = int(re.search(r"use (\d+) x \d+, or another backbone$", said)[1])
        check_sizes(config, [(size, size)])
    assert way in said
    with torch.no_grad():
        maps = build_encoder(config, load=False).eval()(torch.zeros(1, 3, size, size))
    assert [each.shape[2:] for each in maps] == [(size // stride,) * 2 for stride in (4, 8, 16, 32)]


def test_a_backbone_of_one_size_is_refused_where_sizes_vary():
    config = EncoderConfig(name="swin_tiny_patch4_window7_224")
    with pytest.raises(UserError, match=r"give the encoder args=\{strict_img_size: false\}$"):
        check_sizes(config, [(64, 128), (128, 64)])
    check_sizes(EncoderConfig(name=config.name, args={"strict_img_size": False}), [(64, 128), (128, 64)])


@pytest.mark.parametrize(("task", "size"), [("parsing-rgb", 96), ("parsing-rgb", 95), ("pose", 96)])
def test_a_tasks_size_is_refused_before_its_data_are_made(task, size):
    config = REGISTRY[task].load().config_class(name=task, size=size)
    with pytest.raises(UserError, match=r"^input of 96 x 96 pixels: .*; give the encoder args=\{img_size: 96\}$"):
        check_input_sizes(EncoderConfig(name="swin_tiny_patch4_window7_224"), config)


def test_hrnet_has_the_published_trunk():
    encoder = build_encoder(EncoderConfig(name="hrnet_w18"))
    assert encoder.channels == (18, 36, 72, 144)
    assert sum(each.numel() for each in encoder.parameters()) == 9_562_260
    assert len(encoder.state_dict()) == 1830


@pytest.mark.parametrize(
    "config", [EncoderConfig(name=SMALL), EncoderConfig(name="resnet18"), EncoderConfig(name="vgg11")]
)
def test_every_parameter_is_used(config):
    encoder = build_encoder(config)
    sum(each.square().sum() for each in encoder(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, each in encoder.named_parameters() if each.grad is None] == []


def test_fusion_sets_how_hrnet_upsamples():
    torch.manual_seed(0)
    nearest = build_encoder(EncoderConfig(name=SMALL)).eval()
    bilinear = build_encoder(EncoderConfig(name=SMALL, fusion="bilinear")).eval()
    bilinear.load_state_dict(nearest.state_dict())
    plain = timm.create_model(SMALL, features_only=True, feature_location="").eval()
    plain.load_state_dict(nearest.trunk.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, timms, published = nearest(x), plain(x)[1:], bilinear(x)
    for a, b, c in zip(ours, timms, published, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert (a - c).abs().max() > 1e-3 * a.abs().max()
    modes = {(m.mode, m.align_corners) for m in bilinear.modules() if isinstance(m, nn.Upsample)}
    assert modes == {("bilinear", False)}


def test_batch_norm_momentum():
    def momenta(encoder):
        return {m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)}

    assert momenta(build_encoder(EncoderConfig(name=SMALL))) == {0.1}
    assert momenta(build_encoder(EncoderConfig(name=SMALL, batch_norm_momentum=0.01))) == {0.01}


def test_published_initial_convolutions():
    encoder = build_encoder(EncoderConfig(name="resnet18", conv_init="normal-0.001"))
    weights = torch.cat([m.weight.flatten() for m in encoder.modules() if isinstance(m, nn.Conv2d)])
    assert abs(weights.std() - 1e-3) < 1e-5
    assert abs(weights.mean()) < 1e-5
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(m.weight, torch.ones_like(m.weight)) and not m.bias.any() for m in norms)


def test_sides_must_divide():
    encoder = build_encoder(EncoderConfig(name=SMALL))
    with pytest.raises(
        UserError, match=r"473 x 320 pixels: hrnet_w18_small needs sides that 32 divides; use 480 x 320"
    ):
        encoder(torch.zeros(1, 3, 473, 320))
    encoder.check_size(480, 320)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"name": "hrnet_w19"}, r"name = 'hrnet_w19': timm has no such model; close: hrnet_w18"),
        ({"name": "hf-hub:someone/model"}, "name = 'hf-hub:someone/model': timm has no such model"),
        ({"name": "resnet18", "fusion": "bilinear"}, "fusion=bilinear is for HRNet"),
        ({"name": "coatnet_0_224", "init": "timm"}, "timm publishes no weights for coatnet_0_224"),
        ({"args": {"pretrained": True}}, "pretrained is set by the encoder itself"),
        ({"batch_norm_momentum": 0}, "batch_norm_momentum = 0"),
        ({"fusion": "cubic"}, "fusion = 'cubic'"),
        ({"color": 1}, "unknown key 'color'; allowed here: name, in_chans"),
    ],
)
def test_bad_values_are_one_line(values, line):
    with pytest.raises(UserError, match=line) as caught:
        build(EncoderConfig, values, "recipe")
    assert "\n" not in str(caught.value)


def test_what_is_no_pyramid_is_refused():
    with pytest.raises(UserError, match=r"mixer_s16_224: needs one map per stride, from 4 on"):
        build_encoder(EncoderConfig(name="mixer_s16_224"))
    with pytest.raises(UserError, match=r"timm cannot make it with .*no_such_argument"):
        build_encoder(EncoderConfig(name="resnet18", args={"no_such_argument": 1}))


def test_published_weights_that_cannot_be_had_are_an_error(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = EncoderConfig(name="test_resnet.r160_in1k", init="timm", args={"cache_dir": str(tmp_path)})
    with pytest.raises(
        UserError, match=r"test_resnet.r160_in1k: cannot get timm's weights: .*without a network, give a weights file"
    ):
        build_encoder(config)
    assert build_encoder(config, load=False).report is None


def test_fresh_weights_come_from_torchs_generator():
    def first(seed):
        torch.manual_seed(seed)
        return build_encoder(EncoderConfig(name=SMALL)).trunk.conv1.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
