import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from hcmoco.data import codecs
from hcmoco.data.containers import read_header
from hcmoco.data.schema import Scene
from hcmoco.datasets import densepose_coco
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.densepose_coco import DensePoseCocoConfig
from hcmoco.datasets.densepose_format import annotated_mask, annotated_points
from hcmoco.errors import UserError
from tests.helpers import coco_files
from tests.helpers.real_samples import real_sample


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a download, and who is in its pictures."""
    root = tmp_path_factory.mktemp("COCO für alle")
    return root, coco_files.write_densepose(root)


def annotations_of(root: Path, part: str = "train") -> dict:
    return json.loads((root / "annotations" / f"densepose_coco_2014_{part}.json").read_text())


def changed(root: Path, target: Path, change, part: str = "train") -> DensePoseCocoConfig:
    """The download with one annotation file changed, elsewhere."""
    content = annotations_of(root, part)
    change(content)
    target.write_text(json.dumps(content))
    return DensePoseCocoConfig(source=str(root), annotations=(str(target),))


def outcomes(config: DensePoseCocoConfig) -> list:
    return list(read_all(densepose_coco.READER, config))


@pytest.mark.parametrize(("split", "numbers"), [("train", {1, 2, 3}), ("test", {4, 5})])
def test_what_was_put_in_comes_back(written, split, numbers):
    root, truths = written
    results = outcomes(DensePoseCocoConfig(source=str(root), split=split))
    scenes = [each for each in results if isinstance(each, Scene)]
    assert {each.id for each in scenes} == {f"densepose-coco/{number}" for number in numbers}
    skipped = [outcome for outcome in results if isinstance(outcome, Skipped)]
    assert [(outcome.id, outcome.reason) for outcome in skipped] == (
        [("densepose-coco/900", "no person is annotated in it")] if split == "train" else []
    )
    kinds = set()
    for scene in scenes:
        number = int(scene.id.rpartition("/")[2])
        release = "train2014" if number < 3 else "val2014"
        assert scene.rgb == (root / "images" / release / f"COCO_{release}_{number:012d}.jpg").read_bytes()
        assert (scene.split, scene.dataset, scene.width) == (split, "densepose-coco", 96)
        for instance, truth in zip(scene.instances, truths[number], strict=True):
            kinds.add(truth.written)
            assert instance.box.tolist() == truth.box.tolist()
            assert instance.crowd == (truth.written == "crowd")
            assert (instance.dp_points is None) == (truth.points is None)
            if truth.written == "densepose":
                np.testing.assert_allclose(instance.dp_points[:, :2], truth.points[:, :2], atol=1e-3)
                np.testing.assert_array_equal(instance.dp_points[:, 2:], truth.points[:, 2:])
            if split == "train" and truth.written != "densepose":
                assert instance.mask is None, "published training sees DensePose's masks only"
                continue
            mask = codecs.decode_labels(instance.mask) > 0
            overlap = (mask & truth.mask).sum() / (mask | truth.mask).sum()
            if truth.written in ("runs", "compressed", "crowd"):
                assert overlap == 1
            else:  # over its box in 256 x 256 cells, or as an outline
                assert overlap > 0.8
    assert kinds > {"densepose", "crowd"}


def test_a_painted_person_lies_under_its_points(written):
    """The points are on the person's own pixels in the stored picture, so a half pixel more or less would show."""
    root, truths = written
    for scene in outcomes(DensePoseCocoConfig(source=str(root), split="test")):
        for instance, truth in zip(scene.instances, truths[int(scene.id.rpartition("/")[2])], strict=True):
            if instance.dp_points is not None:
                columns, rows = np.floor(instance.dp_points[:, :2]).astype(int).T
                assert truth.mask[rows, columns].all()
                np.testing.assert_allclose(instance.dp_points[:, :2] % 1, 0.5, atol=1e-3)


