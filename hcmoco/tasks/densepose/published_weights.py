"""Load a whole DensePose R-CNN that detectron2 trained: encoder, pyramid and heads, by its public key names.

Source: detectron2 (`StandardRPNHead`, `FastRCNNConvFCHead`, `FastRCNNOutputLayers`) and its DensePose project (`HRFPN`,
`PoseHigherResolutionNet`, `DensePoseV1ConvXHead`, `DensePoseChartPredictor`). What differs is converted exactly:

- Its pictures are BGR, 0..255 less the mean, with deviation 1; ours are RGB over the deviation: the first convolution
  takes the difference.
- Its classes are person, background, with one box; ours background, person, with a box each.
- Its U and V have a channel for the background, which nothing reads.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.datasets.io.pickles import read_pickle
from hcmoco.errors import UserError, one_line
from hcmoco.models.normalization import RGB_STD
from hcmoco.models.weight_files import WeightsReport, read_tensors
from hcmoco.storage import read_file

_MODEL_ZOO = ".pkl"
_PARTS = {
    "backbone.bottom_up.": "encoder.trunk.",
    "backbone.": "pyramid.",
    "proposal_generator.rpn_head.conv.": "proposals.head.conv.0.0.",
    "proposal_generator.rpn_head.objectness_logits.": "proposals.head.cls_logits.",
    "proposal_generator.rpn_head.anchor_deltas.": "proposals.head.bbox_pred.",
    "roi_heads.box_head.fc1.": "boxes.box_head.fc6.",
    "roi_heads.box_head.fc2.": "boxes.box_head.fc7.",
    "roi_heads.box_predictor.": "boxes.box_predictor.",
}
_BODY = "roi_heads.densepose_head.body_conv_fcn"
_PREDICTOR = "roi_heads.densepose_predictor."
# In the order of the chart head's joint output, and the first channel that is taken.
_OUTPUTS = {"ann_index_lowres": 0, "index_uv_lowres": 0, "u_lowres": 1, "v_lowres": 1}
_CHANNELS = [2, 25, 24, 24]  # of the chart head's joint output
# Constants of detectron2, which older versions saved.
_CONSTANTS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")


def load_published(model: nn.Module, source: str, body: Mapping[int, int]) -> WeightsReport:
    """Copy the weights of a detectron2 checkpoint, all of them or none.

    Args:
        model: the R-CNN, with the published pyramid.
        source: path or URI: what torch.save wrote, safetensors, or the model zoo's .pkl, which is not unpickled.
        body: the number of each convolution of the chart head's body, from 1, to its place in the body.

    Returns:
        What was taken, and what was left; several of the file's tensors may be one of the model's.

    Raises:
        UserError: the file cannot be read, or its keys and shapes do not fit the model.
    """
    given, wanted = _read(source), model.state_dict()
    state, strange = converted(given, body)
    absent = [key for key in wanted if key not in state and not key.endswith(".num_batches_tracked")]
    strange += [key for key in state if key not in wanted]
    wrong = [
        f"{key} is {list(value.shape)}, wanted {list(wanted[key].shape)}"
        for key, value in state.items()
        if key in wanted and value.shape != wanted[key].shape
    ]
    if absent or strange or wrong:
        problems = {"missing": absent, "unexpected": strange, "of another shape": wrong}
        listed = "; ".join(f"{len(keys)} {what}: {', '.join(keys[:3])}" for what, keys in problems.items() if keys)
        raise UserError(
            f"task.weights {source} does not fit this DensePose R-CNN: {listed}; give a detectron2 checkpoint of the "
            "same encoder.name and widths, with task.pyramid=published and task.chart_norm=none"
        )
    model.load_state_dict(state, strict=False)
    counters = tuple(key for key in wanted if key not in state)
    left = tuple(key for key in given if key.startswith(_CONSTANTS))
    return WeightsReport(source, "", len(state), other_keys=left, fresh_counters=counters)


def converted(given: Mapping[str, Tensor], body: Mapping[int, int]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a checkpoint's weights under our key names, and the keys that have no counterpart.

    Args:
        given: detectron2's keys and tensors.
        body: see `load_published`.
    """
    state: dict[str, Tensor] = {}
    strange = []
    for key, value in given.items():
        part = next((each for each in _PARTS if key.startswith(each)), "")
        number = key.removeprefix(_BODY).partition(".")
        if key.startswith(_CONSTANTS) or key.removeprefix(_PREDICTOR).rpartition(".")[0] in _OUTPUTS:
            continue
        if part:
            state[_PARTS[part] + key.removeprefix(part)] = value
        elif key.startswith(_BODY) and number[0].isdecimal() and int(number[0]) in body:
            state[f"charts.body.{body[int(number[0])]}.{number[2]}"] = value
        else:
            strange.append(key)
    for leaf, axis in (("weight", 1), ("bias", 0)):  # a transposed convolution's weights have its outputs second
        outputs = {f"{_PREDICTOR}{name}.{leaf}": first for name, first in _OUTPUTS.items()}
        if outputs.keys() <= given.keys():
            kept = [given[key].movedim(axis, 0)[first:] for key, first in outputs.items()]
            state[f"charts.out.{leaf}"] = torch.cat(kept).movedim(0, axis)
    deviation_C11 = 255 * torch.tensor(RGB_STD)[:, None, None]
    _change(state, "encoder.trunk.conv1.weight", lambda weight: weight.flip(1) * deviation_C11)
    for leaf in ("weight", "bias"):
        predictor = "boxes.box_predictor"
        _change(state, f"{predictor}.cls_score.{leaf}", lambda value: value.flip(0))
        _change(state, f"{predictor}.bbox_pred.{leaf}", lambda value: torch.cat([torch.zeros_like(value), value]))
    return state, strange


