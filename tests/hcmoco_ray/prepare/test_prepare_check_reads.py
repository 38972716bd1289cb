"""`prepare --check` reads a few records, and says of them what reading all of them says."""

import json

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.datasets.base import Rejected, calibrated
from hcmoco.datasets.few import FEW
from hcmoco.datasets.registry import REGISTRY
from hcmoco.errors import UserError
from hcmoco_ray.commands.prepare import main, parser
from hcmoco_ray.prepare.reader import from_arguments
from tests.helpers import humman_files, ntu_files, recording_files, static_camera, synthhuman_files


@pytest.fixture
def recorded(tmp_path):
    root = tmp_path / "it"
    static_camera.write(root, static_camera.frames(6))
    return root


def check(capsys, *command) -> tuple[int, list[str], str]:
    """Exit status, lines of stdout and stderr of a check."""
    status = main([*map(str, command), "--check"])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, said.out.splitlines(), said.err


def reading(*command) -> list[str]:
    """What reading all says: its line of error, or a line for each record that is rejected."""
    arguments = parser().parse_args(list(map(str, command)))
    source, _ = from_arguments(arguments.kind, arguments).resolved()
    reader = REGISTRY[arguments.kind].load()
    try:
        items = calibrated(reader, source.config, reader.items(source.config))
    except UserError as error:
        return [f"error: {error}"]
    outcomes = [outcome for item in items for outcome in reader.outcomes(item)]
    return [f"  {each.id}: {each.reason}" for each in outcomes if isinstance(each, Rejected)]


def camera_of_another_size(root) -> None:
    camera = {"width": 640, "height": 480, "fx": 600, "fy": 600, "cx": 320, "cy": 240}
    (root / "camera.json").write_text(json.dumps({"registered": True, "color": camera}))


def depth_to_look_at(root) -> None:
    for path in (root / "depth").iterdir():
        cv2.imwrite(str(path), np.full((72, 96), 120, np.uint8))


def boxes_without_area(root) -> None:
    lines = [{"frame": f"{number:04d}", "box": [30, 20, 10, 40]} for number in range(6)]
    (root / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))


def depth_of_another_size(root) -> None:
    for path in (root / "depth").iterdir():
        path.write_bytes(codecs.encode_depth(np.full((36, 48), 2000, np.uint16), "png16"))


def meters_as_whole_numbers(root) -> None:
    for path in (root / "depth").iterdir():
        path.write_bytes(codecs.encode_depth(np.full((72, 96), 2, np.uint16), "png16"))


FAULTS = {
    "camera": (camera_of_another_size, [], "give the camera of the pictures' own size"),
    "8 bits": (depth_to_look_at, [], "8 bits are a picture of depth to look at"),
    "boxes": (boxes_without_area, [], "a box of left, top, width and height is written"),
    "sizes": (depth_of_another_size, [], "the pictures differ in size"),
    "unit": (meters_as_whole_numbers, [], "m was probably meant"),
    "masking": (lambda root: None, ["--depth-masking=masked"], "depth shows the background, too"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_reading_rejects_is_said_in_the_same_words(recorded, capsys, name):
    spoil, options, said = FAULTS[name]
    spoil(recorded)
    command = ["recording", "--path", recorded, *options]
    expected = reading(*command)
    assert len(expected) == 6
    status, out, err = check(capsys, *command)
    assert (status, err.count("\n")) == (2, 1)
    assert set(expected) <= set(out)
    assert said in expected[0]
    assert "6 of 6 records that were read to try it are rejected" in err


@pytest.mark.parametrize("count", [2, 8])
def test_the_background_of_a_video_without_depth(tmp_path, capsys, count):
    recording_files.write_video(tmp_path, "walk.mkv", count)
    command = ["recording", "--path", tmp_path, "--segment=background"]
    status, _, err = check(capsys, *command)
    assert status == 2
    assert [err.rstrip()] == reading(*command)
    assert "the video 'walk.mkv' has no depth, so it has no background to remove" in err


def test_the_background_of_people_who_stand_still(tmp_path, capsys):
    static_camera.write(tmp_path, static_camera.frames(1) * 6)
    command = ["recording", "--path", tmp_path, "--segment=background"]
    status, _, err = check(capsys, *command)
    assert status == 2
    assert [err.rstrip()] == reading(*command)
    assert "nothing moves in front of the background" in err


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_frames_that_stride_leaves_out_are_not_counted(recorded, capsys, stride):
    status, out, _ = check(capsys, "recording", "--path", recorded, "--stride", stride)
    count = len(range(0, 6, stride))
    assert status == 0
    assert f"recording: {count} RGB pictures, {count} depth pictures" in out
    assert out[-2:] == ["  nothing is missing", f"  {count} records were read to try it, and none is rejected"]


def test_of_many_frames_a_few_are_read_from_all_over(tmp_path, capsys):
    """The fault is in the second half, where the first frames do not show it."""
    static_camera.write(tmp_path, static_camera.frames(3 * FEW))
    names = sorted((tmp_path / "depth").iterdir())
    for path in names[len(names) // 2 :]:
        cv2.imwrite(str(path), np.full((72, 96), 120, np.uint8))
    status, _, err = check(capsys, "recording", "--path", tmp_path)
    assert status == 2
    assert f"{FEW // 2} of {FEW} records that were read to try it are rejected" in err


def test_of_a_long_video_the_first_frames_are_read(tmp_path, capsys):
    recording_files.write_video(tmp_path, "walk.mp4", FEW + 4)
    status, out, _ = check(capsys, "recording", "--path", tmp_path)
    assert status == 0
    assert out[-1] == f"  {FEW} records were read to try it, and none is rejected"


def spoil_humman(root) -> None:
    humman_files.write_humman(root)
    path = root / humman_files.SEQUENCE / "cameras.json"
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        camera["T"] = [1000 * value for value in camera["T"]]
    path.write_text(json.dumps(cameras))


def spoil_synthhuman(root) -> None:
    synthhuman_files.write_synthhuman(root)
    for path in root.rglob("alpha_*.png"):
        alpha = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), alpha // 255)


def spoil_ntu(root) -> None:
    clips = [ntu_files.Clip(f"S001C001P00{number}R001A001", frames=20, person=number) for number in (1, 2)]
    ntu_files.write(root, clips, width=480)
    for path in root.rglob("MDepth-*.png"):
        path.write_bytes(codecs.encode_depth(np.full((10, 10), 2000, np.uint16), "png16"))


@pytest.mark.parametrize("kind", ["humman", "synthhuman", "ntu"])
def test_every_reader_is_tried(kind, tmp_path, capsys):
    {"humman": spoil_humman, "synthhuman": spoil_synthhuman, "ntu": spoil_ntu}[kind](tmp_path)
    command = [kind, "--source", tmp_path]
    status, out, err = check(capsys, *command)
    assert status == 2
    assert "records that were read to try it are rejected" in err
    rejected = [line for line in out if line.startswith(f"  {kind}/")]
    assert rejected
    assert set(rejected) <= set(reading(*command))
