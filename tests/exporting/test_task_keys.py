"""Fine-tuned models under other programs' names: networks written out from those names give the same logits."""

import ast
import io

import pytest
import torch
import torch.nn.functional as F
import yaml

from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.errors import UserError
from hcmoco.exporting.convert_task import convert_task
from hcmoco.exporting.source import open_source
from hcmoco.finetuning.saved_model import Saved, load_model, save_model
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.normalization import normalize_rgb
from hcmoco.tasks.densepose import DensePoseConfig
from hcmoco.tasks.densepose.published_weights import load_published
from hcmoco.tasks.parsing import ParsingConfig
from hcmoco.tasks.pose import PoseConfig
from hcmoco.tasks.registry import make_task
from hcmoco_ray.commands import export as command
from hcmoco_ray.paths import resolve_model
from tests.helpers.pasted_scenes import about as scene_about

SMALL = "hrnet_w18_small"
PUBLISHED = DensePoseConfig(
    pyramid="published", chart_norm="none", pyramid_channels=16, box_width=32, chart_width=16, chart_depth=2
)
ABOUT = About(dataset="people", joints3d="people-31", size=128, provenance=Provenance(program="tests"))
CARD = "---\nlicense: apache-2.0\ntags: [hcmoco]\n---\n\n# Card\n"


