import json

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.errors import UserError
from tests.helpers.real_samples import real_sample

WIDTH, HEIGHT = 120, 90


def pictures(root):
    root.mkdir(exist_ok=True)
    (root / "bilder über").mkdir()
    rgb = np.full((HEIGHT, WIDTH, 3), 80, np.uint8)
    depth = np.zeros((HEIGHT, WIDTH), np.uint16)
    depth[20:60, 30:70] = 2000
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[25:55, 35:65] = 1
    files = {
        "rgb 1.jpg": codecs.encode_rgb(rgb),
        "bilder über/rgb 2.jpg": codecs.encode_rgb(rgb),
        "depth.png": codecs.encode_depth(depth, "png16"),
        "mask.png": codecs.encode_labels(mask),
        "parts.png": codecs.encode_labels(mask * 24),
        "parts bad.png": codecs.encode_labels(mask * 77),
        "depth 8.png": codecs.encode_labels(mask),
        "depth small.png": codecs.encode_depth(depth[:50], "png16"),
        "cut.jpg": codecs.encode_rgb(rgb)[:-300],
        "cut.png": codecs.encode_depth(depth, "png16")[:-5],
        "nothing.png": b"",
    }
    for name, data in files.items():
        (root / name).write_bytes(data)


def outcomes(root, lines, **options):
    if not (root / "depth.png").exists():
        pictures(root)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    (root / "people.jsonl").write_text(text, encoding="utf-8")
    return list(read_all(folder.READER, folder.FolderConfig(path=str(root), **options)))


def test_a_full_line(tmp_path):
    keypoints = [[50.0, 40.0, 2]] + [[0, 0, 0]] * 16
    line = {
        "id": "anna-1", "rgb": "rgb 1.jpg", "depth": "depth.png", "camera": [100, 100, 60, 45], "keypoints": keypoints,
        "box": [30, 20, 70, 60], "joint_set": "coco-17", "parts": "parts.png", "mask": "mask.png",
        "subject": "anna", "split": "val",
    }  # fmt: skip
    (person,) = outcomes(tmp_path, [line], name="mine")
    assert (person.id, person.dataset, person.subject, person.split, person.size) == (
        "mine/anna-1",
        "mine",
        "anna",
        "val",
        60,
    )
    assert person.crop.tolist() == [20, 10, 60, WIDTH, HEIGHT]
    assert person.keypoints[0].tolist() == [30, 30, 1]
    assert person.camera.tolist() == [100, 100, 40, 35]
    depth, mask = codecs.decode_depth(person.depth, "png16"), codecs.decode_labels(person.mask)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(depth > 0, mask > 0), "depth outside the mask is dropped"
    assert set(np.unique(codecs.decode_labels(person.parts))) == {0, 24}


def test_ids_default_to_the_path_and_later_ones_of_the_same_name_are_rejected(tmp_path):
    results = outcomes(
        tmp_path,
        [{"rgb": "rgb 1.jpg"}, "", {"rgb": "bilder über/rgb 2.jpg"}, {"rgb": "rgb 1.jpg"}, {"depth": "depth.png"}],
    )
    assert [each.id for each in results] == [
        "folder/rgb 1.jpg", "folder/bilder über/rgb 2.jpg", "folder/rgb 1.jpg", "folder/depth.png",
    ]  # fmt: skip
    assert [isinstance(each, Rejected) for each in results] == [False, False, True, False]
    assert "line 4: an earlier line has the same id" in results[2].reason


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0])
def test_depth_units_become_millimeters(tmp_path, scale):
    (person,) = outcomes(tmp_path, [{"depth": "depth.png", "depth_scale": scale}], depth_codec="zstd-delta")
    depth = codecs.decode_depth(person.depth, "zstd-delta")
    assert set(np.unique(depth)) == {0, round(2000 * scale)}


def test_a_missing_box_comes_from_what_shows_the_person(tmp_path):
    keypoints = [[40.5, 30.5, 1], [60.5, 50.5, 2]] + [[5, 5, 0]] * 15
    boxes = {
        (35, 25, 65, 55): {"rgb": "rgb 1.jpg", "mask": "mask.png", "keypoints": keypoints, "depth": "depth.png"},
        (38.5, 28.5, 62.5, 52.5): {"rgb": "rgb 1.jpg", "keypoints": keypoints, "depth": "depth.png"},
        (30, 20, 70, 60): {"rgb": "rgb 1.jpg", "depth": "depth.png"},
        (0, 0, WIDTH, HEIGHT): {"rgb": "rgb 1.jpg"},
    }
    people = outcomes(tmp_path, [{**line, "id": str(number)} for number, line in enumerate(boxes.values())])
    for expected, person in zip(boxes, people, strict=True):
        x0, y0 = person.crop[:2]
        assert np.allclose(person.box + np.array([x0, y0, x0, y0]), expected, atol=1e-4)


