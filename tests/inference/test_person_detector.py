"""--person-detector: boxes by a detector whose answer is known, in turned photographs, of depth; what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.codecs import decode_labels, encode_depth, encode_png
from hcmoco_ray.commands.predict import main
from tests.helpers import onnx_files
from tests.helpers.called import Called
from tests.helpers.drawn_models import write_model
from tests.helpers.fitted_rcnn import small_keypoint_rcnn
from tests.helpers.oriented import as_stored, tagged
from tests.helpers.tolerances import assert_labels_close

# Two people and a third of a low score, in a picture of the size of the detector's input: nothing is resized.
SIZE = 96
BOXES = ((8.0, 10.0, 40.0, 90.0), (50.0, 6.0, 92.0, 88.0), (20.0, 20.0, 30.0, 40.0))
SCORES = (0.9, 0.6, 0.3)


def rows() -> list[np.ndarray]:
    """YOLO's rows: center, width, height, score, joints."""
    return [
        np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score, *[0] * 51])
        for (x0, y0, x1, y1), score in zip(BOXES, SCORES, strict=True)
    ]


def picture() -> np.ndarray:
    blobs = np.random.default_rng(5).integers(0, 255, (6, 6, 3), np.uint8)
    return cv2.resize(blobs, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


class Done(Called):
    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    for name in ("parsing-rgb", "parsing-depth", "densepose"):
        write_model(root / name, name)
    onnx_files.write_yolo(root / "yolo.onnx", rows(), size=(SIZE, SIZE))
    onnx_files.write_heatmaps(root / "heatmaps.onnx")
    torch.save(small_keypoint_rcnn().state_dict(), root / "rcnn.pth")
    (root / "rgb").mkdir()
    (root / "rgb" / "a.png").write_bytes(encode_png(picture()))
    return root


@pytest.fixture
def predict(place, tmp_path, capsys):
    def call(name, images, *more) -> Done:
        capsys.readouterr()
        given = [place / name, images, f"--out={tmp_path / 'out'}", "--device=cpu", "--threads=1", *more]
        status = main([str(each) for each in given])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Done(status, said.out, said.err, tmp_path / "out")

    return call


def test_everybody_whom_it_finds_is_predicted_as_in_a_given_box(place, predict, tmp_path):
    done = predict("parsing-rgb", place / "rgb", f"--person-detector={place / 'yolo.onnx'}", "--min-score=0.5")
    assert done.status == 0, done.err
    assert f"people by {place / 'yolo.onnx'}: YOLO pose, --min-score 0.5" in done.out
    (line,) = done.lines
    assert [each["box"] for each in line["people"]] == [list(each) for each in BOXES[:2]]
    assert [each["score"] for each in line["people"]] == list(SCORES[:2])
    assert {each["box_from"] for each in line["people"]} == {"detector"}
    scores = {each["score"] for each in json.loads((done.folder / "coco" / "segmentation.json").read_text())}
    assert scores == set(SCORES[:2])
    found = [decode_labels((done.folder / each["parts"]).read_bytes()) for each in line["people"]]
    about = json.loads((done.folder / "about.json").read_text())["person_detector"]
    assert about["sha256"] == onnx_files.sha256(place / "yolo.onnx")
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text("\n".join(json.dumps({"image": "a.png", "box": list(each)}) for each in BOXES[:2]))
    given = predict("parsing-rgb", place / "rgb", f"--boxes={boxes}")
    for labels, person in zip(found, given.lines[0]["people"], strict=True):
        assert_labels_close(labels, decode_labels((given.folder / person["parts"]).read_bytes()))


def test_its_own_threshold_counts_and_nobody_is_a_result(place, predict):
    default = predict("parsing-rgb", place / "rgb", f"--person-detector={place / 'yolo.onnx'}")
    assert "--min-score 0.25" in default.out
    assert len(default.lines[0]["people"]) == 3
    none = predict("parsing-rgb", place / "rgb", f"--person-detector={place / 'yolo.onnx'}", "--min-score=0.95")
    assert (none.status, none.lines[0]["people"], none.lines[0]["error"]) == (0, [], None)
    assert (none.folder / none.lines[0]["overlay"]).is_file()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph_is_looked_at_upright(place, predict, tmp_path, orientation):
    path = tmp_path / "turned.png"
    path.write_bytes(tagged(encode_png(as_stored(picture(), orientation)), orientation))
    upright = predict("parsing-rgb", place / "rgb", f"--person-detector={place / 'yolo.onnx'}").lines[0]["people"]
    labels = {}
    for images in (place / "rgb", path):
        done = predict("parsing-rgb", images, f"--person-detector={place / 'yolo.onnx'}")
        (line,) = done.lines
        assert [each["box"] for each in line["people"]] == [each["box"] for each in upright]
        labels[images] = [decode_labels((done.folder / each["parts"]).read_bytes()) for each in line["people"]]
    for one, other in zip(*labels.values(), strict=True):
        assert_labels_close(one, other)


def test_people_of_depth_are_found_in_the_rgb_beside_it(place, predict, tmp_path):
    depth = np.zeros((SIZE, SIZE), np.uint16)
    depth[12:88, 10:38] = 2000  # the first person has readings; where the second one is, the sensor saw nothing
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "a.png").write_bytes(encode_depth(depth, "png16"))
    detector = f"--person-detector={place / 'yolo.onnx'}"
    done = predict("parsing-depth", tmp_path / "depth", detector, f"--rgb={place / 'rgb'}", "--min-score=0.5")
    assert done.status == 0, done.err
    (line,) = done.lines
    assert [each["box"] for each in line["people"]] == [list(BOXES[0])]
    assert line["skipped"] == ["no pixel in the box [50.0, 6.0, 92.0, 88.0] has a depth reading"]
    assert "1 person of the detector without a usable reading skipped" in done.out
    assert (
        "name the folder of pictures that show the same with --rgb"
        in predict("parsing-depth", tmp_path / "depth", detector).err
    )
    (tmp_path / "depth" / "a.png").write_bytes(encode_depth(depth[:50], "png16"))
    other = predict("parsing-depth", tmp_path / "depth", detector, f"--rgb={place / 'rgb'}")
    assert "the depth picture is 96 x 50, the RGB picture beside it 96 x 96 pixels" in other.err


