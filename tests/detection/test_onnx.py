"""ONNX pose models whose answer is known exactly, and what is refused of such files."""

import sys

import numpy as np
import pytest

from hcmoco.data.skeletons import COCO_17
from hcmoco.detection.detector import Detector
from hcmoco.detection.opened import joint_set_of, open_detector
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError
from tests.helpers import onnx_files


def detector(path, **options) -> Detector:
    return open_detector(DetectOptions(detect=str(path), **{"detect_input": "rgb-0-1", **options})).detector


def halve(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def points(rng, width, height, low=2) -> np.ndarray:
    """Pixel indices x, y of 7 joints, no two in a column or row."""
    spread = [rng.permutation(side - 2 * low)[:7] + low for side in (width, height)]
    return np.stack(spread, 1)


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("channels_last", [False, True])
def test_dots_are_found_where_they_are(tmp_path, batch, channels_last):
    rng = np.random.default_rng(batch == 1)
    found = detector(onnx_files.write_heatmaps(tmp_path / "a.onnx", (80, 64), batch, channels_last))
    # Two people of a picture. Each box with its padding of 1.25 is 80 x 64 pixels: the model sees the picture's own.
    people = [points(rng, 80, 64), points(rng, 80, 64) + np.array([100, 30])]
    boxes = np.array([[8, 6.4, 72, 57.6], [108, 36.4, 172, 87.6]])
    rgb = onnx_files.picture((200, 120), people)
    answers = found.detect(rgb, boxes)
    assert found.takes_boxes
    assert not found.finds_people
    for answer, joints, box in zip(answers, people, boxes, strict=True):
        assert np.allclose(answer.joints[:7, :2], joints + 0.5, atol=1e-6)
        assert answer.joints[:, 2].tolist() == [1] * 7 + [0] * 10
        assert answer.box.tolist() == box.tolist()


def test_a_larger_picture_is_within_a_pixel_of_the_input(tmp_path):
    rng = np.random.default_rng(1)
    found = detector(onnx_files.write_heatmaps(tmp_path / "a.onnx", (64, 64)))
    joints = points(rng, 32, 32) * 4
    blocks = onnx_files.picture((256, 256), [joints])
    rgb = sum(np.roll(blocks, (dy, dx), (0, 1)) for dy in range(4) for dx in range(4))  # squares of 4 pixels
    answer = found.detect(rgb.astype(np.uint8), np.array([[0.1, 0.1, 0.9, 0.9]]) * 256)[0]
    assert np.abs(answer.joints[:7, :2] - (joints + 2)).max() <= 2  # a pixel of the input is 4 of the picture


def test_simcc(tmp_path):
    rng = np.random.default_rng(2)
    found = detector(onnx_files.write_simcc(tmp_path / "a.onnx", (48, 64)))
    joints = points(rng, 48, 64)
    answer = found.detect(onnx_files.picture((48, 64), [joints]), np.array([[4.8, 6.4, 43.2, 57.6]]))[0]
    assert np.allclose(answer.joints[:7, :2], joints + 0.5, atol=1e-6)
    assert answer.joints[:, 2].tolist() == [1] * 7 + [0] * 10


def test_a_square_input_does_not_tell_x_from_y(tmp_path):
    named = onnx_files.write_simcc(tmp_path / "a.onnx", (64, 64))
    assert open_detector(DetectOptions(detect=str(named), detect_input="rgb-0-1")).model.num_joints == 17
    for names in (("simcc_y", "simcc_x"), ("0", "1")):
        with pytest.raises(UserError, match=r"read are heatmaps .* SimCC's"):
            detector(onnx_files.write_simcc(tmp_path / "b.onnx", (64, 64), names=names))


def test_colors_are_what_is_asked_for(tmp_path):
    path = onnx_files.write_heatmaps(tmp_path / "a.onnx", (64, 64))
    rgb = onnx_files.picture((64, 64), [np.arange(14).reshape(7, 2) + 20])
    box = np.array([[6.4, 6.4, 57.6, 57.6]])
    right, swapped = (detector(path, detect_input=each).detect(rgb, box)[0].joints for each in ("rgb-0-1", "bgr-0-1"))
    exchanged = [2, 1, 0, 5, 4, 3, 6]  # of the color cube's corners, when red and blue are
    assert np.array_equal(swapped[:7], right[exchanged])
    with pytest.raises(ValueError, match=r"reach from 0 to 6\.79.* look at --detect-input"):
        detector(path, detect_input="rgb-imagenet").detect(rgb, box)


def person(box, joints_J2, score) -> np.ndarray:
    """A row of a YOLO model: center and size, score, joints of confidence 0.9."""
    x0, y0, x1, y1 = box
    joints = np.column_stack([joints_J2, np.full(17, 0.9)])
    return np.concatenate([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score], joints.ravel()])


