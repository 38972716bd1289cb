"""Encoders in other forms compute what ours compute, in the programs that load them."""

import io
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import timm
import torch

import hcmoco
from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.exporting import graphs
from hcmoco.exporting.convert import FORMS, convert, write
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco_ray.commands import export as command

TINY = EncoderConfig(name="test_resnet")


def make(rgb=TINY, depth=TINY):
    model = HCMoCo(ModelConfig(rgb=rgb, depth=depth, embedding=16), seed=3)
    model.add_dense_mappers()
    torch.manual_seed(0)
    for name in ("rgb", "depth"):
        encoder = getattr(model, name)
        encoder.train()(torch.randn(4, encoder.config.in_chans, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "export"
    export_encoders(make(), folder, training={"size": 64})
    return load_export(folder)


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_graph_takes_any_number_of_rows_and_any_size(exported, form):
    model = exported.model_with_mappers()
    (made,) = convert(exported, form, modalities=("rgb",))
    data = made.files[f"rgb.{form}"]
    assert "any number of rows, sides multiples of 32" in made.line
    for rows, height, width in ((1, 64, 64), (5, 96, 160)):
        image = torch.randint(0, 256, (rows, height, width, 3), dtype=torch.uint8)
        with torch.no_grad():
            maps = model.encode_rgb(model.prepare_rgb(image))
            expected = [*maps, model.dense_map("rgb", maps), model.global_embedding("rgb", maps)]
        if form == "onnx":
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            found = session.run(["map4", "map8", "map16", "map32", "dense", "pooled"], {"rgb": image.numpy()})
        else:
            found = torch.export.load(io.BytesIO(data)).module()(image)
        same(found, expected)


def test_the_skeleton_encoder_is_a_graph_too(exported):
    model = exported.model_with_mappers()
    (made,) = convert(exported, "onnx", modalities=("keypoints",))
    session = onnxruntime.InferenceSession(made.files["keypoints.onnx"], providers=["CPUExecutionProvider"])
    keypoints = torch.cat([200 * torch.rand(7, 16, 2), (torch.rand(7, 16, 1) < 0.7).float()], -1)
    found = session.run(["joints", "pooled"], {"keypoints": keypoints.numpy()})
    with torch.no_grad():
        features = model.encode_keypoints(model.prepare_keypoints(keypoints), keypoints[..., 2])
        same(found, [model.joint_embedding(features), model.global_embedding("keypoints", features)])


def test_a_graph_of_depth_gives_what_embed_gives(exported):
    (made,) = convert(exported, "onnx", modalities=("depth",))
    session = onnxruntime.InferenceSession(made.files["depth.onnx"], providers=["CPUExecutionProvider"])
    depth = np.random.default_rng(0).integers(500, 4000, (3, 64, 64)).astype(np.uint16)
    depth[:, :20] = 0
    (pooled,) = session.run(["pooled"], {"depth": depth})
    same([pooled], [hcmoco.load(exported.folder).embed(depth=depth).depth.pooled])


def test_a_file_holds_no_other_encoders_weights(exported):
    sizes = {name: len(convert(exported, "pt2", modalities=(name,))[0].files[f"{name}.pt2"]) for name in ("rgb",)}
    weights = sum(value.numel() for value in exported.states["rgb"].values()) * 4
    assert sizes["rgb"] < weights + 600_000


def test_a_graph_that_computes_something_else_is_not_written(exported, monkeypatch):
    monkeypatch.setattr(graphs, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="the pt2 of the rgb encoder differs from PyTorch"):
        convert(exported, "pt2", modalities=("rgb",))


def test_without_a_package_it_says_what_to_install(exported, monkeypatch):
    monkeypatch.setattr(graphs, "_NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(UserError, match=r"needs no_such_package; run `pip install 'hcmoco\[export\]'`"):
        convert(exported, "onnx", modalities=("rgb",))


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(name="hrnet_w18_small"),
        EncoderConfig(name="convnext_atto", in_chans=1),
        EncoderConfig(name="swin_tiny_patch4_window7_224", args={"img_size": 64}),
        EncoderConfig(name="mobilenetv4_conv_small"),
    ],
)
def test_timm_loads_its_folder(tmp_path, monkeypatch, config):
    export_encoders(make(depth=config), tmp_path / "export", training={"size": 64})
    export = load_export(tmp_path / "export")
    (made,) = convert(export, "timm", modalities=("depth",))
    write([made], str(tmp_path / "timm"), overwrite=False)
    monkeypatch.chdir(tmp_path / "timm")
    call = made.line.partition(": ")[2].partition("; ")[0]
    plain = eval(call, {"timm": timm}).eval()  # the call that the line shows
    ours = export.encoder("depth")
    image = torch.randn(2, config.in_chans, 64, 64)
    with torch.no_grad():
        for one, other in zip(plain(image)[-4:], ours(image), strict=True):
            torch.testing.assert_close(one.permute(0, 3, 1, 2) if ours.channels_last else one, other)
    described = json.loads((tmp_path / "timm/depth/config.json").read_text())
    assert described["pretrained_cfg"]["mean"] == [0.0] * config.in_chans  # nothing is taken off depth


def test_a_bilinear_fusion_is_refused_and_its_difference_stated(tmp_path):
    bilinear = EncoderConfig(name="hrnet_w18_small", fusion="bilinear")
    export_encoders(make(rgb=bilinear), tmp_path / "export", training={"size": 64})
    export = load_export(tmp_path / "export")
    with pytest.raises(UserError, match="--accept-difference"):
        convert(export, "timm", modalities=("rgb",))
    (made,) = convert(export, "timm", modalities=("rgb",), accept_difference=True)
    assert "its maps DIFFER from ours by up to" in made.line


def test_a_folder_for_the_hub_is_read_by_us_and_by_timm(exported, tmp_path, monkeypatch):
    from huggingface_hub import ModelCard, constants

    commit = "b" * 40
    place = tmp_path / "models--somebody--people"
    write(convert(exported, "hub"), str(place / "snapshots" / commit), overwrite=False)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    model = hcmoco.load("somebody/people")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    ours = exported.model_with_mappers()
    expected = ours.encode_rgb(ours.prepare_rgb(torch.from_numpy(pictures)))
    assert torch.equal(model.embed(pictures).rgb.pooled, ours.global_embedding("rgb", expected))
    plain = timm.create_model("hf_hub:somebody/people", pretrained=True, features_only=True, cache_dir=tmp_path).eval()
    maps = plain(ours.prepare_rgb(torch.from_numpy(pictures)))[-4:]
    same(maps, expected)
    assert ModelCard.load(place / "snapshots" / commit / "README.md").data.library_name == "hcmoco"


def test_the_program(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    assert tuple(command.FORMS) == FORMS
    arguments = [exported.folder, "--to", "timm", "--out", "out", "--modality", "rgb"]
    assert command.main(arguments) == 0
    assert f"written to {tmp_path}/out" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out" / "rgb").iterdir()) == ["config.json", "model.safetensors"]
    assert command.main(arguments) == 2
    assert "exists already; give another folder with --out, or --overwrite" in capsys.readouterr().err
    assert command.main([*arguments, "--overwrite"]) == 0
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "onnx", "--modality", "rgb,sound"], "--modality sound: allowed are rgb, depth, keypoints"),
        (["--to", "hub", "--modality", "rgb"], "--modality has no effect with --to hub"),
        (["--to", "timm", "--modality", "keypoints"], "take --to onnx or --to pt2"),
        (["--to", "mmpose", "--modality", "rgb"], "test_resnet is no HRNet"),
        (
            ["--to", "timm", "--size", "100"],
            "--size 100: the encoders take multiples of 32, 2048 at most",
        ),
        (["--to", "timm", "--size", "0"], "--size 0: a side in pixels"),
        (["--to", "timm", "--modality", ""], "--modality '': allowed are"),
    ],
)
def test_what_cannot_be_is_one_line(exported, capsys, tmp_path, options, said):
    assert command.main([exported.folder, *options, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(exported, capsys, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert command.main([exported.folder, "--to", "timm", "--modality", "rgb", "--out", str(tmp_path / "file")]) == 2
    line = capsys.readouterr().err
    assert "cannot be written" in line
    assert "give another folder with --out" in line
    assert line.count("\n") == 1


def test_a_source_that_is_none_is_one_line(capsys, tmp_path):
    assert command.main([str(tmp_path), "--to", "timm", "--out", str(tmp_path / "out")]) == 2
    assert "no export is there" in capsys.readouterr().err