def test_faults_become_reasons(tmp_path):
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(codecs.encode_rgb(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    root = tmp_path / "data"
    pictures(root)
    (root / "link.jpg").symlink_to(outside)
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    good = {"rgb": "rgb 1.jpg"}
    lines = {
        "unknown key 'keypoint'; allowed here: id, rgb": {**good, "keypoint": []},
        "line 2: camera": {**good, "camera": "wide"},
        "line 3: rgb = 5": {"rgb": 5},
        "'../outside.jpg' leaves the folder": {"rgb": "../outside.jpg"},
        "'link.jpg' is a symbolic link, or below one, and so leaves the folder": {"rgb": "link.jpg"},
        "leaves the folder": {"rgb": str(outside)},
        "'loop.jpg' ": {"rgb": "loop.jpg"},
        "depth image is a PNG of 8 bits": {"depth": "depth 8.png"},
        "rgb 120 x 90, depth 120 x 50": {**good, "depth": "depth small.png"},
        "'gone.jpg' does not exist": {"rgb": "gone.jpg"},
        "JPEG is truncated": {"rgb": "cut.jpg"},
        "PNG is truncated": {"depth": "cut.png"},
        "'nothing.png' is empty": {"depth": "nothing.png"},
        "'bilder über' is not a regular file": {"rgb": "bilder über"},
        "is not valid JSON": "{'rgb': 'single quotes'}",
        "must be a JSON object, it is list": "[1]",
        "neither rgb nor depth": {"keypoints": [[1, 1, 1]] * 17},
        "joint_set is 'mpii-16', the data set is read as 'coco-17'": {**good, "joint_set": "mpii-16"},
        "there are 16 keypoints, coco-17 has 17": {**good, "keypoints": [[1, 1, 1]] * 16},
        "line 20: keypoints.0.0": {**good, "keypoints": [[float("nan"), 1, 1]] * 17},
        "line 21: keypoints.0.2": {**good, "keypoints": [[1, 1, 7]] * 17},
        "has no area": {**good, "box": [10, 10, 5, 5]},
        "lies outside": {**good, "box": [500, 10, 510, 50]},
        "labels [77]": {**good, "parts": "parts bad.png"},
        "line 25: depth_scale": {"depth": "depth.png", "depth_scale": -1},
        "the unit must be millimeters": {"depth": "depth.png", "depth_scale": 100},
        "id is empty": {**good, "id": " "},
        "is not valid JSON: Exceeds": '{"id": "x", "rgb": "rgb 1.jpg", "depth_scale": ' + "9" * 5000 + "}",
        "line 29: depth_scale": '{"id": "y", "rgb": "rgb 1.jpg", "depth_scale": ' + "9" * 4000 + "}",
        "has control characters": {**good, "id": "a\x00b"},
        "is not valid Unicode": '{"id": "\\ud800", "rgb": "rgb 1.jpg"}',
    }
    named = [
        line if isinstance(line, str) else {"id": f"line {number}", **line}
        for number, line in enumerate(lines.values(), start=1)
    ]
    results = outcomes(root, named)
    for words, result in zip(lines, results, strict=True):
        assert isinstance(result, Rejected), words
        assert words in result.reason
        assert "\n" not in result.reason
        result.reason.encode()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_a_file_without_lines_is_one_line(tmp_path, content):
    (tmp_path / "people.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"people.jsonl (has no line|is not UTF-8)"):
        folder.items(folder.FolderConfig(path=str(tmp_path)))


def test_a_folder_without_the_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"people.jsonl does not exist; write one JSON object"):
        folder.items(folder.FolderConfig(path=str(tmp_path)))
    with pytest.raises(UserError, match="joint_set = 'coco': joint set 'coco' is unknown; known are coco-17"):
        build(folder.FolderConfig, {"path": str(tmp_path), "joint_set": "coco"}, "source")


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    pictures(tmp_path)
    (tmp_path / "people.jsonl").write_bytes(b'\xef\xbb\xbf{"rgb": "rgb 1.jpg"}\r\n{"depth": "depth.png"}\r\n')
    assert all(isinstance(each, Person) for each in read_all(folder.READER, folder.FolderConfig(path=str(tmp_path))))


def test_the_example_of_the_docstring_is_a_valid_line():
    text = folder.__doc__.split("    {", 1)[1].split("}\n", 1)[0]
    values = json.loads("{" + text.replace(", ...]", "]") + "}")
    assert build(folder.PersonLine, values, "example").id == "anna-0001"


def test_real_masked_depth_is_read(tmp_path):
    files = sorted(real_sample("kinect1-masked-depth").glob("*.png"))
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "people.jsonl").write_text("\n".join(json.dumps({"depth": path.name}) for path in files))
    for person, path in zip(read_all(folder.READER, folder.FolderConfig(path=str(tmp_path))), files, strict=True):
        given = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        kept = codecs.decode_depth(person.depth, "png16")
        assert set(np.unique(kept)) <= set(np.unique(given))
        columns = np.flatnonzero(given.any(0))
        zoom = person.size / person.crop[2]
        assert person.box[0] / zoom + person.crop[0] == pytest.approx(columns[0], abs=0.01)
        # Shrinking by nearest pixels keeps the share of the square that has readings.
        x0, y0, side = person.crop[:3].astype(int)
        inside = given[max(y0, 0) : y0 + side, max(x0, 0) : x0 + side]
        assert (kept > 0).mean() == pytest.approx((inside > 0).sum() / side**2, rel=0.02)


def test_a_link_out_of_the_folder_is_named_and_what_is_advised_helps(tmp_path):
    root = tmp_path / "data"
    pictures(root)
    (root / "rgb 1.jpg").rename(tmp_path / "elsewhere.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (rejected,) = outcomes(root, [{"rgb": "link.jpg"}])
    assert rejected.reason.endswith(
        f"'link.jpg' is a symbolic link, or below one, and so leaves the folder {root}, to {tmp_path}/elsewhere.jpg; "
        "copy or move the file there, or give the folder that holds both"
    )
    (root / "link.jpg").unlink()
    (tmp_path / "elsewhere.jpg").rename(root / "link.jpg")
    assert isinstance(outcomes(root, [{"rgb": "link.jpg"}])[0], Person)
