"""Targets of the R-CNN: the annotated people of an image, and their share in each proposal.

Shape suffixes: B images, K instances of an image, T instances of a batch, R proposals (regions of interest), N points,
M side of stored masks, S side of the head's maps, H and W rows and columns of an image; a 4 is x0, y0, x1, y1; a 5 is
x, y, I, U, V.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hcmoco.data.body_parts import NUM_CHARTS
from hcmoco.data.codecs import decode_labels
from hcmoco.data.transfer import send
from hcmoco.synthetic.body.surface_labels import mirror_iuv

Mirror = Callable[[np.ndarray], np.ndarray]
"""Chart, U, V of the same places on the body's mirror image: [..., 3] to [..., 3]."""

MASK_SIDE = 112
"""M. Masks are stored over their own box, as in DensePose-COCO; the side is that of the published head's maps."""

PERSON, CROWD = 1, -1
"""Labels of instances; torchvision's samplers skip negative ones."""

_SMALLEST = 1.0  # pixels; regression targets of thinner boxes may be infinite


@dataclass(frozen=True)
class SceneTargets:
    """Annotated people of one image, in pixels of the network's input.

    Attributes:
        boxes: float32 [K, 4].
        labels: int64 [K], PERSON or CROWD.
        masks: uint8 [K, M, M], 1 on the person, over its own box.
        has_mask: bool [K].
        points: float32 [K, N, 5], padded.
        has_point: bool [K, N].
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    has_mask: np.ndarray
    points: np.ndarray
    has_point: np.ndarray


def read_instances(row: dict) -> list[dict]:
    """Decode the people of a row of `scene_schema`, in pixels of the stored image.

    Returns:
        For each person `box` float32 [4], `mask` bool [H, W] or None, `dp_points` float32 [N, 5] or None, and `crowd`.
    Raises:
        ValueError: a mask does not decode, or is of another size than the image.
    """
    instances = []
    for instance in row.get("instances") or ():
        mask_HW = None
        if instance.get("mask") is not None:
            mask_HW = decode_labels(instance["mask"]) > 127
            if mask_HW.shape != (row["height"], row["width"]):
                raise ValueError(
                    f"a mask is {mask_HW.shape[1]} x {mask_HW.shape[0]} pixels, the image {row['width']} x "
                    f"{row['height']}"
                )
        points = instance.get("dp_points")
        instances.append(
            {
                "box": np.asarray(instance["box"], np.float32).reshape(4),
                "mask": mask_HW,
                "dp_points": None
                if points is None or not len(points)
                else np.asarray(points, np.float32).reshape(-1, 5),
                "crowd": bool(instance.get("crowd")),
            }
        )
    return instances


def scene_targets(
    instances: Sequence[dict],
    scale_2: tuple[float, float] = (1.0, 1.0),
    flip_width: float | None = None,
    mirror: Mirror = mirror_iuv,
) -> SceneTargets:
    """Build the targets of an image. A crowd keeps only its box; people thinner than a pixel are skipped.

    Args:
        instances: of `read_instances`.
        scale_2: pixels of the network's input per pixel of the stored image, along x and y.
        flip_width: width of the network's input if it is a mirror image, else None.
        mirror: what a mirror image does to the charts; a point that it takes to chart 0 is omitted.
    """
    kept = [each for each in instances if ((each["box"][2:] - each["box"][:2]) * scale_2 >= _SMALLEST).all()]
    count = len(kept)
    most = max((len(each["dp_points"]) for each in kept if each["dp_points"] is not None), default=0)
    targets = SceneTargets(
        boxes=np.array([each["box"] for each in kept], np.float32).reshape(-1, 4)
        * np.array((*scale_2, *scale_2), np.float32),
        labels=np.array([CROWD if each["crowd"] else PERSON for each in kept], np.int64),
        masks=np.zeros((count, MASK_SIDE, MASK_SIDE), np.uint8),
        has_mask=np.array([each["mask"] is not None and not each["crowd"] for each in kept], bool),
        points=np.zeros((count, most, 5), np.float32),
        has_point=np.zeros((count, most), bool),
    )
    for row, each in enumerate(kept):
        if targets.has_mask[row]:
            targets.masks[row] = _over_box(each["mask"], each["box"])
        if each["dp_points"] is not None and not each["crowd"]:
            points_N5 = each["dp_points"]
            targets.points[row, : len(points_N5)] = points_N5
            targets.has_point[row, : len(points_N5)] = (points_N5[:, 2] >= 1) & (points_N5[:, 2] <= NUM_CHARTS)
    targets.points[~targets.has_point] = 0
    targets.points[..., :2] *= np.array(scale_2, np.float32)
    return targets if flip_width is None else _mirrored(targets, flip_width, mirror)


def _over_box(mask_HW: np.ndarray, box_4: np.ndarray) -> np.ndarray:
    """uint8 [M, M]: the mask under the centers of an M x M grid over the box; 0 outside the image."""
    height, width = mask_HW.shape
    share_M = (np.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    column_M = np.floor(box_4[0] + share_M * (box_4[2] - box_4[0])).astype(np.int64)
    row_M = np.floor(box_4[1] + share_M * (box_4[3] - box_4[1])).astype(np.int64)
    inside_MM = ((row_M >= 0) & (row_M < height))[:, None] & (column_M >= 0) & (column_M < width)
    return mask_HW[row_M.clip(0, height - 1)[:, None], column_M.clip(0, width - 1)] & inside_MM


def _mirrored(targets: SceneTargets, width: float, mirror: Mirror) -> SceneTargets:
    """Mirror the image and exchange the body's left and right."""
    points = targets.points.copy()
    points[..., 0] = width - points[..., 0]
    points[..., 2:] = mirror(points[..., 2:])
    boxes = targets.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    has_point = targets.has_point & (points[..., 2] > 0)
    return SceneTargets(boxes, targets.labels, targets.masks[:, :, ::-1], targets.has_mask, points, has_point)


