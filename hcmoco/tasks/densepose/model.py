"""The R-CNN: encoder, feature pyramid, proposals, boxes, charts.

Shape suffixes: B images, H and W rows and columns of the network's input, R regions; a 2 is height and width, a 4 is
x0, y0, x1, y1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops.boxes import box_area, clip_boxes_to_image

from hcmoco.models.encoders import Encoder
from hcmoco.models.lane_draws import permutation
from hcmoco.tasks.densepose.config import LEVELS, DensePoseConfig
from hcmoco.tasks.densepose.detector import make_boxes, make_proposals, region_features
from hcmoco.tasks.densepose.fpn import HRFeaturePyramid
from hcmoco.tasks.densepose.heads import ChartHead, ChartMaps
from hcmoco.tasks.densepose.losses import chart_losses
from hcmoco.tasks.densepose.published_pyramid import PublishedPyramid
from hcmoco.tasks.densepose.targets import Truth, foreground_in, places_in

FINEST = 4
"""Stride of the finest map, pixels."""

STRIDE = FINEST << (LEVELS - 1)
"""Sides of the padded input are multiples of this, so that every level of the pyramid covers it exactly."""


@dataclass(frozen=True)
class Detections:
    """The detections in one image.

    Attributes:
        boxes: [D, 4], in pixels of the network's input.
        scores: [D], descending, 0..1.
        maps: of the D boxes.
    """

    boxes: Tensor
    scores: Tensor
    maps: ChartMaps


class DensePoseRCNN(nn.Module):
    """Persons and the surface coordinates inside their boxes.

    The encoder's batch normalization stays trainable, with statistics of the worker's own images, as detectron2's HRNet
    has it.
    """

    def __init__(self, encoder: Encoder, config: DensePoseConfig):
        super().__init__()
        self.encoder = encoder
        kind = PublishedPyramid if config.pyramid == "published" else HRFeaturePyramid
        self.pyramid = kind(encoder, config.pyramid_channels, LEVELS)
        self.proposals = make_proposals(config)
        self.boxes = make_boxes(config)
        self.chart_features = region_features(config.chart_cells)
        self.charts = ChartHead(config)
        self.config = config

    def terms(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]], truth: Truth) -> dict[str, Tensor]:
        """Compute the unweighted terms of a training step.

        Args:
            images_B3HW: normalized, padded at the right and below to multiples of STRIDE.
            sizes: rows and columns of each image without its padding.
            truth: targets of the batch.
        """
        pyramid, images = self._pyramid(images_B3HW, sizes)
        targets = truth.for_torchvision()
        proposals, terms = self.proposals(images, pyramid, targets)
        proposals, matched, labels, deltas = self.boxes.select_training_samples(proposals, targets)
        box_terms = fastrcnn_loss(*self._score(pyramid, proposals), labels, deltas)
        regions, instances_R = self._chart_regions(proposals, matched, labels, truth)
        maps = self._maps(pyramid, regions)
        return {
            "objectness": terms["loss_objectness"],
            "proposal": terms["loss_rpn_box_reg"],
            "class": box_terms[0],
            "box": box_terms[1],
            **_chart_terms(maps, torch.cat(regions), instances_R, truth, len(sizes)),
        }

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detect people, in evaluation mode. For the arguments see `terms`."""
        pyramid, images = self._pyramid(images_B3HW, sizes)
        proposals, _ = self.proposals(images, pyramid)
        scores, deltas = self._score(pyramid, proposals)
        boxes, scores, _ = self.boxes.postprocess_detections(scores, deltas, proposals, list(sizes))
        maps = self._maps(pyramid, boxes)
        ends = torch.tensor([0, *map(len, boxes)]).cumsum(0).tolist()
        return [
            Detections(boxes[image], scores[image], maps.at(slice(start, stop)))
            for image, (start, stop) in enumerate(pairwise(ends))
        ]

    def _pyramid(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[dict[str, Tensor], ImageList]:
        pyramid = self.pyramid(self.encoder(images_B3HW))
        # torchvision takes the maps' strides from the picture's size, and rounds: what the maps cover is exact.
        rows, columns = _covered(pyramid)
        return pyramid, ImageList(images_B3HW[:, :, :rows, :columns], list(sizes))

    def _score(self, pyramid: dict[str, Tensor], proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        features = self.boxes.box_roi_pool(pyramid, proposals, [_covered(pyramid)] * len(proposals))
        return self.boxes.box_predictor(self.boxes.box_head(features))

    def _maps(self, pyramid: dict[str, Tensor], regions: list[Tensor]) -> ChartMaps:
        return self.charts(self.chart_features(pyramid, regions, [_covered(pyramid)] * len(regions)))

    def _chart_regions(
        self, proposals: list[Tensor], matched: list[Tensor], labels: list[Tensor], truth: Truth
    ) -> tuple[list[Tensor], Tensor]:
        """Proposals of each image for the chart losses, and the number of each one's person in the batch."""
        regions, instances = [], []
        for image, (boxes_R4, person_R, label_R) in enumerate(zip(proposals, matched, labels, strict=True)):
            chosen = torch.where(label_R > 0)[0]
            number = person_R[chosen] + truth.first[image]
            annotated = truth.has_mask[number] | truth.has_point[number].any(1)
            overlap = _overlap(boxes_R4[chosen], truth.boxes[image][person_R[chosen]])
            chosen = chosen[annotated & (overlap >= self.config.chart_overlap)]
            chosen = chosen[permutation(len(chosen), image, chosen.device)[: self.config.chart_samples]]
            regions.append(boxes_R4[chosen])
            instances.append(person_R[chosen] + truth.first[image])
        return regions, torch.cat(instances)


def _chart_terms(
    maps: ChartMaps, regions_R4: Tensor, instances_R: Tensor, truth: Truth, images: int
) -> dict[str, Tensor]:
    points_RN5 = truth.points[instances_R]
    boxes_R4 = torch.cat(truth.boxes)[instances_R]
    return chart_losses(
        maps,
        foreground_in(regions_R4, boxes_R4, truth.masks[instances_R], maps.coarse.shape[-1]),
        truth.has_mask[instances_R],
        places_in(regions_R4, points_RN5[..., :2]),
        points_RN5[..., 2:],
        truth.has_point[instances_R],
        images,
    )


def _covered(pyramid: dict[str, Tensor]) -> tuple[int, int]:
    """Rows and columns of the pixels that the maps have cells for: of the whole padded picture, or all but its end."""
    height, width = pyramid["p1"].shape[2:]
    return FINEST * height, FINEST * width


def _overlap(a_R4: Tensor, b_R4: Tensor) -> Tensor:
    """[R]: intersection over union of each pair of boxes."""
    low, high = torch.maximum(a_R4[:, :2], b_R4[:, :2]), torch.minimum(a_R4[:, 2:], b_R4[:, 2:])
    shared_R = (high - low).clamp(min=0).prod(-1)
    return shared_R / (box_area(a_R4) + box_area(b_R4) - shared_R)


def to_stored(boxes_D4: Tensor, seen: tuple[int, int], stored: tuple[int, int]) -> Tensor:
    """Map boxes from the network's input to the stored image, and clip them to it.

    Args:
        boxes_D4: in pixels of the network's input.
        seen: rows and columns of the network's input.
        stored: rows and columns of the stored image.
    """
    scale = boxes_D4.new_tensor((stored[1] / seen[1], stored[0] / seen[0]) * 2)
    return clip_boxes_to_image(boxes_D4 * scale, stored)
