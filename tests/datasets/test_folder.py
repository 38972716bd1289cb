import json

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.datasets.person_lines import PersonLine
from hcmoco.errors import UserError
from tests.helpers.oriented import SIDES, as_stored, tagged
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
    options = {**({"label_map": "human3.6m"} if '"parts"' in text else {}), **options}
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


@pytest.mark.parametrize(("unit", "expected"), [("0.2mm", 400), ("mm", 2000), ("0.25 mm", 500), ("0.9cm", 18000)])
def test_depth_units_become_millimeters(tmp_path, unit, expected):
    (person,) = outcomes(tmp_path, [{"depth": "depth.png", "depth_unit": unit}], depth_codec="zstd-delta")
    depth = codecs.decode_depth(person.depth, "zstd-delta")
    assert set(np.unique(depth)) == {0, expected}


def test_the_unit_of_a_line_goes_before_the_option_and_the_option_before_the_folder(tmp_path):
    pictures(tmp_path)
    (tmp_path / "camera.json").write_text('{"model": "L515", "depth_unit": "0.25mm"}')
    lines = [{"id": "line", "depth": "depth.png", "depth_unit": "0.2mm"}, {"id": "folder", "depth": "depth.png"}]

    def distances(**options):
        return [
            int(codecs.decode_depth(person.depth, "png16").max()) for person in outcomes(tmp_path, lines, **options)
        ]

    assert distances() == [400, 500]
    assert distances(depth_unit="mm") == [400, 2000]
    (tmp_path / "camera.json").unlink()
    assert distances() == [400, 2000]


@pytest.mark.parametrize(
    ("stored", "unit", "meant"),
    [
        (np.uint16(2), None, "m"),  # whole meters
        (np.uint16(2000), "um", "mm"),  # 0.001, as RealSense gives its scale
        (np.uint16(2000), "m", "mm"),
        (np.float32(2.5), "mm", "m"),
        (np.float32(2500), None, "mm"),
        (np.uint16(250), "mm", None),
        (np.uint16(180), None, "cm"),
    ],
)
def test_a_person_at_2_mm_or_2_km_is_refused_and_the_advice_helps(tmp_path, stored, unit, meant):
    depth = np.zeros((HEIGHT, WIDTH), stored.dtype)
    depth[20:60, 30:70] = stored
    pictures(tmp_path)
    np.save(tmp_path / "depth.npy", depth)
    line = {"depth": "depth.npy", **({"depth_unit": unit} if unit else {})}
    (result,) = outcomes(tmp_path, [line])
    if meant is None:
        assert isinstance(result, Person)
        return
    assert f": {meant} was probably meant" in result.reason, result.reason
    # What the reason says, word by word: a key of the line, or an option.
    advice = result.reason.rsplit(", ", 1)[1]
    if unit:
        key, value = advice.removeprefix("write ").removesuffix(" in its line").split(": ")
        (person,) = outcomes(tmp_path, [{**line, json.loads(key): json.loads(value)}])
    else:
        assert advice == f"give --depth-unit {meant}"
        (person,) = outcomes(tmp_path, [line], depth_unit=meant)
    assert 1500 < codecs.decode_depth(person.depth, "png16").max() < 3000


