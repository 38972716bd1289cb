"""Fusions of HRNets: as the weights were trained, told by their files, unless the config says otherwise."""

import json

import pytest
import torch
from torch import nn

from hcmoco.config import build
from hcmoco.errors import UserError
from hcmoco.export import export_encoders
from hcmoco.finetuning.encoder_init import load_encoder_init, settle_encoder
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.fusion import fusion_of_keys, settle_fusion
from hcmoco.models.multimodal import HCMoCo, ModelConfig, settle_model, with_saved_fusions

SMALL = "hrnet_w18_small"


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(name=SMALL)).trunk.state_dict()


def modes(encoder) -> set[str]:
    return {module.mode for module in encoder.modules() if isinstance(module, nn.Upsample)}


def file_of(trunk, path, prefix: str, *more: str, wrapper: str | None = None) -> str:
    state = {f"{prefix}{key}": value for key, value in trunk.items()} | {key: torch.zeros(1) for key in more}
    torch.save({wrapper: state} if wrapper else state, path)
    return str(path)


@pytest.mark.parametrize(
    ("prefix", "more", "fusion", "told"),
    [
        ("", ("incre_modules.0.0.conv1.weight", "classifier.weight"), "nearest", "ImageNet classification"),
        ("", ("last_layer.0.weight",), "bilinear", "HRNet-Semantic-Segmentation"),
        ("module.", ("module.last_layer.0.weight",), "bilinear", "HRNet-Semantic-Segmentation"),
        ("encoder1.", (), "bilinear", "HCMoCo"),
        ("module.encoder2.", (), "bilinear", "HCMoCo"),
        ("backbone.bottom_up.", ("backbone.fpn_conv.0.weight",), "nearest", "detectron2"),
        ("backbone.", ("decode_head.conv_seg.weight",), "bilinear", "MMSegmentation"),
        ("backbone.", ("head.final_layer.weight",), "nearest", "MMPose"),
        ("", (), None, ""),
        ("module.", (), None, ""),
        ("backbone.", (), None, ""),
    ],
)
def test_what_the_keys_tell(trunk, prefix, more, fusion, told):
    keys = [prefix + key for key in trunk]
    found, reason = fusion_of_keys([*keys, *more])
    assert found == fusion
    assert told in reason


def test_an_encoder_fuses_as_its_file_was_trained(trunk, tmp_path):
    path = file_of(trunk, tmp_path / "hcmoco.pth", "module.encoder1.", wrapper="model")
    published = build_encoder(EncoderConfig(name=SMALL, init=path)).eval()
    assert published.config.fusion == "bilinear"
    assert modes(published) == {"bilinear"}
    told = build_encoder(EncoderConfig(name=SMALL, init=path, fusion="nearest")).eval()
    assert modes(told) == {"nearest"}
    reference = build_encoder(EncoderConfig(name=SMALL, fusion="bilinear"), load=False).eval()
    reference.trunk.load_state_dict(trunk)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other, nearest in zip(published(image), reference(image), told(image), strict=True):
            assert torch.equal(one, other)
            assert not torch.equal(one, nearest)


def test_drawn_weights_and_other_backbones_are_as_timm_has_them():
    for config in (EncoderConfig(name=SMALL), EncoderConfig(name="resnet18"), EncoderConfig(name=SMALL, init="timm")):
        settled, line = settle_fusion(config)
        assert (settled.fusion, line) == ("nearest", "")
    assert modes(build_encoder(EncoderConfig(name=SMALL))) == {"nearest"}


def test_the_line_says_what_was_taken_and_why(trunk, tmp_path):
    path = file_of(trunk, tmp_path / "seg.pth", "", "last_layer.0.weight")
    _, line = settle_fusion(EncoderConfig(name=SMALL, init=path), key="model.rgb")
    assert line == f"model.rgb.fusion: bilinear, as {path} was trained (told by its last_layer: " + (
        "HRNet-Semantic-Segmentation)"
    )
    bare = file_of(trunk, tmp_path / "bare.pth", "")
    settled, line = settle_fusion(EncoderConfig(name=SMALL, init=bare), key="encoder")
    assert settled.fusion == "nearest"
    assert line.startswith(f"encoder.fusion: nearest, the default, since {bare} does not tell")
    assert "set encoder.fusion=bilinear if" in line


@pytest.fixture(scope="module")
def bilinear_export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "export"
    encoder = EncoderConfig(name=SMALL, fusion="bilinear")
    export_encoders(HCMoCo(ModelConfig(rgb=encoder, depth=EncoderConfig(name=SMALL), embedding=16), seed=0), folder)
    return folder


