"""Encoders out of a model and back: a folder that plain timm can use.

<folder>/
  rgb.safetensors         timm's own keys
  depth.safetensors       timm's own keys; of pointnet2_msg, the published ones
  keypoints.safetensors   keys of hcmoco.models.semgcn.SemGCN
  README.md               what, how trained, how to load
  config.json             written last: the model's config, what the caller says of the training, sizes and SHA-256
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from hcmoco import __version__
from hcmoco.config import build, upgrade
from hcmoco.data.schema import MODALITIES
from hcmoco.data.skeletons import joint_set
from hcmoco.errors import UserError, one_line
from hcmoco.model_card import card
from hcmoco.models.encoders import Encoder, build_encoder
from hcmoco.models.multimodal import ModelConfig, MultiModalEncoders
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.points.encoder import PointEncoder
from hcmoco.models.semgcn import SemGCN
from hcmoco.storage import Folder, is_local

FORMAT = "hcmoco-encoders"
FORMAT_VERSION = 1


def export_encoders(
    model: MultiModalEncoders, folder: str | Path, *, training: dict[str, Any] | None = None, overwrite: bool = False
) -> str:
    """Writes the three encoders with their config and card.

    On a local path the folder appears whole or not at all; elsewhere `config.json` comes last and a folder without it
    is not an export.

    Args:
        folder: path or URI; its parents are made.
        training: what to tell of the training: JSON values, such as recipe, stage, steps, data, metrics; `terms` are
            those of what it was trained on (see `hcmoco.license_terms.as_json`), without which the card says that they
            are not recorded.
        overwrite: replace what is there.
    Returns:
        The folder as given.
    Raises:
        UserError: the folder exists and `overwrite` is not set, or it cannot be written.
    """
    files = {
        _file_name(name): safetensors.torch.save(_plain_state(_inner(model, name)), {"format": "pt"})
        for name in MODALITIES
    }
    files["README.md"] = card(model, training or {}).encode()
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hcmoco": __version__,
        "model": model.config.model_dump(mode="json"),
        "rgb": {"range": [0, 1], "mean": RGB_MEAN, "std": RGB_STD},
        "depth": _depth_format(model.config),
        "training": training or {},
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }
    files["config.json"] = json.dumps(config, indent=2).encode()
    try:
        _write(str(folder), files, overwrite)
    except OSError as error:
        raise UserError(f"export {folder} cannot be written: {one_line(error)}") from error
    return str(folder)


@dataclass(frozen=True)
class Export:
    """An export that was read and checked.

    Attributes:
        folder: where it is.
        model: config of the model that it came from; its encoders' `init` tells where their first weights came from.
        training: what the exporter said of the training.
        states: tensors of each modality's encoder.
    """

    folder: str
    model: ModelConfig
    training: dict[str, Any]
    states: dict[str, dict[str, Tensor]]

    def encoder(self, modality: str) -> Encoder | PointEncoder:
        """The image encoder of "rgb" or "depth", in evaluation mode."""
        encoder = build_encoder(self.model.rgb if modality == "rgb" else self.model.depth, load=False)
        _restore(encoder.trunk, self.states[modality], self.folder, modality)
        return encoder.eval()

    def skeleton_encoder(self) -> SemGCN:
        """The encoder of 2D keypoints, in evaluation mode."""
        encoder = SemGCN(joint_set(self.model.joint_set), self.model.skeleton, self.model.embedding)
        _restore(encoder, self.states["keypoints"], self.folder, "keypoints")
        return encoder.eval()


def load_export(folder: str | Path) -> Export:
    """Reads a folder that `export_encoders` wrote.

    Raises:
        UserError: no export, one of another version, or a file that is missing or not what config.json says.
    """
    folder = str(folder)
    try:
        config = json.loads(_read(folder, "config.json"))
        checksums = {name: config["files"][name]["sha256"] for name in map(_file_name, MODALITIES)}
        if config["format"] != FORMAT:
            raise ValueError(f"its format is {config['format']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"export {folder}: config.json is not that of an export: {one_line(error)}; export the model again"
        ) from None
    if config.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"export {folder} has format version {config.get('format_version')}, this program reads {FORMAT_VERSION}"
        )
    states = {}
    for modality in MODALITIES:
        name = _file_name(modality)
        data = _read(folder, name)
        if hashlib.sha256(data).hexdigest() != checksums[name]:
            raise UserError(
                f"export {folder}: {name} does not match its checksum in config.json; copy or export it again"
            )
        states[modality] = safetensors.torch.load(data)
    model = build(ModelConfig, upgrade(ModelConfig, config.get("model", {})), f"export {folder}: config.json: model")
    return Export(folder, model, config.get("training", {}), states)


def _depth_format(config: ModelConfig) -> dict[str, Any]:
    if config.depth.is_points:
        return {"unit": "meter", "mean": "of the points", "axes": "x right, y down, z forward"}
    return {"unit": "meter", "mean": "of the image's valid pixels", "invalid": 0}


def _file_name(modality: str) -> str:
    return f"{modality}.safetensors"


def _inner(model: MultiModalEncoders, modality: str) -> nn.Module:
    part = getattr(model, modality)
    return part.trunk if isinstance(part, Encoder | PointEncoder) else part


def _plain_state(module: nn.Module) -> dict[str, Tensor]:
    # Channels-last and shared memory do not survive safetensors; plain tensors do.
    return {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}


def _restore(module: nn.Module, state: dict[str, Tensor], folder: str, modality: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        file = _file_name(modality)
        line = f"export {folder}: {file} does not fit the model that config.json describes: {one_line(error)}"
        raise UserError(line) from None


def _write(folder: str, files: dict[str, bytes], overwrite: bool) -> None:
    target = Folder(folder)
    is_export = target.exists("config.json")
    if is_export and not overwrite:
        raise UserError(f"export {folder} exists already; give another folder, or set overwrite")
    if is_local(folder):
        return _write_local(target.local_path, files, is_export)
    target.delete("config.json")  # it must not vouch for files that are being replaced
    for name, data in files.items():
        target.write(name, data)


def _write_local(target: Path, files: dict[str, bytes], is_export: bool) -> None:
    if target.exists() and not is_export and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"export {target} exists and is no export, so it is not replaced; give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        fresh, aside = Path(scratch, "fresh"), Path(scratch, "aside")
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        if is_export:
            os.replace(target, aside)
        os.replace(fresh, target)


def _read(folder: str, name: str) -> bytes:
    try:
        return Folder(folder).read(name)
    except OSError as error:
        raise UserError(f"export {folder}: {name} cannot be read: {one_line(error)}") from None