def test_a_keypoint_rcnn_is_asked_through_the_same_option(place, predict):
    rcnn = f"--person-detector={place / 'rcnn.pth'}"
    done = predict("parsing-rgb", place / "rgb", rcnn, "--detect-size=64,128", "--min-score=0")
    assert done.status == 0, done.err
    assert "Keypoint R-CNN, --min-score 0" in done.out
    for each in done.lines[0]["people"]:
        x0, y0, x1, y1 = each["box"]
        assert 0 <= x0 < x1 <= SIZE
        assert 0 <= y0 < y1 <= SIZE


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("parsing-rgb", ["--person-detector=gone.pth"], "--person-detector gone.pth does not exist; give a file of"),
        ("parsing-rgb", ["--person-detector={0}/heatmaps.onnx", "--detect-input=rgb-0-1"], "nobody by itself; give a"),
        ("parsing-rgb", ["--person-detector={0}/rgb/a.png"], "ends in .png; read are .onnx and .pth"),
        ("parsing-rgb", ["--person-detector={0}/yolo.onnx", "--detect-sha256=00"], "these are other weights"),
        ("parsing-rgb", ["--person-detector={0}/rcnn.pth", "--detect-size=64"], "must be two numbers, such as 192,256"),
        (
            "parsing-rgb",
            ["--person-detector={0}/rcnn.pth", "--detect-input=rgb-0-1"],
            "--detect-input counts only with",
        ),
        ("parsing-rgb", ["--detect-input=rgb-0-1"], "--detect-input counts only with --person-detector"),
        ("parsing-rgb", ["--min-score=0.5"], "--min-score is for densepose and --person-detector"),
        (
            "densepose",
            ["--person-detector={0}/yolo.onnx"],
            "--person-detector is for parsing-rgb and parsing-depth and",
        ),
        ("parsing-rgb", ["--person-detector={0}/yolo.onnx", "--rgb={0}/rgb"], "--rgb is for parsing-depth and pose"),
    ],
)
def test_what_cannot_find_people_is_one_line(place, predict, name, more, said):
    done = predict(name, place / "rgb", *[each.format(place) for each in more])
    assert done.status == 2
    assert said in done.err.splitlines()[-1]
