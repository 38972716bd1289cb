"""Encoders out of a model and back: a folder that plain timm can use.

<folder>/
  rgb.safetensors         timm's own keys
  depth.safetensors       timm's own keys; of pointnet2_msg, the published ones
  keypoints.safetensors   keys of hcmoco.models.semgcn.SemGCN
  mappers.safetensors     the mappers into the shared space, keys of the model without its encoders
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
from hcmoco.models.mmv import MMV
from hcmoco.models.multimodal import HCMoCo, ModelConfig, MultiModalEncoders
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.points.encoder import PointEncoder
from hcmoco.models.semgcn import SemGCN
from hcmoco.storage import Folder, is_local

FORMAT = "hcmoco-encoders"
FORMAT_VERSION = 1
MAPPERS = "mappers.safetensors"
"""Exports of before it existed lack this file. They are read, and their encoders work as they always did."""


def export_encoders(
    model: MultiModalEncoders,
    folder: str | Path,
    *,
    training: dict[str, Any] | None = None,
    overwrite: bool = False,
    half: bool = False,
) -> str:
    """Writes the three encoders and the mappers into their shared space, with their config and card.

    On a local path the folder appears whole or not at all; elsewhere `config.json` comes last and a folder without it
    is not an export.

    Args:
        folder: path or URI; its parents are made.
        training: what to tell of the training: JSON values, such as recipe, stage, steps, data, metrics; `terms` are
            those of what it was trained on (see `hcmoco.license_terms.as_json`), without which the card says that they
            are not recorded.
        overwrite: replace what is there.
        half: store weights of two or more dimensions in float16. Norms, biases and running statistics stay float32.
    Returns:
        The folder as given.
    Raises:
        UserError: the folder exists and `overwrite` is not set, or it cannot be written.
    """
    try:
        _write(str(folder), export_files(model, training or {}, half=half), overwrite)
    except OSError as error:
        raise UserError(f"export {folder} cannot be written: {one_line(error)}") from error
    return str(folder)


def export_files(model: MultiModalEncoders, training: dict[str, Any], *, half: bool = False) -> dict[str, bytes]:
    """Return the files of an export, `config.json` last; arguments as of `export_encoders`."""
    states = {_file_name(name): _inner(model, name).state_dict() for name in MODALITIES} | {MAPPERS: mappers_of(model)}
    files = {
        name: safetensors.torch.save(_plain_state(state, half), {"format": "pt"}) for name, state in states.items()
    }
    files["README.md"] = card(model, training).encode()
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hcmoco": __version__,
        "model": model.config.model_dump(mode="json"),
        "method": "mmv" if isinstance(model, MMV) else "hcmoco",
        "dtype": "float16" if half else "float32",
        "rgb": {"range": [0, 1], "mean": RGB_MEAN, "std": RGB_STD},
        "depth": _depth_format(model.config),
        "training": training,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }
    files["config.json"] = json.dumps(config, indent=2).encode()
    return files


@dataclass(frozen=True)
class Export:
    """An export that was read and checked.

    Attributes:
        folder: where it is.
        model: config of the model that it came from; its encoders' `init` tells where their first weights came from.
        training: what the exporter said of the training.
        states: tensors of each modality's encoder.
        method: "hcmoco" or "mmv": what the mappers are.
        mappers: tensors of the mappers into the shared space; None for an export of before they were exported.
        dtype: of the stored weights of two or more dimensions.
        digest: SHA-256 over the names and digests of the files of weights.
    """

    folder: str
    model: ModelConfig
    training: dict[str, Any]
    states: dict[str, dict[str, Tensor]]
    method: str = "hcmoco"
    mappers: dict[str, Tensor] | None = None
    dtype: str = "float32"
    digest: str = ""

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

    def model_with_mappers(self) -> MultiModalEncoders:
        """The whole model, in evaluation mode: encoders and mappers into the shared space.

        Raises:
            UserError: the export has no mappers.
        """
        if self.mappers is None:
            raise UserError(
                f"export {self.folder} has no {MAPPERS}: it was written before exports carried the mappers, so its "
                "encoders work and its embeddings cannot be compared; delete the folder and run the command of its "
                "pre-training again, which exports a finished run anew"
            )
        kind = MMV if self.method == "mmv" else HCMoCo
        model = kind(self.model, seed=0, load=False)
        if isinstance(model, HCMoCo) and any(key.startswith("dense_mappers.") for key in self.mappers):
            model.add_dense_mappers()
        for modality in MODALITIES:
            _restore(_inner(model, modality), self.states[modality], self.folder, modality)
        own = {key: value for key, value in model.state_dict().items() if key not in mappers_of(model)}
        _restore(model, {**own, **self.mappers}, self.folder, "mappers")
        return model.eval()


def load_export(folder: str | Path) -> Export:
    """Reads a folder that `export_encoders` wrote.

    Raises:
        UserError: no export, one of another version, or a file that is missing or not what config.json says.
    """
    folder = str(folder)
    try:
        config = json.loads(_read(folder, "config.json"))
        names = [*map(_file_name, MODALITIES), *([MAPPERS] if MAPPERS in config["files"] else [])]
        checksums = {name: config["files"][name]["sha256"] for name in names}
        if not isinstance(config.get("training", {}), dict):
            raise ValueError("its training is no mapping")
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
    for name in names:
        data = _read(folder, name)
        if hashlib.sha256(data).hexdigest() != checksums[name]:
            raise UserError(
                f"export {folder}: {name} does not match its checksum in config.json; copy or export it again"
            )
        states[name] = safetensors.torch.load(data)
    model = build(ModelConfig, upgrade(ModelConfig, config.get("model", {})), f"export {folder}: config.json: model")
    return Export(
        folder,
        model,
        config.get("training", {}),
        {modality: states[_file_name(modality)] for modality in MODALITIES},
        config.get("method", "hcmoco"),
        states.get(MAPPERS),
        config.get("dtype", "float32"),
        hashlib.sha256("".join(f"{name} {checksums[name]}\n" for name in sorted(names)).encode()).hexdigest(),
    )


def _depth_format(config: ModelConfig) -> dict[str, Any]:
    if config.depth.is_points:
        return {"unit": "meter", "mean": "of the points", "axes": "x right, y down, z forward"}
    return {"unit": "meter", "mean": "of the image's valid pixels", "invalid": 0}


def _file_name(modality: str) -> str:
    return f"{modality}.safetensors"


def _inner(model: MultiModalEncoders, modality: str) -> nn.Module:
    part = getattr(model, modality)
    return part.trunk if isinstance(part, Encoder | PointEncoder) else part


def mappers_of(model: MultiModalEncoders) -> dict[str, Tensor]:
    """Return the state of a model without its encoders."""
    encoders = tuple(f"{name}." for name in MODALITIES)
    return {key: value for key, value in model.state_dict().items() if not key.startswith(encoders)}


def _plain_state(state: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    # Channels-last and shared memory do not survive safetensors; plain tensors do.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    return {key: value.half() if half and value.ndim >= 2 else value for key, value in plain.items()}


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
