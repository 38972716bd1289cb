"""Image encoders as folders that `timm.create_model("local-dir:FOLDER")` loads, under the names of the whole model.

An encoder is timm's model without its head, wrapped for its features, which renames some weights. Which name is which
is found by loading a file of marks through timm itself: whatever timm renames, the mark arrives under the new name.
Weights of the head that the encoder does not have are drawn anew, and mean nothing.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from hcmoco.errors import UserError, one_line
from hcmoco.models.encoders import Encoder
from hcmoco.models.multimodal import seeded
from hcmoco.models.normalization import RGB_MEAN, RGB_STD

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOLERANCE = 1e-5
_WRAPPING = ("features_only", "feature_location")


@dataclass(frozen=True)
class TimmFiles:
    """A folder that timm loads.

    Attributes:
        files: name -> content.
        difference: largest difference of any map, in shares of the map's largest value.
    """

    files: dict[str, bytes]
    difference: float


def timm_files(encoder: Encoder, *, rgb: bool, side: int, accept_difference: bool = False) -> TimmFiles:
    """Return the files of a folder that timm loads, after timm has loaded them.

    Args:
        encoder: of a timm model, in evaluation mode.
        rgb: whether its input is RGB, normalized as ImageNet's; else nothing is subtracted from it.
        side: of the pictures that it was trained on, pixels.
        accept_difference: write an HRNet of bilinear fusion too, which timm computes with nearest fusion.

    Raises:
        UserError: timm's model computes something else, and `accept_difference` is not set; or no such model.
    """
    config = encoder.config
    if config.is_plain_vit:
        raise UserError(
            f"{config.name}: plain ViTs have a pyramid that timm's model has not; the card's code loads the ViT alone "
            "in plain timm"
        )
    if config.fusion == "bilinear" and not accept_difference:
        raise UserError(
            f"{config.name} was trained with bilinear fusion, timm fuses by nearest neighbor, so its maps would "
            "differ; the card's code sets bilinear fusion in plain timm; to write the folder all the same, give "
            "--accept-difference"
        )
    try:
        trained, rest = _whole_state(encoder)
    except (RuntimeError, ValueError, KeyError, LookupError) as error:
        raise UserError(f"{config.name} has no form that timm loads by itself: {one_line(error)}") from error
    description = json.dumps(_description(encoder, rgb, side), indent=1).encode()
    difference = None
    for state in (trained, {**trained, **rest}):  # with the untrained head only where timm wants it
        plain = {name: value.contiguous().clone() for name, value in state.items()}
        files = {WEIGHTS: safetensors.torch.save(plain, {"format": "pt"}), CONFIG: description}
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
            try:
                difference = _difference(encoder, folder, side)
            except RuntimeError:
                continue
        break
    if difference is None or (difference > TOLERANCE and config.fusion != "bilinear"):
        found = (
            "does not load these weights" if difference is None else f"differs by {difference:.2g} of a map's largest"
        )
        raise UserError(f"{config.name}: timm's own model {found}; nothing was written")
    return TimmFiles(files, difference)


def _description(encoder: Encoder, rgb: bool, side: int) -> dict[str, Any]:
    """config.json of a folder, as timm's hub client reads it."""
    config = encoder.config
    arguments = {key: value for key, value in config.create_arguments.items() if key not in _WRAPPING}
    first = timm.get_pretrained_cfg(config.name)
    known = {} if first is None else {key: getattr(first, key) for key in ("first_conv", "classifier")}
    return {
        "architecture": config.name.partition(".")[0],
        "num_classes": 0,
        "model_args": arguments,
        "pretrained_cfg": {
            **known,
            "tag": "hcmoco",
            "custom_load": False,
            "input_size": [config.in_chans, side, side],
            "fixed_input_size": "img_size" in config.args,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(RGB_MEAN) if rgb else [0.0] * config.in_chans,
            "std": list(RGB_STD) if rgb else [1.0] * config.in_chans,
            "num_classes": 0,
        },
    }


def _difference(encoder: Encoder, folder: str, side: int) -> float:
    """The largest difference of any map at two sizes, in shares of the map's largest value."""
    loaded = load_folder(folder, encoder)
    worst = 0.0
    stride = max(encoder.strides[-1], 32)
    fixed = "img_size" in encoder.config.args
    for height in (side, side if fixed else side + stride):
        image = torch.randn(1, encoder.config.in_chans, height, side)
        with torch.no_grad():
            for one, other in zip(encoder(image), loaded(image)[-len(encoder.strides) :], strict=True):
                other = other.permute(0, 3, 1, 2) if encoder.channels_last else other
                worst = max(worst, float((one - other).abs().max() / one.abs().max()))
    return worst


def load_folder(folder: str, encoder: Encoder) -> nn.Module:
    """Load a folder as people do: timm's features of `local-dir:FOLDER`, as the encoder has them."""
    arguments = dict(encoder.config.create_arguments)
    with _no_messages():
        return timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments).eval()


def _whole_state(encoder: Encoder) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The encoder's weights under the names of timm's whole model, and what that has besides, drawn anew."""
    arguments = {key: value for key, value in encoder.config.create_arguments.items() if key not in _WRAPPING}
    with seeded(0, "head of timm"):
        state = timm.create_model(encoder.config.name, num_classes=0, **arguments).state_dict()
    own = encoder.trunk.state_dict()
    names = _names(encoder, state)
    for inner, outer in names.items():
        if state[outer].shape != own[inner].shape:
            raise ValueError(f"{outer} has the shape {list(state[outer].shape)}, not {list(own[inner].shape)}")
    trained = {outer: own[inner] for inner, outer in names.items()}
    return trained, {name: value for name, value in state.items() if name not in trained}


def _names(encoder: Encoder, state: dict[str, Tensor]) -> dict[str, str]:
    """Name of a weight in the encoder -> its name in the whole model."""
    generator = torch.Generator().manual_seed(0)
    marks = {
        name: torch.rand(value.shape, generator=generator) + number
        if value.is_floating_point()
        else torch.full(value.shape, number + 1, dtype=value.dtype)
        for number, (name, value) in enumerate(state.items())
    }
    with tempfile.TemporaryDirectory() as folder, _no_messages():
        file = str(Path(folder, WEIGHTS))
        safetensors.torch.save_file(marks, file)
        overlay = {"file": file, "custom_load": False, "num_classes": 0}
        marked = timm.create_model(
            encoder.config.name, pretrained=True, pretrained_cfg_overlay=overlay, **encoder.config.create_arguments
        ).state_dict()
    found: dict[str, str] = {}
    by_mark = {_mark(value): name for name, value in marks.items() if value.numel()}
    for name, value in marked.items():
        if value.numel():
            found[name] = by_mark[_mark(value)]
    if len(set(found.values())) != len(found):
        raise ValueError("two weights of the encoder are one of the whole model")
    return found


def _mark(value: Tensor) -> tuple[Any, ...]:
    return tuple(value.shape), float(value.flatten()[0])


class _no_messages:  # noqa: N801 - a context manager
    """Without timm's notes that a head's weights are not used."""

    def __enter__(self) -> None:
        self.before = logging.getLogger("timm").level
        logging.getLogger("timm").setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("timm").setLevel(self.before)
