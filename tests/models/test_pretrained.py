"""Weights files: every way in, and every way to be refused."""

import io
import pickle

import pytest
import safetensors.torch
import timm
import torch

from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.weight_files import read_tensors
from hcmoco.rng import make_rng
from hcmoco.storage import Folder, join
from tests.helpers.mutations import blank, flip_bits, insert, truncate

SMALL, SMALLEST = "hrnet_w18_small", "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def whole():
    """State of a whole classification backbone, every value its own."""
    torch.manual_seed(0)
    state = timm.create_model(SMALL).state_dict()
    return {key: torch.randn(value.shape) if value.is_floating_point() else value + 7 for key, value in state.items()}


def load(path, name=SMALL, **more):
    return build_encoder(EncoderConfig(name=name, init=str(path), **more))


def assert_has(encoder, state, prefix=""):
    for key, value in encoder.trunk.state_dict().items():
        assert torch.equal(value, state[prefix + key]), key


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_classification_file_loads_and_its_head_is_reported(whole, tmp_path, suffix):
    path = tmp_path / f"whole.{suffix}"
    safetensors.torch.save_file(whole, path) if suffix == "safetensors" else torch.save(whole, path)
    encoder = load(path)
    assert_has(encoder, whole)
    assert encoder.report.loaded == len(encoder.trunk.state_dict())
    assert {key.split(".")[0] for key in encoder.report.head_keys} == {
        "incre_modules",
        "downsamp_modules",
        "final_layer",
        "classifier",
    }
    assert len(encoder.report.head_keys) == len(whole) - encoder.report.loaded
    assert "incre_modules" in str(encoder.report)


def test_published_segmentation_head_is_known(whole, tmp_path):
    trunk = build_encoder(EncoderConfig(name=SMALL)).trunk.state_dict()
    torch.save({**trunk, "last_layer.0.weight": torch.zeros(3)}, tmp_path / "seg.pth")
    assert load(tmp_path / "seg.pth").report.head_keys == ("last_layer.0.weight",)


@pytest.mark.parametrize(
    "prefix", ["module.", "encoder1.", "module.encoder2.", "backbone.", "backbone.bottom_up.", "rgb.trunk."]
)
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_prefixes_and_wrappers_are_found(whole, tmp_path, prefix, wrapper):
    state = {prefix + key: value for key, value in whole.items()} | {"queue": torch.zeros(2)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    encoder = load(tmp_path / "w.pth")
    assert_has(encoder, state, prefix)
    assert encoder.report.prefix == prefix
    assert encoder.report.other_keys == ("queue",)


def test_one_of_two_encoders_is_told_by_a_fragment(whole, tmp_path):
    state = {f"encoder1.{key}": value for key, value in whole.items()} | {
        f"encoder2.{key}": value + 1 for key, value in whole.items()
    }
    path = tmp_path / "pretrain.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=r"2 encoders.*#encoder1\., .*#encoder2\."):
        load(path)
    assert_has(load(f"{path}#encoder2."), state, "encoder2.")
    assert_has(load(f"{path}#encoder1."), state, "encoder1.")


def test_counters_older_than_the_file_stay_fresh(whole, tmp_path):
    safetensors.torch.save_file(
        {key: value for key, value in whole.items() if "num_batches_tracked" not in key}, tmp_path / "old.safetensors"
    )
    report = load(tmp_path / "old.safetensors").report
    assert report.fresh_counters
    assert all(key.endswith("num_batches_tracked") for key in report.fresh_counters)


def test_half_precision_weights_come_in_as_float32(whole, tmp_path):
    safetensors.torch.save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in whole.items()},
        tmp_path / "half.safetensors",
    )
    assert load(tmp_path / "half.safetensors").trunk.conv1.weight.dtype == torch.float32


@pytest.fixture(scope="module")
def smallest():
    """State of a whole backbone of 6 MB: the S3 server of the tests takes 4 MB/s."""
    torch.manual_seed(0)
    return timm.create_model(SMALLEST).state_dict()


def test_weights_are_read_from_any_uri(smallest, s3):
    for folder in ("memory://weights", s3.uri("bucket/my weights")):
        Folder(folder).write("whole.safetensors", safetensors.torch.save(smallest))
        assert_has(load(join(folder, "whole.safetensors"), SMALLEST), smallest)


