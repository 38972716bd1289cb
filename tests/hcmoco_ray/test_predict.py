"""The program on generated pictures, with small models of random weights: its output equals the task's predictions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.codecs import (
    decode_depth,
    decode_iuv,
    decode_labels,
    decode_rgb,
    encode_depth,
    encode_png,
    encode_rgb,
)  # fmt: skip
from hcmoco.data.pinhole import project
from hcmoco.finetuning.saved_model import load_model
from hcmoco.inference.inputs import find_inputs
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco_ray.commands.predict import main
from tests.helpers.called import Called
from tests.helpers.drawn_models import SIDE, write_models
from tests.helpers.oriented import SIDES, as_seen, as_stored, tagged
from tests.helpers.started import Started
from tests.helpers.tolerances import assert_labels_close

ROOT = Path(__file__).parents[2]
AT = 150, 90


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a model of each task."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def person():
    return make_person(PeopleConfig(size=SIDE, seed=4), 2, dataset="people", split="train")


class Done(Called):
    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "predictions.jsonl").read_text().splitlines()]

    @property
    def error(self) -> str:
        assert self.status == 2, self
        *_, last = self.err.splitlines()
        assert last.startswith("error: "), self.err
        assert "Traceback" not in self.err
        return last.removeprefix("error: ")


@pytest.fixture
def predict(models, tmp_path, capsys):
    def call(images, name="parsing-rgb", *more, out="out") -> Done:
        capsys.readouterr()
        status = main(
            [
                str(images),
                f"--weights={models / name}",
                f"--out={tmp_path / out}",
                "--device=cpu",
                "--threads=1",
                *map(str, more),
            ]
        )
        said = capsys.readouterr()
        return Done(status, said.out, said.err, tmp_path / out)

    return call


def on_record(models: Path, name: str, row: dict) -> dict:
    saved = load_model(str(models / name))
    task = saved.task()
    with torch.inference_mode():
        return task.predict(saved.model(), task.make_batch([row], None), torch.device("cpu"))[0]


def pasted(image: np.ndarray, width: int, height: int, at: tuple[int, int]) -> np.ndarray:
    """The image on an empty picture, its corner at x, y; what does not fit is cut."""
    canvas = np.zeros((height + 2 * SIDE, width + 2 * SIDE, *image.shape[2:]), image.dtype)
    canvas[at[1] + SIDE : at[1] + SIDE + len(image), at[0] + SIDE : at[0] + SIDE + len(image)] = image
    return canvas[SIDE:-SIDE, SIDE:-SIDE]


def square_of(picture: np.ndarray, at: tuple[int, int], side: int) -> np.ndarray:
    """The square of a picture whose corner is at x, y; 0 outside."""
    return np.pad(picture, side)[at[1] + side : at[1] + 2 * side, at[0] + side : at[0] + 2 * side]


def middle_box(at: tuple[int, int], side: int = SIDE) -> list[float]:
    """The box whose stored square is the one of this side at x, y."""
    rest = side / 6
    return [at[0] + rest, at[1] + rest, at[0] + side - rest, at[1] + side - rest]


def text(values) -> str:
    return ",".join(map(str, values))


def photo(path: Path, width: int = 120, height: int = 90, seed: int = 0) -> Path:
    """A picture of colored blobs."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image)
    assert done
    path.write_bytes(data.tobytes())
    return path


