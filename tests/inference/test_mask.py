"""predict on depth with a background: the line that tells it, and --mask, which gives the person's result back."""

import json
from pathlib import Path

import numpy as np
import pytest

from hcmoco.data.codecs import decode_labels, encode_depth
from hcmoco.tasks.parsing import ParsingConfig
from hcmoco.tasks.pose import HeadConfig, PoseConfig
from hcmoco_ray.commands.predict import main
from tests.helpers import masked_people
from tests.helpers.called import Called
from tests.helpers.masked_people import SIDE

STILL = {"scale": (1.0, 1.0), "shift": 0, "rotation": 0, "flip_probability": 0}
PARSING = ParsingConfig(name="parsing-depth", size=SIDE, augment=STILL)
POSE = PoseConfig(
    size=SIDE, joints="people-31", jitter=0, rotation=0, scale=(1.0, 1.0),
    head=HeadConfig(num_convolutions=1, channels=64, anchor_offsets=(2.0,), reduce=64),
)  # fmt: skip
WARNING = "warning: the model of {} was trained on depth that is masked to the person, depth of {} is unmasked"


class Done(Called):
    @property
    def people(self) -> list[dict]:
        lines = map(json.loads, (self.folder / "predictions.jsonl").read_text().splitlines())
        return [person for line in lines for person in line["people"]]

    @property
    def about(self) -> dict:
        return json.loads((self.folder / "about.json").read_text())


