"""Load the encoder that a fine-tuning starts from: a pre-training, ImageNet, a weights file, or fresh weights.

Weights that cannot be loaded are an error; there is no fallback.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from hcmoco.data.depth_masking import SHOWN
from hcmoco.errors import UserError
from hcmoco.export import load_export
from hcmoco.license_terms import Terms, of_init, of_training, training_beside
from hcmoco.models.encoders import Encoder, EncoderConfig, build_encoder, check_sizes
from hcmoco.models.fusion import AS_TRAINED, DEFAULT, settle_fusion, with_fusion
from hcmoco.models.points.encoder import PointEncoder
from hcmoco.models.vit.config import VitConfig
from hcmoco.models.weight_files import WeightsReport
from hcmoco.storage import join
from hcmoco.tasks.base import TaskConfig
from hcmoco.weights import IMAGENET, SCRATCH, TIMM, export_folder, is_folder, not_an_export, packaged_weights

# Fields of an encoder's config that must be equal for its weights to fit.
_SHAPE = ("name", "in_chans", "args", "fusion", "vit")


@dataclass(frozen=True)
class EncoderInit:
    """An encoder and the origin of its weights.

    Attributes:
        encoder: in training mode.
        text: a line for people.
        digest: SHA-256 over the encoder's weights; "" for scratch, whose weights are a function of the seed.
        terms: license terms of the data that the weights were trained on.
        depth_masking: of the depth that they were trained on (data/depth_masking.py); "" of RGB, or if nobody knows.
    """

    encoder: Encoder | PointEncoder
    text: str
    digest: str
    terms: tuple[Terms, ...] = ()
    depth_masking: str = ""

    @property
    def told(self) -> str:
        """Where the encoder starts, and what was taken of a file."""
        report = self.encoder.report
        return self.text if report is None else f"{self.text}: {report}"


def load_encoder_init(
    init: str,
    config: EncoderConfig,
    modality: str,
    *,
    imagenet_weights: str | None = None,
    load: bool = True,
    key: str = "encoder",
) -> EncoderInit:
    """Load the encoder that `init` names, its fresh weights drawn from torch's generator.

    Args:
        init: "scratch", "imagenet", the folder of a run or an export of ours, or a weights file (see
            `models.weights.load_weights`).
        config: the encoder; its own `init` must be "scratch".
        modality: "rgb" or "depth": which encoder of a run is taken.
        imagenet_weights: file for "imagenet"; None asks timm for its published weights, over the network.
        load: False builds the encoder without weights, for a caller that loads its own.
        key: name of the encoder in the caller's config, for messages.
    Raises:
        UserError: the weights do not exist or are of another encoder.
    """
    config, _ = settle_encoder(init if load else SCRATCH, config, modality, imagenet_weights=imagenet_weights)
    if init == SCRATCH or not load:
        return EncoderInit(build_encoder(config, load=False).train(), "scratch: weights drawn from the seed", "")
    if init == IMAGENET:
        return _imagenet(config, imagenet_weights)
    if folder := export_folder(init):
        return _of_export(folder, config, modality, key, init if packaged_weights(init) else folder)
    if is_folder(init):
        raise not_an_export("init", init)
    encoder = build_encoder(config.model_copy(update={"init": init}))
    read = _read(encoder, f"weights file: {init}")
    return replace(read, depth_masking=_masking(training_beside(init.partition("#")[0]) or {}, modality))


def settle_encoder(
    init: str, config: EncoderConfig, modality: str, *, imagenet_weights: str | None = None, key: str = "encoder"
) -> tuple[EncoderConfig, str]:
    """Return the config of an encoder with its fusion decided by the weights that it starts from, and a line that says
    how, "" where nothing is worth saying. Arguments as of `load_encoder_init`.

    Raises:
        UserError: the weights cannot be read.
    """
    if config.fusion != AS_TRAINED or not config.is_hrnet:
        return settle_fusion(config, SCRATCH)
    if folder := export_folder(init):
        fusion = getattr(load_export(folder).model, modality).fusion
        line = "" if fusion == DEFAULT else f"{key}.fusion: {fusion}, as {folder} was trained"
        return with_fusion(config, fusion), line
    if init == IMAGENET:
        init = TIMM if imagenet_weights is None else imagenet_weights
    elif init != SCRATCH and is_folder(init):
        raise not_an_export("init", init)
    return settle_fusion(config, init, modality=modality, key=key)


def depth_masking_of_init(init: str, modality: str) -> str:
    """Return what `load_encoder_init` gives as `depth_masking`, without loading the weights."""
    if modality != "depth" or init in (SCRATCH, IMAGENET):
        return ""
    folder = export_folder(init)
    weights = join(folder, "depth.safetensors") if folder else init.partition("#")[0]
    return _masking(training_beside(weights) or {}, modality)


def check_input_sizes(encoder: EncoderConfig, task: TaskConfig) -> None:
    """Check that an encoder runs at the sizes that a task gives it.

    Raises:
        UserError: it cannot be built, or does not run at one of them.
    """
    if encoder.is_hrnet or encoder.is_points:
        return  # an HRNet takes every size that its strides divide, and long to build
    with torch.device("meta"):
        stride = build_encoder(encoder, load=False).strides[-1]
    check_sizes(encoder, task.input_sizes(stride))


def weights_digest(encoder: Encoder | PointEncoder) -> str:
    """Return the SHA-256 over names, types, shapes and values of the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.trunk.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}/{array.dtype}/{tuple(array.shape)}/".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _imagenet(config: EncoderConfig, weights: str | None) -> EncoderInit:
    if weights is None:
        try:
            encoder = build_encoder(config.model_copy(update={"init": "timm"}))
        except UserError as error:
            raise UserError(
                f"init=imagenet: no imagenet_weights file is given, and {error}; set imagenet_weights=FILE"
            ) from None
        text = f"ImageNet weights that timm publishes for {config.name}"
    else:
        encoder = build_encoder(config.model_copy(update={"init": weights}))
        text = f"ImageNet: {weights}"
    return _read(encoder, text)


