"""Fine-tuned models under the key names of other programs, with the config that builds the same network there.

HRNet-Semantic-Segmentation: parsing with an HRNet. The head is `last_layer.0`, `.1` and `.3` (lib/models/
seg_hrnet.py). tools/test.py drops the first six characters of every key: the prefix `model.`.
MMSegmentation: parsing with an HRNet. The head is a FCNHead, `decode_head` (mmseg/models/decode_heads/fcn_head.py,
configs/_base_/models/fcn_hr18.py).
detectron2, projects/DensePose: DensePose with the published pyramid and no normalization in the chart head
(configs/Base-DensePose-RCNN-FPN.yaml, configs/HRNet/densepose_rcnn_HRFPN_HRNet_w32_s1x.yaml).
"""

import json
from typing import Any, cast

from torch import Tensor, nn

from hcmoco.errors import UserError
from hcmoco.exporting.hrnet_keys import (
    HrnetFiles,
    Program,
    backbone_section,
    check_fusion,
    checkpoint,
    extra_section,
    hrnet_section,
    preprocessor_section,
    stages_of,
)
from hcmoco.finetuning.saved_model import Saved
from hcmoco.models.normalization import RGB_MEAN
from hcmoco.tasks.densepose.config import DensePoseConfig
from hcmoco.tasks.densepose.model import DensePoseRCNN
from hcmoco.tasks.densepose.published_weights import to_published
from hcmoco.tasks.parsing.head import ParsingHead
from hcmoco.tasks.parsing.task import ParsingTask

_HAVE = {
    "hrnet-seg": "HRNet-Semantic-Segmentation has models of parsing alone",
    "mmseg": "MMSegmentation has models of parsing alone",
    "detectron2": "detectron2's DensePose project has models of densepose alone",
    "mmpose": "MMPose has no such model: it neither parses, nor reads depth, nor has DensePose",
    "timm": "timm has encoders alone",
}
_DEPTH_NOTE = (
    "# It reads depth, for which this program has no reader: feed float32 [3, H, W], three equal channels of meters",
    "# less the mean of the picture's readings, and 0 where there is no reading; take off no mean and deviation.",
)
_BATCH_NORM = "dict(type='BN', requires_grad=True)"


def refuse(saved: Saved, form: str) -> UserError:
    """Return the error that a program has no such model; it says why and what fits."""
    return UserError(
        f"--to {form}: the model is one of {saved.config.name}, and {_HAVE[form]}; take --to onnx, pt2 or hub for the "
        f"whole model, or --part encoder for its encoder in {form}"
    )


def task_files(saved: Saved, program: Program, *, name: str, accept_difference: bool = False) -> HrnetFiles:
    """Return a fine-tuned model under a program's names, with a config.

    Args:
        saved: the model.
        program: hrnet-seg, mmseg or detectron2; mmpose has no such model.
        name: of the checkpoint's file, for the config.
        accept_difference: write it although the program fuses otherwise.

    Raises:
        UserError: the program has no such model, or see `check_fusion`.
    """
    task, config = saved.task(), saved.config
    if program == "detectron2" and isinstance(config, DensePoseConfig):
        if (config.pyramid, config.chart_norm) != ("published", "none"):
            raise UserError(
                f"--to detectron2: the model has task.pyramid={config.pyramid or 'null'} and "
                f"task.chart_norm={config.chart_norm}, detectron2 has its own pyramid and no normalization; fine-tune "
                "with task.pyramid=published task.chart_norm=none, or take --to onnx, pt2 or hub"
            )
        differs = check_fusion(saved.encoder, program, accept_difference)
        detector = cast(DensePoseRCNN, saved.model())
        state = to_published(detector.state_dict(), detector.charts.convolutions())
        text = _detectron2(stages_of(detector.encoder.trunk), config, name)
        return HrnetFiles(checkpoint(state, program), len(state), text, "yaml", differs)
    if program in ("hrnet-seg", "mmseg") and isinstance(task, ParsingTask) and not saved.encoder.is_points:
        differs = check_fusion(saved.encoder, program, accept_difference)
        model = saved.model()
        encoder: Any = model.encoder
        stages, classes = stages_of(encoder.trunk), task.label_map.parts
        if program == "hrnet-seg":
            state = _hrnet_seg_state(encoder.trunk, cast(ParsingHead, model.head))
            text, suffix = _hrnet_seg(stages, task, name), "yaml"
        else:
            state = _mmseg_state(encoder.trunk, cast(ParsingHead, model.head))
            text, suffix = _mmseg(stages, encoder.channels, saved.encoder.fusion, task, classes, name), "py"
        return HrnetFiles(checkpoint(state, program), len(state), text, suffix, differs)
    raise refuse(saved, program)


def _hrnet_seg_state(trunk: nn.Module, head: ParsingHead) -> dict[str, Tensor]:
    parts = {"": trunk, "last_layer.0.": head.merge, "last_layer.1.": head.norm, "last_layer.3.": head.classify}
    return {f"model.{prefix}{key}": value for prefix, part in parts.items() for key, value in part.state_dict().items()}


