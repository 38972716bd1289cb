"""Average precision and recall of DensePose by boxes, surface points, masks, and points with masks.

The protocol is COCO's DensePose challenge of 2019 and 2020 (its evaluation page, and the evaluator published with
detectron2):

    box     IoU of boxes, as in COCO detection; crowds are ignored; at most 100 detections of an image
    gps     geodesic point similarity at the annotated points; people without points are ignored; at most 20 detections
    mask    IoU of the detection's foreground and the person's mask, among people with points
    gpsm    sqrt(gps * mask)

Each is averaged over the thresholds 0.5, 0.55 ... 0.95, at 101 recalls, for people of all sizes, of 32^2 to 96^2 and of
more pixels. There is one category, the person. Shapes: D detections, G people, in pixels of the stored image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcmoco.errors import UserError
from hcmoco.tasks.base import Metric, Prediction, Result
from hcmoco.tasks.densepose.metric.average_precision import PrecisionRecall, precision_recall
from hcmoco.tasks.densepose.metric.geodesics import Geodesics
from hcmoco.tasks.densepose.metric.matching import match, match_surfaces
from hcmoco.tasks.densepose.metric.similarity import Surface, box_areas, box_iou, mask_iou, point_similarity

KINDS = ("box", "gps", "gpsm", "mask")
MAIN = "gps_ap"
SIZES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_MOST = {"box": 100, "gps": 20, "gpsm": 20, "mask": 20}

Image = dict[str, np.ndarray]
"""Kept of an image: scores [D], areas [D] and box [D, G] (IoU) of the 100 detections with the highest scores,
in descending order; gps and mask [D', G] of the first 20; person_areas, crowd, has_points, has_mask [G]."""


class DensePoseMetric(Metric):
    """Keeps a few numbers per pair of detection and person, so it can be merged and scored in any order.

    A batch has `ids`, `sizes` (int [B, 2], height and width) and `instances`, one list of mappings per row: `box` float
    [4] (x0, y0, x1, y1), `mask` bool [H, W] or None, `dp_points` float [N, 5] (x, y, I, U, V) or None, `crowd`, and
    optionally `area`, square pixels (else the mask's, else the box's). A prediction has `boxes` [D, 4], `scores` [D]
    and `iuv`: for each detection an array [h, w, 3] of I (0 = no body), U, V, which begins at the pixel of its box's
    first corner or at the image's edge.

    Args:
        geodesics: of the surface that the labels are on.
    """

    def __init__(self, geodesics: Geodesics):
        self._geodesics = geodesics
        self._images: dict[str, Image] = {}

    def update(self, batch: Any, predictions: Sequence[Prediction]) -> None:
        """See `Metric.update`.

        Raises:
            ValueError: an id was added before, or labels or predictions are invalid; with the id.
        """
        for name, size, people, prediction in zip(batch.ids, batch.sizes, batch.instances, predictions, strict=True):
            height, width = (int(side) for side in size)
            try:
                image = compare(people, prediction, height, width, self._geodesics)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            self._add(name, image)

    def _add(self, name: str, image: Image) -> None:
        if name in self._images:
            raise ValueError(f"{name}: this row has been scored before")
        self._images[name] = image

    def state(self) -> dict[str, Image]:
        return self._images

    def merge(self, state: Mapping[str, Image]) -> None:
        for name, image in state.items():
            self._add(name, image)

    def compute(self) -> Result:
        """Return `<kind>_ap`, `ap50`, `ap75`, `ar`, `ar50`, `ar75`; in `per_class` AP and AR by size.

        AP and AR of a size that no person has are NaN. If a person with points has no mask, the metrics that need masks
        are NaN.

        Raises:
            UserError: no person has points, so there is nothing to select a model by.
        """
        images = [self._images[name] for name in sorted(self._images)]
        if not any(image["has_points"].any() for image in images):
            raise UserError(
                f"none of the {len(images)} evaluated rows has a person with DensePose points (dp_points), so there is "
                "nothing to score; evaluate on a split that has them"
            )
        masked = all(image["has_mask"][image["has_points"]].all() for image in images)
        scored = {
            (kind, size): score_images(images, kind, *bounds)
            for kind in KINDS
            for size, bounds in SIZES.items()
            if masked or kind in ("box", "gps")
        }
        metrics: dict[str, float] = {}
        rows: list[tuple[str | float, ...]] = []
        for kind in KINDS:
            by_size = [scored[kind, size].metrics() if (kind, size) in scored else {} for size in SIZES]
            for name in ("ap", "ap50", "ap75", "ar", "ar50", "ar75"):
                metrics[f"{kind}_{name}"] = by_size[0].get(name, float("nan"))
            rows += [
                (f"{kind} {name}", *(values.get(name.lower(), float("nan")) for values in by_size))
                for name in ("AP", "AR")
            ]
        return Result(metrics, len(images), ("metric", *SIZES), tuple(rows))


def compare(people: Sequence[Mapping], prediction: Prediction, height: int, width: int, geodesics: Geodesics) -> Image:
    """Compute the similarities of the detections and people of one image.

    Args:
        people, prediction: see `DensePoseMetric`.
        height, width: of the stored image.
        geodesics: of the surface that the labels are on.
    Raises:
        ValueError: a label or a prediction is not as `DensePoseMetric` says.
    """
    boxes = np.asarray(prediction["boxes"], np.float64).reshape(-1, 4)
    scores = np.asarray(prediction["scores"], np.float64).reshape(-1)
    if not len(boxes) == len(scores) == len(prediction["iuv"]):
        raise ValueError(
            f"{len(boxes)} boxes, {len(scores)} scores and {len(prediction['iuv'])} surfaces are predicted; their "
            "numbers must be equal"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("a predicted box or score is not finite")
    order = np.argsort(-scores, kind="stable")[: _MOST["box"]]
    surfaces = [Surface.place(boxes[k], prediction["iuv"][k], height, width) for k in order[: _MOST["gps"]]]
    person_boxes = np.array([person["box"] for person in people], np.float64).reshape(-1, 4)
    crowd = np.array([bool(person["crowd"]) for person in people], bool)
    masks = [None if person["mask"] is None else np.asarray(person["mask"], bool) for person in people]
    for mask in masks:
        if mask is not None and mask.shape != (height, width):
            raise ValueError(f"a mask is {list(mask.shape)}, the image [{height}, {width}]")
    gps = np.zeros((len(surfaces), len(people)))
    has_points = np.zeros(len(people), bool)
    for column, person in enumerate(people):
        points = person["dp_points"]
        if points is None or not len(points):
            continue
        has_points[column] = True
        gps[:, column] = point_similarity(surfaces, np.asarray(points, np.float64), geodesics)
    return {
        "scores": scores[order],
        "areas": box_areas(boxes[order]),
        "box": box_iou(boxes[order], person_boxes, crowd),
        "gps": gps,
        "mask": mask_iou(surfaces, masks, crowd),
        "person_areas": np.array([_area(person, mask) for person, mask in zip(people, masks, strict=True)], np.float64),
        "crowd": crowd,
        "has_points": has_points,
        "has_mask": np.array([mask is not None for mask in masks], bool),
    }


def _area(person: Mapping, mask: np.ndarray | None) -> float:
    if person.get("area") is not None:
        return float(person["area"])
    return float(box_areas(person["box"])[0]) if mask is None else float(np.count_nonzero(mask))


def score_images(images: Sequence[Image], kind: str, smallest: float, largest: float) -> PrecisionRecall:
    """Match and score all images.

    Args:
        images: of `compare`.
        kind: one of KINDS.
        smallest, largest: range of the areas of people that count, square pixels.
    """
    scores, matches = [], []
    most = _MOST[kind]
    for image in images:
        if not len(image["scores"]) and not len(image["crowd"]):
            continue
        outside = (image["person_areas"] < smallest) | (image["person_areas"] > largest)
        areas = image["areas"][:most]
        far = (areas < smallest) | (areas > largest)
        if kind == "box":
            found = match(image["box"], image["crowd"] | outside, image["crowd"], far)
        else:
            alike = np.sqrt(image["gps"] * image["mask"]) if kind == "gpsm" else image[kind]
            found = match_surfaces(alike, image["box"][:most], ~image["has_points"] | outside, image["crowd"], far)
        scores.append(image["scores"][:most])
        matches.append(found)
    return precision_recall(scores, matches)
