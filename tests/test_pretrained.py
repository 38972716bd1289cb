"""`hcmoco.load`: what it finds, what it embeds, and that values in another convention are refused."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import hcmoco
from hcmoco.data.skeletons import joint_set
from hcmoco.errors import UserError
from hcmoco.export import export_encoders, load_export
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.license_terms import SYNTHETIC
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.mmv import MMV
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.weights import find_weights
from hcmoco.weights.__main__ import main
from hcmoco_ray.paths import resolve_start
from tests.test_layout import PROGRAM

ROOT = Path(__file__).resolve().parents[1]
TINY = ModelConfig(rgb=EncoderConfig(name="test_resnet"), depth=EncoderConfig(name="test_resnet"), embedding=16)


def make(kind=HCMoCo, dense=True):
    """A model whose normalization layers hold statistics of some data."""
    model = kind(TINY, seed=3)
    if kind is HCMoCo and dense:
        model.add_dense_mappers()
    torch.manual_seed(0)
    for name in ("rgb", "depth"):
        getattr(model, name).train()(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "people" / "export"
    model = make()
    export_encoders(model, folder, training={"size": 64})
    return model, folder


@pytest.fixture(scope="module")
def model(exported):
    return hcmoco.load(str(exported[1]))


def people(count=5, side=64):
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    depth = rng.integers(1500, 2500, (count, side, side)).astype(np.uint16)
    depth[:, :, : side // 3] = 0
    keypoints = np.concatenate([rng.uniform(1, side - 1, (count, 16, 2)), rng.random((count, 16, 1)) < 0.8], 2)
    return {"rgb": rgb, "depth": depth, "keypoints": keypoints}


def test_embeddings_are_those_of_the_model_that_was_exported(exported, model):
    source, _ = exported
    given = people()
    found = model.embed(**given)
    with torch.no_grad():
        keypoints = torch.tensor(given["keypoints"], dtype=torch.float32)
        maps = source.encode_rgb(source.prepare_rgb(torch.from_numpy(given["rgb"])))
        depth = source.encode_depth(source.prepare_depth(torch.from_numpy(given["depth"])))
        joints = source.encode_keypoints(source.prepare_keypoints(keypoints), keypoints[..., 2])
        assert torch.equal(found.rgb.pooled, source.global_embedding("rgb", maps))
        assert torch.equal(found.depth.dense, source.dense_map("depth", depth))
        assert torch.equal(found.keypoints.pooled, source.global_embedding("keypoints", joints))
    assert found.rgb.dense.shape == (5, 16, 16, 16)
    for each in (found.rgb, found.depth, found.keypoints):
        assert each.pooled.dtype == torch.float32
        assert each.pooled.norm(dim=1).numpy() == pytest.approx(np.ones(5), abs=1e-5)
    assert found.keypoints.dense is None


def test_images_are_embedded_at_the_joints_and_invisible_ones_are_zero(model):
    given = people()
    found = model.embed(**given)
    for person in range(5):
        for joint, (x, y, visible) in enumerate(given["keypoints"][person]):
            expected = found.rgb.dense[person, :, int(y // 4), int(x // 4)] * visible
            assert found.rgb.joints[person, joint].numpy() == pytest.approx(expected.numpy(), abs=1e-5)
            assert found.keypoints.joints[person, joint].norm() == pytest.approx(visible, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_rows_do_not_depend_on_the_batch(model, batch_size):
    whole, parts = (model.embed(**people(), batch_size=size) for size in (64, batch_size))
    for name in ("rgb", "depth", "keypoints"):
        for field in ("pooled", "dense", "joints"):
            if (value := getattr(getattr(whole, name), field)) is not None:
                torch.testing.assert_close(getattr(getattr(parts, name), field), value, rtol=1e-4, atol=1e-5)


def test_whatever_people_hold_their_pictures_in(model):
    from PIL import Image

    given = people(2)["rgb"]
    expected = model.embed(given, dense=False)
    assert expected.rgb.dense is None
    assert expected.rgb.joints is None
    assert expected.depth is None
    for form in (list(given), torch.from_numpy(given), [Image.fromarray(each) for each in given]):
        assert torch.equal(model.embed(form).rgb.pooled, expected.rgb.pooled)
    torch.testing.assert_close(model.embed(given[0]).rgb.pooled, expected.rgb.pooled[:1], rtol=1e-4, atol=1e-5)


def test_depth_in_meters_and_in_millimeters_is_the_same(model):
    depth = people()["depth"]
    in_mm, in_m = model.embed(depth=depth.astype(np.int32)), model.embed(depth=(depth / 1000).astype(np.float32))
    assert torch.equal(in_mm.depth.dense, in_m.depth.dense)


def test_keypoints_of_another_set_are_matched_by_name(model):
    coco, own = joint_set("coco-17"), joint_set(model.joint_set)
    rng = np.random.default_rng(1)
    theirs = np.concatenate([rng.uniform(5, 60, (3, 17, 2)), np.ones((3, 17, 1))], 2)
    ours = np.zeros((3, 16, 3))
    for joint, name in enumerate(own.joints):
        if name in coco.joints:
            ours[:, joint] = theirs[:, coco.index(name)]
    found, expected = model.embed(keypoints=theirs, joint_set="coco-17"), model.embed(keypoints=ours)
    both = [joint for joint, name in enumerate(own.joints) if name in coco.joints]
    assert len(both) >= 12
    assert torch.equal(found.keypoints.joints[:, both], expected.keypoints.joints[:, both])


def shares(keypoints):
    return np.concatenate([keypoints[..., :2] / 64, keypoints[..., 2:]], 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: {"rgb": x["rgb"] / 255}, "rgb is uint8, 0 to 255"),
        (lambda x: {"rgb": x["rgb"].transpose(0, 3, 1, 2)}, "move the channels to the end"),
        (lambda x: {"rgb": x["rgb"][:, :60]}, "multiples of 32"),
        (lambda x: {"rgb": [x["rgb"][0], x["rgb"][1][:32]]}, "one size"),
        (lambda x: {"rgb": x["rgb"] // 255}, "multiply it by 255"),
        (lambda x: {"rgb": x["rgb"][:0]}, "has no pixels"),
        (lambda x: {"rgb": "person.jpg"}, "read the file first"),
        (
            lambda x: {"depth": x["depth"].astype(np.float32)},
            "floats are meters, and half of the depth would be beyond",
        ),
        (lambda x: {"depth": x["depth"] / 10}, "floats are meters, and half of the depth would be beyond"),
        (lambda x: {"depth": x["depth"].astype(np.int32) * 20}, "integers are millimeters, .* would be beyond"),
        (lambda x: {"depth": x["depth"] // 20}, "integers are millimeters, .* would be within"),
        (lambda x: {"depth": (x["depth"] // 1000).astype(np.uint16)}, "would be within 0.002 m"),
        (lambda x: {"depth": np.where(x["depth"] > 2400, 65535, x["depth"])}, "the largest would be 65.535 m"),
        (lambda x: {"keypoints": x["keypoints"] * [1, 1, 0]}, "no visible joint"),
        (lambda x: {"depth": x["depth"].astype(np.uint8)}, "16 bits or more"),
        (lambda x: {"depth": -x["depth"].astype(np.float32)}, "below 0"),
        (lambda x: {"keypoints": shares(x["keypoints"])}, "not shares"),
        (lambda x: {"keypoints": x["keypoints"] * [1, 1, 0.7]}, "threshold"),
        (lambda x: {"keypoints": x["keypoints"][:, :13]}, "name their set with joint_set"),
        (lambda x: {"keypoints": np.where([1, 1, 0], np.nan, x["keypoints"])}, "no finite position"),
        (lambda x: {"rgb": x["rgb"], "depth": x["depth"][:3]}, "different numbers of rows"),
        (lambda x: {**x, "depth": x["depth"][:, :32]}, "differ in size"),
        (lambda x: {}, "nothing to embed"),
    ],
)
def test_another_convention_is_refused(model, change, said):
    with pytest.raises(ValueError, match=said):
        model.embed(**change(people()))


def test_depth_of_another_kind_than_it_was_trained_on_is_told_of(exported):
    source, _ = exported
    model = hcmoco.Pretrained(source, {"depth_masking": "masked"})
    given = people()["depth"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut_out = given.copy()
        cut_out[:, :, 40:] = 0
        model.embed(depth=cut_out)
    with pytest.warns(UserWarning, match="masked to the person"):
        model.embed(depth=np.full_like(given, 2000))


def test_a_crop_is_the_one_of_evaluation(model):
    rgb = np.zeros((100, 200, 3), np.uint8)
    rgb[20:80, 120:160] = 255
    crop = model.crop(rgb, (120, 20, 160, 80))
    assert crop.shape == (64, 64, 3)
    lit = np.flatnonzero(crop[32, :, 0] > 127)
    assert (lit[0], lit[-1] + 1) == (15, 49)  # 40 of 75 pixels, in the middle
    moved = model.crop_keypoints(np.array([[140, 50, 1], [10, 50, 1.0]]), (100, 200), (120, 20, 160, 80))
    assert moved.tolist() == [[32, 32, 1], [0, 0, 0]]
    depth = np.where(rgb[..., 0], 2000, 0).astype(np.uint16)
    assert set(np.unique(model.crop(depth, (120, 20, 160, 80)))) == {0, 2000}
    for call, said in (
        (lambda: model.crop(rgb, (1, 2, 3)), "four numbers"),
        (lambda: model.crop(rgb, (0.6, 0.2, 0.8, 0.8)), "in pixels"),
        (lambda: model.crop(rgb, (1120, 20, 1160, 80)), "in pixels"),
        (lambda: model.crop(rgb[:0], (120, 20, 160, 80)), "an image is uint8"),
        (lambda: model.crop("person.png"), "an image is uint8"),
        (lambda: model.crop_keypoints(np.array([[140, 50, 0.3]]), (100, 200)), "threshold"),
        (lambda: model.crop_keypoints(np.array([[0.7, 0.5, 1]]), (100, 200)), "not shares"),
        (lambda: model.crop_keypoints(np.array([[140, 50]]), (100, 200)), r"keypoints are \[J, 3\]"),
        (lambda: model.crop_keypoints(np.array([[140, 50, 1]]), 200), "height, width"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize("kind", [HCMoCo, MMV])
@pytest.mark.parametrize("half", [False, True])
def test_all_mappers_come_back(tmp_path, kind, half):
    source = make(kind, dense=kind is HCMoCo)
    export_encoders(source, tmp_path / "out", half=half)
    back = load_export(tmp_path / "out").model_with_mappers()
    assert type(back) is kind
    assert list(back.state_dict()) == list(source.state_dict())
    for name, value in back.state_dict().items():
        expected = source.state_dict()[name]
        assert value.dtype == expected.dtype
        rounded = expected.half().to(expected.dtype) if half and expected.ndim >= 2 else expected
        assert torch.equal(value, rounded), name


def test_stage_1_is_embedded_by_the_mapper_that_stands_in(tmp_path):
    source = make(dense=False)
    export_encoders(source, tmp_path / "out")
    found = hcmoco.load(str(tmp_path / "out")).embed(rgb=people()["rgb"])
    maps = source.encode_rgb(source.prepare_rgb(torch.from_numpy(people()["rgb"])))
    assert torch.equal(found.rgb.dense, source.dense_map("rgb", maps))


def test_an_older_export_has_its_encoders_and_says_what_it_lacks(exported, tmp_path):
    _, folder = exported
    older = shutil.copytree(folder, tmp_path / "older")
    (older / "mappers.safetensors").unlink()
    config = json.loads((older / "config.json").read_text())
    del config["files"]["mappers.safetensors"], config["method"], config["dtype"]
    (older / "config.json").write_text(json.dumps(config))
    assert load_export(older).encoder("rgb")
    with pytest.raises(UserError, match=r"has no mappers\.safetensors"):
        hcmoco.load(str(older))
    assert load_export(ROOT / "tests/fixtures/v0.1/export").mappers is None


def test_a_model_in_training_mode_embeds_as_in_evaluation_and_stays_as_it_was(exported):
    model = hcmoco.load(str(exported[1]))
    expected = model.embed(**people())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert torch.equal(model.embed(**people()).rgb.dense, expected.rgb.dense)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_no_name_and_no_dtype_is_said(exported):
    for arguments, said in (((7,), "a text or a path"), ((str(exported[1]), "cpu", "bfloat16"), "torch.bfloat16")):
        with pytest.raises(TypeError, match=said):
            hcmoco.load(arguments[0], **dict(zip(("device", "dtype"), arguments[1:], strict=False)))
    assert hcmoco.load(exported[1]).image_size == 64


def test_half_precision_and_a_device_are_taken(exported):
    model = hcmoco.load(str(exported[1]), device="cpu", dtype=torch.bfloat16)
    assert next(model.parameters()).dtype == torch.bfloat16
    found, exact = (each.embed(**people(), dense=False) for each in (model, hcmoco.load(str(exported[1]))))
    for name in ("rgb", "depth", "keypoints"):
        lower, higher = getattr(found, name).pooled, getattr(exact, name).pooled
        assert lower.dtype == torch.float32
        assert (lower * higher).sum(1).min() > 0.99


def test_a_run_is_found_by_its_folder_and_by_its_uri(exported):
    _, folder = exported
    assert find_weights(str(folder)) == str(folder)
    assert find_weights(f"{folder.parent}/") == str(folder)
    assert hcmoco.load(f"file://{folder.parent}").image_size == 64


def test_a_repository_is_taken_from_the_local_cache(exported, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "a" * 40
    place = tmp_path / "models--somebody--people"
    shutil.copytree(exported[1], place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert find_weights("somebody/people") == str(place / "snapshots" / commit)
    with pytest.raises(UserError, match="somebody/else: no folder is there"):
        find_weights("somebody/else")


def test_what_is_not_there_is_one_line_with_what_could_be(tmp_path):
    with pytest.raises(UserError, match=r"no export is there .*people-small"):
        hcmoco.load(str(tmp_path))


def test_the_surface_is_what_all_says_and_is_described():
    assert set(hcmoco.__all__) == {"Embedded", "Embeddings", "Pretrained", "list_weights", "load"}
    for name in hcmoco.__all__:
        assert getattr(hcmoco, name).__doc__
        assert name in dir(hcmoco)
    for method in ("embed", "crop", "crop_keypoints"):
        assert "Returns:" in getattr(hcmoco.Pretrained, method).__doc__
    with pytest.raises(AttributeError):
        _ = hcmoco.encode


def test_it_needs_no_ray_and_no_mlflow_and_importing_it_no_pytorch(exported):
    alone = PROGRAM.partition("for name")[0]
    code = "import sys, hcmoco\nassert 'torch' not in sys.modules\nhcmoco.load(sys.argv[1])\nprint('loaded')"
    done = subprocess.run(
        [sys.executable, "-c", f"{alone}\n{code}", str(exported[1])], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "loaded\n", done.stderr


def test_the_weights_in_the_package_are_small_and_start_a_fine_tuning():
    assert hcmoco.list_weights() == ["people-small"]
    packaged = Path(find_weights("people-small")).parent
    assert sum(file.stat().st_size for file in packaged.rglob("*") if file.suffix == ".safetensors") < 12_000_000
    loaded = load_encoder_init("people-small", EncoderConfig(name="hrnet_w18_small"), "depth")
    assert loaded.text.startswith("depth encoder of people-small (")
    assert loaded.depth_masking == "masked"
    assert {each.terms for each in loaded.terms} == {SYNTHETIC}
    assert resolve_start("people-small") == "people-small"
    assert resolve_start("./people-small").startswith("/")


def test_the_command_that_packs_a_run(exported, tmp_path, capsys):
    out = tmp_path / "small"
    assert main([str(exported[1]), str(out), "--note", "Tried on nothing."]) == 0
    assert "Tried on nothing." in (out / "README.md").read_text()
    files = [file for file in exported[1].iterdir() if file.suffix == ".safetensors"]
    assert all((out / file.name).stat().st_size < 0.7 * file.stat().st_size for file in files)
    assert main([str(exported[1]), str(out)]) == 2
    assert "exists already; give another folder, or set overwrite" in capsys.readouterr().err
    assert main([str(exported[1]), str(out), "--overwrite"]) == 0
    assert main([str(exported[1]), str(exported[1]), "--overwrite"]) == 2
    assert "is what is packed; give another folder" in capsys.readouterr().err