@pytest.mark.parametrize("sorted_out", [False, True])
def test_yolo_is_in_pixels_of_the_picture(tmp_path, sorted_out):
    rng = np.random.default_rng(3)
    joints = [rng.uniform(20, 80, (17, 2)) for _ in range(4)]
    boxes = [(10, 20, 40, 80), (11, 20, 41, 80), (50, 20, 90, 70), (0, 0, 96, 96)]
    scores = [0.6, 0.9, 0.8, 0.1]
    rows = [person(*each) for each in zip(boxes, joints, scores, strict=True)]
    if sorted_out:
        rows = [np.concatenate([box, [score, 0], row[5:]]) for box, score, row in zip(boxes, scores, rows, strict=True)]
    found = open_detector(
        DetectOptions(detect=str(onnx_files.write_yolo(tmp_path / "a.onnx", rows, sorted_out=sorted_out)))
    )
    assert found.model.joint_set == "coco-17"
    # 192 x 96 becomes 96 x 48, and 24 rows of gray are above it.
    answers = found.detector.detect(np.zeros((96, 192, 3), np.uint8))
    kept = [1, 2, 0] if sorted_out else [1, 2]  # the first overlaps the second, and the last has a low score
    assert [each.score for each in answers] == pytest.approx([scores[k] for k in kept])
    for answer, k in zip(answers, kept, strict=True):
        assert np.allclose(answer.joints[:, :2], (joints[k] - (0, 24)) * 2, atol=1e-4)
        assert np.allclose(answer.joints[:, 2], 0.9)
        assert np.allclose(answer.box, (np.array(boxes[k]) - (0, 24, 0, 24)) * 2, atol=1e-4)


def test_a_persons_boxes_come_from_a_second_detector(tmp_path):
    rng = np.random.default_rng(4)
    joints = points(rng, 64, 64)
    rows = [person((6.4, 6.4, 57.6, 57.6), np.zeros((17, 2)), 0.7)]
    people = onnx_files.write_yolo(tmp_path / "people.onnx", rows, size=(64, 64))
    pose = onnx_files.write_heatmaps(tmp_path / "pose.onnx", (64, 64))
    opened = open_detector(DetectOptions(detect=str(pose), detect_input="rgb-0-1", detect_boxes=str(people)))
    (answer,) = opened.detector.detect(onnx_files.picture((64, 64), [joints]))
    assert answer.score == pytest.approx(0.7)
    assert np.allclose(answer.joints[:7, :2], joints + 0.5, atol=1e-5)
    with pytest.raises(UserError, match=r"--detect-boxes counts only with a model that finds nobody by itself"):
        open_detector(DetectOptions(detect=str(people), detect_boxes="picture"))