def saved_model(folder, config, fusion="bilinear", name=SMALL):
    encoder = EncoderConfig(name=name, fusion=fusion) if name == SMALL else EncoderConfig(name=name)
    task = make_task(config, scene_about() if config.name == "densepose" else ABOUT)
    torch.manual_seed(2)
    model = task.make_model(build_encoder(encoder, load=False))
    for key, value in model.state_dict().items():  # statistics of some data
        if key.endswith("running_mean"):
            value.normal_(std=0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    save_model(str(folder), model, task, encoder, training={}, card=CARD)
    return load_model(str(folder))


@pytest.fixture(scope="module")
def parsing(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("models") / "parsing", ParsingConfig(name="parsing-rgb", size=64))


def written(saved, form, **more):
    (made,) = convert_task(saved, form, **more)
    (checkpoint,) = [data for name, data in made.files.items() if name.endswith(".pth")]
    (config,) = [data.decode() for name, data in made.files.items() if not name.endswith(".pth")]
    return torch.load(io.BytesIO(checkpoint), weights_only=True), config, made.line


def ours(saved, picture):
    model = saved.model()
    with torch.no_grad():
        x = normalize_rgb(picture)
        return x, list(model.encoder(x)), model(picture)


def joined(maps):
    size = maps[0].shape[2:]
    return torch.cat([maps[0], *(F.interpolate(each, size, mode="bilinear") for each in maps[1:])], 1)


def test_hrnet_seg_has_the_published_names_and_logits(parsing):
    state, config, line = written(parsing, "hrnet-seg")
    trunk = {key for key in state if not key.startswith("model.last_layer.")}
    assert trunk == {f"model.{key}" for key in parsing.model().encoder.trunk.state_dict()}
    head = {key.removeprefix("model.last_layer.") for key in state} - {
        key.removeprefix("model.last_layer.") for key in trunk
    }
    norm = {f"1.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert head == {"0.weight", "0.bias", "3.weight", "3.bias"} | norm
    picture = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    _, maps, expected = ours(parsing, picture)
    part = {key.removeprefix("model.last_layer."): value for key, value in state.items()}
    x = F.conv2d(joined(maps), part["0.weight"], part["0.bias"])
    x = F.batch_norm(x, *(part[f"1.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))).relu()
    torch.testing.assert_close(F.conv2d(x, part["3.weight"], part["3.bias"]), expected, rtol=1e-4, atol=1e-4)
    told = yaml.safe_load(config)
    assert told["DATASET"]["NUM_CLASSES"] == 25
    assert told["TEST"] == {"MODEL_FILE": "parsing-rgb-hrnet-seg.pth", "IMAGE_SIZE": [64, 64], "BASE_SIZE": 64}
    assert f"{len(state)} tensors under hrnet-seg's names, head included" in line


def test_mmseg_has_a_first_convolution_without_bias_and_the_same_logits(parsing):
    checkpoint, config, _ = written(parsing, "mmseg")
    state = checkpoint["state_dict"]
    assert "decode_head.convs.0.conv.bias" not in state
    picture = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    _, maps, expected = ours(parsing, picture)
    x = F.conv2d(joined(maps), state["decode_head.convs.0.conv.weight"])
    norm = (state[f"decode_head.convs.0.bn.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    x = F.batch_norm(x, *norm).relu()
    found = F.conv2d(x, state["decode_head.conv_seg.weight"], state["decode_head.conv_seg.bias"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    values = {node.targets[0].id: node.value for node in ast.parse(config).body if isinstance(node, ast.Assign)}
    model = eval(compile(ast.Expression(values["model"]), "config", "eval"), {"dict": dict})
    assert model["decode_head"]["num_classes"] == 25
    assert model["decode_head"]["in_channels"] == list(parsing.model().encoder.channels)
    assert model["decode_head"]["channels"] == sum(parsing.model().encoder.channels)
    assert model["data_preprocessor"]["bgr_to_rgb"] is True
    assert ast.literal_eval(values["classes"])[20] == "head"
    assert ast.literal_eval(values["load_from"]) == "parsing-rgb-mmseg.pth"


def test_a_detector_comes_back_from_detectron2s_names(tmp_path):
    saved = saved_model(tmp_path / "densepose", PUBLISHED, fusion="nearest")
    checkpoint, config, _ = written(saved, "detectron2")
    path = tmp_path / "model.pth"
    torch.save(checkpoint, path)
    model = saved.model()
    fresh = saved.task().make_model(build_encoder(saved.encoder, load=False))
    report = load_published(fresh, str(path), fresh.charts.convolutions())
    assert str(report).endswith("0 left, 0 missing")
    for key, value in model.state_dict().items():
        if key.startswith("boxes.box_predictor.bbox_pred") and value.is_floating_point():
            half = len(value) // 2  # the background's box, which nothing reads
            torch.testing.assert_close(fresh.state_dict()[key][half:], value[half:])
        else:
            torch.testing.assert_close(fresh.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    told = yaml.safe_load(config)
    assert told["INPUT"]["FORMAT"] == "BGR"
    assert told["MODEL"]["PIXEL_STD"] == [1.0, 1.0, 1.0]
    assert told["MODEL"]["PIXEL_MEAN"] == [103.53, 116.28, 123.675]
    assert told["MODEL"]["ROI_DENSEPOSE_HEAD"]["NUM_STACKED_CONVS"] == 2


def test_the_encoder_alone_is_that_of_the_model(parsing):
    state, _, _ = written(parsing, "hrnet-seg", encoder_only=True)
    for key, value in parsing.model().encoder.trunk.state_dict().items():
        assert torch.equal(state[key], value)


def test_the_hub_gets_the_model_with_a_card_that_names_the_library(parsing, tmp_path):
    (made,) = convert_task(parsing, "hub")
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)
    back = load_model(str(tmp_path))
    for key, value in parsing.model().state_dict().items():
        assert torch.equal(back.model().state_dict()[key], value)
    assert made.files["README.md"].decode().startswith("---\nlibrary_name: hcmoco\nlicense: apache-2.0\n")


@pytest.mark.parametrize(
    ("config", "fusion", "form", "more", "said"),
    [
        (PoseConfig(size=64), "bilinear", "mmpose", {}, "the model is one of pose, and MMPose has no such model"),
        (PoseConfig(size=64), "bilinear", "mmseg", {}, "MMSegmentation has models of parsing alone; take --to onnx"),
        (PoseConfig(size=64), "bilinear", "timm", {}, "timm has encoders alone"),
        (PoseConfig(size=64), "bilinear", "onnx", {"encoder_only": True}, "--part encoder: onnx takes the whole"),
        (PoseConfig(size=64), "bilinear", "onnx", {"side": 96}, "--size has no effect on a fine-tuned model"),
        (DensePoseConfig(), "nearest", "detectron2", {}, "fine-tune with task.pyramid=published"),
        (PUBLISHED, "bilinear", "detectron2", {}, "was trained with bilinear fusion, detectron2 fuses nearest"),
        (ParsingConfig(name="parsing-rgb"), "nearest", "mmseg", {}, "trained with nearest fusion, mmseg fuses bil"),
        (ParsingConfig(name="parsing-rgb"), "nearest", "detectron2", {}, "has models of densepose alone"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(tmp_path, config, fusion, form, more, said):
    saved = saved_model(tmp_path / "model", config, fusion)
    with pytest.raises(UserError) as caught:
        convert_task(saved, form, **more)
    assert said in str(caught.value)


def test_another_backbone_is_refused(tmp_path):
    saved = saved_model(tmp_path / "model", ParsingConfig(name="parsing-rgb", size=64), name="test_resnet")
    with pytest.raises(UserError, match="test_resnet is no HRNet"):
        convert_task(saved, "mmseg")


def test_the_program_takes_a_runs_folder_and_writes_its_model(parsing, tmp_path, capsys, monkeypatch):
    run = tmp_path / "home" / "runs" / "parsing"
    run.mkdir(parents=True)
    (run / "model").symlink_to(parsing.folder)
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path / "home"))
    assert command.main(["runs/parsing", "--to", "mmseg", "--out", "exports"]) == 0
    assert "tensors under mmseg's names, head included" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "home" / "exports").iterdir()}
    assert names == {"parsing-rgb-mmseg.pth", "parsing-rgb-mmseg.py"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "mmseg", "--modality", "rgb"], "is a fine-tuned model, which reads one modality; leave it out"),
        (["--to", "mmpose"], "take --to onnx, pt2 or hub for the whole model, or --part encoder for its encoder"),
    ],
)
def test_what_a_fine_tuned_model_has_not_is_one_line(parsing, tmp_path, capsys, options, said):
    assert command.main([parsing.folder, *options, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_part_is_for_fine_tuned_models(tmp_path, capsys):
    assert command.main(["people-small", "--to", "timm", "--part", "encoder", "--out", str(tmp_path / "out")]) == 2
    assert "people-small is a pre-training, which has encoders alone" in capsys.readouterr().err


def test_a_model_of_the_hub_is_found_in_its_cache(parsing, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "c" * 40
    place = tmp_path / "models--somebody--parsing"
    (place / "snapshots" / commit).mkdir(parents=True)
    for name, data in convert_task(parsing, "hub")[0].files.items():
        (place / "snapshots" / commit / name).write_bytes(data)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    assert resolve_model("somebody/parsing") == "somebody/parsing"
    assert load_model("somebody/parsing").digest == parsing.digest
    source = open_source("somebody/parsing")
    assert isinstance(source, Saved)
    assert source.digest == parsing.digest
    (tmp_path / "somebody" / "parsing").mkdir(parents=True)
    assert resolve_model("somebody/parsing") == str(tmp_path / "somebody/parsing")


def test_a_fine_tuned_model_of_the_package_is_a_source():
    source = open_source("people-small-parsing")
    assert isinstance(source, Saved)
    assert source.config.name == "parsing-rgb"
