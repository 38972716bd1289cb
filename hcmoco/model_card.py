"""The card that goes with exported encoders: short text with code that runs as it stands."""

import json
from typing import Any, cast

from hcmoco import license_terms
from hcmoco.data.depth_masking import MASKED, SHOWN, UNMASKED
from hcmoco.models.encoders import Encoder
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.vit.pyramid import PlainVit

_CARD = """---
{license}
library_name: timm
tags: [hcmoco, rgb, depth, keypoints, human-centric, self-supervised]
---

# HCMoCo encoders: {rgb_name} (RGB), {depth_name} (depth), SemGCN (2D keypoints, {joint_set})

Pre-trained on people without labels by contrasting the modalities with each other (Hong et al., *Versatile
Multi-Modal Pre-Training for
Human-Centric Perception*, CVPR 2022). Made to be fine-tuned: parsing, DensePose, 3D pose.

## Training

{training}

## Use

RGB: {channels} x H x W, values in [0, 1], minus `{mean}`, over `{std}`; {stride} divides H and W. {maps}

```python
{rgb_code}
```

Depth: meters minus the mean of the image's valid pixels, pixels without a reading 0, {depth_channels} equal channels.
{depth_note}
```python
{depth_code}
```

With `hcmoco`, which also checks the files against `config.json`:

```python
from hcmoco.export import load_export

export = load_export(".")
rgb, depth, keypoints = export.encoder("rgb"), export.encoder("depth"), export.skeleton_encoder()
```
{detectron2}
{terms}"""

_DETECTRON2 = """
For DensePose in detectron2 (HRFPN backbone; set `INPUT.FORMAT` to `RGB`, `MODEL.PIXEL_MEAN` to `{mean}`,
`MODEL.PIXEL_STD` to `{std}`):

```python
import torch
from safetensors.torch import load_file

state = {{f"backbone.bottom_up.{{key}}": value for key, value in load_file("rgb.safetensors").items()}}
torch.save({{"model": state}}, "rgb-detectron2.pth")
```
"""


def card(model: MultiModalEncoders, training: dict[str, Any]) -> str:
    """The card in Markdown.

    Args:
        training: JSON values, printed as a list; `terms` (see `hcmoco.license_terms.as_json`) have a section of their
            own.
    """
    config = model.config
    known = license_terms.of_training(training, "this folder")
    told = "\n".join(
        f"- {key}: {value if isinstance(value, str) else json.dumps(_short(value))}"
        for key, value in training.items()
        if key != "terms"
    )
    detectron2 = _DETECTRON2.format(
        mean=[round(255 * each, 3) for each in RGB_MEAN], std=[round(255 * each, 3) for each in RGB_STD]
    )
    return _CARD.format(
        license=license_terms.license_lines(known),
        terms=license_terms.section(known),
        rgb_name=config.rgb.name,
        depth_name=config.depth.name,
        joint_set=config.joint_set,
        training=told or "Nothing was recorded.",
        channels=config.rgb.in_chans,
        mean=list(RGB_MEAN),
        std=list(RGB_STD),
        stride=model.rgb.strides[-1],
        maps=_maps(model),
        rgb_code=_timm_code(model.rgb, "rgb.safetensors"),
        depth_code=_timm_code(model.depth, "depth.safetensors"),
        depth_channels=config.depth.in_chans,
        depth_note=_depth_note(training.get("depth_masking")),
        detectron2=detectron2 if config.rgb.is_hrnet else "",
    )


def _maps(model: MultiModalEncoders) -> str:
    """Say what the variable `maps` of the code holds."""
    encoder = model.rgb
    strides = ", ".join(map(str, encoder.strides))
    layout = ", channels last" if encoder.channels_last else ""
    text = f"`maps` are the\nfeatures at strides {strides}{layout}."
    if model.rgb.config.is_plain_vit or model.depth.config.is_plain_vit:
        text += (
            "\nOf a ViT, plain timm has the map of its patches; the pyramid on it (keys `pyramid.*` in the file) is "
            "in\n`hcmoco`, see below."
        )
    return text


def _depth_note(masking: Any) -> str:
    """What depth has to look like, a line; "" where it was not recorded."""
    if masking not in SHOWN:
        return ""
    but = {
        MASKED: " A background has to be removed first (`--segment` of prepare.py, `--mask` of predict.py).",
        UNMASKED: " Depth that is cut out is not what it has seen.",
    }
    return f"It was trained on depth that is {SHOWN[masking]}.{but.get(masking, '')}\n"


def _short(value: Any) -> Any:
    """JSON values with numbers of four digits, which are enough to read."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list) else value


def _timm_code(encoder: Encoder, file: str) -> str:
    config = encoder.config
    side = config.args.get("img_size", 10 * encoder.strides[-1])
    arguments = ", ".join(
        f"{key}={json.dumps(value) if isinstance(value, str) else value}"
        for key, value in config.create_arguments.items()
    )
    lines = ["import timm", "import torch", "from safetensors.torch import load_file", ""]
    lines += [f'encoder = timm.create_model("{config.name}", {arguments})']
    if config.is_plain_vit:
        return "\n".join(lines + _vit_lines(encoder, file, side))
    lines += [f'encoder.load_state_dict(load_file("{file}"))']
    if config.fusion == "bilinear":
        lines += ["for module in encoder.modules():", "    if isinstance(module, torch.nn.Upsample):"]
        lines += ['        module.mode, module.align_corners = "bilinear", False']
    lines += [f"image = torch.zeros(1, {config.in_chans}, {side}, {side})"]
    lines += [f"maps = encoder.eval()(image)[-{len(encoder.strides)}:]"]
    return "\n".join(lines)


def _vit_lines(encoder: Encoder, file: str, side: int) -> list[str]:
    """Return the lines that load the ViT inside a `PlainVit`, and run it on whole patches."""
    config, trunk = encoder.config, cast(PlainVit, encoder.trunk)
    side = side // trunk.patch * trunk.patch
    padding = config.vit.patch_padding
    return [
        *([f"encoder.patch_embed.proj.padding = ({padding}, {padding})"] if padding else []),
        "encoder.prune_intermediate_layers(1, prune_norm=False, prune_head=True)",
        f'state = load_file("{file}")',
        'state = {key.removeprefix("model."): state[key] for key in state if key.startswith("model.")}',
        "encoder.load_state_dict(state)",
        f"image = torch.zeros(1, {config.in_chans}, {side}, {side})",
        "maps = encoder.eval().forward_intermediates(image, indices=1, norm=True, intermediates_only=True)",
    ]
