"""Matching and averaging against pycocotools, and the DensePose rules against a plain loop over their definition."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric.average_precision import precision_recall
from hcmoco.tasks.densepose.metric.matching import THRESHOLDS, match, match_surfaces
from hcmoco.tasks.densepose.metric.metric import SIZES, score_images
from hcmoco.tasks.densepose.metric.similarity import Surface, box_areas, box_iou, mask_iou


def random_image(rng: np.random.Generator) -> dict:
    """Boxes of people and detections near them, some of equal score, some exact; some empty."""
    people = rng.integers(0, 6) * (rng.random() < 0.85)
    corner, side = (
        rng.integers(0, 150, (people, 2)),
        rng.choice([8, 20, 60, 140], (people, 1)) + rng.integers(0, 20, (people, 2)),
    )
    boxes = np.concatenate([corner, corner + side], axis=1).astype(float)
    found = boxes[rng.integers(0, people, rng.integers(0, 9))] if people and rng.random() < 0.9 else np.zeros((0, 4))
    found = found + rng.choice([0, 1, 3, 12], (len(found), 1)) * rng.integers(-1, 2, found.shape)
    stray = rng.integers(0, 150, (rng.integers(0, 4), 2))
    found = np.concatenate([found, np.concatenate([stray, stray + rng.integers(5, 90, stray.shape)], axis=1)])
    return {
        "boxes": boxes,
        "crowd": rng.random(people) < 0.2,
        "areas": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * rng.uniform(0.3, 1, people),
        "found": found,
        "scores": rng.integers(0, 12, len(found)) / 12,
    }


def coco_scores(images: list, size: str) -> tuple[np.ndarray, np.ndarray]:
    """pycocotools' precision by threshold (mean over 101 recalls) and recall by threshold, with at most 100
    detections."""

    def xywh(box):
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    annotations, results = [], []
    for number, image in enumerate(images):
        for box, crowd, area in zip(image["boxes"], image["crowd"], image["areas"], strict=True):
            annotations.append({"bbox": xywh(box), "iscrowd": int(crowd), "area": float(area)})
            annotations[-1] |= {"id": len(annotations), "image_id": number, "category_id": 1}
        for box, score in zip(image["found"], image["scores"], strict=True):
            results.append({"image_id": number, "category_id": 1, "bbox": xywh(box), "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": k} for k in range(len(images))],
            "categories": [{"id": 1}],
            "annotations": annotations,
            "info": {},
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    area = ["all", "small", "medium", "large"].index(size)
    return evaluation.eval["precision"][:, :, 0, area, 2].mean(1), evaluation.eval["recall"][:, 0, area, 2]


def ours(image: dict) -> dict:
    order = np.argsort(-image["scores"], kind="stable")
    return {
        "scores": image["scores"][order],
        "areas": box_areas(image["found"][order]),
        "box": box_iou(image["found"][order], image["boxes"], image["crowd"]),
        "person_areas": image["areas"],
        "crowd": image["crowd"],
    }


@pytest.mark.parametrize("seed", range(6))
def test_box_scores_are_those_of_pycocotools(seed):
    rng = make_rng(seed, "images")
    images = [random_image(rng) for _ in range(40)]
    for size, bounds in SIZES.items():
        precision, recall = coco_scores(images, size)
        found = score_images([ours(image) for image in images], "box", *bounds)
        np.testing.assert_allclose(found.precision, precision, atol=1e-9)
        np.testing.assert_allclose(found.recall, recall, atol=1e-9)
        assert size == "all" or 0.02 < precision.mean() < 0.98


def test_box_iou_is_that_of_pycocotools():
    rng = make_rng(0, "boxes")
    a, b = (np.sort(rng.uniform(0, 50, (40, 2, 2)), axis=1).reshape(-1, 4) for _ in range(2))
    crowd = rng.random(40) < 0.3

    def xywh(boxes):
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    np.testing.assert_allclose(
        box_iou(a, b, crowd), coco_mask.iou(xywh(a), xywh(b), crowd.astype(int).tolist()), atol=1e-12
    )
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4)), np.array([False])) == 0


def test_mask_iou_is_that_of_pycocotools():
    rng = make_rng(0, "masks")
    surfaces, whole = [], []
    for _ in range(6):
        iuv = np.zeros((30, 25, 3), np.float32)
        iuv[..., 0] = rng.random((30, 25)) < 0.7
        left, top = rng.integers(-10, 50, 2)
        surfaces.append(Surface.place(np.array([left, top, left + 25, top + 30]), iuv, 60, 55))
        pixels = np.zeros((120, 120), np.uint8)
        pixels[max(top, 0) : max(top, 0) + 30, max(left, 0) : max(left, 0) + 25] = iuv[..., 0] > 0
        whole.append(pixels[:60, :55])
    masks = [rng.random((60, 55)) < 0.4 for _ in range(5)]
    crowd = np.array([False, True, False, False, True])

    def encoded(each):
        return coco_mask.encode(np.asfortranarray(each, np.uint8))

    expected = coco_mask.iou(
        [encoded(each) for each in whole], [encoded(each) for each in masks], crowd.astype(int).tolist()
    )
    np.testing.assert_allclose(mask_iou(surfaces, masks, crowd), expected, atol=1e-12)
    assert (mask_iou(surfaces, [None], np.array([False])) == 0).all()


def match_by_loops(similarity, iou, ignored, crowd, far):
    """The protocol's rules for surfaces one pair at a time: (matched, ignored), [T, D]."""
    found, people = similarity.shape
    order = sorted(range(people), key=lambda g: bool(ignored[g]))
    everyone_ignored = all(ignored)
    answer = [[None] * found for _ in THRESHOLDS]
    taken = [set() for _ in THRESHOLDS]
    out = np.full((len(THRESHOLDS), found), everyone_ignored)
    for t, threshold in enumerate(THRESHOLDS):
        for d in range(found):
            best, least = None, min(threshold, 1 - 1e-10)
            for g in order:
                if g in taken[t] and not crowd[g]:
                    continue
                if best is not None and not ignored[best] and ignored[g]:
                    break
                if similarity[d, g] >= least and similarity[d, g] > 0:
                    best, least = g, similarity[d, g]
            if best is not None:
                answer[t][d] = best
                taken[t].add(best)
                out[t, d] = ignored[best]
    last = len(THRESHOLDS) - 1
    for d in range(found):
        if answer[last][d] is not None:
            continue
        best, least = None, 0.8
        for g in order:
            if (g not in taken[last] or crowd[g]) and iou[d, g] >= least:
                best, least = g, iou[d, g]
        if best is not None:
            out[:, d] = ignored[best]
            if ignored[best]:
                answer[last][d] = best
                taken[last].add(best)
    matched = np.array([[each is not None for each in row] for row in answer], bool).reshape(len(THRESHOLDS), found)
    return matched, out | (~matched & far)