def _mmseg_state(trunk: nn.Module, head: ParsingHead) -> dict[str, Tensor]:
    """MMSegmentation's first convolution has no bias, since a normalization follows: ours moves into its mean."""
    norm = head.norm.state_dict()
    assert head.merge.bias is not None
    norm["running_mean"] = norm["running_mean"] - head.merge.bias.detach()
    state = {f"backbone.{key}": value for key, value in trunk.state_dict().items()}
    state["decode_head.convs.0.conv.weight"] = head.merge.weight
    state |= {f"decode_head.convs.0.bn.{key}": value for key, value in norm.items()}
    state |= {f"decode_head.conv_seg.{key}": value for key, value in head.classify.state_dict().items()}
    return state


def _hrnet_seg(stages: list[dict[str, Any]], task: ParsingTask, name: str) -> str:
    classes, size = task.label_map.parts, task.config.size
    return "\n".join(
        [
            *(_DEPTH_NOTE if task.modality == "depth" else ()),
            f"# Classes in order: {', '.join(classes)}",
            "MODEL:",
            "  NAME: seg_hrnet",
            "  PRETRAINED: ''",
            *extra_section(stages),
            f"DATASET: {{NUM_CLASSES: {len(classes)}}}",
            f"TEST: {{MODEL_FILE: {name}, IMAGE_SIZE: [{size}, {size}], BASE_SIZE: {size}}}",
            "",
        ]
    )


def _mmseg(
    stages: list[dict[str, Any]],
    channels: tuple[int, ...],
    fusion: str,
    task: ParsingTask,
    classes: tuple[str, ...],
    name: str,
) -> str:
    size = task.config.size
    return "\n".join(
        [
            *(_DEPTH_NOTE if task.modality == "depth" else ()),
            f"classes = {list(classes)!r}",
            f"load_from = {json.dumps(name)}",
            f"crop_size = ({size}, {size})  # the person's square, resized to this",
            "model = dict(",
            "    type='EncoderDecoder',",
            *(preprocessor_section() if task.modality == "rgb" else []),
            *backbone_section(stages, fusion, "mmseg"),
            f"        norm_cfg={_BATCH_NORM},",
            "    ),",
            "    decode_head=dict(",
            "        type='FCNHead',",
            f"        in_channels={list(channels)},",
            f"        in_index={tuple(range(len(channels)))},",
            f"        channels={sum(channels)},",
            "        input_transform='resize_concat',",
            "        kernel_size=1,",
            "        num_convs=1,",
            "        concat_input=False,",
            "        dropout_ratio=-1,",
            f"        num_classes={len(classes)},",
            f"        norm_cfg={_BATCH_NORM},",
            "        align_corners=False,",
            "    ),",
            "    test_cfg=dict(mode='whole'),",
            ")",
            "",
        ]
    )


def _detectron2(stages: list[dict[str, Any]], config: DensePoseConfig, name: str) -> str:
    levels = "['p1', 'p2', 'p3', 'p4', 'p5']"
    sizes = [list(each) for each in config.anchor_sizes]
    return "\n".join(
        [
            "_BASE_: Base-DensePose-RCNN-FPN.yaml  # of detectron2, projects/DensePose/configs",
            "MODEL:",
            f"  WEIGHTS: {name}",
            f"  PIXEL_MEAN: {[round(255 * each, 3) for each in reversed(RGB_MEAN)]}  # of B, G, R",
            "  PIXEL_STD: [1.0, 1.0, 1.0]",
            "  BACKBONE: {NAME: build_hrfpn_backbone}",
            *hrnet_section(stages),
            f"    HRFPN: {{OUT_CHANNELS: {config.pyramid_channels}}}",
            f"  ANCHOR_GENERATOR: {{SIZES: {sizes}, ASPECT_RATIOS: [{list(config.anchor_ratios)}]}}",
            f"  RPN: {{IN_FEATURES: {levels}, PRE_NMS_TOPK_TEST: {config.proposals_per_level_test}, "
            f"POST_NMS_TOPK_TEST: {config.proposals_test}}}",
            f"  ROI_HEADS: {{IN_FEATURES: {levels}, NUM_CLASSES: 1, SCORE_THRESH_TEST: {config.score_threshold}, "
            f"NMS_THRESH_TEST: {config.nms_threshold}}}",
            f"  ROI_BOX_HEAD: {{FC_DIM: {config.box_width}, POOLER_TYPE: ROIAlign}}",
            f"  ROI_DENSEPOSE_HEAD: {{NAME: DensePoseV1ConvXHead, CONV_HEAD_DIM: {config.chart_width}, "
            f"NUM_STACKED_CONVS: {config.chart_depth}, POOLER_RESOLUTION: {config.chart_cells}, UP_SCALE: "
            f"{config.chart_upscale}, POOLER_TYPE: ROIAlign}}",
            f"INPUT: {{FORMAT: BGR, MIN_SIZE_TEST: {config.test_short_side}, MAX_SIZE_TEST: {config.long_side}}}",
            f"TEST: {{DETECTIONS_PER_IMAGE: {config.detections}}}",
            "",
        ]
    )
