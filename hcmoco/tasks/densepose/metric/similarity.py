"""How alike a detection and an annotated person are: IoU of boxes, of masks, and geodesic point similarity.

Shapes: D detections, G people, N annotated points, H x W pixels of the stored image. Boxes are x0, y0, x1, y1.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.tasks.densepose.metric.geodesics import Geodesics


def box_areas(boxes_N4: np.ndarray) -> np.ndarray:
    """float64 [N], square pixels."""
    boxes = np.asarray(boxes_N4, np.float64).reshape(-1, 4)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou(boxes_D4: np.ndarray, boxes_G4: np.ndarray, crowd_G: np.ndarray) -> np.ndarray:
    """float64 [D, G], intersection over union; over the detection's area where the person is a crowd (COCO's convention)."""
    a, b = (np.asarray(each, np.float64).reshape(-1, 4) for each in (boxes_D4, boxes_G4))
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
        left, top: where the array begins.
        iuv: float32 [h, w, 3], chart (0 = background), U, V; cut to the image.
    """

    left: int
    top: int
    iuv: np.ndarray

    @classmethod
    def place(cls, box_4: np.ndarray, iuv_hw3: np.ndarray, height: int, width: int) -> "Surface":
        """The array begins at the pixel that holds the box's first corner, or at the image's edge where that is outside."""
        left, top = (max(int(np.floor(each)), 0) for each in box_4[:2])
        return cls(left, top, np.asarray(iuv_hw3, np.float32)[: max(height - top, 0), : max(width - left, 0)])

    def at(self, points_N2: np.ndarray) -> np.ndarray:
        """float32 [N, 3], chart, U, V at the pixels of the points x, y; 0 outside the array."""
        columns, rows = (np.floor(points_N2).astype(np.int64) - (self.left, self.top)).T
        inside_N = (rows >= 0) & (rows < self.iuv.shape[0]) & (columns >= 0) & (columns < self.iuv.shape[1])
        found_N3 = np.zeros((len(points_N2), 3), np.float32)
        found_N3[inside_N] = self.iuv[rows[inside_N], columns[inside_N]]
        return found_N3


def mask_iou(surfaces: list[Surface], masks: list[np.ndarray | None], crowd_G: np.ndarray) -> np.ndarray:
    """float64 [D, G], as `box_iou`, of the detections' pixels that have a chart and the people's masks bool [H, W] (None: no pixel)."""
    inside_DG = np.zeros((len(surfaces), len(masks)))
    bodies = [each.iuv[..., 0] > 0 for each in surfaces]
    for row, (surface, body) in enumerate(zip(surfaces, bodies, strict=True)):
        window = slice(surface.top, surface.top + body.shape[0]), slice(surface.left, surface.left + body.shape[1])
        for column, mask in enumerate(masks):
            if mask is not None:
                inside_DG[row, column] = np.count_nonzero(mask[window] & body)
    areas_D = np.array([np.count_nonzero(each) for each in bodies], np.float64)
    areas_G = np.array([0 if each is None else np.count_nonzero(each) for each in masks], np.float64)
    return _over_union(inside_DG, areas_D, areas_G, crowd_G)


def point_similarity(surfaces: list[Surface], points_N5: np.ndarray, geodesics: Geodesics) -> np.ndarray:
    """Geodesic point similarity (GPS), float64 [D]: the mean over one person's annotated points of exp(-d^2 / (2 kappa^2)).

    d is the distance on the body's surface between the annotated and the predicted place, and kappa the scale of the annotated chart
    (`Geodesics.kappa`). A point where the detection has no surface adds 0. Source: COCO DensePose challenge, evaluation page.

    Args:
        points_N5: x, y, I, U, V; N > 0. ValueError for a chart that is none of 1..24.
    """
    true_N = geodesics.vertices(points_N5[:, 2:])
    if (true_N < 0).any():
        raise ValueError("an annotated point is of chart 0; charts of points are 1..24")
    predicted_DN3 = (
        np.stack([each.at(points_N5[:, :2]) for each in surfaces]) if surfaces else np.zeros((0, len(points_N5), 3))
    )
    seen = np.nonzero(predicted_DN3[:, :, 0])
    distance = geodesics.distances(true_N[seen[1]], geodesics.vertices(predicted_DN3[seen]))
    kappa = geodesics.kappa[points_N5[seen[1], 2].astype(np.int64)]
    found_DN = np.zeros(predicted_DN3.shape[:2])
    found_DN[seen] = np.exp(-(distance**2) / (2 * kappa**2))
    return found_DN.mean(1)