@dataclass(frozen=True)
class Truth:
    """The targets of a batch on a device.

    Attributes:
        boxes, labels: for each image, float32 [K, 4] and int64 [K].
        first: number of each image's first instance among the batch's T.
        masks, has_mask: uint8 [T, M, M] and bool [T].
        points, has_point: float32 [T, N, 5] and bool [T, N].
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    first: list[int]
    masks: Tensor
    has_mask: Tensor
    points: Tensor
    has_point: Tensor

    def for_torchvision(self) -> list[dict[str, Tensor]]:
        """Return one dict per image, as torchvision's detection modules take targets."""
        return [{"boxes": boxes, "labels": labels} for boxes, labels in zip(self.boxes, self.labels, strict=True)]


def to_truth(targets: Sequence[SceneTargets], device: torch.device) -> Truth:
    """Join the targets of several images on a device."""
    most = max(each.points.shape[1] for each in targets)

    def joined(name: str) -> Tensor:
        arrays = [getattr(each, name) for each in targets]
        if name in ("points", "has_point"):
            arrays = [np.pad(each, [(0, 0), (0, most - each.shape[1])] + [(0, 0)] * (each.ndim - 2)) for each in arrays]
        return send(np.concatenate(arrays), device)

    counts = [len(each.labels) for each in targets]
    return Truth(
        boxes=list(joined("boxes").split(counts)),
        labels=list(joined("labels").split(counts)),
        first=[sum(counts[:image]) for image in range(len(counts))],
        **{name: joined(name) for name in ("masks", "has_mask", "points", "has_point")},
    )


def places_in(rois_R4: Tensor, xy_RN2: Tensor) -> Tensor:
    """Return [R, N, 2]: positions relative to each region; (0, 0) is its upper left corner, (1, 1) its lower right one.

    Args:
        rois_R4: the regions.
        xy_RN2: positions in the image.
    """
    return (xy_RN2 - rois_R4[:, None, :2]) / (rois_R4[:, None, 2:] - rois_R4[:, None, :2])


def foreground_in(rois_R4: Tensor, boxes_R4: Tensor, masks_RMM: Tensor, side: int) -> Tensor:
    """Sample each region's person at the S x S cells of the region: int64 [R, S, S], 1 on the person, 0 elsewhere.

    Args:
        rois_R4: the regions.
        boxes_R4: the box of each region's person.
        masks_RMM: the person over that box.
        side: S.
    """
    share_S = (torch.arange(side, device=rois_R4.device) + 0.5) / side
    cells_S2_2 = torch.stack(torch.meshgrid(share_S, share_S, indexing="xy"), -1).reshape(1, -1, 2)
    xy_RN2 = rois_R4[:, None, :2] + cells_S2_2 * (rois_R4[:, None, 2:] - rois_R4[:, None, :2])
    grid = 2 * places_in(boxes_R4, xy_RN2).reshape(-1, side, side, 2) - 1
    return F.grid_sample(masks_RMM[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long()