@pytest.mark.parametrize("at", [AT, (-20, 30), (260, 190)])
def test_parts_of_a_crop_are_those_of_the_record_in_their_place(models, person, predict, tmp_path, at):
    picture = pasted(decode_depth(person.depth, "png16"), 300, 220, at)
    (tmp_path / "d.png").write_bytes(encode_depth(picture, "png16"))
    done = predict(tmp_path / "d.png", "parsing-depth", f"--box={text(middle_box(at))}")
    # What of the square is outside the picture is unknown, and empty.
    seen = square_of(picture, at, SIDE)
    expected = on_record(
        models, "parsing-depth", {**person.to_row(0), "depth": encode_depth(seen, "png16"), "parts": None}
    )["parts"]
    assert len(np.unique(expected)) > 2
    (one,) = done.lines[0]["people"]
    labels = decode_labels((done.folder / one["parts"]).read_bytes())
    assert one["crop"] == [at[0], at[1], at[0] + SIDE, at[1] + SIDE]
    np.testing.assert_array_equal(labels, pasted(expected, 300, 220, at))


def test_parts_of_a_large_picture_have_its_resolution(models, person, predict, tmp_path):
    picture = pasted(decode_depth(person.depth, "png16"), 100, 110, (20, 30))
    (tmp_path / "d.png").write_bytes(encode_depth(np.kron(picture, np.ones((3, 3), np.uint16)), "png16"))
    done = predict(tmp_path / "d.png", "parsing-depth", f"--box={text(middle_box((60, 90), 3 * SIDE))}")
    labels = decode_labels((done.folder / done.lines[0]["people"][0]["parts"]).read_bytes())
    assert labels.shape == (330, 300)
    expected = pasted(
        on_record(models, "parsing-depth", {**person.to_row(0), "parts": None})["parts"], 100, 110, (20, 30)
    )
    # The middle pixel of each 3 x 3 lies where the smaller picture's pixel lies, and the network has seen the same.
    assert (labels[1::3, 1::3] == expected).mean() > 0.999
    assert (labels != np.kron(expected, np.ones((3, 3), np.uint8))).any()


def test_parts_of_rgb_lie_on_the_person(models, person, predict, tmp_path):
    rgb = decode_rgb(person.rgb)
    cv2.imwrite(str(tmp_path / "p.png"), pasted(rgb, 300, 220, AT)[..., ::-1])
    done = predict(tmp_path / "p.png", "parsing-rgb", f"--box={text(middle_box(AT))}")
    labels = decode_labels((done.folder / done.lines[0]["people"][0]["parts"]).read_bytes())
    # Crops are stored as JPEG, as in training, here for the second time.
    expected = on_record(models, "parsing-rgb", {**person.to_row(0), "rgb": encode_rgb(rgb), "parts": None})["parts"]
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(labels, pasted(expected, 300, 220, AT))


def test_a_whole_picture_is_padded_to_a_square(models, predict, tmp_path):
    path = photo(tmp_path / "wide.png", 64, 40)
    done = predict(path)
    line = done.lines[0]
    assert (line["width"], line["height"]) == (64, 40)
    assert line["people"][0]["crop"] == [0, -12, 64, 52]
    assert line["people"][0]["box"] is None
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[12:52] = decode_rgb(path.read_bytes())
    expected = on_record(models, "parsing-rgb", {"id": "x", "size": 64, "rgb": encode_rgb(rgb)})["parts"]
    np.testing.assert_array_equal(
        decode_labels((done.folder / line["people"][0]["parts"]).read_bytes()), expected[12:52]
    )


def test_boxes_of_a_file_are_one_person_each(person, predict, tmp_path):
    depth = decode_depth(person.depth, "png16")
    picture = np.maximum(pasted(depth, 300, 220, (10, 20)), pasted(depth, 300, 220, AT))
    (tmp_path / "in").mkdir()
    for name in ("crowd.png", "nobody.png"):
        (tmp_path / "in" / name).write_bytes(encode_depth(picture, "png16"))
    boxes = [{"image": "crowd.png", "box": middle_box(at)} for at in ((10, 20), AT)]
    (tmp_path / "boxes.jsonl").write_text("\n".join(map(json.dumps, boxes)))
    done = predict(tmp_path / "in", "parsing-depth", f"--boxes={tmp_path / 'boxes.jsonl'}")
    crowd, nobody = done.lines
    assert done.status == 0
    assert "boxes has none" in nobody["error"]
    first, second = (decode_labels((done.folder / each["parts"]).read_bytes()) for each in crowd["people"])
    assert_labels_close(first[20:84, 10:74], second[90:154, 150:214])  # two places of one batch
    assert first[20:84, 10:74].any()
    assert not first[:, 74:].any()


