"""The pyramid on plain ViTs: sizes, positions, tokens, alignment, what is refused."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import check_input_sizes
from hcmoco.models.encoders import EncoderConfig, build_encoder, check_sizes
from hcmoco.models.vit.pyramid import Doubling, resample
from hcmoco.tasks.registry import REGISTRY

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
P16 = EncoderConfig(name="vit_tiny_patch16_224", args=TINY, vit={"pyramid_channels": 24})
REGISTERS = EncoderConfig(
    name="vit_small_patch14_reg4_dinov2", args={**TINY, "img_size": 112}, vit={"pyramid_channels": 24}
)
DINOV3 = EncoderConfig(name="vit_small_patch16_dinov3", args=TINY, vit={"pyramid_channels": 24})


def changed(config: EncoderConfig, **values) -> EncoderConfig:
    return build(EncoderConfig, {**config.model_dump(), **values}, "encoder")


def seeded(config: EncoderConfig):
    torch.manual_seed(0)
    encoder = build_encoder(config).eval()
    for parameter in encoder.trunk.model.parameters():  # timm starts some at 0, which would hide what they do
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


@pytest.mark.parametrize("size", [(96, 96), (64, 160), (224, 224)])
@pytest.mark.parametrize(
    "config",
    [
        P16,
        REGISTERS,
        DINOV3,
        EncoderConfig(name="vit_small_patch8_224", args=TINY),
        EncoderConfig(name="vit_base_patch32_224", args=TINY),
        EncoderConfig(name="deit_tiny_distilled_patch16_224", args=TINY),
        EncoderConfig(name="vit_base_patch16_gap_224", args=TINY, in_chans=1),
        EncoderConfig(name="eva02_tiny_patch14_224", args=TINY),
    ],
    ids=lambda each: each.name if isinstance(each, EncoderConfig) else "x".join(map(str, each)),
)
def test_maps_have_the_strides_and_channels_that_the_encoder_declares(config, size):
    with torch.device("meta"):
        encoder = build_encoder(config, load=False)
        maps = encoder(torch.zeros(2, config.in_chans, *size))
    assert encoder.strides == (4, 8, 16, 32)
    assert encoder.channels == (config.vit.pyramid_channels,) * 4
    assert [tuple(each.shape) for each in maps] == [
        (2, c, size[0] // s, size[1] // s) for c, s in zip(encoder.channels, encoder.strides, strict=True)
    ]


@pytest.mark.parametrize("config", [P16, REGISTERS, DINOV3], ids=lambda config: config.name)
def test_every_parameter_is_used_at_any_size(config):
    encoder = build_encoder(config)
    check_sizes(config, [(64, 96), (128, 32)])
    sum(each.square().sum() for each in encoder(torch.randn(2, 3, 64, 96))).backward()
    assert [name for name, each in encoder.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize(("config", "patch"), [(P16, 16), (REGISTERS, 14)], ids=["patch16", "patch14-registers"])
@pytest.mark.parametrize("size", [(5, 5), (3, 8)])
def test_positions_are_resized_as_timm_resizes_them(config, patch, size):
    """A timm model of that very size, whose table was resized once, gives the same tokens."""
    encoder = seeded(config)
    pixels = [patch * side for side in size]
    own = timm.create_model(config.name, num_classes=0, **{**config.args, "img_size": pixels}).eval()
    state = encoder.trunk.model.state_dict()
    before = 0 if own.no_embed_class else own.num_prefix_tokens
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(size), num_prefix_tokens=before)
    own.load_state_dict(state)
    x = torch.randn(2, 3, *pixels)
    with torch.no_grad():
        ours, timms = encoder.trunk.tokens(x), own.forward_features(x)[:, own.num_prefix_tokens :]
    torch.testing.assert_close(ours, timms.mT.reshape(2, 32, *size), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [P16, REGISTERS, DINOV3], ids=lambda config: config.name)
def test_class_and_register_tokens_are_not_in_the_map(config):
    """Without blocks a patch's token depends on its own pixels alone: it lands in its own cell, and no other."""
    encoder = seeded(config)
    model, patch = encoder.trunk.model, encoder.trunk.patch
    model.blocks = torch.nn.ModuleList([torch.nn.Identity()])
    model.norm = torch.nn.Identity()
    if hasattr(model, "rope"):
        model.blocks = torch.nn.ModuleList([Passing()])
    x = torch.randn(1, 3, 3 * patch, 4 * patch)
    with torch.no_grad():
        before = encoder.trunk.tokens(x)
        assert before.shape == (1, 32, 3, 4)
        for row, column in ((0, 0), (0, 3), (1, 2), (2, 0), (2, 3)):
            other = x.clone()
            other[..., row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1
            different = (encoder.trunk.tokens(other) != before).any(1)[0]
            assert different.nonzero().tolist() == [[row, column]]
        for name in ("cls_token", "reg_token"):
            if getattr(model, name, None) is not None:
                getattr(model, name).add_(100)
        assert torch.equal(encoder.trunk.tokens(x), before)


class Passing(torch.nn.Module):
    def forward(self, x, **_):
        return x


def test_a_coarser_stride_reads_the_map_at_the_centers_of_its_cells():
    """A map whose values are its cells' centers in pixels, to the right and down, reads as the other cells' centers."""
    rows, columns = torch.meshgrid(14 * (torch.arange(7) + 0.5), 14 * (torch.arange(12) + 0.5), indexing="ij")
    read = resample(torch.stack([rows, columns])[None].double(), 14, 16)
    assert read.shape == (1, 2, 6, 10)
    wanted = torch.meshgrid(16 * (torch.arange(6) + 0.5), 16 * (torch.arange(10) + 0.5), indexing="ij")
    torch.testing.assert_close(read[0], torch.stack(wanted).double(), rtol=0, atol=1e-9)


def test_doubling_is_a_transposed_convolution():
    torch.manual_seed(0)
    layer = Doubling(6, 4).double()
    x, other = (torch.randn(2, 6, 3, 5).double().requires_grad_() for _ in range(2))
    other.data.copy_(x.data)
    plain = torch.nn.functional.conv_transpose2d(other, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), plain, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(plain)
    gradients = [
        torch.autograd.grad((out * weight).sum(), (at, layer.weight)) for out, at in ((layer(x), x), (plain, other))
    ]
    for ours, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)


