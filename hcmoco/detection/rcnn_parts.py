"""Parts that torchvision's R-CNNs have in common, built with the shapes of a state dict's tensors.

The depth of the ResNet, the widths of the FPN and of the box head, and the number of classes are read off the tensors.

Names. torchvision 0.13 gave the convolutions of the FPN, of the proposals and of the mask head a level more. Its files
that were released before, such as keypointrcnn_resnet50_fpn_coco-fc266e95.pth, have the old names, which its own models
translate when they load (ops/feature_pyramid_network.py, models/detection/rpn.py and mask_rcnn.py, _version 2).
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import FrozenBatchNorm2d

COUNTER = ".num_batches_tracked"
"""Ends the name of a tensor that normalization has unless it was frozen."""
_BODY = "backbone.body."
_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_WIDTH = "backbone.fpn.inner_blocks.0.0.weight"
_BOX_HEAD, _CLASSES = "roi_heads.box_head.fc6.weight", "roi_heads.box_predictor.cls_score.weight"
NEEDED = (f"{_BODY}conv1.weight", f"{_BODY}layer1.0.conv1.weight", _WIDTH, _BOX_HEAD, _CLASSES)
"""Names without which the parts cannot be built."""
_FPN = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)")
_PROPOSALS = re.compile(r"(rpn\.head\.conv)\.(weight|bias)")
_MASKS = re.compile(r"(roi_heads\.mask_head)\.mask_fcn(\d+)\.(weight|bias)")


def with_current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors, those that have a name from before torchvision 0.13 under the one of today."""
    return {_current(name): tensor for name, tensor in state.items()}


def _current(name: str) -> str:
    if match := _FPN.fullmatch(name):
        return f"{match[1]}.0.{match[2]}"
    if match := _PROPOSALS.fullmatch(name):
        return f"{match[1]}.0.0.{match[2]}"
    if match := _MASKS.fullmatch(name):
        return f"{match[1]}.{int(match[2]) - 1}.0.{match[3]}"
    return name


def is_frozen(state: Mapping[str, Tensor]) -> bool:
    """Return whether the normalization of the ResNet was frozen when these tensors were trained."""
    return not any(name.startswith(_BODY) and name.endswith(COUNTER) for name in state)


def make_backbone(state: Mapping[str, Tensor]) -> BackboneWithFPN:
    """Build the ResNet with an FPN of a state dict that has the `NEEDED` names; its weights are not loaded."""
    block = _block(state)
    norm = FrozenBatchNorm2d if is_frozen(state) else nn.BatchNorm2d
    body = ResNet(block, _blocks(state), norm_layer=norm)
    channels = [64 * 2**number * block.expansion for number in range(4)]
    return BackboneWithFPN(body, {name: str(number) for number, name in enumerate(_LAYERS)}, channels, width(state))


def make_box_head(state: Mapping[str, Tensor]) -> TwoMLPHead:
    """Build the box head of a state dict that has the `NEEDED` names."""
    return TwoMLPHead(width(state) * 49, len(state[_BOX_HEAD]))


def make_box_predictor(state: Mapping[str, Tensor]) -> FastRCNNPredictor:
    """Build the box predictor of a state dict that has the `NEEDED` names."""
    classes = state[_CLASSES]
    return FastRCNNPredictor(classes.shape[1], len(classes))


def width(state: Mapping[str, Tensor]) -> int:
    """Return the number of channels of the FPN."""
    return len(state[_WIDTH])


def depth(state: Mapping[str, Tensor]) -> int:
    """Return the number by which a ResNet is called: its layers with weights, such as 50 (He et al. 2016, Table 1)."""
    return 2 + sum(_blocks(state)) * (3 if _block(state) is Bottleneck else 2)


def _block(state: Mapping[str, Tensor]) -> type[BasicBlock] | type[Bottleneck]:
    return Bottleneck if f"{_BODY}layer1.0.conv3.weight" in state else BasicBlock


def _blocks(state: Mapping[str, Tensor]) -> list[int]:
    pattern = re.compile(rf"{re.escape(_BODY)}(layer\d)\.(\d+)\.")
    found = {match.groups() for name in state if (match := pattern.match(name))}
    return [sum(layer == each for layer, _ in found) for each in _LAYERS]