def test_joints_are_in_meters_and_in_pixels_of_the_picture(models, person, predict, tmp_path):
    fx, fy, cx, cy = (float(each) for each in person.camera)
    box = [float(person.box[number]) + AT[number % 2] for number in range(4)]
    picture = pasted(decode_depth(person.depth, "png16"), 300, 220, AT)
    camera = [fx, fy, cx + AT[0], cy + AT[1]]
    (tmp_path / "mm.png").write_bytes(encode_depth(picture, "png16"))
    (tmp_path / "fifth.png").write_bytes(encode_depth(picture * np.uint16(5), "png16"))
    one, other = (
        predict(tmp_path / name, "pose", f"--box={text(box)}", f"--camera={text(camera)}", *more, out=f"of {name}")
        for name, *more in (("mm.png",), ("fifth.png", "--depth-unit=0.2mm"))
    )
    (found,) = one.lines[0]["people"]
    joints2d, joints3d = np.array(found["joints2d"]), np.array(found["joints3d"])
    np.testing.assert_allclose(joints2d, project(joints3d, np.array(camera)), atol=0.02)
    assert other.lines[0]["people"] == one.lines[0]["people"]
    assert json.loads((one.folder / "about.json").read_text())["joint_names"] == list(
        load_model(str(models / "pose")).task().joints.joints
    )

    left, top, right, _ = (round(each) for each in found["crop"])
    side = right - left
    assert side <= SIDE, "the crop would be made smaller"
    seen = square_of(picture, (left, top), side)
    moved = {
        "id": "x",
        "size": side,
        "depth": encode_depth(seen, "png16"),
        "camera": [fx, fy, camera[2] - left, camera[3] - top],
    }
    moved["box"] = [each - (left, top)[number % 2] for number, each in enumerate(box)]
    np.testing.assert_allclose(joints3d, on_record(models, "pose", moved)["joints3d"], atol=2e-4)