def test_an_export_is_taken_as_it_was_trained(bilinear_export):
    for init in (str(bilinear_export), str(bilinear_export / "rgb.safetensors")):
        settled, line = settle_encoder(init, EncoderConfig(name=SMALL), "rgb")
        assert settled.fusion == "bilinear"
        assert "encoder.fusion: bilinear, as" in line
        assert modes(load_encoder_init(init, EncoderConfig(name=SMALL), "rgb").encoder) == {"bilinear"}
    assert settle_encoder(str(bilinear_export), EncoderConfig(name=SMALL), "depth")[0].fusion == "nearest"
    with pytest.raises(UserError, match=r"set encoder\.fusion=bilinear"):
        load_encoder_init(str(bilinear_export), EncoderConfig(name=SMALL, fusion="nearest"), "rgb")


def test_a_pre_training_starts_from_an_export_and_is_recorded_with_its_fusion(bilinear_export):
    config = ModelConfig(
        rgb=EncoderConfig(name=SMALL, init=str(bilinear_export)),
        depth=EncoderConfig(name=SMALL, init=str(bilinear_export)),
        embedding=16,
    )
    settled, lines = settle_model(config)
    assert (settled.rgb.fusion, settled.depth.fusion) == ("bilinear", "nearest")
    assert [line.partition(":")[0] for line in lines] == ["model.rgb.fusion", "model.depth.fusion"]
    model = HCMoCo(config, seed=1)
    assert model.config == settled
    first = HCMoCo(settled, seed=0, load=False)
    assert model.reports["rgb"].loaded == len(first.rgb.trunk.state_dict())
    assert str(model.reports["depth"]).endswith("0 left, 0 missing")
    assert str(bilinear_export / "depth.safetensors") in str(model.reports["depth"])
    # A resumed run is the recorded one, whatever has become of the file.
    gone = config.model_copy(update={"rgb": config.rgb.model_copy(update={"init": "gone"})})
    assert with_saved_fusions(gone, settled.model_dump()).rgb.fusion == "bilinear"


def test_packaged_weights_start_a_pre_training():
    model = HCMoCo(
        ModelConfig(
            rgb=EncoderConfig(name=SMALL, init="people-small"),
            depth=EncoderConfig(name=SMALL, init="people-small"),
            skeleton={"init": "people-small"},
        ),
        seed=1,
    )
    assert set(model.reports) == {"rgb", "depth", "keypoints"}
    assert model.config.rgb.init == "people-small"
    assert [report.head_keys + report.other_keys for report in model.reports.values()] == [()] * 3


def test_a_fine_tuned_model_and_a_train_state_are_taken_as_they_were_trained(trunk, tmp_path):
    (tmp_path / "model").mkdir()
    path = file_of(trunk, tmp_path / "model" / "model.pth", "encoder.trunk.", "head.norm.weight")
    facts = {"encoder": {"fusion": "bilinear"}, "files": {"model.pth": {}}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(facts))
    assert settle_fusion(EncoderConfig(name=SMALL, init=path))[0].fusion == "bilinear"
    (tmp_path / "state").mkdir()
    path = file_of(trunk, tmp_path / "state" / "model.pth", "rgb.trunk.")
    identity = {"model": {"rgb": {"fusion": "bilinear"}, "depth": {"fusion": "nearest"}}}
    (tmp_path / "state" / "state.json").write_text(json.dumps({"identity": identity}))
    assert settle_fusion(EncoderConfig(name=SMALL, init=f"{path}#rgb.trunk."))[0].fusion == "bilinear"
    assert settle_fusion(EncoderConfig(name=SMALL, init=path), modality="depth")[0].fusion == "nearest"


def test_recorded_runs_of_before_are_read():
    """They have nearest for every encoder, also for one that has no fusions."""
    for name in (SMALL, "resnet18", "pointnet2_msg"):
        assert build(EncoderConfig, {"name": name, "fusion": "nearest"}, "test").fusion == "nearest"


def test_a_missing_file_is_one_line_that_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        build_encoder(EncoderConfig(name=SMALL, init="weights.pth"))
    assert f"weights weights.pth do not exist (looked for as {tmp_path}/weights.pth)" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        settle_model(ModelConfig(rgb=EncoderConfig(name=SMALL, init="empty")))
    assert f"{tmp_path}/empty is neither an export nor a finished run" in str(caught.value)