def test_points_are_left_and_right_as_published(written):
    """Charts keep their numbers: nothing between the file and the record renames a side."""
    root, _ = written
    content = annotations_of(root, "minival")
    (scene, *_) = outcomes(DensePoseCocoConfig(source=str(root), split="test"))
    (annotation,) = (each for each in content["annotations"] if each["id"] == 40)
    assert scene.instances[0].dp_points[:, 2].tolist() == annotation["dp_I"]


def test_masks_are_chosen(written):
    root, _ = written
    masked = {
        choice: [
            sum(each.mask is not None for each in scene.instances)
            for scene in outcomes(DensePoseCocoConfig(source=str(root), masks=choice, split="test"))
        ]
        for choice in ("annotated", "all", "auto")
    }
    assert masked["annotated"] == [1, 1]
    assert masked["all"] == masked["auto"] == [2, 3]


def test_polygons_are_those_of_the_mask_api(written, tmp_path):
    root, _ = written
    outline = [
        [10.2, 5.1, 60.7, 9.9, 48.3, 70.4, 15.5, 66.6],
        [70.0, 70.0, 80.0, 70.0, 80.0, 85.0],
        [1.0, 1.0, 2.0, 2.0],
    ]

    def change(content):
        content["annotations"] = [
            {**content["annotations"][1], "segmentation": outline, "image_id": 1, "bbox": [10, 5, 70, 80]}
        ]
        content["images"] = content["images"][:1]

    (scene,) = outcomes(changed(root, tmp_path / "a.json", change).model_copy(update={"masks": "all"}))
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outline[:2], 96, 96))) > 0
    np.testing.assert_array_equal(codecs.decode_labels(scene.instances[0].mask) > 0, expected)


def test_rounding_is_forgiven_and_more_is_not(written, tmp_path):
    root, _ = written

    def change_first(box, **first):
        """An annotation file whose first person has another box and other first points."""

        def change(content):
            annotation = content["annotations"][0]
            annotation["bbox"] = box
            for name, value in first.items():
                annotation[name][0] = value

        config = changed(root, tmp_path / "a.json", change)
        return next(outcome for outcome in outcomes(config) if outcome.id == "densepose-coco/1")

    scene = change_first([60.3, 10.2, 35.71, 60.0], dp_U=1.00001, dp_x=255.0)
    assert scene.instances[0].dp_points[0, 0] == 96
    assert scene.instances[0].dp_points[0, 3] == 1
    rejected = change_first([60.3, 10.2, 40.0, 60.0], dp_x=255.0)
    assert "a point outside the picture" in rejected.reason


def test_shares_of_256_are_the_box_s_edge(written, tmp_path):
    """On a wide box 256 / 255 of it are pixels beyond the picture: the edge, not a fault."""
    root, _ = written
    path = root / "images" / "train2014" / "COCO_train2014_000000000001.jpg"
    images = tmp_path / "pictures"
    images.mkdir()
    wide = np.full((400, 600, 3), 90, np.uint8)
    (images / path.name).write_bytes(codecs.encode_rgb(wide))

    def change(content):
        content["images"] = [each | {"width": 600, "height": 400} for each in content["images"] if each["id"] == 1]
        first = content["annotations"][0]
        first["bbox"] = [10, 5, 590, 395]
        first["dp_x"][0], first["dp_y"][1] = 256, 256
        content["annotations"] = [first]

    (scene,) = outcomes(changed(root, tmp_path / "a.json", change).model_copy(update={"images": str(images)}))
    assert isinstance(scene, Scene), scene
    assert scene.instances[0].dp_points[0, 0] == 600
    assert scene.instances[0].dp_points[1, 1] == 400


