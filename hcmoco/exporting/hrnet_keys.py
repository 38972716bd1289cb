"""HRNets under the key names of other programs, with the config that builds the same network there.

timm, HRNet's own repositories, detectron2's DensePose project, MMPose and MMSegmentation name an HRNet's layers alike,
as HRNet's authors do; what differs is the prefix, and how coarser maps are brought to finer ones in a fusion:

    program                                   prefix                fusion         source
    HRNet-Semantic-Segmentation               none                  bilinear       lib/models/seg_hrnet.py
    detectron2, projects/DensePose            backbone.bottom_up.   nearest        densepose/modeling/hrnet.py
    MMPose                                    backbone.             nearest, or bilinear by `extra.upsample`
                                                                                   mmpose/models/backbones/hrnet.py
    MMSegmentation                            backbone.             bilinear       mmseg/models/backbones/hrnet.py

Corners are not aligned in any of these bilinear fusions, nor in ours.
"""

import io
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from hcmoco.errors import UserError
from hcmoco.models.encoders import Encoder, EncoderConfig
from hcmoco.models.normalization import RGB_MEAN, RGB_STD

Program = Literal["hrnet-seg", "detectron2", "mmpose", "mmseg"]
PROGRAMS: tuple[Program, ...] = get_args(Program)

_PREFIX = {"hrnet-seg": "", "detectron2": "backbone.bottom_up.", "mmpose": "backbone.", "mmseg": "backbone."}
FUSIONS = {
    "hrnet-seg": ("bilinear",),
    "detectron2": ("nearest",),
    "mmpose": ("nearest", "bilinear"),
    "mmseg": ("bilinear",),
}
# Under which key a program's checkpoint keeps the state.
WRAPPER = {"hrnet-seg": None, "detectron2": "model", "mmpose": "state_dict", "mmseg": "state_dict"}


@dataclass(frozen=True)
class HrnetFiles:
    """A checkpoint and the part of a config that goes with it.

    Attributes:
        checkpoint: bytes of what torch.save writes.
        num_tensors: in it.
        config: text of the config.
        suffix: of the config's file.
        differs: whether the program fuses otherwise than the encoder was trained.
    """

    checkpoint: bytes
    num_tensors: int
    config: str
    suffix: str
    differs: bool


def hrnet_files(
    encoder: Encoder, program: Program, *, name: str, rgb: bool, accept_difference: bool = False
) -> HrnetFiles:
    """Return an HRNet's weights under a program's names, with a config.

    Args:
        encoder: an HRNet.
        program: one of PROGRAMS.
        name: of the checkpoint's file, for the config.
        rgb: whether its input is RGB; depth has no mean and deviation to subtract.
        accept_difference: write it although the program fuses otherwise.

    Raises:
        UserError: another backbone, or another fusion and `accept_difference` is not set.
    """
    config = encoder.config
    differs = check_fusion(config, program, accept_difference)
    prefix = _PREFIX[program]
    state = {f"{prefix}{key}": value for key, value in encoder.trunk.state_dict().items()}
    data, count, stages = checkpoint(state, program), len(state), stages_of(encoder.trunk)
    if program == "detectron2":
        return HrnetFiles(data, count, _detectron2(stages, name, rgb), "yaml", differs)
    if program == "hrnet-seg":
        return HrnetFiles(data, count, _hrnet_seg(stages, name), "yaml", differs)
    return HrnetFiles(data, count, _openmmlab(stages, name, config.fusion, program, rgb), "py", differs)


def check_fusion(config: EncoderConfig, program: Program, accept_difference: bool) -> bool:
    """Return whether a program fuses otherwise than an HRNet was trained.

    Raises:
        UserError: it does, and `accept_difference` is not set; or the encoder is another backbone.
    """
    if not config.is_hrnet:
        raise UserError(f"--to {program}: {config.name} is no HRNet, whose names these are; take --to timm or onnx")
    differs = config.fusion not in FUSIONS[program]
    if differs and not accept_difference:
        raise UserError(
            f"--to {program}: {config.name} was trained with {config.fusion} fusion, {program} fuses "
            f"{FUSIONS[program][0]}, so its maps would differ; give --accept-difference to write it all the same"
        )
    return differs


def checkpoint(state: dict[str, Tensor], program: Program) -> bytes:
    """Return what torch.save writes of a state, as the program's checkpoints hold it."""
    wrapper = WRAPPER[program]
    buffer = io.BytesIO()
    # Of a view, all that it is a view of would be written.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    torch.save({wrapper: plain} if wrapper else plain, buffer)
    return buffer.getvalue()