def test_a_unit_that_distance_cannot_tell_is_told_by_the_persons_height(tmp_path):
    """A quarter of a millimeter taken for one: 8 m away can be, but not 6.8 m tall."""
    depth = np.zeros((480, 640), np.uint16)
    depth[40:440, 250:400] = 8000
    (tmp_path / "depth.png").write_bytes(codecs.encode_depth(depth, "png16"))
    line = {"depth": "depth.png", "camera": [600, 600, 320, 240], "box": [250, 40, 400, 440]}
    pictures_of_line = [{**line, "id": "mm"}, {**line, "id": "quarter", "depth_unit": "0.25mm"}]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, pictures_of_line)))
    wrong, right = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path)))
    assert "8 m with the depth unit mm and the person 5.33 m tall; up to 3 m can be right" in wrong.reason
    assert "0.25mm was probably meant (then 2 m away), give --depth-unit 0.25mm" in wrong.reason
    assert isinstance(right, Person)


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(0.2, "0.2mm"), (1, "mm"), (1.0, "mm"), (0.25, "0.25mm"), (1000, "m"), (0.001, "mm"), ("x", "mm")],
)
def test_the_old_scale_is_told_its_unit_and_the_unit_is_read_the_same(tmp_path, scale, unit):
    stored = 2 if scale == 1000 else 2000
    depth = np.full((40, 40), stored, np.uint16)
    (tmp_path / "d.png").write_bytes(codecs.encode_depth(depth, "png16"))
    line = {"depth": "d.png", "depth_scale": scale}
    (tmp_path / "people.jsonl").write_text(json.dumps(line))
    config = folder.FolderConfig(path=str(tmp_path))
    (told,) = read_all(folder.READER, config)
    advice = f'"depth_unit": "{unit}"'
    assert told.reason == (
        f"people.jsonl line 1: depth_scale is now depth_unit, which names its unit: write {advice} in its place"
    )
    (tmp_path / "people.jsonl").write_text(f'{{"depth": "d.png", {advice}}}')
    (person,) = read_all(folder.READER, config)
    expected = {0.2: 400, 0.25: 500, 1000: 2000, 0.001: 2000, "x": 2000}.get(scale, 2000)
    assert codecs.decode_depth(person.depth, "png16").max() == expected


def test_readings_beyond_20_m_become_none(tmp_path):
    """Outdoors cameras report them by the thousand; they are noise."""
    depth = np.full((40, 40), 2000, np.uint16)
    depth[:10] = 65000
    (tmp_path / "d.png").write_bytes(codecs.encode_depth(depth, "png16"))
    (tmp_path / "people.jsonl").write_text('{"depth": "d.png"}')
    (person,) = read_all(folder.READER, folder.FolderConfig(path=str(tmp_path)))
    assert set(np.unique(codecs.decode_depth(person.depth, "png16"))) == {0, 2000}


def test_a_missing_box_comes_from_what_shows_the_person(tmp_path):
    pictures(tmp_path)
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    parts[40:70, 50:90], parts[:5] = 7, 255
    (tmp_path / "parts at the right.png").write_bytes(codecs.encode_labels(parts))
    keypoints = [[40.5, 30.5, 1], [60.5, 50.5, 2]] + [[5, 5, 0]] * 15
    boxes = {
        (35, 25, 65, 55): {"rgb": "rgb 1.jpg", "mask": "mask.png", "keypoints": keypoints, "depth": "depth.png"},
        (50, 40, 90, 70): {"rgb": "rgb 1.jpg", "parts": "parts at the right.png", "keypoints": keypoints},
        (38.5, 28.5, 62.5, 52.5): {"rgb": "rgb 1.jpg", "keypoints": keypoints, "depth": "depth.png"},
        (30, 20, 70, 60): {"rgb": "rgb 1.jpg", "depth": "depth.png"},
        (0, 0, WIDTH, HEIGHT): {"rgb": "rgb 1.jpg"},
    }
    people = outcomes(tmp_path, [{**line, "id": str(number)} for number, line in enumerate(boxes.values())])
    for expected, person in zip(boxes, people, strict=True):
        x0, y0 = person.crop[:2]
        assert np.allclose(person.box + np.array([x0, y0, x0, y0]), expected, atol=1e-4)


def coco(*joints):
    """The first joints as given, the others absent."""
    return [list(joint) for joint in joints] + [[0, 0, 0]] * (17 - len(joints))


