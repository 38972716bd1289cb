"""Weights of plain ViTs by file: timm's names, those of DINOv2, DINOv3 and OpenMMLab, and other image sizes."""

import re

import pytest
import safetensors.torch
import timm
import torch
from timm.layers import resample_abs_pos_embed

from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.normalization import normalize_rgb

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
P16, DINOV2, DINOV3 = "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"


def source(name: str, **args):
    """A whole model of timm whose every value is its own."""
    torch.manual_seed(0)
    model = timm.create_model(name, **{**TINY, **args}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def load(path, name: str, *, args: dict | None = None, **vit):
    return build_encoder(EncoderConfig(name=name, args={**TINY, **(args or {})}, init=str(path), vit=vit)).eval()


def assert_same_tokens(encoder, model, size=(64, 96)):
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens = model.forward_features(x)[:, model.num_prefix_tokens :]
        ours = encoder.trunk.tokens(x)
    torch.testing.assert_close(ours, tokens.mT.reshape(ours.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("name", [P16, DINOV2, DINOV3, "deit_tiny_distilled_patch16_224"])
def test_a_file_of_timm_gives_its_models_outputs(name, suffix, tmp_path):
    model = source(name, dynamic_img_size=True)
    path = tmp_path / f"whole.{suffix}"
    state = model.state_dict()
    safetensors.torch.save_file(state, path) if suffix == "safetensors" else torch.save({"model": state}, path)
    encoder = load(path, name)
    assert_same_tokens(encoder, model, (56, 112) if "patch14" in name else (64, 96))
    report = encoder.report
    assert report.loaded == len(encoder.trunk.model.state_dict())
    assert set(report.fresh) == {key for key in encoder.trunk.state_dict() if key.startswith("pyramid.")}
    assert "missing (drawn: pyramid" in str(report)
    assert all(key.split(".")[0].startswith("head") for key in report.head_keys)


def test_a_file_of_ours_brings_the_pyramid(tmp_path):
    torch.manual_seed(1)
    ours = build_encoder(EncoderConfig(name=P16, args=TINY)).eval()
    for prefix in ("", "rgb.trunk."):
        torch.save({prefix + key: value for key, value in ours.trunk.state_dict().items()}, tmp_path / "ours.pth")
        encoder = load(tmp_path / "ours.pth", P16)
        assert not encoder.report.fresh
        assert all(torch.equal(value, ours.state_dict()[key]) for key, value in encoder.state_dict().items())


def test_half_a_pyramid_is_refused(tmp_path):
    state = build_encoder(EncoderConfig(name=P16, args=TINY)).trunk.state_dict()
    torch.save({key: value for key, value in state.items() if "pyramid.3" not in key}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"6 missing: pyramid\.3\."):
        load(tmp_path / "w.pth", P16)


def test_one_of_two_vits_is_told_by_a_fragment(tmp_path):
    state = source(P16).state_dict()
    both = {f"rgb.{key}": value for key, value in state.items()} | {f"depth.{k}": v + 1 for k, v in state.items()}
    torch.save(both, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"2 encoders.*#rgb\., .*#depth\."):
        load(tmp_path / "two.pth", P16)
    depth = load(f"{tmp_path / 'two.pth'}#depth.", P16).trunk.model.state_dict()
    assert torch.equal(depth["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"] + 1)


# Names of mmpretrain's VisionTransformer, timm's name -> its own. Sources: mmpretrain's and mmpose's files of weights.
OPENMMLAB = {
    r"^patch_embed\.proj\.": "patch_embed.projection.",
    r"^norm\.": "ln1.",
    r"^blocks\.(\d+)\.norm(\d)\.": r"layers.\1.ln\2.",
    r"^blocks\.(\d+)\.attn\.": r"layers.\1.attn.",
    r"^blocks\.(\d+)\.mlp\.fc1\.": r"layers.\1.ffn.layers.0.0.",
    r"^blocks\.(\d+)\.mlp\.fc2\.": r"layers.\1.ffn.layers.1.",
}


def openmmlab(state: dict, prefix: str, *, more: dict | None = None) -> dict:
    renamed = {}
    for key, value in state.items():
        for pattern, name in {**OPENMMLAB, **(more or {})}.items():
            key = re.sub(pattern, name, key)
        renamed[prefix + key] = value
    return renamed


MMSEGMENTATION = {r"\.attn\.qkv\.": ".attn.attn.in_proj_", r"\.attn\.proj\.": ".attn.attn.out_proj."}


@pytest.mark.parametrize("more", [{}, MMSEGMENTATION], ids=["mmpretrain", "mmsegmentation"])
@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_a_file_under_openmmlabs_names_gives_its_models_outputs(prefix, more, tmp_path):
    model = source(P16, num_classes=0, dynamic_img_size=True)
    state = openmmlab(model.state_dict(), prefix, more=more)
    if prefix:
        state |= {"head.deconv.weight": torch.zeros(2)}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "mm.pth")
    encoder = load(tmp_path / "mm.pth", P16)
    assert_same_tokens(encoder, model)
    assert encoder.report.prefix == prefix


def test_weights_of_sapiens_for_poses_have_no_class_token_an_oblong_grid_and_padded_patches(tmp_path):
    """The table of positions of 1024 x 768 pixels, a quarter as fine: 16 x 12 cells, padding 2."""
    args = {"class_token": False, "global_pool": ""}
    model = source(P16, num_classes=0, img_size=(256, 192), **args)
    model.patch_embed.proj.padding = (2, 2)
    torch.save(openmmlab(model.state_dict(), "backbone."), tmp_path / "sapiens.pth")
    encoder = load(tmp_path / "sapiens.pth", P16, args=args, position_grid=(16, 12), patch_padding=2)
    positions = resample_abs_pos_embed(model.pos_embed, [14, 14], [16, 12], num_prefix_tokens=0)
    torch.testing.assert_close(encoder.trunk.model.pos_embed, positions)
    model.pos_embed.data.zero_()
    encoder.trunk.model.pos_embed.data.zero_()
    assert_same_tokens(encoder, model, (256, 192))
    for grid, wrong in ((None, "a square"), ((12, 12), "12 x 12")):
        with pytest.raises(UserError, match=rf"192 positions, .* not {wrong}; set vit.position_grid") as caught:
            load(tmp_path / "sapiens.pth", P16, args=args, position_grid=grid)
        assert "\n" not in str(caught.value)


def test_positions_of_another_size_are_resized_as_timm_resizes_them(tmp_path):
    model = source(P16, img_size=160)
    torch.save(model.state_dict(), tmp_path / "160.pth")
    encoder = load(tmp_path / "160.pth", P16, args={"img_size": 96})
    torch.testing.assert_close(encoder.trunk.model.pos_embed, resample_abs_pos_embed(model.pos_embed, [6, 6]))
    as_timm = timm.create_model(P16, **TINY, img_size=96).eval()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "160.safetensors")
    timm.models.load_checkpoint(
        as_timm,
        str(tmp_path / "160.safetensors"),
        filter_fn=timm.models.vision_transformer.checkpoint_filter_fn,
    )
    assert_same_tokens(encoder, as_timm, (96, 96))


def test_dinov2s_own_names_with_registers(tmp_path):
    """Its table holds the class token's position, which timm adds to the token."""
    model = source(DINOV2, num_classes=0, img_size=112, dynamic_img_size=True)
    state = model.state_dict()
    of_class = torch.randn(1, 1, 32)
    published = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token", "pos_embed")} | {
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - of_class,
        "pos_embed": torch.cat([of_class, state["pos_embed"]], 1),
        "mask_token": torch.zeros(1, 32),
    }
    torch.save(published, tmp_path / "dinov2.pth")
    assert_same_tokens(load(tmp_path / "dinov2.pth", DINOV2, args={"img_size": 112}), model, (112, 56))


