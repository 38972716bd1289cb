"""COCO results: what COCO's own API reads, and what a second decoder finds in them."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hcmoco.data.codecs import decode_iuv, decode_labels, encode_png
from hcmoco.data.joint_set import JointSet
from hcmoco.inference.coco import (
    CocoForm,
    CocoWriter,
    densepose_result,
    image_ids,
    keypoint_form,
    keypoint_result,
    part_form,
    part_results,
    run_lengths,
)
from hcmoco_ray.commands.predict import main
from tests.helpers.drawn_models import write_model


def decoded(segmentation: dict) -> np.ndarray:
    """bool [H, W] of COCO's compressed run lengths: counts of 5 bits a character, from 48 on, each but the first two
    as a difference to the one before the last; runs of 0 and 1 in turn, down the columns."""
    counts: list[int] = []
    text, at = segmentation["counts"], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            value |= (bits & 31) << shift
            more, shift, at = bool(bits & 32), shift + 5, at + 1
            if not more and bits & 16:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    height, width = segmentation["size"]
    return flat.reshape(width, height).T


def parts_of(seed: int, height: int = 47, width: int = 61) -> np.ndarray:
    """uint8 [height, width]: areas of labels 0 to 5."""
    small = np.random.default_rng(seed).integers(0, 6, (5, 7)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_the_mask(seed):
    mask = np.random.default_rng(seed).random((33, 70)) < 0.1 + 0.2 * seed
    segmentation, (x, y, width, height) = run_lengths(mask)
    np.testing.assert_array_equal(decoded(segmentation), mask)
    rows, columns = np.nonzero(mask)
    assert [x, y, x + width, y + height] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_parts_are_evaluated_as_perfect_against_themselves(tmp_path):
    writer = CocoWriter(tmp_path, part_form(["background", "a", "b", "c", "d", "e"]))
    truths = {"x.png": parts_of(1), "y/z.png": parts_of(2)}
    for name, labels in truths.items():
        writer.add(name, labels.shape[1], labels.shape[0], part_results(labels, 0, 0.9))
    assert not list(tmp_path.glob("*.json")), "what is not whole has no name yet"
    writer.finish()
    data = json.loads((tmp_path / "images.json").read_text())
    assert [each["file_name"] for each in data["images"]] == list(truths)
    annotations = [
        {
            "id": 10 * image + label, "image_id": image, "category_id": label, "iscrowd": 0,
            "area": int((labels == label).sum()), "bbox": run_lengths(labels == label)[1],
            "segmentation": run_lengths(labels == label)[0],
        }
        for image, labels in enumerate(truths.values(), 1)
        for label in range(1, 6)
        if (labels == label).any()
    ]  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps({**data, "annotations": annotations}))
    truth = COCO(str(tmp_path / "truth.json"))
    scored = COCOeval(truth, truth.loadRes(str(tmp_path / "segmentation.json")), "segm")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == pytest.approx(1)


def test_joints_count_centers_of_pixels_from_0(tmp_path):
    joints = JointSet("three", ("head", "neck", "left_hand"), (("head", "neck"), ("neck", "left_hand")))
    form = keypoint_form(joints)
    assert form.categories[0]["skeleton"] == [[1, 2], [2, 3]]
    result = keypoint_result(np.array([[10.5, 20.5], [3.25, 4.0], [np.nan, 7]]), 2, 0.7)
    assert result["keypoints"] == [10, 20, 1, 2.75, 3.5, 1, 0, 0, 0]
    writer = CocoWriter(tmp_path, form)
    writer.add("a.png", 30, 40, [result])
    writer.finish()
    loaded = COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "keypoints.json"))
    (found,) = loaded.loadAnns(loaded.getAnnIds())
    assert (found["image_id"], found["keypoints"], found["score"]) == (1, result["keypoints"], 0.7)


def test_surfaces_have_the_form_of_the_challenge(tmp_path):
    iuv = np.random.default_rng(0).integers(0, 25, (12, 9, 3)).astype(np.uint8)
    mask = np.zeros((50, 40), bool)
    mask[20:32, 5:14] = iuv[..., 0] > 0
    result = densepose_result(encode_png(iuv), [5, 20, 14, 32], mask, 0, 0.5)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(result["uv_data"]), np.uint8), cv2.IMREAD_COLOR)
    assert result["uv_shape"] == [3, *picture.shape[:2]]
    assert result["bbox"][2:] == result["uv_shape"][:0:-1]
    np.testing.assert_array_equal(picture[..., ::-1], iuv)
    np.testing.assert_array_equal(decoded(result["segmentation"]), mask)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000785.jpg", "val/COCO_val2014_000000196141.jpg"], [785, 196141]),
        (["000000000785.jpg", "mine.jpg"], None),
        (["a/000000000785.jpg", "b/000000000785.jpg"], None),
        (["785.jpg"], None),
        ([], None),
    ],
)
def test_pictures_of_coco_keep_their_numbers(tmp_path, names, ids):
    found = image_ids(names)
    assert found == (None if ids is None else dict(zip(names, ids, strict=True)))
    writer = CocoWriter(tmp_path, CocoForm("keypoints", []), found)
    for name in names:
        writer.add(name, 1, 1, [])
    writer.finish()
    written = [each["id"] for each in json.loads((tmp_path / "images.json").read_text())["images"]]
    assert written == (ids or list(range(1, len(names) + 1)))


def test_a_run_that_stops_leaves_no_half_results(tmp_path):
    writer = CocoWriter(tmp_path, part_form(["background", "a"]))
    writer.add("a", 4, 4, [])
    writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["parsing-rgb", "densepose"])
def test_the_program_writes_what_its_own_files_say(tmp_path, task):
    model = write_model(tmp_path / "model", task)
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (100, 80))
    name = "000000000785.png"
    (tmp_path / name).write_bytes(encode_png(image))
    more = ["--min-score=0"] if task == "densepose" else []
    out = tmp_path / "out"
    assert main([str(model), str(tmp_path / name), f"--out={out}", "--threads=1", "--device=cpu", *more]) == 0
    (line,) = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    form = {"parsing-rgb": "segmentation", "densepose": "densepose"}[task]
    loaded = COCO(str(out / "coco" / "images.json")).loadRes(str(out / "coco" / f"{form}.json"))
    results = loaded.loadAnns(loaded.getAnnIds(imgIds=[785]))
    assert results
    if task == "parsing-rgb":
        labels = decode_labels((out / line["people"][0]["parts"]).read_bytes())
        again = np.zeros_like(labels)
        for each in results:
            again[decoded(each["segmentation"])] = each["category_id"]
        np.testing.assert_array_equal(again, labels)
        names = json.loads((out / "about.json").read_text())["part_names"]
        assert {str(each["id"]): each["name"] for each in loaded.dataset["categories"]} == {
            number: name for number, name in names.items() if number != "0"
        }
    else:
        assert [each["score"] for each in results] == [each["score"] for each in line["people"]]
        for each, person in zip(results, line["people"], strict=True):
            assert base64.b64decode(each["uv_data"]) == (out / person["iuv"]).read_bytes()
            x0, y0, x1, y1 = person["frame"]
            assert each["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            iuv = decode_iuv((out / person["iuv"]).read_bytes())
            np.testing.assert_array_equal(decoded(each["segmentation"])[y0:y1, x0:x1], iuv[..., 0] > 0)
    # Beside the prediction the overlay is the picture itself, enlarged, over the legend.
    overlay = cv2.imread(str(out / line["overlay"]))[..., ::-1]
    enlarged = cv2.resize(image, (480, 384), interpolation=cv2.INTER_CUBIC)
    empty = np.ones((80, 100), bool)
    for each in results:
        empty &= ~decoded(each["segmentation"])
    empty = cv2.erode(np.kron(empty, np.ones((5, 5)))[:384, :480].astype(np.uint8), np.ones((9, 9))) > 0
    if task == "parsing-rgb" and empty.any():
        np.testing.assert_array_equal(overlay[:384, :480][empty], enlarged[empty])
    assert overlay.shape[0] > 384
    assert Path(out / "legend.png").is_file()