def test_the_box_of_a_depth_picture_is_that_of_its_readings(person, predict, tmp_path):
    picture = pasted(decode_depth(person.depth, "png16"), 300, 220, AT)
    (tmp_path / "d.png").write_bytes(encode_depth(picture, "png16"))
    (found,) = predict(tmp_path / "d.png", "pose", "--camera=80,80,150,110").lines[0]["people"]
    rows, columns = np.nonzero(picture)
    assert found["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found["box_from"] == "readings"


@pytest.mark.parametrize(("width", "height"), [(160, 120), (2048, 1500)])
def test_surfaces_lie_over_their_frames(models, predict, tmp_path, width, height):
    path = photo(tmp_path / "scene.png", width, height)
    done = predict(path, "densepose", "--min-score=0")
    people = done.lines[0]["people"]
    assert people
    row = {"id": "x", "rgb": path.read_bytes(), "width": width, "height": height, "instances": []}
    if width < 1000:
        expected = on_record(models, "densepose", row)
        np.testing.assert_allclose([each["box"] for each in people], expected["boxes"], atol=1e-3)
    for number, each in enumerate(people):
        x0, y0, x1, y1 = each["frame"]
        assert 0 <= x0 <= each["box"][0] < each["box"][2] <= x1 <= width
        assert 0 <= y0 <= each["box"][1] < each["box"][3] <= y1 <= height
        assert max(each["box"][0] - x0, each["box"][1] - y0, x1 - each["box"][2], y1 - each["box"][3]) < 1
        iuv = decode_iuv((done.folder / each["iuv"]).read_bytes())
        assert iuv.shape == (y1 - y0, x1 - x0, 3)
        if width < 1000:
            truth = expected["iuv"][number]
            np.testing.assert_array_equal(iuv[..., 0], truth[..., 0])
            assert np.abs(iuv[..., 1:] / 255 - truth[..., 1:]).max() <= 0.5 / 255 + 1e-6


def test_people_of_low_score_are_left_out(predict, tmp_path):
    path = photo(tmp_path / "scene.png")
    scores = [each["score"] for each in predict(path, "densepose", "--min-score=0").lines[0]["people"]]
    limit = sorted(scores)[1]
    assert len(predict(path, "densepose", f"--min-score={limit + 1e-4}").lines[0]["people"]) < len(scores)
    none = predict(path, "densepose", "--min-score=1")
    assert (none.status, none.lines[0]["people"]) == (0, [])


def test_every_orientation_is_turned_upright(predict, tmp_path, person):
    seen = decode_rgb(photo(tmp_path / "p.png", 96, 64).read_bytes())
    depth = pasted(decode_depth(person.depth, "png16"), 100, 80, (10, 12))
    for folder in ("rgb", "depth", "expected"):
        (tmp_path / folder).mkdir()
    for orientation in SIDES:
        stored = as_stored(seen, orientation)
        for suffix, data in ((".png", encode_png(stored)), (".jpg", encode_rgb(stored))):
            (tmp_path / "rgb" / f"{orientation}{suffix}").write_bytes(tagged(data, orientation))
            # What a JPEG loses depends on how it lies.
            upright = as_seen(decode_rgb(data), orientation)
            (tmp_path / "expected" / f"{orientation}{suffix}.png").write_bytes(encode_png(upright))
        data = encode_depth(as_stored(depth, orientation), "png16")
        (tmp_path / "depth" / f"{orientation}.png").write_bytes(tagged(data, orientation))

    def parts(name: str, task: str) -> list[np.ndarray]:
        done = predict(tmp_path / name, task, "--box=picture", out=f"out-{name}")
        assert done.status == 0, done.err
        for line in done.lines:
            shape = depth.shape if name == "depth" else seen.shape
            assert (line["height"], line["width"]) == shape[:2], line["image"]
        return [decode_labels((done.folder / line["people"][0]["parts"]).read_bytes()) for line in done.lines]

    for found, expected in zip(parts("rgb", "parsing-rgb"), parts("expected", "parsing-rgb"), strict=True):
        assert_labels_close(found, expected)
    first, *others = parts("depth", "parsing-depth")
    assert len(np.unique(first)) > 1
    for other in others:
        assert_labels_close(other, first)


def test_other_batches_give_the_same_results_to_rounding(predict, tmp_path):
    for number in range(5):
        photo(tmp_path / "in" / f"{number}.png", 100 + 8 * number, 90, number)
    one, other = (predict(tmp_path / "in", "parsing-rgb", f"--batch={batch}", out=f"out{batch}") for batch in (1, 4))
    assert one.lines == other.lines
    for line in one.lines:
        labels = [decode_labels((each.folder / line["people"][0]["parts"]).read_bytes()) for each in (one, other)]
        assert_labels_close(*labels)
        drawn = [(each.folder / line["picture"]).read_bytes() for each in (one, other)]
        assert (drawn[0] == drawn[1]) or not np.array_equal(*labels)


def test_names_stay_apart(predict, tmp_path):
    names = [
        "a.jpg",
        "a.png",
        "A b ü.JPG",
        "sub/a.jpg",
        "sub/a.jpg.png",
        "x" * 250 + ".png",
        "x" * 249 + "y.png",
        os.fsdecode(b"\xff.png"),
    ]
    for number, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo(tmp_path / f"{number}{path.suffix.lower()}", seed=number), path)
    for hidden in (".a.jpg", ".trash/b.jpg"):
        photo(tmp_path / "in" / hidden)
    done = predict(tmp_path / "in")
    assert done.status == 0, done.err
    assert [line["image"] for line in done.lines] == sorted(names)
    files = [each for line in done.lines for each in (line["picture"], line["people"][0]["parts"])]
    assert len(set(files)) == 2 * len(names)
    assert all((done.folder / each).is_file() for each in files)