def stages_of(trunk: nn.Module) -> list[dict[str, Any]]:
    """Return what an HRNet's four stages are: modules, and blocks and channels of each branch.

    Args:
        trunk: timm's HRNet, or anything with its modules.
    """
    layer1: Any = trunk.get_submodule("layer1")
    channels = layer1[0].conv1.out_channels
    stages = [{"modules": 1, "block": "BOTTLENECK", "blocks": [len(layer1)], "channels": [channels]}]
    for number in (2, 3, 4):
        stage: Any = trunk.get_submodule(f"stage{number}")
        branches = stage[0].branches
        stages.append(
            {
                "modules": len(stage),
                "block": "BASIC" if not hasattr(branches[0][0], "conv3") else "BOTTLENECK",
                "blocks": [len(branch) for branch in branches],
                "channels": [branch[0].conv1.out_channels for branch in branches],
            }
        )
    return stages


def hrnet_section(stages: list[dict[str, Any]]) -> list[str]:
    """Return the lines of detectron2's MODEL.HRNET that say what the stages are."""
    lines = ["  HRNET:", "    STEM_INPLANES: 64"]
    for number, stage in enumerate(stages[1:], start=2):
        lines += [
            f"    STAGE{number}: {{NUM_MODULES: {stage['modules']}, NUM_BRANCHES: {number}, BLOCK: {stage['block']}, "
            f"NUM_BLOCKS: {stage['blocks']}, NUM_CHANNELS: {stage['channels']}, FUSE_METHOD: SUM}}"
        ]
    return lines


def _detectron2(stages: list[dict[str, Any]], name: str, rgb: bool) -> str:
    lines = ["MODEL:", f"  WEIGHTS: {name}", "  BACKBONE: {NAME: build_hrfpn_backbone}"]
    if rgb:
        lines += [f"  PIXEL_MEAN: {[round(255 * each, 3) for each in RGB_MEAN]}"]
        lines += [f"  PIXEL_STD: {[round(255 * each, 3) for each in RGB_STD]}"]
    lines += hrnet_section(stages)
    return "\n".join([*lines, "INPUT: {FORMAT: RGB}", ""])


def _hrnet_seg(stages: list[dict[str, Any]], name: str) -> str:
    return "\n".join(["MODEL:", "  NAME: seg_hrnet", f"  PRETRAINED: {name}", *extra_section(stages), ""])


def extra_section(stages: list[dict[str, Any]]) -> list[str]:
    """Return the lines of HRNet-Semantic-Segmentation's MODEL.EXTRA."""
    lines = ["  EXTRA:", "    FINAL_CONV_KERNEL: 1"]
    for number, stage in enumerate(stages, start=1):
        lines += [
            f"    STAGE{number}: {{NUM_MODULES: {stage['modules']}, NUM_BRANCHES: {number}, BLOCK: {stage['block']}, "
            f"NUM_BLOCKS: {stage['blocks']}, NUM_CHANNELS: {stage['channels']}, FUSE_METHOD: SUM}}"
        ]
    return lines


def _openmmlab(stages: list[dict[str, Any]], name: str, fusion: str, program: str, rgb: bool) -> str:
    init = f"        init_cfg=dict(type='Pretrained', checkpoint={json.dumps(name)}, prefix='backbone.'),"
    backbone = [*backbone_section(stages, fusion, program), init, "    ),"]
    return "\n".join(["model = dict(", *(preprocessor_section() if rgb else []), *backbone, ")", ""])


def preprocessor_section() -> list[str]:
    """Return the lines of OpenMMLab's data_preprocessor for RGB."""
    return [
        "    data_preprocessor=dict(",
        f"        mean={[round(255 * each, 3) for each in RGB_MEAN]},",
        f"        std={[round(255 * each, 3) for each in RGB_STD]},",
        "        bgr_to_rgb=True,",
        "    ),",
    ]


def backbone_section(stages: list[dict[str, Any]], fusion: str, program: str) -> list[str]:
    """Return the lines of OpenMMLab's backbone, without its closing bracket."""
    lines = ["    backbone=dict(", "        type='HRNet',", "        in_channels=3,", "        extra=dict("]
    for number, stage in enumerate(stages, start=1):
        more = ", multiscale_output=True" if program == "mmpose" and number == 4 else ""
        lines += [
            f"            stage{number}=dict(num_modules={stage['modules']}, num_branches={number}, "
            f"block={stage['block']!r}, num_blocks={tuple(stage['blocks'])}, "
            f"num_channels={tuple(stage['channels'])}{more}),"
        ]
    if program == "mmpose" and fusion == "bilinear":
        lines += ["            upsample=dict(mode='bilinear', align_corners=False),"]
    return [*lines, "        ),"]
