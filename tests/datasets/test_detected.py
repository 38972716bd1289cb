"""Who is asked for in a picture, and what becomes of the answer, without a cluster: readers and detectors."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder, recording
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.detected import DOUBLE, NOBODY, NOBODY_VISIBLE, NOT_IN_BOX, SEVERAL, find_people
from hcmoco.datasets.person_lines import FolderConfig
from hcmoco.datasets.recording import RecordingConfig
from hcmoco.datasets.recording.frames_item import NO_LINE
from hcmoco.detection.detector import Detected
from hcmoco.errors import UserError
from tests.helpers import recording_files, ros_files

SIZE = (200, 100)
LEFT, RIGHT = np.array([10.0, 10, 80, 90]), np.array([110.0, 20, 190, 95])


def joints_in(box) -> np.ndarray:
    """17 joints on the diagonal of a box, the last of a low confidence."""
    share = np.linspace(0.1, 0.9, 17)[:, None]
    return np.column_stack([box[:2] + share * (box[2:] - box[:2]), np.r_[np.full(16, 0.9), 0.2]])


@dataclass
class Finds:
    """A detector that finds the same people in every picture."""

    people: list
    finds_people: bool = True
    takes_boxes: bool = False
    num_joints: int = 17

    def detect(self, rgb, boxes=None):
        if boxes is not None:
            return [Detected(box, 1.0, joints_in(box)) for box in boxes]
        return self.people


BOTH = Finds([Detected(RIGHT, 0.9, joints_in(RIGHT)), Detected(LEFT, 0.8, joints_in(LEFT))])
TOP_DOWN = Finds([], finds_people=False, takes_boxes=True)
RESOLVED = {"detect": "weights.pth", "min_confidence": 0.3}


def read_all(reader, config, detector) -> list:
    """Outcomes with the people that the detector finds, as `prepare` reads them."""
    outcomes = []
    for item in reader.items(config):
        found = {} if isinstance(item, Rejected | Skipped) else {
            shown.key: find_people(detector, shown) for shown in reader.to_detect.shown(item)
        }  # fmt: skip
        for each in reader.to_detect.with_people(item, found) if found else [item]:
            outcomes += reader.outcomes(each)
    return outcomes


@pytest.fixture
def mine(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    (tmp_path / "a.png").write_bytes(codecs.encode_png(rgb))
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[12:88, 12:78] = 255
    (tmp_path / "mask.png").write_bytes(codecs.encode_labels(mask))

    def config(*lines, **options) -> FolderConfig:
        (tmp_path / "people.jsonl").write_text("\n".join(json.dumps({"rgb": "a.png"} | line) for line in lines))
        return FolderConfig(path=str(tmp_path), **RESOLVED, **options)

    return config


def check(person, box, id):
    """The person's joints lie where `joints_in` puts them, and its box is this one."""
    assert isinstance(person, Person), person
    assert person.id == id
    x0, y0, side = person.crop[:3]
    assert side == person.size
    wanted = joints_in(box)
    assert np.allclose(person.keypoints[:16, :2], wanted[:16, :2] - (x0, y0), atol=1e-2)
    assert person.keypoints[:, 2].tolist() == [1] * 16 + [0]  # the last is below the threshold
    assert np.allclose(person.box, box - (x0, y0, x0, y0), atol=1e-2)


def test_two_people_of_a_picture_are_two_rows(mine):
    found = read_all(folder.READER, mine({}), BOTH)
    assert len(found) == 2
    check(found[0], RIGHT, "folder/a.png")
    check(found[1], LEFT, "folder/a.png#2")


def test_the_line_with_a_box_or_mask_is_the_person_there(mine):
    lines = (
        {"id": "l", "box": (LEFT + 3).tolist()},
        {"id": "m", "mask": "mask.png"},
        {"id": "n", "box": [90, 1, 99, 9]},
    )
    left, masked, nobody = read_all(folder.READER, mine(*lines), BOTH)
    assert (left.id, masked.id) == ("folder/l", "folder/m")
    for each in (left, masked):
        x0, y0 = each.crop[:2]
        assert np.allclose(each.keypoints[:16, :2], joints_in(LEFT)[:16, :2] - (x0, y0), atol=1e-2)
    # Their own boxes stay: the line's, and the mask's.
    assert np.allclose(left.box[:2] + left.crop[:2], LEFT[:2] + 3)
    assert np.allclose(masked.box + np.tile(masked.crop[:2], 2), [12, 12, 78, 88])
    assert (nobody.id, nobody.reason) == ("folder/n", NOT_IN_BOX)


def test_a_top_down_model_is_told_the_boxes(mine):
    lines = ({"id": "l", "box": LEFT.tolist()}, {"id": "m", "mask": "mask.png"})
    first, second = read_all(folder.READER, mine(*lines, detect_boxes="lines"), TOP_DOWN)
    check(first, LEFT, "folder/l")
    check(second, np.array([12.0, 12, 78, 88]), "folder/m")
    with pytest.raises(UserError, match="nothing says where people are; give --detect-boxes picture if each picture"):
        folder.items(mine(*lines, {"id": "n"}, detect_boxes="lines"))


def test_lines_with_keypoints_keep_them(mine):
    flags = [[50.0 + k, 30.0 + k, 2 if k % 2 else 1] for k in range(16)] + [[0, 0, 0]]
    found = read_all(folder.READER, mine({"id": "own", "keypoints": flags}, {"id": "found"}), BOTH)
    assert [each.id for each in found] == ["folder/own", "folder/found", "folder/found#2"]
    assert found[0].keypoints[:, 2].tolist() == [1] * 16 + [0]
    # With confidences in the lines, the threshold is theirs, too.
    confident = [[50.0 + k, 30.0 + k, 0.9 if k % 2 else 0.1] for k in range(17)]
    own = read_all(folder.READER, mine({"id": "own", "keypoints": confident}), BOTH)[0]
    assert own.keypoints[:, 2].tolist() == [k % 2 for k in range(17)]


