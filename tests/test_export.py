"""Exports: what the card tells to run runs, gives the same outputs, and damage is noticed."""

import json
import re

import pytest
import torch

from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.license_terms import SYNTHETIC
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig

SMALL = EncoderConfig(name="hrnet_w18_small")


def make(rgb=SMALL, depth=SMALL, seed=0, **more):
    """A model whose normalization layers hold statistics of some data."""
    model = HCMoCo(ModelConfig(rgb=rgb, depth=depth, **more), seed=seed)
    torch.manual_seed(seed)
    for name in ("rgb", "depth"):
        encoder = getattr(model, name)
        encoder.train()(torch.randn(2, encoder.config.in_chans, 64, 64))
    model.keypoints(torch.randn(4, len(model.joint_set), 2))
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "encoders"
    model = make()
    export_encoders(model, folder, training={"recipe": "people-cpu", "steps": 12})
    return model, folder


def code_blocks(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)


@pytest.mark.parametrize(
    ("rgb", "depth"),
    [
        (EncoderConfig(name="hrnet_w18"), EncoderConfig(name="hrnet_w18", fusion="bilinear")),
        (SMALL, EncoderConfig(name="convnext_atto", in_chans=1)),
        (EncoderConfig(name="resnet18"), EncoderConfig(name="hrnet_w18_small", fusion="bilinear")),
        (
            EncoderConfig(name="mobilenetv3_small_050"),
            EncoderConfig(name="swin_tiny_patch4_window7_224", args={"img_size": 64}),
        ),
    ],
)
def test_the_cards_code_gives_our_outputs_in_plain_timm(tmp_path, monkeypatch, rgb, depth):
    model = make(rgb, depth)
    export_encoders(model, tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    for code, ours in zip(code_blocks(tmp_path / "out"), (model.rgb, model.depth), strict=False):
        assert "timm.create_model(" in code
        assert "hcmoco" not in code
        names = {}
        exec(code, names)
        encoder = names["encoder"]
        assert set(encoder.state_dict()) == set(ours.trunk.state_dict())
        assert names["maps"][0].shape[0] == 1
        x = torch.randn(2, ours.config.in_chans, 64, 64)
        with torch.no_grad():
            maps, expected = encoder(x)[-4:], ours(x)
        for plain, each in zip(maps, expected, strict=True):
            plain = plain.permute(0, 3, 1, 2) if ours.channels_last else plain
            torch.testing.assert_close(plain, each, rtol=1e-5, atol=1e-5)
    assert ("bilinear" in code) == (depth.fusion == "bilinear")


VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def test_the_cards_code_gives_a_vits_map_of_patches_in_plain_timm(tmp_path, monkeypatch):
    vit = EncoderConfig(name="vit_tiny_patch16_224", args=VIT, vit={"patch_padding": 2})
    registers = EncoderConfig(name="vit_small_patch14_reg4_dinov2", args={**VIT, "img_size": 112}, in_chans=1)
    model = make(vit, registers)
    export_encoders(model, tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    for code, ours in zip(code_blocks(tmp_path / "out"), (model.rgb, model.depth), strict=False):
        assert "hcmoco" not in code
        names = {}
        exec(code, names)
        x = torch.randn(2, ours.config.in_chans, 224, 224)
        with torch.no_grad():
            (patches,) = names["encoder"].forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
            assert torch.equal(patches, ours.trunk.tokens(x))
        assert names["maps"][0].shape[:2] == (1, 32)
    names = {}
    exec(code_blocks(tmp_path / "out")[2], names)
    with torch.no_grad():
        assert all(map(torch.equal, names["rgb"](x.expand(2, 3, -1, -1)), model.rgb(x.expand(2, 3, -1, -1))))


def test_the_cards_own_loader_and_detectron2_code_run(exported, monkeypatch):
    model, folder = exported
    monkeypatch.chdir(folder)
    ours, detectron2 = code_blocks(folder)[2:]
    names = {}
    exec(ours, names)
    x, k = torch.randn(1, 3, 64, 64), torch.randn(2, 16, 2)
    with torch.no_grad():
        for name in ("rgb", "depth"):
            assert all(map(torch.equal, names[name](x), getattr(model, name)(x)))
        assert torch.equal(names["keypoints"](k), model.keypoints(k))
    exec(detectron2, {})
    state = torch.load("rgb-detectron2.pth", weights_only=True)["model"]
    assert set(state) == {f"backbone.bottom_up.{key}" for key in model.rgb.trunk.state_dict()}


def test_exported_weights_start_another_encoder(exported):
    model, folder = exported
    fresh = HCMoCo(
        ModelConfig(rgb=EncoderConfig(name=SMALL.name, init=str(folder / "depth.safetensors")), depth=SMALL), seed=3
    )
    assert all(torch.equal(value, fresh.rgb.state_dict()[key]) for key, value in model.depth.state_dict().items())


def test_config_and_card_tell_where_it_comes_from(exported):
    model, folder = exported
    export = load_export(folder)
    assert export.model == model.config
    assert export.training == {"recipe": "people-cpu", "steps": 12}
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")  # nothing is known of what it was trained on
    assert "not recorded by the hcmoco that exported it" in card
    assert "- recipe: people-cpu\n- steps: 12" in card
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".pth") == [
        "README.md", "config.json", "depth.safetensors", "keypoints.safetensors", "mappers.safetensors",
        "rgb.safetensors",
    ]  # fmt: skip


def test_uri(exported):
    model, _ = exported
    export_encoders(model, "memory://bucket/run/encoders")
    export = load_export("memory://bucket/run/encoders/")
    assert all(torch.equal(value, export.states["rgb"][key]) for key, value in model.rgb.trunk.state_dict().items())
    with pytest.raises(UserError, match="exists already"):
        export_encoders(model, "memory://bucket/run/encoders")
    export_encoders(model, "memory://bucket/run/encoders", training={"steps": 2}, overwrite=True)
    assert load_export("memory://bucket/run/encoders").training == {"steps": 2}


def test_what_is_there_is_replaced_only_when_told_and_only_exports(tmp_path):
    model, other = make(), make(seed=1)
    export_encoders(model, tmp_path / "a" / "out")
    with pytest.raises(UserError, match="exists already"):
        export_encoders(other, tmp_path / "a" / "out")
    assert torch.equal(load_export(tmp_path / "a" / "out").states["rgb"]["conv1.weight"], model.rgb.trunk.conv1.weight)
    export_encoders(other, tmp_path / "a" / "out", overwrite=True)
    assert torch.equal(load_export(tmp_path / "a" / "out").states["rgb"]["conv1.weight"], other.rgb.trunk.conv1.weight)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no export, so it is not replaced"):
        export_encoders(model, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "mine"]


def copy(exported, folder):
    folder.mkdir()
    for path in exported[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def edit_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_damage_is_one_line(exported, tmp_path):
    def refused(folder, match):
        with pytest.raises(UserError, match=match) as caught:
            load_export(folder).encoder("rgb")
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "config.json cannot be read")
    flipped = copy(exported, tmp_path / "flipped")
    data = bytearray((flipped / "depth.safetensors").read_bytes())
    data[-1] ^= 1
    (flipped / "depth.safetensors").write_bytes(data)
    refused(flipped, "depth.safetensors does not match its checksum")
    lost = copy(exported, tmp_path / "lost")
    (lost / "keypoints.safetensors").unlink()
    refused(lost, "keypoints.safetensors cannot be read")
    text = copy(exported, tmp_path / "text")
    (text / "config.json").write_text("not json")
    refused(text, "is not that of an export")
    foreign = copy(exported, tmp_path / "foreign")
    (foreign / "config.json").write_text("[1]")
    refused(foreign, "is not that of an export")
    newer = copy(exported, tmp_path / "newer")
    edit_config(newer, lambda config: config.update(format_version=99))
    refused(newer, "format version 99")
    strange = copy(exported, tmp_path / "strange")
    edit_config(strange, lambda config: config["model"].update(color=1))
    refused(strange, "unknown key 'color'")
    mixed = copy(exported, tmp_path / "mixed")
    edit_config(mixed, lambda config: config["model"]["rgb"].update(name="resnet18"))
    refused(mixed, "rgb.safetensors does not fit")


def test_a_path_that_cannot_be_written(exported, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_encoders(exported[0], tmp_path / "file" / "out")
    with pytest.raises(UserError, match="exists and is no export"):
        export_encoders(exported[0], tmp_path / "file")


def test_the_card_is_one_of_the_hubs_and_has_its_tables(tmp_path):
    from huggingface_hub import ModelCard

    training = {
        "recipe": "people-cpu",
        "data": {"indoor": "data/people-indoor"},
        "rows": {"indoor": 2000},
        "probes": {"after stage 2": {"dense_same_crop/mean": 84.36, "effective_rank/rgb": 31.7}},
        "command": "python pipelines/pretrain.py --recipe people-cpu",
        "commit": "0123456789ab",
        "terms": [{"name": "people", "terms": SYNTHETIC}],
    }
    small = EncoderConfig(name="test_resnet")
    export_encoders(make(small, small), tmp_path / "out", training=training)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "hcmoco"
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert {"hcmoco", "timm", "depth"} <= set(card.data.tags)
    text = card.text
    assert "| `dense_same_crop/mean` |" in text
    assert re.search(r"\| `dense_same_crop/mean` +\| +84\.4 \|", text)
    assert re.search(r"\| `effective_rank/rgb` +\| +31\.7 \|", text)
    assert re.search(r"\| indoor +\| data/people-indoor +\| +2,000 \|", text)
    assert "commit 0123456789ab" in text
    assert "```bash\npython pipelines/pretrain.py --recipe people-cpu\n```" in text
    assert "synthetic people only" in text
    assert "@inproceedings{hong2022versatile," in text


def test_an_encoder_of_points_is_exported_under_the_published_names(tmp_path, monkeypatch):
    model = HCMoCo(ModelConfig(rgb=SMALL, depth=EncoderConfig(name="pointnet2_msg")), seed=0)
    torch.manual_seed(0)
    points = 0.5 * torch.randn(2, 256, 3)
    model.depth.trunk(points)  # statistics of some data
    model.eval()
    export_encoders(model, tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    names = {}
    exec(code_blocks(tmp_path / "out")[1], names)
    assert "SA_modules.3.mlps.1.layer1.bn.bn.running_var" in names["encoder"].state_dict()
    assert names["features"].shape == (1, 1024, 128)
    loaded = load_export(tmp_path / "out").encoder("depth")
    started = load_encoder_init(str(tmp_path / "out"), EncoderConfig(name="pointnet2_msg"), "depth").encoder.eval()
    with torch.no_grad():
        for network in (names["encoder"], loaded.trunk, started.trunk):
            assert torch.equal(network(points), model.depth.trunk(points))
    with pytest.raises(UserError, match=r"encoder\.name=pointnet2_msg"):
        load_encoder_init(str(tmp_path / "out"), SMALL, "depth")
