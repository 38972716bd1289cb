"""The card that goes with exported encoders: short text with code that runs as it stands."""

import json
from typing import Any

from hcmoco import license_terms
from hcmoco.data.depth_masking import MASKED, SHOWN, UNMASKED
from hcmoco.models.encoders import Encoder
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.points.encoder import PointEncoder

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

RGB: {channels} x H x W, values in [0, 1], minus `{mean}`, over `{std}`; {stride} divides H and W. `maps` are the
features at strides {strides}{layout}.

```python
{rgb_code}
```

{depth_input}
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

_PICTURE_INPUT = (
    "Depth: meters minus the mean of the image's valid pixels, pixels without a reading 0, {channels} equal channels."
)
_POINTS_INPUT = (
    "Depth: points in the camera's frame (x right, y down, z forward), meters, minus their mean; a multiple of 64. "
    "Names of weights are those of the published PointNet++ (MSG)."
)
_CARD_SIDE = 96  # of the crop in the example, pixels

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
        strides=", ".join(map(str, model.rgb.strides)),
        layout=", channels last" if model.rgb.channels_last else "",
        rgb_code=_code(model.rgb, "rgb.safetensors"),
        depth_input=_POINTS_INPUT if config.depth.is_points else _PICTURE_INPUT.format(channels=config.depth.in_chans),
        depth_code=_code(model.depth, "depth.safetensors"),
        depth_note=_depth_note(training.get("depth_masking")),
        detectron2=detectron2 if config.rgb.is_hrnet else "",
    )


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


def _code(encoder: Encoder | PointEncoder, file: str) -> str:
    if isinstance(encoder, PointEncoder):
        return _points_code(encoder.config.points_at(_CARD_SIDE), file)
    return _timm_code(encoder, file)


def _points_code(count: int, file: str) -> str:
    lines = ["import torch", "from hcmoco.models.points.pointnet2 import PointNet2MSG"]
    lines += ["from safetensors.torch import load_file", "", "encoder = PointNet2MSG()"]
    lines += [f'encoder.load_state_dict(load_file("{file}"))']
    lines += [f"points = torch.randn(1, {count}, 3)", "points -= points.mean(1, keepdim=True)"]
    lines += [f"features = encoder.eval()(points)  # 1 x {count} x 128"]
    return "\n".join(lines)


def _timm_code(encoder: Encoder, file: str) -> str:
    config = encoder.config
    side = config.args.get("img_size", 10 * encoder.strides[-1])
    arguments = ", ".join(
        f"{key}={json.dumps(value) if isinstance(value, str) else value}"
        for key, value in config.create_arguments.items()
    )
    lines = ["import timm", "import torch", "from safetensors.torch import load_file", ""]
    lines += [f'encoder = timm.create_model("{config.name}", {arguments})']
    lines += [f'encoder.load_state_dict(load_file("{file}"))']
    if config.fusion == "bilinear":
        lines += ["for module in encoder.modules():", "    if isinstance(module, torch.nn.Upsample):"]
        lines += ['        module.mode, module.align_corners = "bilinear", False']
    lines += [f"image = torch.zeros(1, {config.in_chans}, {side}, {side})"]
    lines += [f"maps = encoder.eval()(image)[-{len(encoder.strides)}:]"]
    return "\n".join(lines)