CONVENTIONS = {
    # keypoints
    "all coordinates lie within -0.6 and 0.5, as OpenPose's --keypoint_scale 4": {
        "keypoints": coco((-0.2, 0.3, 2), (0.5, -0.6, 2))
    },
    "all inside with x and y exchanged: give --axes yx, or --axes xy if they are as they should be": {
        "keypoints": coco((20, 95, 2), (30, 100, 2), (25, 80, 2))
    },
    "most joints lie beside the given box, and all in it with x and y exchanged: give --axes yx": {
        "box": [60, 10, 90, 70],
        "keypoints": coco((15, 70, 2), (30, 75, 2), (45, 80, 2), (55, 85, 2), (65, 72, 2)),
    },
    # boxes
    "the box [0.25, 0.2, 0.5, 0.6] is of numbers up to 1, most probably shares": {"box": [0.25, 0.2, 0.5, 0.6]},
    "the box [60.0, 40.0, 30.0, 35.0] has no area; a box of left, top, width and height is written "
    "[60.0, 40.0, 90.0, 75.0]": {"box": [60, 40, 30, 35]},
    "taken for left, top, width and height it holds all of it: write [30.0, 20.0, 70.0, 60.0]": {
        "box": [30, 20, 40, 40],
        "keypoints": coco((45, 45, 2), (60, 30, 2), (65, 55, 2)),
    },
    # masks
    "the mask is 0 everywhere": {"mask": np.zeros((HEIGHT, WIDTH))},
    "the mask holds the values [1, 2, 3], most probably labels": {
        "mask": np.tile(np.arange(WIDTH) // 30, (HEIGHT, 1))
    },
    "it is most probably inverted": {"mask": np.pad(np.zeros((50, 60)), ((20, 20), (30, 30)), constant_values=255)},
    "none of the 3 visible keypoints lies on the mask": {
        "mask": np.pad(np.full((30, 30), 255), ((5, 55), (0, 90))),
        "keypoints": coco((45, 45, 2), (60, 30, 2), (65, 55, 2)),
    },
    # files in the place of others
    "this is a PNG of 16 bits and 1 channel: if it is depth, name it as depth": {"rgb": "depth.png"},
    "no pixel is above 24 of 255; it is most probably labels or a mask": {"rgb": "parts.png"},
    "16-bit or floating-point TIFF, EXR, NPY or MAT, of one channel, this is": {"depth": "rgb 1.jpg"},
    "there are labels [58]; human3.6m has 0..24 and 255; all numbers of the picture would fit human3.6m-raw": {
        "parts": np.full((HEIGHT, WIDTH), 58)
    },
}  # fmt: skip


@pytest.mark.parametrize("words", CONVENTIONS)
def test_numbers_of_another_convention_are_refused_with_what_was_probably_meant(tmp_path, words):
    pictures(tmp_path)
    line = {"rgb": "rgb 1.jpg", **CONVENTIONS[words]}
    for name, value in line.items():
        if isinstance(value, np.ndarray):
            (tmp_path / f"its {name}.png").write_bytes(codecs.encode_labels(value.astype(np.uint8)))
            line[name] = f"its {name}.png"
    (result,) = outcomes(tmp_path, [line])
    assert isinstance(result, Rejected)
    assert words in result.reason


def test_what_the_refusals_say_helps(tmp_path):
    keypoints = coco((45, 45, 2), (60, 30, 2), (65, 55, 2))
    shares = [[x / WIDTH, y / HEIGHT, v] for x, y, v in keypoints]
    lines = [
        {"id": "pixels", "rgb": "rgb 1.jpg", "keypoints": [[x * 120, y * 90, v] for x, y, v in shares]},
        {"id": "corners", "rgb": "rgb 1.jpg", "keypoints": keypoints, "box": [30.0, 20.0, 70.0, 60.0]},
        {"id": "depth", "depth": "depth.png"},
    ]
    assert all(isinstance(each, Person) for each in outcomes(tmp_path, lines))


@pytest.mark.parametrize(
    "line",
    [
        {"keypoints": coco((0.5, 0.5, 2), (40, 50, 2))},  # a joint in the first pixel
        {"keypoints": coco((119.5, 89.5, 2), (40, 50, 2))},
        {"keypoints": coco((130, 50, 2), (40, 50, 2), (45, 50, 2))},  # one joint beyond the picture
        {"box": [-20, -5, 130, 95], "keypoints": coco((40, 50, 2), (45, 50, 2), (50, 60, 2))},
        {"mask": "mask.png", "keypoints": coco((40, 40, 2), (5, 5, 2), (50, 50, 2))},
    ],
)
def test_what_is_unusual_and_right_is_taken(tmp_path, line):
    (result,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", **line}])
    assert isinstance(result, Person), result


def test_soft_and_whole_masks_are_taken(tmp_path):
    pictures(tmp_path)
    soft = cv2.GaussianBlur(np.pad(np.full((40, 40), 255, np.uint8), ((20, 30), (30, 50))), (0, 0), 3)
    for name, mask in (("soft", soft), ("whole", np.full((HEIGHT, WIDTH), 255, np.uint8))):
        (tmp_path / f"{name}.png").write_bytes(codecs.encode_labels(mask))
        (result,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "mask": f"{name}.png"}])
        assert isinstance(result, Person), result