def test_dinov3s_own_names(tmp_path):
    model = source(DINOV3, num_classes=0, dynamic_img_size=True)
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    published = {}
    for key, value in model.state_dict().items():
        for timms, own in names.items():
            key = key.replace(timms, own)
        published[key] = value
    published |= {"mask_token": torch.zeros(1, 32), "rope_embed.periods": torch.zeros(8)}
    torch.save(published, tmp_path / "dinov3.pth")
    assert_same_tokens(load(tmp_path / "dinov3.pth", DINOV3), model)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    state = source(P16).state_dict()
    cases = {
        "patch": ("its patches are 16 x 16 pixels, those of the model 14 x 14", {"args": {"patch_size": 14}}, state),
        "width": ("of another shape: .*cls_token is 1x1x32, wanted 1x1x64", {"args": {"embed_dim": 64}}, state),
        "depth": ("12 missing: model.blocks.2", {"args": {"depth": 3}}, state),
        "tokens": ("197 positions, 0 for .* not a square", {"args": {"class_token": False, "global_pool": ""}}, state),
        "more": ("1 unexpected: decoder.weight", {}, {**state, "decoder.weight": torch.zeros(1)}),
        "channels": ("patch_embed.proj.weight is 32x4x16x16", {}, {
            **state, "patch_embed.proj.weight": torch.zeros(32, 4, 16, 16)
        }),
    }  # fmt: skip
    for name, (line, options, tensors) in cases.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=line) as caught:
            load(tmp_path / f"{name}.pth", P16, **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700


def test_a_fine_tuning_of_another_pyramid_is_told_its_keys(tmp_path):
    trained = EncoderConfig(name=P16, args=TINY, vit={"pyramid_channels": 24, "pyramid_levels": 3})
    export_encoders(HCMoCo(ModelConfig(rgb=trained, depth=trained), seed=0), tmp_path / "out")
    with pytest.raises(
        UserError, match=r"set encoder.vit.pyramid_channels=24 encoder.vit.pyramid_levels=3 or take weights"
    ):
        load_encoder_init(str(tmp_path / "out"), EncoderConfig(name=P16, args=TINY), "rgb")
    encoder = load_encoder_init(str(tmp_path / "out"), trained, "rgb").encoder
    assert encoder.strides == (4, 8, 16)


def test_a_file_of_other_pixels_gives_its_models_outputs_on_ours(tmp_path):
    """The source sees RGB less 0.5 over 0.5, ours the same picture with ImageNet's mean and deviation."""
    model = source(P16, num_classes=0, dynamic_img_size=True)
    torch.save(model.state_dict(), tmp_path / "half.pth")
    encoder = load(tmp_path / "half.pth", P16, pixels="half")
    rgb_BSS3 = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    theirs = (rgb_BSS3.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        wanted = model.forward_features(theirs)[:, 1:].mT.reshape(2, 32, 4, 4)
        ours = encoder.trunk.tokens(normalize_rgb(rgb_BSS3))
        plain = load(tmp_path / "half.pth", P16).trunk.tokens(normalize_rgb(rgb_BSS3))
    torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)
    assert (plain - wanted).abs().max() > 0.1
    torch.save(encoder.trunk.state_dict(), tmp_path / "ours.pth")
    again = load(tmp_path / "ours.pth", P16, pixels="half").trunk.model.patch_embed.proj.weight
    assert torch.equal(again, encoder.trunk.model.patch_embed.proj.weight), "converted once"