def test_broken_pictures_are_rejected(predict, tmp_path):
    good = photo(tmp_path / "in" / "good.jpg")
    (tmp_path / "in" / "cut.jpg").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "text.png").write_text("not a picture")
    (tmp_path / "in" / "deep.png").write_bytes(encode_depth(np.full((40, 40), 2000, np.uint16), "png16"))
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    photo(tmp_path / "in" / "tiny.png", 3, 3)
    (tmp_path / "in" / "folder.png").mkdir()
    done = predict(tmp_path / "in")
    assert done.status == 0
    reasons = {line["image"]: line["error"] for line in done.lines}
    assert reasons.pop("good.jpg") is None
    wanted = {
        "cut.jpg": "end marker",
        "empty.png": "empty",
        "text.png": "the picture is none of what is read; save it as JPEG",
        "deep.png": "8 bits per channel",
        "gone.png": "does not exist",
        "tiny.png": "3 x 3",
    }
    assert reasons.keys() == wanted.keys()
    assert [name for name, part in wanted.items() if part not in reasons[name]] == []
    assert "1 picture, 1 person, 6 rejected" in done.out
    assert json.loads((done.folder / "about.json").read_text())["set_aside"] == 6
    (tmp_path / "in" / "good.jpg").unlink()
    assert "none of 6 pictures could be used" in predict(tmp_path / "in").error


def test_a_second_run_replaces_the_first_and_nothing_else(predict, tmp_path):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    first = predict(tmp_path / "in")
    (first.folder / "notes.txt").write_text("mine")
    (first.folder / "labels" / "mine.png").write_bytes(b"mine")
    (tmp_path / "in" / "a.png").unlink()
    second = predict(tmp_path / "in")
    assert second.status == 0
    files = {str(path.relative_to(second.folder)) for path in second.folder.rglob("*") if path.is_file()}
    own = {"about.json", "index.jpg", "labels/b.png.0.png", "pictures/b.png.jpg", "predictions.jsonl"}
    own |= {"overlays/b.png.png", "legend.png", "coco/images.json", "coco/segmentation.json"}
    assert files == own | {"notes.txt", "labels/mine.png"}


def test_results_beside_the_pictures_are_not_read_again(predict, tmp_path):
    photo(tmp_path / "a.png")
    for _ in range(2):
        assert [line["image"] for line in predict(tmp_path).lines] == ["a.png"]


def test_linked_folders_are_followed_once_and_the_rest_is_counted(predict, tmp_path):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "real" / "b.png", seed=1)
    photo(tmp_path / "elsewhere" / "deep" / "c.png", seed=2)
    (tmp_path / "in" / "disk").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "real")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "in")
    photo(tmp_path / "in" / ".trash" / "d.png")
    for name in ("notes.txt", "more.TXT", "photo.heic", "README"):
        (tmp_path / "in" / name).write_text("x")
    done = predict(tmp_path / "in")
    assert done.status == 0, done.err
    assert [line["image"] for line in done.lines] == ["a.png", "disk/deep/c.png", "real/b.png"]
    counted = [
        "files of .txt: 2, such as ",
        "linked folders that are read under another name: 2, such as ",
        "names that begin with a dot: 1, such as .trash",
        "files of .heic: 1, such as photo.heic",
        "files without a suffix: 1, such as README",
    ]
    said = [line.removeprefix("passed over: ") for line in done.out.splitlines() if line.startswith("passed over: ")]
    assert len(said) == len(counted)
    assert all(any(line.startswith(each) for line in said) for each in counted), said
    assert json.loads((done.folder / "about.json").read_text())["passed_over"] == said


