"""How an HRNet's fusions bring coarser maps to finer ones: as its weights were trained, unless the config says.

The same key names are trained with either, and the other one gives maps that are up to 21 % apart. What a file says:

    weights                                          fusion     told by
    HRNet-Image-Classification, and timm's of it     nearest    a classifier beside the trunk
    HRNet-Semantic-Segmentation                      bilinear   last_layer beside the trunk
    HCMoCo, whose trunk is the one above             bilinear   encoder1. or encoder2.
    detectron2, projects/DensePose                   nearest    backbone.bottom_up.
    MMPose                                           nearest    backbone., and a head beside it
    MMSegmentation                                   bilinear   backbone., and a decode_head beside it
    ours                                             either     the config beside the file

Sources: lib/models/cls_hrnet.py and seg_hrnet.py of HRNet's repositories, densepose/modeling/hrnet.py of detectron2,
models/backbones/hrnet.py of MMPose and MMSegmentation. Corners are not aligned in ours. The branch HRNet-OCR of
HRNet-Semantic-Segmentation aligns them, and its files do not tell.
"""

import json
from collections.abc import Iterable
from typing import Any, Literal, Protocol, Self, TypeVar

from torch import nn

from hcmoco.errors import StorageError, UserError
from hcmoco.models.weight_files import read_tensors
from hcmoco.storage import Folder, split_file

Fusion = Literal["as-trained", "nearest", "bilinear"]
AS_TRAINED: Fusion = "as-trained"
DEFAULT: Fusion = "nearest"
"""Of drawn weights, of timm's, and where a file does not tell."""

_MARK = "stage4.0.fuse_layers.0.1.0.weight"
_CLASSIFIER = {"incre_modules", "downsamp_modules", "classifier"}


class HasFusion(Protocol):
    """A config of an encoder."""

    @property
    def fusion(self) -> Fusion: ...
    @property
    def init(self) -> str: ...
    @property
    def is_hrnet(self) -> bool: ...
    def model_copy(self, *, update: dict[str, Any]) -> Self: ...


ConfigT = TypeVar("ConfigT", bound=HasFusion)


def set_fusion(trunk: nn.Module, fusion: str) -> None:
    """Set the upsampling of HRNet's fusions: "nearest" as timm's, "bilinear" (corners not aligned) as published."""
    for module in trunk.modules():
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = fusion, (False if fusion == "bilinear" else None)


def with_fusion(config: ConfigT, fusion: str) -> ConfigT:
    """Return a config with another fusion."""
    return config.model_copy(update={"fusion": fusion})


def settle_fusion(
    config: ConfigT, weights: str | None = None, *, modality: str = "", key: str = ""
) -> tuple[ConfigT, str]:
    """Return a config whose fusion is decided, and a line that says how, "" where nothing is worth saying.

    Args:
        config: of the encoder.
        weights: "scratch", "timm", or a weights file with an optional `#prefix`; None: the config's own `init`.
        modality: "rgb" or "depth", of a file of ours that holds both.
        key: of the config, for the line.

    Raises:
        UserError: the fusion is that of a file which cannot be read.
    """
    if config.fusion != AS_TRAINED:
        return config, ""
    weights = config.init if weights is None else weights
    if not config.is_hrnet or weights in ("scratch", "timm"):
        return with_fusion(config, DEFAULT), ""
    path, _, prefix = weights.partition("#")
    name = f"{key}.fusion" if key else "fusion"
    fusion, reason = _beside(path, prefix, modality), "the config beside it"
    if fusion is None:
        fusion, reason = fusion_of_keys(read_tensors(path), prefix)
    if fusion is None:
        return with_fusion(config, DEFAULT), (
            f"{name}: {DEFAULT}, the default, since {path} does not tell how it was trained; set {name}=bilinear if it "
            "is a bare trunk of HRNet-Semantic-Segmentation or HCMoCo"
        )
    return with_fusion(config, fusion), f"{name}: {fusion}, as {path} was trained (told by {reason})"


def fusion_of_keys(keys: Iterable[str], prefix: str = "") -> tuple[Fusion | None, str]:
    """Return how an HRNet was trained by the key names of its file, None where they do not tell; and what told it.

    Args:
        keys: of the file.
        prefix: of the encoder's keys; "": whatever stands before an HRNet's.
    """
    keys = list(keys)
    prefixes = [prefix] if prefix else [key.removesuffix(_MARK) for key in keys if key.endswith(_MARK)]
    for each in prefixes:
        first = {key.removeprefix(each).split(".")[0] for key in keys if key.startswith(each)}
        outer = each.removesuffix("backbone.")
        beside = {key.removeprefix(outer).split(".")[0] for key in keys if key.startswith(outer)}
        if found := _CLASSIFIER & first:
            return "nearest", f"its {min(found)}: an ImageNet classification"
        if "last_layer" in first:
            return "bilinear", "its last_layer: HRNet-Semantic-Segmentation"
        if each.endswith(("encoder1.", "encoder2.")):
            return "bilinear", f"the prefix {each}: HCMoCo"
        if each.endswith("backbone.bottom_up."):
            return "nearest", f"the prefix {each}: detectron2"
        if each != outer and "decode_head" in beside:
            return "bilinear", "its decode_head: MMSegmentation"
        if each != outer and beside & {"head", "keypoint_head"}:
            return "nearest", "its head: MMPose"
    return None, ""


def _beside(path: str, prefix: str, modality: str) -> Fusion | None:
    """Return what the config beside a file of ours says: of an export, a fine-tuned model or a train state."""
    try:
        folder, name = split_file(path)
        where = Folder(folder)
        if where.exists("state.json"):
            facts = json.loads(where.read("state.json"))["identity"]
        else:
            facts = json.loads(where.read("config.json"))
            if name not in facts["files"]:
                return None
        part = next((each for each in ("rgb", "depth") if name == f"{each}.safetensors" or prefix.startswith(each)), "")
        encoder = facts["encoder"] if "encoder" in facts else facts["model"][part or modality]
        fusion = encoder["fusion"]
    except (OSError, StorageError, UserError, ValueError, KeyError, TypeError):
        return None
    return fusion if fusion in ("nearest", "bilinear") else None