@pytest.mark.parametrize("masks", [[[]] * 14, [None] * 14, [], [{}] * 14])
def test_fourteen_empty_masks_are_no_masks_and_the_outline_stands_in(written, tmp_path, masks):
    root, truths = written
    config = changed(root, tmp_path / "a.json", lambda content: content["annotations"][0].update(dp_masks=masks))
    scene = next(each for each in outcomes(config) if each.id == "densepose-coco/1")
    assert isinstance(scene, Scene), scene
    mask = codecs.decode_labels(scene.instances[0].mask) > 0
    truth = truths[1][0].mask
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    assert len(scene.instances[0].dp_points) == len(truths[1][0].points)


def test_an_annotation_without_a_box_and_without_points_is_nobody(written, tmp_path):
    root, truths = written
    for number, box in enumerate((None, [])):

        def change(content, box=box):
            content["annotations"][1].update(bbox=box, iscrowd=None)
            content["images"].append({"id": 990, "file_name": "nobody.jpg", "width": None, "height": 5})

        results = outcomes(changed(root, tmp_path / f"{number}.json", change))
        scene = next(each for each in results if each.id == "densepose-coco/1")
        assert len(scene.instances) == len(truths[1]) - 1
        assert not any(isinstance(each, Rejected) for each in results), "nobody is annotated in the malformed picture"


FAULTS = {
    "dp_x: ": lambda a: a.update(dp_x=None),
    "not of one number: ": lambda a: a.update(dp_x=a["dp_x"][:-1]),
    "none of these is above 1, as shares of it are; multiply them by 255": lambda a: a.update(
        {name: [0.5] * 10 for name in ("dp_x", "dp_y", "dp_U", "dp_V")} | {"dp_I": [1.0] * 10}
    ),
    "dp_y.0: ": lambda a: a.update(dp_y=[float("nan"), *a["dp_y"][1:]]),
    "dp_y.1: ": lambda a: a.update(dp_y=[1, 1e6, *a["dp_y"][2:]]),
    "dp_I.0: ": lambda a: a.update(dp_I=[25, *a["dp_I"][1:]]),
    "chart 1.5": lambda a: a.update(dp_I=[1.5, *a["dp_I"][1:]]),
    "U or V outside": lambda a: a.update(dp_V=[1.5, *a["dp_V"][1:]]),
    "bbox.2: ": lambda a: a.update(bbox=[1, 2, float("inf"), 4]),
    "points and a box without area": lambda a: a.update(bbox=[1, 2, 0, 4]),
    "larger than the picture": lambda a: a.update(bbox=[1, 2, 1e300, 4]),
    "has no area in the picture": lambda a: (
        [a.pop(key) for key in list(a) if key[:3] == "dp_"],
        a.update(bbox=[-3000, 2, 10, 10]),
    ),
    "a list of at most 14": lambda a: a.update(dp_masks=a["dp_masks"] * 2),
    "256 x 256 are needed": lambda a: a.update(dp_masks=[{"size": [16000, 16000], "counts": "0"}]),
    "is not its height and width": lambda a: a.update(dp_masks=[{"size": [10**12, 10**12], "counts": [10**24]}]),
    "cut off": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": "oooo"}]),
    "are damaged": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": "o" * 100_000}]),
    "run length of -": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": [-1, 65537]}]),
    "run length of 1": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": [10**30]}]),
    "fill 5 of 65536": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": [5]}]),
    "neither a text nor a list": lambda a: a.update(dp_masks=[{"size": [256, 256], "counts": [0.5]}]),
    "not run lengths": lambda a: a.update(dp_masks=["text"]),
    "segmentation is neither": lambda a: (a.pop("dp_masks"), a.update(segmentation="text")),
    "is not a list of x, y": lambda a: (a.pop("dp_masks"), a.update(segmentation=[[1, 2, 3]])),
    "no number of at most": lambda a: (a.pop("dp_masks"), a.update(segmentation=[[1e308, 2, 3, 4, 5, 6]])),
    "no number of": lambda a: (a.pop("dp_masks"), a.update(segmentation=[[float("nan"), 2, 3, 4, "x", 6]])),
    "pixels long": lambda a: (a.pop("dp_masks"), a.update(segmentation=[[0, 0, 30000, 30000] * 100])),
    "image_id: ": lambda a: a.update(image_id="one"),
    "same id": lambda a: a.update(id=11),
    "is not in the file's list": lambda a: a.update(image_id=77),
}  # fmt: skip


