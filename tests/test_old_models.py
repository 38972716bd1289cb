"""Encoders and models that version 0.1 wrote, with its own key names, load with their saved weights."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from hcmoco.export import load_export
from hcmoco.finetuning.saved_model import load_model

OLD = Path(__file__).parent / "fixtures" / "v0.1"


def _same(module: torch.nn.Module, file: Path) -> None:
    stored, loaded = safetensors.torch.load_file(file), module.state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(loaded[name], value) for name, value in stored.items())


@pytest.mark.parametrize("modality", ["rgb", "depth"])
def test_an_old_export_gives_its_image_encoders(modality):
    _same(load_export(OLD / "export").encoder(modality).trunk, OLD / "export" / f"{modality}.safetensors")


def test_an_old_export_gives_its_encoder_of_keypoints():
    _same(load_export(OLD / "export").skeleton_encoder(), OLD / "export" / "keypoints.safetensors")


def test_an_old_fine_tuned_model_gives_its_weights_and_predicts():
    saved = load_model(str(OLD / "model"))
    assert saved.about.provenance.arguments["count"] == 12
    assert saved.about.license.startswith("synthetic")
    model = saved.model()
    _same(model, OLD / "model" / "model.safetensors")