@pytest.mark.parametrize("seed", range(4))
def test_surfaces_are_matched_by_the_rules(seed):
    rng = make_rng(seed, "similarities")
    ends = np.zeros(2)
    for _ in range(150):
        found, people = rng.integers(0, 7), rng.integers(0, 5)
        similarity = rng.choice([0, 0.3, 0.5, 0.62, 0.75, 0.75, 0.9, 0.97, 1], (found, people))
        iou = rng.choice([0, 0.5, 0.8, 0.85, 0.9, 1], (found, people))
        ignored, crowd, far = rng.random(people) < 0.4, rng.random(people) < 0.2, rng.random(found) < 0.2
        matches = match_surfaces(similarity, iou, ignored, crowd, far)
        matched, out = match_by_loops(similarity, iou, ignored, crowd, far)
        np.testing.assert_array_equal(matches.ignored, out)
        np.testing.assert_array_equal(matches.matched, matched)
        assert matches.people == (~ignored).sum()
        ends += [(matched & ~out).sum(), out.sum()]
    assert ends.min() > 100


def test_of_detections_the_surest_chooses_first():
    """Both are nearest to person 0; the second has to take person 1, or none if the threshold is above that."""
    matches = match(np.array([[0.9, 0.6], [0.95, 0.7]]), np.zeros(2, bool), np.zeros(2, bool), np.zeros(2, bool))
    np.testing.assert_array_equal(
        matches.matched, np.stack([THRESHOLDS <= 0.9, (THRESHOLDS <= 0.7) | (THRESHOLDS > 0.9)], axis=1)
    )


def test_without_people_metrics_are_undefined():
    empty = match(np.zeros((1, 0)), np.zeros(0, bool), np.zeros(0, bool), np.zeros(1, bool))
    assert np.isnan(list(precision_recall([np.ones(1)], [empty]).metrics().values())).all()
    assert np.isnan(list(precision_recall([], []).metrics().values())).all()
