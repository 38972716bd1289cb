"""Detection of persons: the parts of torchvision's Faster R-CNN (Ren et al. 2015; Lin et al. 2017) for one class.

torchvision does not handle crowds. Here a box that lies mostly inside a crowd is neither a person nor background: the
samplers skip it.

Shape suffixes: R boxes, K people; a 4 is x0, y0, x1, y1 in pixels of the network's input.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from hcmoco.models.lane_draws import permutation
from hcmoco.tasks.densepose.config import LEVELS, DensePoseConfig

_INSIDE = 0.5  # boxes with a larger share inside a crowd are skipped
_BOX_CELLS = 7
_CLASSES = 2  # background, person
_CPU = torch.device("cpu")


def inside_crowd(boxes_R4: Tensor, crowds_K4: Tensor) -> Tensor:
    """Return bool [R]: more than half of the box lies in one of the crowds' boxes."""
    if not len(crowds_K4):
        return torch.zeros(len(boxes_R4), dtype=torch.bool, device=boxes_R4.device)
    low = torch.maximum(boxes_R4[:, None, :2], crowds_K4[:, :2])
    high = torch.minimum(boxes_R4[:, None, 2:], crowds_K4[:, 2:])
    shared_RK = (high - low).clamp(min=0).prod(-1)
    area_R = (boxes_R4[:, 2:] - boxes_R4[:, :2]).prod(-1)
    return (shared_RK > _INSIDE * area_R[:, None]).any(1)


class _Anchors(AnchorGenerator):
    """Anchors in float32, whatever the type of the maps: 16 bits would round their corners to whole pixels and more."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [each[:1, :1].float() for each in feature_maps])


class _ExactAnchors(_Anchors):
    """Anchors as detectron2 has them: their corners are not rounded to whole pixels."""

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = _CPU,
    ) -> Tensor:
        roots_A1 = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()[:, None]
        sizes_S = torch.tensor(scales, dtype=dtype, device=device)
        widths, heights = (sizes_S / roots_A1).flatten(), (sizes_S * roots_A1).flatten()
        return torch.stack([-widths, -heights, widths, heights], 1) / 2


class _ProposalHead(RPNHead):
    """Outputs in float32, for boxes and losses."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [each.float() for each in logits], [each.float() for each in deltas]


class _BoxPredictor(FastRCNNPredictor):
    """Outputs in float32, for boxes and losses."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()


class ImageSampler:
    """Chooses boxes for a loss as torchvision's sampler does, with random numbers of the image's lane.

    Args:
        count: largest number of boxes of an image.
        positive: largest share of them that is a person's.
    """

    def __init__(self, count: int, positive: float):
        self.count, self.most_positive = count, int(count * positive)

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Choose the positives and negatives of each image.

        Args:
            labels: of each image's R boxes: above 0 a person, 0 background, below 0 neither.
        Returns:
            Two lists of masks, uint8 [R].
        """
        chosen: tuple[list[Tensor], list[Tensor]] = ([], [])
        for image, label_R in enumerate(labels):
            left = self.count
            for masks, boxes, most in zip(
                chosen, (label_R >= 1, label_R == 0), (self.most_positive, self.count), strict=True
            ):
                found = torch.where(boxes)[0]
                found = found[permutation(len(found), image, found.device)[: min(most, left)]]
                masks.append(torch.zeros_like(label_R, dtype=torch.uint8).index_fill_(0, found, 1))
                left -= len(found)
        return chosen


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's, without the anchors in crowds in the loss."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        people = [{"boxes": target["boxes"][target["labels"] > 0]} for target in targets]
        labels, boxes = super().assign_targets_to_anchors(anchors, people)
        for target, anchors_R4, label_R in zip(targets, anchors, labels, strict=True):
            label_R[(label_R == 0) & inside_crowd(anchors_R4, target["boxes"][target["labels"] < 0])] = -1
        return labels, boxes


class BoxHeads(RoIHeads):
    """torchvision's, without the proposals in crowds in the loss.

    The model calls `select_training_samples` and `postprocess_detections`.
    """

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        people = [torch.where(labels > 0)[0] for labels in gt_labels]
        matched, labels = super().assign_targets_to_proposals(
            proposals,
            [boxes[chosen] for boxes, chosen in zip(gt_boxes, people, strict=True)],
            [labels[chosen] for labels, chosen in zip(gt_labels, people, strict=True)],
        )
        for image, chosen in enumerate(people):
            if len(chosen):
                matched[image] = chosen[matched[image]]
            crowds = gt_boxes[image][gt_labels[image] < 0]
            labels[image][(labels[image] == 0) & inside_crowd(proposals[image], crowds)] = -1
        return matched, labels


def region_features(cells: int) -> MultiScaleRoIAlign:
    """Build the pooling of regions from the level that fits their size (Lin et al. 2017, equation 1).

    Args:
        cells: side of a region's features.
    """
    return MultiScaleRoIAlign([f"p{level + 1}" for level in range(LEVELS)], cells, sampling_ratio=2)


def make_proposals(config: DensePoseConfig) -> ProposalNetwork:
    """Build the proposal network; thresholds as published."""
    kind = _ExactAnchors if config.pyramid == "published" else _Anchors
    anchors = kind(config.anchor_sizes, (config.anchor_ratios,) * LEVELS)
    head = _ProposalHead(config.pyramid_channels, anchors.num_anchors_per_location()[0])
    network = ProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.anchor_samples,
        positive_fraction=0.5,
        pre_nms_top_n={"training": config.proposals_per_level, "testing": config.proposals_per_level_test},
        post_nms_top_n={"training": config.proposals, "testing": config.proposals_test},
        nms_thresh=0.7,
    )
    network.fg_bg_sampler = ImageSampler(config.anchor_samples, 0.5)
    return network


def make_boxes(config: DensePoseConfig) -> BoxHeads:
    """Build the box head; thresholds as published."""
    head: nn.Module = TwoMLPHead(config.pyramid_channels * _BOX_CELLS**2, config.box_width)
    heads = BoxHeads(
        region_features(_BOX_CELLS),
        head,
        _BoxPredictor(config.box_width, _CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_threshold,
        detections_per_img=config.detections,
    )
    heads.fg_bg_sampler = ImageSampler(config.box_samples, 0.25)
    return heads
