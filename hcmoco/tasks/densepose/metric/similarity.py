"""Similarities of detections and annotated people: IoU of boxes, IoU of masks, geodesic point similarity.

Shapes: D detections, G people, N annotated points, H x W pixels of the stored image. Boxes are x0, y0, x1, y1.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.tasks.densepose.metric.geodesics import Geodesics


def box_areas(boxes_N4: np.ndarray) -> np.ndarray:
    """Return float64 [N]: areas in square pixels."""
    boxes = np.asarray(boxes_N4, np.float64).reshape(-1, 4)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(boxes_D4: np.ndarray, boxes_G4: np.ndarray, crowd_G: np.ndarray) -> np.ndarray:
    """Return float64 [D, G]: intersection over union; for a crowd over the detection's area (COCO's convention)."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (boxes_D4, boxes_G4))
    sides_DG2 = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inside_DG = np.prod(np.maximum(sides_DG2, 0), axis=2)
    return _over_union(inside_DG, box_areas(a), box_areas(b), crowd_G)


def _over_union(inside_DG: np.ndarray, areas_D: np.ndarray, areas_G: np.ndarray, crowd_G: np.ndarray) -> np.ndarray:
    union_DG = areas_D[:, None] + np.where(crowd_G, 0, areas_G - inside_DG)
    return np.divide(inside_DG, union_DG, out=np.zeros_like(inside_DG, np.float64), where=inside_DG > 0)


@dataclass(frozen=True)
class Surface:
    """A detection's pixels in the stored image.

    Attributes:
        left, top: first column and row.
        iuv: float32 [h, w, 3], chart (0 = background), U, V; cropped to the image.
    """

    left: int
    top: int
    iuv: np.ndarray

    @classmethod
    def place(cls, box_4: np.ndarray, iuv_hw3: np.ndarray, height: int, width: int) -> "Surface":
        """Place an array at the pixel that holds the box's first corner, or at the image's edge if that is outside.

        Args:
            box_4: x0, y0, x1, y1.
            iuv_hw3: chart, U, V.
            height, width: of the image.
        """
        left, top = (max(int(np.floor(corner)), 0) for corner in box_4[:2])
        return cls(left, top, np.asarray(iuv_hw3, np.float32)[: max(height - top, 0), : max(width - left, 0)])

    def at(self, points_N2: np.ndarray) -> np.ndarray:
        """Return float32 [N, 3]: chart, U, V at the pixels of the points x, y; 0 outside the array."""
        columns, rows = (np.floor(points_N2).astype(np.int64) - (self.left, self.top)).T
        inside_N = (rows >= 0) & (rows < self.iuv.shape[0]) & (columns >= 0) & (columns < self.iuv.shape[1])
        found_N3 = np.zeros((len(points_N2), 3), np.float32)
        found_N3[inside_N] = self.iuv[rows[inside_N], columns[inside_N]]
        return found_N3


def mask_iou(surfaces: list[Surface], masks: list[np.ndarray | None], crowd_G: np.ndarray) -> np.ndarray:
    """Return float64 [D, G]: the IoU of the detections' pixels with a chart and the people's masks; see `box_iou`.

    Args:
        surfaces: of the detections.
        masks: bool [H, W]; None counts as empty.
        crowd_G: bool, annotations of many people.
    """
    inside_DG = np.zeros((len(surfaces), len(masks)))
    bodies = [surface.iuv[..., 0] > 0 for surface in surfaces]
    for row, (surface, body) in enumerate(zip(surfaces, bodies, strict=True)):
        window = slice(surface.top, surface.top + body.shape[0]), slice(surface.left, surface.left + body.shape[1])
        for column, mask in enumerate(masks):
            if mask is not None:
                inside_DG[row, column] = np.count_nonzero(mask[window] & body)
    areas_D = np.array([np.count_nonzero(body) for body in bodies], np.float64)
    areas_G = np.array([0 if mask is None else np.count_nonzero(mask) for mask in masks], np.float64)
    return _over_union(inside_DG, areas_D, areas_G, crowd_G)


def point_similarity(surfaces: list[Surface], points_N5: np.ndarray, geodesics: Geodesics) -> np.ndarray:
    """Compute the geodesic point similarity (GPS) of one person and each detection.

    It is the mean over the person's annotated points of exp(-d^2 / (2 kappa^2)). d is the distance on the body's
    surface between the annotated and the predicted place, and kappa the scale of the annotated chart
    (`Geodesics.kappa`). A point at which the detection has no surface adds 0. Source: COCO DensePose challenge,
    evaluation page.

    Args:
        surfaces: of the detections.
        points_N5: x, y, I, U, V; N > 0.
        geodesics: of the surface that the labels are on.
    Returns:
        float64 [D], 0..1.
    Raises:
        ValueError: a chart is not one of 1..24.
    """
    true_N = geodesics.vertices(points_N5[:, 2:])
    if (true_N < 0).any():
        raise ValueError("an annotated point is of chart 0; charts of points are 1..24")
    predicted_DN3 = (
        np.stack([surface.at(points_N5[:, :2]) for surface in surfaces])
        if surfaces
        else np.zeros((0, len(points_N5), 3))
    )
    seen = np.nonzero(predicted_DN3[:, :, 0])
    distance = geodesics.distances(true_N[seen[1]], geodesics.vertices(predicted_DN3[seen]))
    kappa = geodesics.kappa[points_N5[seen[1], 2].astype(np.int64)]
    found_DN = np.zeros(predicted_DN3.shape[:2])
    found_DN[seen] = np.exp(-(distance**2) / (2 * kappa**2))
    return found_DN.mean(1)