def test_a_folder_that_cannot_be_opened_is_said():
    """As a user without rights, which root has to become for this."""
    root = Path(tempfile.mkdtemp())
    own = os.geteuid()
    try:
        photo(root / "in" / "a.png")
        photo(root / "in" / "closed" / "b.png")
        root.chmod(0o755)
        (root / "in" / "closed").chmod(0)
        if own == 0:
            os.seteuid(65534)
        found = find_inputs([str(root / "in")], "about.json")
    finally:
        os.seteuid(own)
        (root / "in" / "closed").chmod(0o755)
        shutil.rmtree(root)
    assert [each.name for each in found.files] == ["a.png"]
    assert found.passed_over == ("folders that cannot be opened (Permission denied): 1, such as closed",)


def test_a_folder_of_other_things_is_refused(predict, tmp_path):
    photo(tmp_path / "in" / "a.png")
    assert "holds other files" in predict(tmp_path / "in", out="in").error
    (tmp_path / "file").write_text("x")
    assert "is a file" in predict(tmp_path / "in", out="file").error
    assert sorted(each.name for each in (tmp_path / "in").iterdir()) == ["a.png"]


@pytest.mark.parametrize(
    ("images", "name", "more", "said"),
    [
        ("nowhere", "parsing-rgb", [], "does not exist; give a picture"),
        ("texts", "parsing-rgb", [], "(there are files of .txt: 1, such as a.txt)"),
        ("rgb.png", "pose", [], "--camera 365.5,365.5"),
        ("rgb.png", "pose", ["--camera=1,2,3"], "four numbers"),
        ("rgb.png", "pose", ["--camera=0,2,3,4"], "above 0"),
        (
            "rgb.png",
            "pose",
            ["--camera=80,80,60,40"],
            "depth must be a 16-bit PNG, 16-bit or floating-point TIFF, EXR, NPY or MAT, of one channel",
        ),
        ("depth.png", "pose", ["--camera=80,80,25,20", "--depth-unit=m"], "mm was probably meant (then 2 m away)"),
        (
            "rgb.png",
            "parsing-depth",
            [],
            "of one channel, this is a PNG of 8 bits and 3 channels; 8 bits are a picture of depth to look at",
        ),
        ("depth.png", "parsing-rgb", [], "16-bit depth is for parsing-depth and pose"),
        (
            "depth.png",
            "parsing-depth",
            ["--depth-unit=10cm"],
            "mm was probably meant (then 2 m away), give --depth-unit",
        ),
        ("depth.png", "parsing-depth", ["--depth-unit=0"], "must be a unit of depth with its name: write mm, m, cm"),
        ("rgb.png", "parsing-rgb", ["--depth-unit=mm"], "--depth-unit is for parsing-depth and pose"),
        ("none.png", "parsing-depth", [], "no pixel has a depth reading"),
        ("depth.png", "parsing-depth", ["--box=500,500,600,600"], "no pixel in the box"),
        ("rgb.png", "parsing-rgb", ["--box=500,500,600,600"], "lies outside"),
        (
            "rgb.png",
            "parsing-rgb",
            ["--box=30,0,20,10"],
            "left, top, width and height would be [30.0, 0.0, 50.0, 10.0]",
        ),
        ("rgb.png", "parsing-rgb", ["--box=0.1,0.2,0.5,0.9"], "most probably of shares of the picture; give pixels"),
        ("rgb.png", "parsing-rgb", ["--box=a"], "four numbers"),
        ("rgb.png", "parsing-rgb", ["--box=nan,0,20,10"], "four numbers"),
        ("rgb.png", "parsing-rgb", ["--boxes=missing.jsonl"], "does not exist"),
        ("rgb.png", "parsing-rgb", ["--task=pose"], "is of parsing-rgb, --task says pose"),
        ("rgb.png", "parsing-rgb", ["--camera=80,80,60,40"], "--camera is for pose"),
        ("rgb.png", "densepose", ["--box=picture"], "--box is for parsing-rgb"),
        ("rgb.png", "densepose", ["--min-score=2"], "from 0 to 1"),
        ("rgb.png", "parsing-rgb", ["--batch=0"], "at least 1"),
        ("rgb.png", "nothing", [], "holds no fine-tuned model"),
    ],
)
def test_mistakes_are_one_line(predict, tmp_path, images, name, more, said):
    photo(tmp_path / "rgb.png")
    (tmp_path / "depth.png").write_bytes(encode_depth(np.full((40, 50), 2000, np.uint16), "png16"))
    (tmp_path / "none.png").write_bytes(encode_depth(np.zeros((40, 50), np.uint16), "png16"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    assert said in predict(tmp_path / images, name, *more).error


@pytest.mark.parametrize(("scale", "unit"), [("5000", "0.2mm"), ("1000", "mm"), ("1", "m"), ("4000", "0.25mm")])
def test_the_old_depth_scale_is_told_its_unit_and_the_unit_helps(predict, tmp_path, scale, unit):
    (tmp_path / "d.png").write_bytes(encode_depth(np.full((40, 50), round(2 * float(scale)), np.uint16), "png16"))
    told = predict(tmp_path / "d.png", "parsing-depth", f"--depth-scale={scale}").error
    assert told.strip() == f"--depth-scale is now --depth-unit: give --depth-unit {unit}"
    assert predict(tmp_path / "d.png", "parsing-depth", *told.rsplit("give ", 1)[1].split()).status == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not valid JSON"),
        ('{"image": "rgb.png"}', "line 1 is not of the form"),
        ('{"image": "rgb.png", "box": [1, 2, 3]}', "must be four numbers"),
        ('{"image": "rgb.png", "box": [1, 2, NaN, 9]}', "must be four numbers"),
        ('{"image": "rgb.png", "box": [30, 2, 20, 9]}', "with x0 < x1"),
        ('{"image": "rgb.png", "box": [0, 0.2, 1, 1]}', "most probably of shares of the picture"),
        ('{"image": "other.png", "box": [1, 2, 3, 4]}', "is none of the 1 files, for example 'rgb.png'"),
        ("", "has no line"),
    ],
)
def test_a_wrong_file_of_boxes_is_one_line(predict, tmp_path, line, said):
    photo(tmp_path / "rgb.png")
    (tmp_path / "boxes.jsonl").write_text(line)
    assert said in predict(tmp_path / "rgb.png", "parsing-rgb", f"--boxes={tmp_path / 'boxes.jsonl'}").error


PROGRAM = """
import sys
from hcmoco_ray.commands.predict import main
status = main(sys.argv[1:])
print(sorted({"ray", "mlflow", "pandas"} & {name.split(".")[0] for name in sys.modules}))
sys.exit(status)
"""


@pytest.mark.slow
def test_no_cluster_is_imported(models, tmp_path):
    path = photo(tmp_path / "a.png")
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(path),
        f"--weights={models / 'densepose'}",
        f"--out={tmp_path / 'out'}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith("densepose of ")


@pytest.mark.slow
def test_what_was_predicted_before_a_signal_is_there(models, tmp_path):
    for number in range(500):
        photo(tmp_path / "photos" / f"{number:03d}.png")
    out = tmp_path / "out"
    program = Started(
        "pipelines/predict.py",
        str(tmp_path / "photos"),
        f"--weights={models / 'densepose'}",
        f"--out={out}",
        "--threads=1",
    )
    program.until(lambda: any(out.glob("pictures/*")))
    status, said = program.stop(signal.SIGTERM)
    assert status == 143
    assert said.endswith(
        f"\nstopped; {out}/predictions.jsonl has what was predicted so far, the same command starts again\n"
    )
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert 0 < len(lines) < 500