def test_the_box_is_that_of_the_joints_in_the_picture(tmp_path):
    keypoints = coco((-3, 40, 2), (20, 30, 2), (40, 60, 1), (130, 50, 2))
    (person,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "keypoints": keypoints}])
    assert person.keypoints[:4, 2].tolist() == [0, 1, 1, 0]
    assert np.allclose(person.box[[0, 2]] + person.crop[0], [20 - 3, 40 + 3])


def test_parts_are_of_a_label_map_that_is_named(tmp_path):
    pictures(tmp_path)
    raw = np.zeros((HEIGHT, WIDTH), np.uint8)
    raw[20:60, 30:50], raw[20:60, 50:70], raw[12:15] = 58, 6, 255
    (tmp_path / "raw.png").write_bytes(codecs.encode_labels(raw))
    (person,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "parts": "raw.png"}], label_map="human3.6m-raw")
    assert set(np.unique(codecs.decode_labels(person.parts))) == {0, 4, 24, 255}
    with pytest.raises(UserError, match=r"say whose they are with --label-map: human3.6m, human3.6m-raw, lip"):
        outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "parts": "raw.png"}], label_map="")
    with pytest.raises(UserError, match=r"label_map = 'LIP': label map 'LIP' is unknown; known are human3.6m"):
        build(folder.FolderConfig, {"path": str(tmp_path), "label_map": "LIP"}, "source")
    (refused,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "parts": "raw.png"}], label_map="lip")
    assert "lip has 0..19 and 255; all numbers of the picture would fit human3.6m-raw" in refused.reason
    assert all(isinstance(each, Person) for each in outcomes(tmp_path, [{"rgb": "rgb 1.jpg"}]))


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
        "this is a PNG of 8 bits and 1 channel; 8 bits are a picture of depth to look at": {"depth": "depth 8.png"},
        "this is a PNG of 16 bits and 1 channel: if it is depth, name it as depth": {"rgb": "depth.png"},
        "rgb 120 x 90, depth 120 x 50; register depth": {**good, "depth": "depth small.png"},
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
        "line 21: keypoints.0.0": {**good, "keypoints": [[float("nan"), 1, 1]] * 17},
        "line 22: keypoints.0.2": {**good, "keypoints": [[1, 1, 7]] * 17},
        "has no area": {**good, "box": [10, 10, 5, 5]},
        "lies outside": {**good, "box": [500, 10, 510, 50]},
        "parts: there are labels [77]; human3.6m has 0..24 and 255": {**good, "parts": "parts bad.png"},
        "line 26: depth_unit = '3 feet': must be a unit of depth": {"depth": "depth.png", "depth_unit": "3 feet"},
        "200 m with the depth unit 10cm": {"depth": "depth.png", "depth_unit": "10cm"},
        "id is empty": {**good, "id": " "},
        "is not valid JSON: Exceeds": '{"id": "x", "rgb": "rgb 1.jpg", "subject": ' + "9" * 5000 + "}",
        "line 30: camera": '{"id": "y", "rgb": "rgb 1.jpg", "camera": [1, 1, 1, ' + "9" * 4000 + "]}",
        "has control characters": {**good, "id": "a\x00b"},
        "is not valid Unicode": '{"id": "\\ud800", "rgb": "rgb 1.jpg"}',
        "focal lengths 0.8 and 1.1 cannot be of a 120 x 90 picture; give the camera in pixels": {
            **good,
            "camera": [0.8, 1.1, 0.5, 0.5],
        },
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
    assert build(PersonLine, values, "example").id == "anna-0001"


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


RIGHT = np.column_stack([np.linspace(93, 115, 17), np.linspace(30, 80, 17), np.ones(17)])
SURE = {"min_confidence": 0.5}