def test_the_second_detector_is_one_that_finds_people_and_says_all_of_its_input(tmp_path):
    """The options say what the pose model expects: no line asks for them, since they would not help."""
    pose = onnx_files.write_heatmaps(tmp_path / "pose.onnx", (64, 64))
    rows = [person((6.4, 6.4, 57.6, 57.6), np.zeros((17, 2)), 0.7)]
    silent = onnx_files.write_yolo(tmp_path / "silent.onnx", rows, size=(64, 64), ultralytics=False)
    loose = onnx_files.write_heatmaps(tmp_path / "loose.onnx", ("width", "height"))
    for boxes, said in (
        (pose, "finds the joints of one person .*, and nobody by itself; give a Keypoint R-CNN or YOLO"),
        (silent, "which colors it expects; --detect-input is of --detect alone: give a Keypoint R-CNN, or a YOLO pose"),
        (loose, "how large its input is; --detect-size is of --detect alone: export it for one size"),
    ):
        with pytest.raises(UserError, match=f"--detect-boxes .*{boxes.name}.*{said}"):
            open_detector(DetectOptions(detect=str(pose), detect_input="rgb-0-1", detect_boxes=str(boxes)))
    right = onnx_files.write_yolo(tmp_path / "right.onnx", rows, size=(64, 64))
    assert open_detector(DetectOptions(detect=str(pose), detect_input="rgb-0-1", detect_boxes=str(right))).people


def test_what_the_file_does_not_say_is_asked_for_and_helps(tmp_path):
    path = onnx_files.write_heatmaps(tmp_path / "a.onnx", ("width", "height"))
    options = {"detect": str(path)}
    for said, more in (
        (r"how large its input is; give --detect-size width,height", {"detect_size": (64, 48)}),
        (r"which colors it expects; give --detect-input rgb-imagenet", {"detect_input": "rgb-0-1"}),
    ):
        with pytest.raises(UserError, match=said):
            open_detector(DetectOptions(**options))
        options |= more
    model = open_detector(DetectOptions(**options)).model
    with pytest.raises(UserError, match="say it with --joint-set coco-17 or h36m-17"):
        joint_set_of(model, "", "--detect a.onnx")
    assert joint_set_of(model, "h36m-17", "") == "h36m-17"
    assert joint_set_of(model, COCO_17.name, "") == COCO_17.name
    with pytest.raises(UserError, match="finds 17 joints, mpii-16 has 16; sets of 17 are coco-17, h36m-17"):
        joint_set_of(model, "mpii-16", "--detect a.onnx")


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda path: onnx_files.write_heatmaps(path, external=True), {}, "keeps its weights in another file"),
        (lambda path: path.write_bytes(b"no model"), {}, "is no ONNX model that onnxruntime reads"),
        (lambda path: halve(onnx_files.write_heatmaps(path)), {}, "is damaged or incomplete"),
        (lambda path: onnx_files.write_heatmaps(path, batch=4), {}, "takes 4 pictures at once; export it for one"),
        (onnx_files.write_heatmaps, {"detect_size": (96, 96)}, r"takes pictures of 64 x 64; leave --detect-size out"),
        (lambda path: onnx_files.write_three(path), {}, r"its outputs are \[1, 17, 64, 64\], \[1, 17, 64, 64\]"),
        (
            lambda path: onnx_files.write_gray(path),
            {},
            r"takes image \['N', 1, 64, 64\].*; read are models of one input",
        ),
        (lambda path: None, {}, "does not exist; give a file of weights"),
        (onnx_files.write_heatmaps, {"detect_sha256": "0" * 64}, r"has the SHA-256 [0-9a-f]{64}, not 0{64}"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path, make, options, said):
    path = tmp_path / "a.onnx"
    make(path)
    with pytest.raises(UserError, match=said) as caught:
        detector(path, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"--detect {path}")


def test_without_onnxruntime_the_line_names_the_extra(tmp_path, monkeypatch):
    path = onnx_files.write_heatmaps(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime, which is not installed; pip install 'hcmoco\[detect\]'"):
        detector(path)


def test_scores_without_a_scale_are_refused(tmp_path):
    path = onnx_files.write_heatmaps(tmp_path / "a.onnx", (64, 64), gain=9.0)
    rgb = onnx_files.picture((64, 64), [np.arange(14).reshape(7, 2) + 20])
    with pytest.raises(ValueError, match=r"confidences reach from 0 to 9, and 0 to 1 are needed"):
        detector(path).detect(rgb, np.array([[6.4, 6.4, 57.6, 57.6]]))