def _read(encoder: Encoder | PointEncoder, text: str) -> EncoderInit:
    return EncoderInit(
        encoder.train(), text, weights_digest(encoder), of_init(encoder.config.init, encoder.config.name)
    )


def _overrides(exported: EncoderConfig, config: EncoderConfig, name: str, key: str) -> str:
    """Return the overrides that give `config` the value of `exported`; a mapping is merged, so its keys are listed."""
    if name == "vit":
        differing = {
            each for each in VitConfig.model_fields if getattr(exported.vit, each) != getattr(config.vit, each)
        }
        values = exported.vit.model_dump(mode="json")
        return " ".join(f"{key}.vit.{each}={json.dumps(values[each])}" for each in values if each in differing)
    if name != "args":
        return f"{key}.{name}={getattr(exported, name)}"
    known = {**dict.fromkeys(config.args, "null"), **{each: str(value) for each, value in exported.args.items()}}
    same = {each for each, value in exported.args.items() if config.args.get(each) == value}
    return " ".join(f"{key}.args.{each}={value}" for each, value in known.items() if each not in same)


def _of_export(folder: str, config: EncoderConfig, modality: str, key: str, source: str) -> EncoderInit:
    export = load_export(folder)
    exported = getattr(export.model, modality)
    for name in _SHAPE:
        if getattr(exported, name) != getattr(config, name):
            raise UserError(
                f"init: the {modality} encoder of {folder} has {name} = {getattr(exported, name)!r}, "
                f"{key}.{name} is {getattr(config, name)!r}; set {_overrides(exported, config, name, key)} or take "
                f"weights of that encoder"
            )
    encoder = build_encoder(config, load=False)
    encoder.trunk.load_state_dict(export.encoder(modality).trunk.state_dict())
    steps, stage = (export.training.get(key, "?") for key in ("steps", "stage"))
    # Weights of the package by their name: where the package lies is no fact of a model.
    text = f"{modality} encoder of {source} (stage {stage}, {steps} steps)"
    encoder.report = WeightsReport(join(folder, f"{modality}.safetensors"), "", len(encoder.trunk.state_dict()))
    terms, masking = of_training(export.training, folder), _masking(export.training, modality)
    return EncoderInit(encoder.train(), text, weights_digest(encoder), terms, masking)


def _masking(training: dict[str, Any], modality: str) -> str:
    """What an export says of the depth that its encoder was trained on."""
    told = training.get("depth_masking", "") if modality == "depth" else ""
    return told if told in SHOWN else ""
