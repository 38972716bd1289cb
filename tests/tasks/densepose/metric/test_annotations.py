"""COCO's annotations decoded, against pycocotools, and the real records where they are."""

import base64
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from hcmoco.datasets.densepose_format import annotated_mask, annotated_points, decode_rle, segmentation_mask
from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric.metric import DensePoseMetric
from hcmoco.tasks.densepose.metric.similarity import Surface, box_iou, mask_iou
from tests.helpers.evaluation_scenes import Rows
from tests.helpers.real_samples import real_sample


def blobs(rng, height, width):
    coarse = rng.random((height // 9 + 2, width // 9 + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height)) > rng.uniform(0.2, 0.8)


def compressed(mask) -> dict:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_those_of_pycocotools(seed):
    rng = make_rng(seed, "masks")
    height, width = rng.integers(1, 300, 2)
    mask = blobs(rng, height, width)
    rle = compressed(mask)
    np.testing.assert_array_equal(decode_rle(rle), mask)
    np.testing.assert_array_equal(decode_rle({**rle, "counts": rle["counts"].decode()}), mask)
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    runs = [0, *runs] if flat[0] else runs
    np.testing.assert_array_equal(segmentation_mask({"size": rle["size"], "counts": runs}, height, width), mask)


def test_runs_that_do_not_fill_the_image_are_refused():
    with pytest.raises(ValueError, match="run lengths fill 5 of 6 pixels"):
        decode_rle({"size": [2, 3], "counts": [2, 3]})


def test_polygons_are_those_of_pycocotools():
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 30 + 9 * np.sin(5 * angle)
    star = np.stack([50.3 + radius * np.cos(angle), 45.7 + radius * np.sin(angle)], axis=1).ravel().tolist()
    square = [80, 5, 100, 5, 100, 25, 80, 25]
    mask = segmentation_mask([star, square], 100, 120)
    expected = coco_mask.decode([coco_mask.merge(coco_mask.frPyObjects([star, square], 100, 120))])[:, :, 0].astype(
        bool
    )
    np.testing.assert_array_equal(mask, expected)


def test_points_and_parts_lie_in_the_box():
    first, second = np.zeros((256, 256), bool), np.zeros((256, 256), bool)
    first[:128], second[128:, 64:192] = True, True
    annotation = {"bbox": [20.0, 10.0, 64.0, 32.0], "dp_masks": [[], compressed(first), compressed(second)]}
    annotation |= {
        "dp_x": [0.0, 255.0, 127.5],
        "dp_y": [0.0, 255.0, 51.0],
        "dp_I": [1, 2, 24],
        "dp_U": [0, 0.5, 1],
        "dp_V": [1, 0.5, 0],
    }
    points = annotated_points(annotation)
    np.testing.assert_allclose(points, [[20, 10, 1, 0, 1], [84, 42, 2, 0.5, 0.5], [52, 16.4, 24, 1, 0]], rtol=1e-6)
    mask = annotated_mask(annotation, 60, 80)
    assert mask[10:26, 20:80].all()
    # SciPy's zoom, which the protocol scales with, may lose the last row
    assert mask[26:41, 36:68].all()
    assert mask.sum() in (16 * 60 + 15 * 32, 16 * 60 + 16 * 32)
    assert not mask[:10].any()
    # beyond every edge of the image
    cut = annotated_mask({**annotation, "bbox": [-20.0, -10.0, 64.0, 32.0]}, 15, 30)
    assert cut[:6].all()
    assert cut.sum() == 6 * 30 + 9 * 28
    assert annotated_points({"bbox": [0, 0, 1, 1]}) is None
    assert annotated_mask({"bbox": [0, 0, 1, 1]}, 4, 4) is None


def test_the_real_annotation_is_whole():
    (annotation,) = json.loads(real_sample("densepose/densepose_coco_2014_validation.json").read_text())["annotations"]
    annotation["bbox"] = [0, 0, 256, 256]
    parts = [decode_rle(each).sum() if each else 0 for each in annotation["dp_masks"]]
    assert {k + 1: int(area) for k, area in enumerate(parts) if area} == {
        1: 20969,
        7: 3520,
        10: 3457,
        11: 2780,
        14: 3207,
    }
    points = annotated_points(annotation)
    assert points.shape == (70, 5)
    assert dict(zip(*(each.tolist() for each in np.unique(points[:, 2], return_counts=True)), strict=True)) == {
        1: 22, 8: 7, 17: 13, 18: 14, 23: 7, 24: 7,
    }  # fmt: skip
    assert ((points[:, 3:] >= 0) & (points[:, 3:] <= 1)).all()
    mask = annotated_mask(annotation, 256, 256)
    assert mask.sum() == sum(parts)
    # all points lie on the annotated person
    rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
    assert mask[rows, columns].mean() > 0.95


def test_the_real_result_is_scored(surface):
    """A published result of a real photograph against COCO's own box and outline, and against points read off the
    result itself."""
    (result,) = (
        each
        for each in json.loads(real_sample("densepose/example_results_image785.json").read_text())
        if each["image_id"] == 785
    )
    records = json.loads(real_sample("coco-keypoints/person_keypoints_subset.json").read_text())
    (truth,) = (each for each in records["annotations"] if each["image_id"] == 785)
    image = next(each for each in records["images"] if each["id"] == 785)
    height, width = image["height"], image["width"]

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(result["uv_data"]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert list(picture.shape) == [result["uv_shape"][1], result["uv_shape"][2], 3]
    iuv = picture / np.array([1, 255, 255], np.float32)
    x, y, w, h = result["bbox"]
    box = np.array([x, y, x + w, y + h])
    x, y, w, h = truth["bbox"]
    mask = annotated_mask(truth, height, width)
    assert mask.sum() == pytest.approx(truth["area"], rel=0.01)
    overlap = box_iou(box[None], np.array([[x, y, x + w, y + h]]), np.array([False]))[0, 0]
    assert 0.9 < overlap < 1
    placed = Surface.place(box, iuv, height, width)
    assert mask_iou([placed], [mask], np.array([False]))[0, 0] > 0.75
    # left is the person's left: the joints lie where the result shows their parts
    joints = np.array(truth["keypoints"]).reshape(17, 3)
    charts = placed.at(joints[:, :2])[:, 0].astype(int)
    np.testing.assert_array_equal(charts[[0, 1, 2, 8, 9, 10, 13, 14, 15, 16]], [23, 24, 23, 16, 4, 20, 10, 9, 5, 6])
    assert charts[7] in (17, 21)

    rows, columns = (each[::211] for each in np.nonzero(iuv[..., 0]))
    at = np.stack([columns + placed.left + 0.5, rows + placed.top + 0.5], axis=1)
    points = np.concatenate([at, iuv[rows, columns]], axis=1).astype(np.float32)
    person = {"box": [x, y, x + w, y + h], "mask": mask, "dp_points": points, "crowd": False, "area": truth["area"]}
    metric = DensePoseMetric(surface)
    prediction = {"boxes": box[None], "scores": np.array([result["score"]]), "iuv": [iuv]}
    metric.update(Rows(("785",), np.array([[height, width]]), [[person]]), [prediction])
    metrics = metric.compute().metrics
    assert metrics["gps_ap"] == 1
    assert [metrics[f"{kind}_ap"] for kind in ("box", "gpsm", "mask")] == pytest.approx([0.9, 0.8, 0.6])