def test_an_encoder_is_told_by_a_fragment_behind_the_query_of_a_uri(smallest, s3):
    both = {f"encoder{number}.{key}": value + number for number in (1, 2) for key, value in smallest.items()}
    folder = s3.uri("bucket/pretrained")
    Folder(folder).write("two.safetensors", safetensors.torch.save(both))
    assert_has(load(f"{join(folder, 'two.safetensors')}#encoder2.", SMALLEST), both, "encoder2.")


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_whole_backbones_of_other_kinds_load_under_timms_names(tmp_path, name):
    torch.manual_seed(1)
    state = timm.create_model(name).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(0.5 + torch.rand(value.shape))
    safetensors.torch.save_file(state, tmp_path / "whole.safetensors")
    encoder = load(tmp_path / "whole.safetensors", name)
    x = torch.randn(1, 3, 64, 64)
    whole_model = timm.create_model(name).eval()
    whole_model.load_state_dict(state)
    last = whole_model.forward_intermediates(x, intermediates_only=True)[-1]
    torch.testing.assert_close(encoder.eval()(x)[-1], last, rtol=1e-4, atol=1e-4)
    assert encoder.report.head_keys


def refused(path, match, **more):
    with pytest.raises(UserError, match=match) as caught:
        load(path, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def test_missing_unexpected_and_misshapen_keys_are_listed_and_counted(whole, tmp_path):
    state = {key: value for key, value in whole.items() if not key.startswith("layer1.0.")}
    state["layer1.9.conv9.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(64, 4, 3, 3)
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    line = refused(tmp_path / "w.safetensors", "do not fit hrnet_w18_small")
    lost = [key for key in whole if key.startswith("layer1.0.") and not key.endswith("num_batches_tracked")]
    assert f"{len(lost)} missing: {', '.join(lost[:3])}, ... ({len(lost)} in all)" in line
    assert "1 unexpected: layer1.9.conv9.weight" in line
    assert "1 of another shape: conv1.weight is 64x4x3x3, wanted 64x3x3x3" in line


def test_a_refused_file_leaves_the_encoder_as_it_was(whole, tmp_path):
    from hcmoco.models.pretrained import load_weights

    safetensors.torch.save_file({**whole, "layer1.9.conv9.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    trunk = build_encoder(EncoderConfig(name=SMALL)).trunk
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(UserError):
        load_weights(trunk, str(tmp_path / "w.safetensors"), name=SMALL)
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())


def test_another_backbones_weights_do_not_fit(whole, tmp_path):
    safetensors.torch.save_file(whole, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", "do not fit resnet18: .*missing", name="resnet18")


class Payload:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_files_that_are_no_weights(tmp_path, capsys):
    refused(tmp_path / "absent.pth", "absent.pth do not exist; put the file there")
    refused("nosuchprotocol://x/y.pth", "cannot be opened")
    (tmp_path / "text.safetensors").write_bytes(b"not weights at all, only some text")
    refused(tmp_path / "text.safetensors", "is not a safetensors file, as its name says")
    (tmp_path / "text.pth").write_bytes(b"not weights at all, only some text")
    refused(tmp_path / "text.pth", "not a torch file, or one that holds more than tensors")
    (tmp_path / "empty.pth").write_bytes(b"")
    refused(tmp_path / "empty.pth", "is empty; copy or download it again")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "no mapping of names to tensors")
    data = io.BytesIO()
    torch.save({"conv1.weight": Payload()}, data)
    for name, content in (("evil.pth", data.getvalue()), ("evil2.pth", pickle.dumps(Payload(), protocol=2))):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "never unpickled")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_that_is_cut_is_called_incomplete_and_copying_it_again_helps(smallest, tmp_path, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(smallest, path)
    else:
        torch.save(smallest, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for size in (20, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:size])
        refused(path, f"is damaged or incomplete .{size:,} bytes: .*; copy or download it again", name=SMALLEST)
    path.write_bytes(whole)
    assert_has(load(path, SMALLEST), smallest)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_is_one_line_whatever_pytorch_makes_of_it(tmp_path, kind):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    tensors = {"a.weight": torch.ones(5, 4), "b": torch.zeros(3)}
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole, said = path.read_bytes(), []
    for number in range(150):
        rng = make_rng(0, f"damaged {kind} weights", number)
        path.write_bytes(whole)
        (truncate, flip_bits, blank, insert)[number % 4](path, rng, None)
        try:
            read_tensors(str(path))
        except UserError as error:
            said.append(str(error))
    assert len(said) > 50
    assert not any("\n" in each for each in said)