def to_published(state: Mapping[str, Tensor], body: Mapping[int, int]) -> dict[str, Tensor]:
    """Return the weights of an R-CNN with the published pyramid under detectron2's key names: the inverse of
    `converted`.

    They are for detectron2's own input, BGR with a deviation of 1. The channels of the background in U and V are 0.

    Args:
        state: of the R-CNN.
        body: see `load_published`.
    """
    places = {f"charts.body.{place}.": f"{_BODY}{number}." for number, place in body.items()}
    # Longest first: one of our prefixes begins another.
    names = sorted({**{ours: theirs for theirs, ours in _PARTS.items()}, **places}.items(), key=lambda each: each[0])
    published: dict[str, Tensor] = {}
    for key, value in state.items():
        for ours, theirs in reversed(names):
            if key.startswith(ours):
                published[theirs + key.removeprefix(ours)] = value
                break
    for leaf, axis in (("weight", 1), ("bias", 0)):
        kept = state[f"charts.out.{leaf}"].movedim(axis, 0).split(_CHANNELS)
        for (name, first), value in zip(_OUTPUTS.items(), kept, strict=True):
            whole = torch.cat([torch.zeros_like(value[:first]), value])
            published[f"{_PREDICTOR}{name}.{leaf}"] = whole.movedim(0, axis)
    deviation_C11 = 255 * torch.tensor(RGB_STD)[:, None, None]
    _change(published, "backbone.bottom_up.conv1.weight", lambda weight: (weight / deviation_C11).flip(1))
    for leaf in ("weight", "bias"):
        predictor = "roi_heads.box_predictor"
        _change(published, f"{predictor}.cls_score.{leaf}", lambda value: value.flip(0))
        _change(published, f"{predictor}.bbox_pred.{leaf}", lambda value: value[len(value) // 2 :])
    return {key: value.detach().cpu().contiguous().clone() for key, value in published.items()}


def _change(state: dict[str, Tensor], key: str, change: Callable[[Tensor], Tensor]) -> None:
    if key in state:
        state[key] = change(state[key])


def _read(source: str) -> dict[str, Tensor]:
    if not source.lower().endswith(_MODEL_ZOO):
        return read_tensors(source)
    what = f"task.weights {source}"
    try:
        content: Any = read_pickle(read_file(source))
    except OSError as error:
        raise UserError(f"{what} cannot be read: {one_line(error)}") from None
    except ValueError as error:
        raise UserError(f"{what} {one_line(error)}; copy or download it again") from None
    inner = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(inner, dict) or not all(isinstance(value, np.ndarray) for value in inner.values()):
        raise UserError(f"{what} holds no mapping of names to arrays; give a checkpoint of detectron2's model zoo")
    return {key: torch.from_numpy(value.copy()) for key, value in inner.items()}
