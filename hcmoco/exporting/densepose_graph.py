"""A fine-tuned DensePose R-CNN as a graph of one picture.

It computes what `DensePoseRCNN.detect` does. That one's loops over levels and pictures follow the data; here the same
steps have shapes that torch.export can carry: a box that would be dropped before a suppression gets a score below all
others, and is dropped after it.

Shape suffixes: R boxes, A anchors of a cell, C channels, D detections; h, w rows and columns of a map; a 4 is x0, y0,
x1, y1 in pixels of the input.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from hcmoco.exporting.encoder_graphs import MAX_STRIDES, RGB_MEANING, example_rgb
from hcmoco.exporting.graphs import Graph, Port
from hcmoco.models.normalization import normalize_rgb
from hcmoco.tasks.densepose.config import LEVELS
from hcmoco.tasks.densepose.heads import ChartMaps
from hcmoco.tasks.densepose.model import FINEST, STRIDE, DensePoseRCNN

_LEAST_PROPOSAL, _LEAST_BOX = 1e-3, 1e-2  # pixels; torchvision's smallest sides
# torchvision's LevelMapper: boxes of this side are pooled from this level (Lin et al. 2017, equation 1).
_CANONICAL_SIDE, _CANONICAL_LEVEL, _EPSILON = 224, 4, 1e-6
_SAMPLING = 2


class DensePoseGraph(Graph):
    """rgb uint8 [1, H, W, 3] and min_score -> boxes, scores and chart maps of the D detections."""

    title = "the densepose model"
    stride = STRIDE

    def __init__(self, model: DensePoseRCNN, facts: Mapping[str, Any]):
        super().__init__()
        self.model, config = model, model.config
        # The coarsest map has two cells at least, as the export assumes; the published pyramid cuts one off.
        self.least = 3 if config.pyramid == "published" else 2
        side = -(-min(config.test_short_side, config.long_side) // STRIDE)
        self.side = max(side, self.least) * STRIDE
        anchors: Any = model.proposals.anchor_generator
        anchors.set_cell_anchors(torch.float32, torch.device("cpu"))
        for level, cell_A4 in enumerate(anchors.cell_anchors):
            self.register_buffer(f"anchors{level}", cell_A4.clone())
        side = 2 * config.chart_cells * config.chart_upscale
        threshold = f"detections below are dropped; {config.score_threshold:g} in training and evaluation"
        self.inputs = (
            Port(
                "rgb",
                "uint8",
                (1, "height", "width", 3),
                f"{RGB_MEANING}; sides are multiples of {STRIDE}, at least {self.least * STRIDE}",
            ),
            Port("min_score", "float32", (), f"0 to 1; {threshold}"),
        )
        place = "at the cells of a grid over the box"
        self.outputs = (
            Port("boxes", "float32", ("detections", 4), "x0, y0, x1, y1 in pixels of the input"),
            Port("scores", "float32", ("detections",), "0 to 1, descending"),
            Port("coarse", "float32", ("detections", 2, side, side), f"logits of background and person {place}"),
            Port("fine", "float32", ("detections", 25, side, side), f"logits of background and 24 parts {place}"),
            Port("u", "float32", ("detections", 24, side, side), f"U of each part's chart, 0 to 1, {place}"),
            Port("v", "float32", ("detections", 24, side, side), f"V of each part's chart, 0 to 1, {place}"),
        )
        self.facts = {
            **facts,
            "charts": "those of hcmoco's synthetic people" if config.charts == "people" else "DensePose's",
            "preparation": f"the picture, resized so that its shorter side has {config.test_short_side} pixels and its "
            f"longer one at most {config.long_side}, then padded at the right and below to multiples of {STRIDE} with "
            "the color 124, 116, 104; boxes are in pixels of that",
            "decoding": "part: where coarse[1] > coarse[0], 1 + argmax(fine[1:]), else 0 for background; U, V: "
            "channel part - 1 of u and v",
        }

    def forward(self, rgb: Tensor, min_score: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        height, width = rgb.shape[1:3]
        # Contiguous: else the export compares strides, and takes pictures of one orientation alone.
        pyramid = model.pyramid(model.encoder(normalize_rgb(rgb).contiguous()))
        maps = [pyramid[f"p{level + 1}"] for level in range(LEVELS)]
        regions_R4 = self._proposals(maps, height, width)
        scores, deltas = model.boxes.box_predictor(
            model.boxes.box_head(self._pooled(maps, regions_R4, model.boxes.box_roi_pool.output_size[0]))
        )
        scores_R = scores.softmax(-1)[:, 1]
        boxes_R4 = model.boxes.box_coder.decode_single(deltas, regions_R4).reshape(-1, 2, 4)[:, 1]
        boxes_R4 = _clip(boxes_R4, height, width)
        kept_R = (scores_R > min_score) & ((boxes_R4[:, 2:] - boxes_R4[:, :2]) >= _LEAST_BOX).all(1)
        # Two boxes beside the picture, dropped again: an export assumes that there are two detections or more.
        spare_24 = boxes_R4.new_tensor([[-32.0, -32.0, -24.0, -24.0], [-64.0, -64.0, -56.0, -56.0]])
        boxes_R4 = torch.cat([boxes_R4[kept_R], spare_24])
        scores_R = torch.cat([scores_R[kept_R], scores_R.new_full((2,), -1.0)])
        max_detections = model.boxes.detections_per_img
        kept = nms(boxes_R4, scores_R, model.boxes.nms_thresh)[: max_detections + 2]
        boxes_D4, scores_D = boxes_R4[kept], scores_R[kept]
        charts: ChartMaps = model.charts(self._pooled(maps, boxes_D4, model.config.chart_cells))
        found_D = (scores_D >= 0) & (torch.arange(scores_D.shape[0]) < max_detections)
        return tuple(each[found_D] for each in (boxes_D4, scores_D, charts.coarse, charts.fine, charts.u, charts.v))

    def _proposals(self, maps: Sequence[Tensor], height: int, width: int) -> Tensor:
        """Return the proposals of the picture, float32 [R, 4]."""
        network: Any = self.model.proposals
        boxes, scores, levels = [], [], []
        for level, (logits, deltas) in enumerate(zip(*network.head(list(maps)), strict=True)):
            cell_A4: Tensor = getattr(self, f"anchors{level}")
            anchors = cell_A4.shape[0]
            rows, columns = logits.shape[2:]
            y, x = (FINEST * 2**level * torch.arange(count) for count in (rows, columns))
            y, x = torch.meshgrid(y, x, indexing="ij")
            shift = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4).float()
            anchors_R4 = (shift + cell_A4).reshape(-1, 4)
            scores_R = logits[0].permute(1, 2, 0).reshape(-1)
            deltas_R4 = deltas[0].reshape(anchors, 4, rows, columns).permute(2, 3, 0, 1).reshape(-1, 4)
            best_R, order_R = scores_R.topk(torch.sym_min(network.pre_nms_top_n(), scores_R.shape[0]))
            decoded = network.box_coder.decode_single(deltas_R4[order_R], anchors_R4[order_R]).reshape(-1, 4)
            boxes.append(_clip(decoded, height, width))
            scores.append(best_R.sigmoid())
            levels.append(torch.full_like(best_R, float(level)))
        boxes_R4, level_R = torch.cat(boxes), torch.cat(levels)
        small_R = ((boxes_R4[:, 2:] - boxes_R4[:, :2]) < _LEAST_PROPOSAL).any(1)
        # Boxes of different levels must not meet.
        apart_R4 = boxes_R4 + (level_R * (boxes_R4.max() + 1))[:, None]
        kept = nms(apart_R4, torch.cat(scores).masked_fill(small_R, -1), network.nms_thresh)
        kept = kept[: network.post_nms_top_n()]
        return boxes_R4[kept[~small_R[kept]]]

    def _pooled(self, maps: Sequence[Tensor], boxes_R4: Tensor, cells: int) -> Tensor:
        """Return the features [R, C, cells, cells] of boxes, each from the level that fits its size."""
        side_R = ((boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])).sqrt()
        level_R = torch.floor(_CANONICAL_LEVEL + torch.log2(side_R / _CANONICAL_SIDE) + _EPSILON)
        level_R = level_R.clamp(2, LEVELS + 1) - 2
        regions_R5 = torch.cat([torch.zeros_like(boxes_R4[:, :1]), boxes_R4], 1)
        pooled = boxes_R4.new_zeros(boxes_R4.shape[0], maps[0].shape[1], cells, cells)
        for level, map_1Chw in enumerate(maps):
            chosen = torch.where(level_R == level)[0]
            found = roi_align(map_1Chw, regions_R5[chosen], cells, 1 / (FINEST * 2**level), _SAMPLING)
            pooled = pooled.index_copy(0, chosen, found)
        return pooled

    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        # Every proposal is a detection, or noise would have none to compare.
        none = torch.tensor(0.0)
        second = (self.side, self.side + STRIDE) if any_size else (self.side, self.side)
        pictures = example_rgb(1, self.side, self.side), example_rgb(1, *second).flip(1)
        return [(picture, none) for picture in pictures]

    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        high, wide = (torch.export.Dim(name, min=self.least, max=MAX_STRIDES // 2) for name in ("high", "wide"))
        return [(True, ({1: STRIDE * high, 2: STRIDE * wide}, None)), (False, None)]


def _clip(boxes_R4: Tensor, height: int, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes_R4.unbind(1)
    return torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], 1)