@pytest.mark.parametrize("words", FAULTS)
def test_a_faulty_annotation_sets_its_picture_aside(written, tmp_path, words):
    root, _ = written
    broken = words if words != "dp_x: " else "no dp_x"
    config = changed(root, tmp_path / "a.json", lambda content: FAULTS[words](content["annotations"][0]))
    results = outcomes(config)
    reasons = [each.reason for each in results if isinstance(each, Rejected)]
    assert len(reasons) == 1, reasons
    assert broken in reasons[0]
    assert "\n" not in reasons[0]
    elsewhere = (
        "image_id" in words or "in the file's list" in words
    )  # the picture is not known, and keeps its other people
    assert sum(isinstance(each, Scene) for each in results) == (2 if elsewhere else 1)
    assert len(results) == (4 if elsewhere else 3)


def test_faulty_pictures_are_set_aside(written, tmp_path):
    root, _ = written
    gray = tmp_path / "gray.jpg"
    cv2.imwrite(str(gray), np.full((96, 96), 90, np.uint8))
    images = root.parent / "images of this test"
    images.mkdir()
    whole = (root / "images" / "train2014" / "COCO_train2014_000000000001.jpg").read_bytes()
    files = {
        "gray.jpg": gray.read_bytes(),
        "cut.jpg": whole[: len(whole) // 2],
        "text.jpg": b"<html>",
        "größe 1.jpg": whole,
    }
    for name, data in files.items():
        (images / name).write_bytes(data)
    (images / "link.jpg").symlink_to(gray)
    names = [*files, "link.jpg", "../gray.jpg", "gone.jpg", "nul\x00.jpg", "x" * 3000]
    one = annotations_of(root)["annotations"][0]

    def change(content):
        content["images"] = [
            {"id": number, "file_name": name, "width": 96, "height": 96} for number, name in enumerate(names)
        ]
        content["images"] += [
            {"id": 50, "file_name": "größe 1.jpg", "width": 95, "height": 96},
            {"id": 51, "file_name": "a"},
        ]
        content["images"] += [{"id": 52, "file_name": "größe 1.jpg", "width": 10**12, "height": 96}]
        content["images"] += [{"id": 0, "file_name": "gone.jpg", "width": 96, "height": 96}]
        content["annotations"] = [{**one, "id": each, "image_id": each} for each in (*range(len(names)), 50, 51, 52)]

    config = changed(root, tmp_path / "a.json", change).model_copy(update={"images": str(images)})
    results = {each.id.removeprefix("densepose-coco/"): each for each in outcomes(config)}
    reasons = {id: each.reason for id, each in results.items() if isinstance(each, Rejected)}
    expected = {
        "1": "truncated", "2": "neither PNG", "4": "leaves the folder", "5": "leaves the folder",
        "6": "does not exist", "7": "null byte",
        "8": "cannot be read", "50": "is 96 x 96, the annotation says 95 x 96",
        "51": "not in the file's list", "52": "raise --size",
        "a.json picture 10": "width: ", "a.json picture 12": "has the id 0, too",
    }  # fmt: skip
    assert reasons.keys() == expected.keys()
    assert all(words in reasons[id] for id, words in expected.items()), reasons
    assert {id for id, each in results.items() if isinstance(each, Scene)} == {"0", "3"}
    assert read_header(results["0"].rgb).channels == 3, "gray becomes RGB"
    assert results["3"].rgb == whole
    faults = densepose_coco.inventory(config).faults
    assert {Path(each.path).name for each in faults} >= {"text.jpg", "link.jpg", "gone.jpg"}


def test_the_same_picture_in_two_files_is_read_once(written):
    root, _ = written
    twice = tuple(str(root / "annotations" / f"densepose_coco_2014_{part}.json") for part in ("train", "train"))
    results = outcomes(DensePoseCocoConfig(source=str(root), annotations=twice))
    assert sum(isinstance(each, Scene) for each in results) == 2
    assert [each.reason for each in results if isinstance(each, Rejected)] == [
        "another annotation file than 'densepose_coco_2014_train.json' has the same picture"
    ] * 3


def test_people_without_area_are_left_out_of_their_picture(written, tmp_path):
    root, truths = written
    config = changed(root, tmp_path / "a.json", lambda content: content["annotations"][1].update(bbox=[5, 5, 0, 3]))
    scene = next(each for each in outcomes(config) if each.id == "densepose-coco/1")
    assert len(scene.instances) == len(truths[1]) - 1


def test_the_inventory_names_what_is_missing(written, tmp_path):
    root, truths = written
    found = densepose_coco.inventory(DensePoseCocoConfig(source=str(root)))
    assert found.faults == []
    assert found.counts["pictures"] == 3
    assert found.counts["people with points"] == 3
    assert found.counts["people"] == sum(each.written != "crowd" for number in (1, 2, 3) for each in truths[number])
    assert found.notes == ["1 of the pictures skipped: no person is annotated in it"]
    found = densepose_coco.inventory(DensePoseCocoConfig(source=str(tmp_path)))
    assert [Path(each.path).name for each in found.faults] == [
        "densepose_coco_2014_train.json", "densepose_coco_2014_valminusminival.json",
    ]  # fmt: skip


def test_annotation_files_are_found_under_detectron2s_names(written, tmp_path):
    root, _ = written
    (tmp_path / "images").symlink_to(root / "images")
    (tmp_path / "densepose_minival2014.json").symlink_to(root / "annotations" / "densepose_coco_2014_minival.json")
    results = outcomes(DensePoseCocoConfig(source=str(tmp_path), split="test"))
    assert [each.id for each in results] == ["densepose-coco/4", "densepose-coco/5"]


def test_mistakes_are_one_line(written, tmp_path):
    root, _ = written
    with pytest.raises(
        UserError, match=r"pictures of train2014 does not exist \(tried .*nowhere/train2014, .*nowhere\); unpack it"
    ):
        densepose_coco.items(DensePoseCocoConfig(source=str(root), images="nowhere"))
    with pytest.raises(UserError, match="does not exist"):
        densepose_coco.items(DensePoseCocoConfig(source=str(tmp_path)))
    empty = changed(root, tmp_path / "a.json", lambda content: content.update(annotations=[]))
    with pytest.raises(UserError, match="no picture with people"):
        densepose_coco.items(empty)


def test_a_real_annotation_is_read(tmp_path):
    """Its box, picture and ids were replaced by those who published the sample, so the picture is made here."""
    content = json.loads(real_sample("densepose/densepose_coco_2014_validation.json").read_text())
    content["annotations"][0]["bbox"] = [100, 50, 256, 256]
    (tmp_path / "a.json").write_text(json.dumps(content))
    picture = content["images"][0]
    folder = tmp_path / "val2014"
    folder.mkdir()
    (folder / picture["file_name"]).write_bytes(
        codecs.encode_rgb(np.zeros((picture["height"], picture["width"], 3), np.uint8))
    )
    (scene,) = outcomes(DensePoseCocoConfig(source=str(tmp_path), split="test", annotations="a.json"))
    (instance,) = scene.instances
    np.testing.assert_array_equal(instance.dp_points, annotated_points(content["annotations"][0]))
    expected = annotated_mask(content["annotations"][0], picture["height"], picture["width"])
    np.testing.assert_array_equal(codecs.decode_labels(instance.mask) > 0, expected)
    columns, rows = instance.dp_points[:, :2].astype(int).T
    assert expected[rows, columns].mean() > 0.95