@pytest.mark.parametrize(
    ("keypoints", "told", "words", "options"),
    [
        (RIGHT / (WIDTH, HEIGHT, 1), {}, "give --coordinates normalized", {"coordinates": "normalized"}),
        (RIGHT * (1, 1, 80), SURE, "give --full-confidence 100", {**SURE, "full_confidence": 100}),
        (RIGHT * (1, 1, 0.7), {}, "keypoints.0.2 = 0.7 is neither 0, 1 nor 2; if it is a confidence, give", SURE),
        (RIGHT[:, [1, 0, 2]], {}, "all inside with x and y exchanged: give --axes yx", {"axes": "yx"}),
        (RIGHT * (3, 3, 1), {}, "probably --keypoint-size 360,270", {"keypoint_size": (360, 270)}),
    ],
)
def test_keypoints_in_another_convention_are_refused_with_the_option_that_helps(
    tmp_path, keypoints, told, words, options
):
    line = {"rgb": "rgb 1.jpg", "keypoints": keypoints.tolist(), "box": [0, 0, WIDTH, HEIGHT]}
    (rejected,) = outcomes(tmp_path, [line], **told)
    assert isinstance(rejected, Rejected)
    assert words in rejected.reason
    (person,) = outcomes(tmp_path, [line], **options)
    assert isinstance(person, Person), person
    places = person.keypoints[:, :2] * (person.crop[2] / person.size) + person.crop[:2]
    assert np.allclose(places, RIGHT[:, :2], atol=1e-3)


def test_a_joint_outside_the_picture_counts_as_absent(tmp_path):
    """Inside the square, which is wider than the picture, but outside the picture."""
    keypoints = [[60.0, 45, 2], [60, -3, 2], [60, 95, 1], [119.5, 89.5, 1], [120.5, 45, 1]] + [[0, 0, 0]] * 12
    (person,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "keypoints": keypoints, "box": [0, 0, WIDTH, HEIGHT]}])
    assert person.keypoints[:, 2].tolist() == [1, 0, 0, 1, 0] + [0] * 12
    assert person.keypoints[1].tolist() == [0, 0, 0]
    keypoints[0], keypoints[3] = [200, 300, 1], [0, 0, 0]
    (rejected,) = outcomes(tmp_path, [{"rgb": "rgb 1.jpg", "keypoints": keypoints, "box": [0, 0, WIDTH, HEIGHT]}])
    assert "of the joints lie outside their pictures" in rejected.reason


@pytest.mark.parametrize("orientation", sorted(SIDES))
def test_a_turned_row_is_upright_with_its_labels(tmp_path, orientation):
    """All four files are turned by their own tag, and what was labeled on the upright picture lies on it."""
    pictures(tmp_path)
    seen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seen[20:40, 30:50], seen[40:70, 60:70] = (250, 0, 0), (0, 0, 250)
    depth = np.where(seen.any(2), np.uint16(1500), np.uint16(0))
    depth[20:40, 30:50] = 2500
    parts = np.where(seen[..., 0] > 0, np.uint8(3), np.where(seen[..., 2] > 0, np.uint8(9), np.uint8(0)))
    mask = np.where(seen.any(2), np.uint8(255), np.uint8(0))
    for suffix, encode in ((".jpg", codecs.encode_rgb), (".png", codecs.encode_png)):
        (tmp_path / f"rgb{suffix}").write_bytes(tagged(encode(as_stored(seen, orientation)), orientation))
    (tmp_path / "d.png").write_bytes(tagged(codecs.encode_depth(as_stored(depth, orientation), "png16"), orientation))
    for name, labels in (("p.png", parts), ("m.png", mask)):
        (tmp_path / name).write_bytes(tagged(codecs.encode_labels(as_stored(labels, orientation)), orientation))
    keypoints = [[40.5, 30.5, 2], [65.5, 60.5, 2], [65.5, 45.5, 1]] + [[0, 0, 0]] * 14
    line = {"depth": "d.png", "parts": "p.png", "mask": "m.png", "keypoints": keypoints}
    people = outcomes(tmp_path, [{**line, "rgb": "rgb.jpg"}, {**line, "rgb": "rgb.png"}])
    for person in people:
        assert isinstance(person, Person), person
        assert person.crop.tolist()[3:] == [WIDTH, HEIGHT]
        x0, y0 = person.crop[:2].astype(int)
        inside = np.s_[20 - y0 : 70 - y0, 30 - x0 : 70 - x0]
        for data, given in ((person.parts, parts), (person.mask, mask)):
            assert np.array_equal(codecs.decode_labels(data)[inside], given[20:70, 30:70])
        assert np.array_equal(codecs.decode_depth(person.depth, "png16")[inside], depth[20:70, 30:70])
        rgb = codecs.decode_rgb(person.rgb)
        for (x, y, v), color in zip(person.keypoints[:3], ((250, 0, 0), (0, 0, 250), (0, 0, 250)), strict=True):
            assert v == 1
            assert np.abs(rgb[int(y), int(x)].astype(int) - color).max() < 40
    # The same files as they are stored: a program that ignores orientation labeled the stored pixels.
    width, height = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    (person, _) = outcomes(
        tmp_path, [{**line, "keypoints": None, "rgb": name} for name in ("rgb.jpg", "rgb.png")], orientation="stored"
    )
    assert person.crop.tolist()[3:] == [width, height]
    stored = as_stored(parts, orientation)
    rows, columns = np.flatnonzero(stored.any(1)), np.flatnonzero(stored.any(0))
    x0, y0 = person.crop[:2].astype(int)
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    moved = np.s_[rows[0] - y0 : rows[-1] + 1 - y0, columns[0] - x0 : columns[-1] + 1 - x0]
    assert np.array_equal(codecs.decode_labels(person.parts)[moved], stored[inside])


