"""The card that goes with exported encoders: short text with code that runs as it stands."""

import json
from typing import Any, cast

from hcmoco import __version__, license_terms, markdown
from hcmoco.data.depth_masking import MASKED, SHOWN, UNMASKED
from hcmoco.models.encoders import Encoder
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.models.normalization import RGB_MEAN, RGB_STD
from hcmoco.models.points.encoder import PointEncoder
from hcmoco.models.vit.pyramid import PlainVit

# Keys of the training that have a section of their own.
_ELSEWHERE = ("note", "terms", "probes", "data", "rows", "command", "commit")
# First parts of the names of probes that are shares of right matches.
_SHARES = (
    "retrieval_same_crop",
    "retrieval_different_crops",
    "dense_same_crop",
    "dense_different_crops",
    "joint",
    "joint_either_side",
)

_CARD = """---
{license}
library_name: hcmoco
pipeline_tag: image-feature-extraction
tags: [hcmoco, timm, rgb, depth, keypoints, human-centric, self-supervised]
---

# HCMoCo encoders: {rgb_name} (RGB), {depth_name} (depth), SemGCN (2D keypoints, {joint_set})

Pre-trained on people without labels by contrasting the modalities with each other (Hong et al., *Versatile
Multi-Modal Pre-Training for Human-Centric Perception*, CVPR 2022).

## Intended use

To be fine-tuned for tasks on people (parsing, DensePose, 3D pose), and to find and match people across RGB, depth and
2D keypoints. The input is a crop around one person, about 1.25 times the person's box.

{limits}

## Training

{training}
{probes}
## Reproduce

{reproduce}

## Use

RGB: {channels} x H x W, values in [0, 1], minus `{mean}`, over `{std}`; {stride} divides H and W. {maps}

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
import hcmoco

model = hcmoco.load(".")
rgb, depth, keypoints = model.rgb, model.depth, model.keypoints
```

`model.embed(rgb=pictures, depth=depth)` gives embeddings in the shared space, of unit length: `pooled` of a person,
`dense` of each position and `joints`. Pictures are uint8 [B, H, W, 3], depth is millimeters or meters [B, H, W].
{detectron2}
{terms}
## Cite

```bibtex
@inproceedings{{hong2022versatile,
  title     = {{Versatile Multi-Modal Pre-Training for Human-Centric Perception}},
  author    = {{Hong, Fangzhou and Pan, Liang and Cai, Zhongang and Liu, Ziwei}},
  booktitle = {{Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)}},
  year      = {{2022}}
}}
```
"""

_SYNTHETIC = """These weights have seen synthetic people only. On photographs and on recorded depth they are a
start for training, not a result: measure them on your own data first."""
_LIMITS = """They have seen the people and places of their training data, listed below, and no others. Measure them
on your own data before you rely on them, for people of other ages, bodies, clothes and skin colors above all."""
_NOT_FOR = "They tell nobody's name and are not made to recognize persons."

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
        if key not in _ELSEWHERE
    )
    note = training.get("note")
    synthetic = license_terms.is_ours(known)
    detectron2 = _DETECTRON2.format(
        mean=[round(255 * each, 3) for each in RGB_MEAN], std=[round(255 * each, 3) for each in RGB_STD]
    )
    return _CARD.format(
        license=license_terms.license_lines(known),
        terms=license_terms.section(known),
        rgb_name=config.rgb.name,
        depth_name=config.depth.name,
        joint_set=config.joint_set,
        training="\n\n".join(filter(None, [told or "Nothing was recorded.", _data(training)])),
        limits=f"{_SYNTHETIC if synthetic else _LIMITS} {_NOT_FOR}" + (f"\n\n{note}" if note else ""),
        probes=_probes(training.get("probes")),
        reproduce=_reproduce(training),
        channels=config.rgb.in_chans,
        mean=list(RGB_MEAN),
        std=list(RGB_STD),
        stride=model.rgb.strides[-1],
        maps=_maps(model),
        rgb_code=_code(model.rgb, "rgb.safetensors"),
        depth_input=_POINTS_INPUT if config.depth.is_points else _PICTURE_INPUT.format(channels=config.depth.in_chans),
        depth_code=_code(model.depth, "depth.safetensors"),
        depth_note=_depth_note(training.get("depth_masking")),
        detectron2=detectron2 if config.rgb.is_hrnet else "",
    )


def _data(training: dict[str, Any]) -> str:
    """The data sets, a table; "" where none was recorded."""
    data, rows = training.get("data"), training.get("rows")
    if not isinstance(data, dict):
        return ""
    counts = rows if isinstance(rows, dict) else {}
    lines = [
        (str(name), str(path), f"{counts[name]:,}" if isinstance(counts.get(name), int) else "not recorded")
        for name, path in data.items()
    ]
    return markdown.table(("data set", "place", "rows"), lines, "llr")


def _probes(probes: Any) -> str:
    """A section with the probes of all moments; "" without."""
    if not isinstance(probes, dict) or not all(isinstance(each, dict) for each in probes.values()) or not probes:
        return ""
    names = list(dict.fromkeys(name for each in probes.values() for name in each))
    rows = [(f"`{name}`", *(_figure(name, each.get(name)) for each in probes.values())) for name in names]
    table = markdown.table(("probe", *probes), rows, "l" + "r" * len(probes))
    return (
        "\n## Probes\n\nOn held-out people, without any training: `retrieval`, `dense` and `joint` are matches that "
        f"are right, in percent, between the modalities that the names say.\n\n{table}\n"
    )


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1f}" if name.partition("/")[0] in _SHARES else f"{value:.3g}"


def _reproduce(training: dict[str, Any]) -> str:
    """The command, and the version of the program."""
    command, version = training.get("command"), training.get("commit")
    lines = [f"hcmoco {__version__}{f', commit {version}' if version else ''}."]
    if command:
        lines += ["", "```bash", str(command), "```"]
    return "\n".join(lines)


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