def test_a_mark_in_the_image_is_at_its_place_in_every_map():
    """Of patches of 14 too: the largest change of a map is where the pixels changed, within the reach of a 3x3."""
    for config in (P16, REGISTERS, changed(P16, vit={"pyramid_channels": 24, "patch_padding": 2})):
        encoder = seeded(config)
        encoder.trunk.model.blocks = torch.nn.ModuleList([torch.nn.Identity()])
        x = torch.randn(1, 3, 224, 224)
        other = x.clone()
        other[..., 160:192, 32:64] += 3
        with torch.no_grad():
            for map_BCHW, changed_BCHW, stride in zip(encoder(x), encoder(other), encoder.strides, strict=True):
                change = (map_BCHW - changed_BCHW).abs().sum((0, 1))
                place = torch.nonzero(change > 0.5 * change.max()).double().mean(0)
                assert ((place + 0.5) * stride - torch.tensor([176.0, 48.0])).abs().max() < 20


def test_patches_begin_earlier_with_padding_as_a_padded_convolution():
    encoder, padded = seeded(P16), seeded(changed(P16, vit={"pyramid_channels": 24, "patch_padding": 2}))
    padded.load_state_dict(encoder.state_dict())
    x = torch.randn(1, 3, 96, 96)
    moved = torch.nn.functional.pad(x, (2, 0, 2, 0))[..., :96, :96]
    with torch.no_grad():
        torch.testing.assert_close(padded.trunk.tokens(x), encoder.trunk.tokens(moved))


def test_three_levels_take_sides_that_16_divides():
    with (
        pytest.raises(UserError, match=r"32 divides; use 128 x 128, or set its vit.pyramid_levels=3$"),
        torch.no_grad(),
    ):
        build_encoder(REGISTERS)(torch.zeros(1, 3, 112, 112))
    config = changed(REGISTERS, vit={"pyramid_levels": 3})
    check_sizes(config, [(112, 112)])
    encoder = build_encoder(config)
    with torch.no_grad():
        assert [tuple(each.shape[2:]) for each in encoder(torch.zeros(1, 3, 112, 112))] == [(28, 28), (14, 14), (7, 7)]
    with pytest.raises(UserError, match=r"16 divides; use 112 x 96$"):
        encoder(torch.zeros(1, 3, 100, 96))


def test_a_task_takes_a_plain_vit():
    config = REGISTRY["parsing-rgb"].load().config_class(name="parsing-rgb", size=96)
    check_input_sizes(REGISTERS, config)


def test_a_size_that_a_fixed_table_cannot_take_is_refused_with_the_way_out():
    config = changed(P16, args={**TINY, "dynamic_img_size": False})
    with pytest.raises(UserError, match=r"does not run at this size .*; give the encoder args=\{.*img_size: 96\}$"):
        check_sizes(config, [(96, 96)])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"name": "resnet18", "vit": {"pyramid_levels": 3}}, "vit is for plain ViTs, resnet18 has its own pyramid"),
        ({"vit": {"pyramid_levels": 2}}, "vit.pyramid_levels = 2: .*3.*4"),
        ({"vit": {"pyramid_channels": 0}}, "vit.pyramid_channels = 0"),
        ({"vit": {"stride": 16}}, "unknown key 'vit.stride'|unknown key 'stride'"),
    ],
)
def test_bad_values_are_one_line(values, line):
    with pytest.raises(UserError, match=line) as caught:
        build(EncoderConfig, {"name": "vit_tiny_patch16_224", **values}, "recipe")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            changed(P16, args={**TINY, "patch_size": 12}),
            r"patches are 12 x 12 pixels; allowed are squares of 8, 14, 16, 32",
        ),
        (changed(P16, vit={"patch_padding": 8}), r"vit.patch_padding = 8 is not less than half a patch of 16"),
    ],
)
def test_what_no_pyramid_can_be_made_of_is_refused(config, line):
    with pytest.raises(UserError, match=line) as caught:
        build_encoder(config)
    assert "\n" not in str(caught.value)


def test_other_backbones_keep_their_identity():
    assert "vit" not in EncoderConfig(name="hrnet_w18").identity()
    assert P16.identity()["vit"]["pyramid_channels"] == 24