def test_files_of_a_line_that_are_turned_differently_are_refused_with_what_to_do(tmp_path):
    pictures(tmp_path)
    rgb, depth = (tmp_path / "rgb 1.jpg").read_bytes(), (tmp_path / "depth.png").read_bytes()
    for orientation in (1, 3, 6):
        (tmp_path / f"{orientation}.jpg").write_bytes(tagged(rgb, orientation))
        (tmp_path / f"{orientation}.png").write_bytes(tagged(depth, orientation))
    (tmp_path / "upright.png").write_bytes(codecs.encode_depth(np.full((WIDTH, HEIGHT), 2000, np.uint16), "png16"))
    lines = [
        {"id": "same", "rgb": "6.jpg", "depth": "6.png"},
        {"id": "sizes tell that it is upright", "rgb": "6.jpg", "depth": "upright.png"},
        {"id": "sizes tell that it is not", "rgb": "6.jpg", "depth": "depth.png"},
        {"id": "nothing tells", "rgb": "3.jpg", "depth": "depth.png"},
    ]
    same, told, stored, unknown = outcomes(tmp_path, lines)
    assert isinstance(same, Person)
    assert isinstance(told, Person)
    assert "rgb 90 x 120, depth 120 x 90: the files declare the orientations (EXIF) rgb 6, depth 1" in stored.reason
    for refused in (stored, unknown):
        assert "save all of them upright, or give --orientation stored" in refused.reason
    # What it says helps.
    assert all(isinstance(each, Person) for each in outcomes(tmp_path, [lines[2], lines[3]], orientation="stored"))


def test_turned_pictures_beside_their_cameras_are_refused_with_what_to_do(tmp_path):
    """camera.json tells how the camera saw the pictures, which is how they are stored."""
    pictures(tmp_path)
    camera = {"width": WIDTH, "height": HEIGHT, "fx": 100, "fy": 100, "cx": 60, "cy": 45}
    (tmp_path / "camera.json").write_text(json.dumps({"color": camera}))
    (tmp_path / "turned.jpg").write_bytes(tagged((tmp_path / "rgb 1.jpg").read_bytes(), 3))
    (refused,) = outcomes(tmp_path, [{"rgb": "turned.jpg"}])
    assert "camera.json saw the pictures as they are stored, and the files declare the orientations (EXIF) rgb 3" in (
        refused.reason
    )
    assert "; give --orientation stored" in refused.reason
    (person,) = outcomes(tmp_path, [{"rgb": "turned.jpg"}], orientation="stored")
    assert isinstance(person, Person)


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