def test_who_is_left_out_is_told(mine, tmp_path):
    unseen = Finds([Detected(LEFT, 0.9, joints_in(LEFT) * (1, 1, 0.3)), Detected(LEFT, 0.9, joints_in(LEFT + 500))])
    for detector, line, expected in (
        (Finds([]), {}, [(Skipped, NOBODY)]),
        (unseen, {}, [(Skipped, NOBODY_VISIBLE)] * 2),
        (BOTH, {"subject": "anna"}, [(Rejected, SEVERAL)]),
    ):
        found = read_all(folder.READER, mine(line), detector)
        assert [(type(each), each.reason) for each in found] == expected
    found = read_all(folder.READER, mine({"id": "a"}, {"id": "b"}), BOTH)
    assert [getattr(each, "reason", "") for each in found] == ["", "", DOUBLE]
    # The advice of both: the person's box, or one line alone.
    (anna,) = read_all(folder.READER, mine({"subject": "anna", "box": LEFT.tolist()}), BOTH)
    check(anna, LEFT, "folder/a.png")
    boxed = read_all(folder.READER, mine({"id": "a", "box": LEFT.tolist()}, {"id": "b", "box": RIGHT.tolist()}), BOTH)
    assert [each.id for each in boxed] == ["folder/a", "folder/b"]
    assert all(isinstance(each, Person) for each in read_all(folder.READER, mine({"id": "a"}), BOTH))
    # One whose picture is damaged is rejected by the reader, with its reason.
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    (broken,) = folder.items(mine({}))
    with pytest.raises(ValueError, match="truncated"):
        list(folder.READER.to_detect.shown(broken))


def test_a_folder_with_depth_is_a_recording(mine, tmp_path):
    config = mine({})
    (tmp_path / "people.jsonl").unlink()
    (tmp_path / "depth").mkdir()
    with pytest.raises(UserError, match=r"has a folder depth/.*; read it with `prepare.py recording --path"):
        folder.items(config)


def test_the_frames_of_a_video(tmp_path):
    recording_files.write_video(tmp_path, count=12, turned_by=90)  # 160 x 120, upright 120 x 160
    box = np.array([10.0, 20, 90, 140])
    one = Finds([Detected(box, 0.9, joints_in(box)), Detected(box, 0.9, joints_in(box) * (1, 1, 0))])
    config = RecordingConfig(path=str(tmp_path), stride=5, **RESOLVED)
    found = read_all(recording.READER, config, one)
    assert [type(each) for each in found] == [Person, Skipped] * 3
    for number, person in zip((0, 5, 10), found[::2], strict=True):
        check(person, box, f"recording/walk/{number:06d}")
        assert person.crop[3:].tolist() == [120, 160]
    assert {each.reason for each in found[1::2]} == {NOBODY_VISIBLE}
    nobody = read_all(recording.READER, config, Finds([]))
    assert {(type(each), each.reason) for each in nobody} == {(Skipped, NOBODY)}
    lines = [
        {"frame": "walk/000005", "box": box.tolist(), "subject": "anna"},
        {"frame": "walk/000010", "id": "x"},
        {"frame": "walk/000010", "id": "y"},
    ]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    skipped, anna, x, nowhere, y = read_all(recording.READER, config, one)
    assert (skipped.id, skipped.reason) == ("recording/walk/000000", NO_LINE)
    check(anna, box, "recording/walk/000005")
    assert anna.subject == "anna"
    check(x, box, "recording/x")
    assert (nowhere.reason, y.reason) == (NOBODY_VISIBLE, DOUBLE)


def test_the_pictures_of_a_bag(tmp_path):
    ros_files.write_ros2(tmp_path / "anna", ros_files.recorded(3))
    config = RecordingConfig(path=str(tmp_path), stride=2, **RESOLVED)
    box = np.array([40.0, 20, 120, 110])
    two = Finds([Detected(box, 0.9, joints_in(box)), Detected(box, 0.9, joints_in(box) * (1, 1, 0))])
    found = read_all(recording.READER, config, two)
    assert [type(each) for each in found] == [Person, Skipped] * 2
    for number, person in zip((0, 2), found[::2], strict=True):
        check(person, box, f"recording/anna/{number:06d}")
        assert person.depth is not None
    assert {each.id for each in found[1::2]} == {"recording/anna/000000#2", "recording/anna/000002#2"}


def test_rgb_and_depth_of_a_recording(tmp_path):
    recording_files.write_plain(tmp_path, 2)
    box = np.array([40.0, 20, 120, 110])
    config = RecordingConfig(path=str(tmp_path), **RESOLVED)
    found = read_all(recording.READER, config, Finds([Detected(box, 0.9, joints_in(box))]))
    for number, person in enumerate(found):
        check(person, box, f"recording/{number:04d}")
        assert person.depth is not None
        assert person.rgb is not None


def test_options_that_need_a_detector(tmp_path):
    recording_files.write_plain(tmp_path, 1)
    with pytest.raises(
        UserError, match="--min-score counts only with --detect WEIGHTS, and there is none; leave --min"
    ):
        recording.resolve(RecordingConfig(path=str(tmp_path), min_score=0.5))
    with pytest.raises(UserError, match="--detect finds people in RGB, and --use depth leaves it out"):
        recording.resolve(RecordingConfig(path=str(tmp_path), use="depth", detect="a.pth"))
    _, lines = recording.resolve(RecordingConfig(path=str(tmp_path)))
    assert lines[-1] == "nobody's keypoints are known; --detect WEIGHTS of a detector finds them in RGB"
