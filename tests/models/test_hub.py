"""timm's published weights without a network: from the hub's local cache, or a quick refusal."""

import os
import subprocess
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

LOAD = """
import sys, time, torch
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
start = time.monotonic()
try:
    encoder = build_encoder(EncoderConfig(name="resnet18", init="timm"))
    torch.save(encoder.state_dict(), sys.argv[1])
except UserError as error:
    print(error)
print("seconds", time.monotonic() - start)
"""


def load(tmp_path: Path) -> str:
    """Load resnet18's published weights where nothing listens at the hub's address."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "loaded.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def test_without_a_network_the_refusal_is_one_line_and_quick(tmp_path):
    line, seconds = load(tmp_path).splitlines()
    assert "127.0.0.1:9 cannot be reached" in line
    assert "without a network, give a weights file" in line
    assert float(seconds.split()[1]) < 45, "the client alone tries for a minute"


def test_without_a_network_weights_come_from_the_local_cache(tmp_path):
    repository = timm.get_pretrained_cfg("resnet18").hf_hub_id
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(5)
    made = timm.create_model("resnet18").state_dict()
    save_file(made, snapshot / "model.safetensors")
    load(tmp_path)
    loaded = torch.load(tmp_path / "loaded.pt")
    weight = next(value for name, value in loaded.items() if name.endswith("layer1.0.conv1.weight"))
    assert torch.equal(weight, made["layer1.0.conv1.weight"])