def labels(done: Done) -> list[np.ndarray]:
    return [decode_labels((done.folder / each["parts"]).read_bytes()) for each in done.people]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Pictures of five people, and a model for each masking whose weights were drawn."""
    root = tmp_path_factory.mktemp("drawn")
    masked_people.write(root, masked_people.people(5))
    for masking in ("masked", "unmasked", "mixed", "unknown"):
        known = "" if masking == "unknown" else masking
        masked_people.learn(root / masking, PARSING, [], steps=0, rate=0.01, masking=known)
    return root


def predict(capsys, out, root, *more, images="depth", weights="masked") -> Done:
    capsys.readouterr()
    arguments = [root / images, "--weights", root / weights, "--out", out, "--device=cpu", "--threads=1", *more]
    status = main([str(each) for each in arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return Done(status, said.out, said.err, out)


def test_a_background_that_the_model_has_not_seen_is_told_in_a_line(drawn, tmp_path, capsys):
    done = predict(capsys, tmp_path / "out", drawn)
    (line,) = [each for each in done.out.splitlines() if each.startswith("warning:")]
    assert line.startswith(WARNING.format(drawn / "masked", "5 of 5 pictures"))
    assert line.endswith("give --mask, as --help says")
    assert done.about["unmasked"] == 5
    assert done.about["warning"] == line


@pytest.mark.parametrize("way", ["masks", "background", "empty.png"])
def test_the_advice_helps(drawn, tmp_path, capsys, way):
    mask = way if way == "background" else drawn / way
    done = predict(capsys, tmp_path / "out", drawn, "--mask", mask)
    assert done.status == 0
    assert "warning:" not in done.out
    assert done.about["unmasked"] == 0
    by = {"masks": "mask folder", "background": "background of the frames themselves"}
    assert done.about["mask"]["by"] == by.get(way, "depth pictures of the empty scene")


def test_with_masks_the_result_is_that_of_the_masked_picture(drawn, tmp_path, capsys):
    (tmp_path / "masked").mkdir()
    for number, each in enumerate(masked_people.people(5)):
        alone = np.where(each.mask, each.depth, np.uint16(0))
        (tmp_path / "masked" / f"{number:03d}.png").write_bytes(encode_depth(alone, "png16"))
    one = predict(capsys, tmp_path / "one", drawn, "--mask", drawn / "masks")
    other = predict(capsys, tmp_path / "other", drawn, images=tmp_path / "masked")
    for mine, right in zip(labels(one), labels(other), strict=True):
        np.testing.assert_array_equal(mine, right)
    assert [each["box"] for each in one.people] == [each["box"] for each in other.people]
    assert "warning:" not in other.out


@pytest.mark.parametrize(("weights", "told"), [("unmasked", True), ("mixed", False), ("unknown", False)])
def test_masked_pictures_are_told_to_a_model_of_whole_ones(drawn, tmp_path, capsys, weights, told):
    done = predict(capsys, tmp_path / "out", drawn, "--mask", drawn / "masks", weights=weights)
    lines = [each for each in done.out.splitlines() if each.startswith("warning:")]
    assert len(lines) == told
    if told:
        assert (
            "is masked to the person: the results mean little; give depth with its background, or weights" in lines[0]
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mask", "nowhere"], "--mask nowhere does not exist; give a folder of masks"),
        (["--mask", "{root}/masks/000.png"], "is one mask, and there are 5 pictures; give the folder of their masks"),
        (["--mask", "{root}/w.pth"], "looks at RGB: name the folder of pictures that show the same with --rgb"),
        (["--mask", "{root}/masks", "--rgb", "{root}"], "--rgb is for --mask with the weight file of a Mask R-CNN"),
        (["--rgb", "{root}"], "--rgb is for --mask with the weight file of a Mask R-CNN, and for --person-detector"),
        (["--background-tolerance", "9"], "--background-tolerance counts only with --mask, and there is none; leave"),
        (["--mask", "background", "--background-tolerance", "0"], "must be from 1 to 1000"),
    ],
)
def test_what_cannot_mask_is_one_line(drawn, tmp_path, capsys, arguments, message):
    (drawn / "w.pth").write_bytes(b"x")
    done = predict(capsys, tmp_path / "out", drawn, *[each.format(root=drawn) for each in arguments])
    assert done.status == 2
    assert message in done.err.splitlines()[-1]


def test_a_picture_without_a_mask_is_rejected_with_the_reason(drawn, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    for name in ("000.png", "001.png"):
        (tmp_path / "masks" / name).write_bytes((drawn / "masks" / name).read_bytes())
    done = predict(capsys, tmp_path / "out", drawn, "--mask", tmp_path / "masks")
    assert done.status == 0
    assert "rejected 002.png: mask: its picture '002' does not exist in" in done.err
    assert "2 pictures, 2 persons, 3 rejected" in done.out or "3 rejected" in done.out


@pytest.mark.slow
def test_the_mask_gives_the_right_result_back(tmp_path, capsys):
    """Parts and joints of people that a model knows by heart: masked, with their background, and with --mask."""
    seen = masked_people.people(6)
    masked_people.write(tmp_path, seen)
    masked_people.learn(tmp_path / "parsing", PARSING, seen, steps=160, rate=0.01)
    masked_people.learn(tmp_path / "pose", POSE, seen, steps=90, rate=2e-3)
    ways = {
        "as it is": [],
        "masks": ["--mask", tmp_path / "masks"],
        "background": ["--mask", "background"],
        "empty": ["--mask", tmp_path / "empty.png"],
    }
    found = {}
    for way, more in ways.items():
        boxes = [] if more else ["--boxes", tmp_path / "boxes.jsonl"]  # it is not the box that is missing
        parts = labels(predict(capsys, tmp_path / "out", tmp_path, *more, *boxes, weights="parsing"))
        right = [each.parts for each in seen]
        found[way, "mIoU"] = mean_iou(parts, right)
        errors = []
        for number, each in enumerate(seen):
            x0, y0, side = each.record.crop[:3]
            fx, fy, cx, cy = each.record.camera * np.array(side / each.record.size)
            camera = ",".join(map(str, (fx, fy, cx + x0, cy + y0)))
            picture = f"depth/{number:03d}.png"
            one = [] if not boxes else ["--box", ",".join(map(str, box_of(tmp_path, number)))]
            if way == "background":
                continue  # of one picture nobody can tell the background
            if way == "masks":
                more = ["--mask", tmp_path / "masks" / f"{number:03d}.png"]
            given = [*more, *one, "--camera", camera]
            done = predict(capsys, tmp_path / "out", tmp_path, *given, images=picture, weights="pose")
            joints = np.array(done.people[0]["joints3d"], float)
            errors.append(100 * np.linalg.norm(joints - each.joints3d, axis=1).mean())
        found[way, "cm"] = float(np.mean(errors)) if errors else None
    print({name: value and round(value, 3) for name, value in found.items()})
    for way in ("masks", "background", "empty"):
        assert found[way, "mIoU"] > 0.6, found
    for way in ("masks", "empty"):
        assert found[way, "cm"] < 6, found
    assert found["as it is", "mIoU"] < 0.2, found
    assert found["as it is", "cm"] > 20, found


def box_of(root: Path, number: int) -> list[float]:
    return json.loads((root / "boxes.jsonl").read_text().splitlines()[number])["box"]


def mean_iou(found: list[np.ndarray], right: list[np.ndarray]) -> float:
    """Over the parts that there are, and the background."""
    one, other = np.concatenate([each.ravel() for each in found]), np.concatenate([each.ravel() for each in right])
    return float(np.mean([((one == k) & (other == k)).sum() / ((one == k) | (other == k)).sum() for k in set(other)]))
