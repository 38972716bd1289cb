"""What readers advise about whole files and folders is done here, word by word, and it helps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hcmoco.data.schema import Person
from hcmoco.datasets import folder, itop, keypoints, mpii, recording
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.errors import UserError
from tests.helpers import itop_files, keypoint_files, mpii_files, recording_files
from tests.helpers.readers import write_folder


def refused(reader, config, message: str) -> str:
    """The line that a source as a whole is refused with."""
    with pytest.raises(UserError, match=message) as caught:
        list(read_all(reader, config))
    return str(caught.value)


def people(reader, config) -> list[Person]:
    found = list(read_all(reader, config))
    assert not [each for each in found if isinstance(each, Rejected)]
    kept = [each for each in found if isinstance(each, Person)]
    assert kept
    return kept


# --- A recording's folder


@pytest.fixture
def recorded(tmp_path):
    root = tmp_path / "it"
    recording_files.write_plain(root, 2)
    return root


def of(root: Path, **options) -> recording.RecordingConfig:
    return recording.RecordingConfig(path=str(root), **options)


def test_two_folders_of_color_of_which_one_is_moved_away(recorded, tmp_path):
    (recorded / "color").mkdir()
    refused(recording.READER, of(recorded), "has both rgb and color; which one is read. Move the other away")
    (recorded / "color").rename(tmp_path / "away")
    assert len(people(recording.READER, of(recorded))) == 2


def test_a_folder_without_a_picture_of_what_is_read(recorded):
    for each in (recorded / "depth").iterdir():
        each.unlink()
    refused(
        recording.READER, of(recorded, use="depth"), "has no picture to read; look at what was recorded, or at --us"
    )
    assert len(people(recording.READER, of(recorded, use="rgb"))) == 2


def test_pictures_whose_times_in_their_names_are_apart(recorded):
    def name(depth_later_s: float) -> None:
        for kind, later in (("rgb", 0.0), ("depth", depth_later_s)):
            for number, path in enumerate(sorted((recorded / kind).iterdir())):
                path.rename(path.with_name(f"{1305031100 + number + later:.6f}{path.suffix}"))

    name(0.3)
    refused(recording.READER, of(recorded), "within 20 ms of each other; look at their names")
    name(0.01)
    assert len(people(recording.READER, of(recorded))) == 2


def test_a_line_of_a_recording_names_the_frame_alone(recorded):
    stem = min(each.stem for each in (recorded / "rgb").iterdir())
    lines = recorded / "people.jsonl"
    lines.write_text(json.dumps({"frame": stem, "rgb": f"rgb/{stem}.jpg"}))
    refused(recording.READER, of(recorded), "a recording's pictures are known; name the frame alone")
    lines.write_text(json.dumps({"frame": stem}))
    assert [each.id for each in people(recording.READER, of(recorded))] == [f"recording/{stem}"]


def test_a_video_without_depth_is_read_with_use_rgb(tmp_path):
    recording_files.write_video(tmp_path, count=2)
    (broken,) = read_all(recording.READER, of(tmp_path, use="depth"))
    assert "has no depth; read it with --use rgb" in broken.reason
    assert len(people(recording.READER, of(tmp_path, use="rgb"))) == 2


def test_a_camera_file_that_is_cut_is_written_again(recorded):
    path = recorded / "camera.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    refused(recording.READER, of(recorded), r"camera.json is not valid JSON .*; write it again")
    path.write_text(whole)
    people(recording.READER, of(recorded))


def test_metadata_of_realsense_that_are_cut_are_saved_again(tmp_path):
    recording_files.write_realsense_viewer(tmp_path, 1)
    path = next(tmp_path.glob("*_Depth_metadata.csv"))
    whole = path.read_text()
    path.write_text("Format,Z16\n")
    refused(recording.READER, of(tmp_path), "is not the metadata of a RealSense depth picture .*; save it again")
    path.write_text(whole)
    people(recording.READER, of(tmp_path))


# --- One's own pictures


def test_a_box_of_shares_is_multiplied(tmp_path):
    write_folder(tmp_path)
    config = folder.FolderConfig(path=str(tmp_path))

    def one(**line):
        (tmp_path / "people.jsonl").write_text(json.dumps({"rgb": "rgb 1.jpg", **line}))
        (outcome,) = read_all(folder.READER, config)
        return outcome

    share = [0.25, 0.2, 0.6, 0.7]
    told = re.search(r"multiply x by (\d+) and y by (\d+)", one(box=share).reason)
    x, y = int(told[1]), int(told[2])
    person = one(box=np.multiply(share, (x, y, x, y)).tolist())
    assert isinstance(person, Person)
    np.testing.assert_allclose(person.box[2:] - person.box[:2], (0.35 * x, 0.5 * y), rtol=1e-5)


# --- Files of pose estimators


@pytest.fixture
def taken(tmp_path):
    found = keypoint_files.shots()
    keypoint_files.write_pictures(tmp_path, found)
    return found


def found_by(tmp_path: Path, path: Path, **options) -> keypoints.KeypointsConfig:
    return keypoints.KeypointsConfig(images=str(tmp_path / "rgb"), keypoints=str(path), **options)


def test_a_file_of_another_format_than_it_is_called(tmp_path, taken):
    path = keypoint_files.annotations(tmp_path, taken)
    refused(
        keypoints.READER, found_by(tmp_path, path, format="coco-results", joints="crowdpose-14"), "give another --fo"
    )
    people(keypoints.READER, found_by(tmp_path, path, format="coco"))
    frames = keypoint_files.results(tmp_path, taken)
    config = found_by(tmp_path, frames, format="azure-kinect")
    refused(keypoints.READER, config, "has no frames and joint_names, as offline_processor writes; give its file")


def test_a_table_of_mediapipe_lacks_a_column(tmp_path, taken):
    path = keypoint_files.mediapipe_csv(tmp_path, taken)
    whole = path.read_text()
    header, *rows = whole.splitlines()
    names = header.split(",")
    image = next(name for name in names if "image" in name.lower() or "file" in name.lower())
    for name, said in (
        (image, "with the picture's file name; write one beside the joints"),
        (names[-1], "write all 33"),
    ):
        at = names.index(name)
        kept = [",".join(cell for k, cell in enumerate(line.split(",")) if k != at) for line in (header, *rows)]
        path.write_text("\n".join(kept))
        refused(keypoints.READER, found_by(tmp_path, path), said)
    path.write_text(whole)
    people(keypoints.READER, found_by(tmp_path, path))


def test_yolo_is_read_by_the_data_yaml_of_a_pose_data_set(tmp_path, taken):
    path = keypoint_files.yolo(tmp_path, taken)
    other = path.with_name("boxes.yaml")
    other.write_text("path: .\ntrain: images/train\nnames: {0: person}\n")
    config = {"joints": "coco-17", "orientation": "upright"}
    refused(keypoints.READER, found_by(tmp_path, other, **config), "has no kpt_shape .*; give the data.yaml of a pose")
    assert [each for each in read_all(keypoints.READER, found_by(tmp_path, path, **config)) if isinstance(each, Person)]


# --- Published data sets


def test_the_boxes_of_another_split_or_ending(tmp_path):
    frames = itop_files.frames(4)
    itop_files.write_split(tmp_path, "test", frames)
    boxes = np.asarray(frames.boxes, np.float64)
    np.save(tmp_path / "other.npy", np.concatenate([boxes, boxes]))
    np.save(tmp_path / "this.npy", boxes)
    (tmp_path / "boxes.csv").write_text("0,0,1,1")

    def config(boxes: str) -> itop.ItopConfig:
        return itop.ItopConfig(source=str(tmp_path), split="test", boxes=boxes)

    refused(
        itop.READER, config("other.npy"), r"has \d+ rows, the split has \d+ valid frames; give the file of this spli"
    )
    refused(itop.READER, config("boxes.csv"), r"is read as .mat, .npy or .json; give such a file, or --boxes joints")
    for given in ("this.npy", "joints"):
        assert itop.READER.items(config(given))


def test_mpii_is_read_in_hrnets_layout(tmp_path):
    mpii_files.write_mpii(tmp_path)
    path = next(tmp_path.rglob("*.json"))
    right = path.read_text()
    path.write_text(json.dumps({"RELEASE": []}))
    config = mpii.MpiiConfig(source=str(tmp_path))
    refused(mpii.READER, config, "must be a list of persons in HRNet's layout")
    path.write_text(right)
    assert [each for each in read_all(mpii.READER, config) if not isinstance(each, Skipped | Rejected)]
