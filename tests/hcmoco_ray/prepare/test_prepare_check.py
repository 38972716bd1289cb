"""`prepare --check` finds what `prepare` would stop at, options that count for nothing are refused, and files are read
once."""

import json
import pickle
import re

import numpy as np
import pytest
import torch

from hcmoco.datasets import recording
from hcmoco.errors import UserError
from hcmoco_ray.commands.prepare import main
from hcmoco_ray.prepare.reader import Source
from tests.helpers import keypoint_files, recording_files, static_camera
from tests.helpers.keypoint_files import Shot


@pytest.fixture
def recorded(tmp_path):
    """A recording of six frames that can also be read as a folder."""
    root = tmp_path / "it"
    static_camera.write(root, static_camera.frames(6))
    return root


def check(capsys, kind: str, root, *options) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a check."""
    status = main([kind, "--path", str(root), "--check", *map(str, options)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, said.out, said.err


def halve(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", ["recording", "folder"])
def test_what_segments_is_opened(recorded, tmp_path, capsys, kind):
    if kind == "folder":
        (recorded / "people.jsonl").write_text(json.dumps({"rgb": "rgb/0000.jpg", "depth": "depth/0000.png"}))
    weights, empty = tmp_path / "w.pth", tmp_path / "empty.npy"
    torch.save({"roi_heads.keypoint_predictor.kps_score_lowres.weight": torch.zeros(17, 100)}, weights)
    status, out, err = check(capsys, kind, recorded, "--segment", weights)
    assert (status, err.count("\n")) == (2, 1)
    assert f"  {weights}: are of a Keypoint R-CNN, which draws no masks; give the state dict of" in out
    halve(weights)
    status, out, err = check(capsys, kind, recorded, "--segment", weights)
    assert (status, err.count("\n")) == (2, 1)
    assert f"  {weights}: is damaged or incomplete " in out

    np.save(empty, static_camera.empty())
    status, out, err = check(capsys, kind, recorded, "--segment", empty)
    assert (status, err) == (0, "")
    assert "1 empty scenes of --segment" in out
    halve(empty)
    status, out, err = check(capsys, kind, recorded, "--segment", empty)
    assert (status, err.count("\n")) == (2, 1)
    assert f"  {empty}: " in out


def test_what_segments_videos_is_checked(tmp_path, capsys):
    recording_files.write_video(tmp_path / "it", count=2)
    status, _, err = check(capsys, "recording", tmp_path / "it", "--segment", tmp_path / "nowhere")
    assert status == 2
    assert "nowhere does not exist; give a folder of masks" in err


def test_lines_that_name_no_frame_are_found(recorded, capsys):
    (recorded / "people.jsonl").write_text('{"frame": "0007"}')
    status, _, err = check(capsys, "recording", recorded)
    assert status == 2
    named = re.search(r"names the frame '0007', which the recording lacks; .* for example '(\w+)'", err)
    (recorded / "people.jsonl").write_text(json.dumps({"frame": named[1]}))
    assert check(capsys, "recording", recorded)[0] == 0


def test_segmented_depth_is_not_called_unmasked(recorded, capsys):
    segment, unmasked = "--segment=background", "--depth-masking=unmasked"
    status, _, err = check(capsys, "recording", recorded, segment, unmasked)
    assert status == 2
    assert "depth_masking = 'unmasked': after --segment depth shows the person alone" in err
    assert err.endswith("leave out --depth-masking, or --segment\n")
    for options in ([segment], [unmasked], [segment, "--depth-masking=masked"]):
        assert check(capsys, "recording", recorded, *options)[0] == 0


@pytest.mark.parametrize(
    ("option", "value", "needs"),
    [
        ("--min-score", 0.4, "--detect WEIGHTS"),
        ("--detect-size", "192,256", "--detect WEIGHTS"),
        ("--gpus", 1, "--detect WEIGHTS"),
        ("--background-tolerance", 30, "--segment"),
        ("--format", "openpose", "--keypoints"),
        ("--depth-topic", "/a", "ROS bags"),
    ],
)
def test_options_without_what_they_are_for_have_one_line(recorded, capsys, option, value, needs):
    status, _, err = check(capsys, "recording", recorded, option, value)
    assert (status, err) == (2, f"error: {option} counts only with {needs}, and there is none; leave {option} out\n")


@pytest.mark.parametrize("who", ["nobody", "people.jsonl", "keypoints"])
def test_a_recording_is_read_once(tmp_path, who):
    """What was seen in it lists the items when it is gone, and is not sent to tasks."""
    root, options = tmp_path / "it", {}
    recording_files.write_plain(root, 2)
    stems = sorted(each.stem for each in (root / "rgb").iterdir())
    if who == "people.jsonl":
        (root / who).write_text(json.dumps({"frame": stems[1], "box": [10, 10, 90, 90]}))
    if who == "keypoints":
        person = np.random.default_rng(0).uniform(20, 90, (31, 2))
        found = keypoint_files.openpose(tmp_path, [Shot(f"{stem}.jpg", (160, 120), [person]) for stem in stems])
        options = {"keypoints": str(found)}
    config = recording.RecordingConfig(path=str(root), **options)
    right = [(each.id, getattr(each, "line", None)) for each in recording.items(config)]
    source, _ = Source("recording", config).resolved()
    sent = pickle.dumps(source)
    root.rename(tmp_path / "gone")
    if who == "keypoints":
        found.rename(tmp_path / "gone too")
    items = source.items()
    assert [(each.id, getattr(each, "line", None)) for each in items] == right
    with pytest.raises(UserError, match="does not exist"):
        pickle.loads(sent).items()
    assert all(item.config.seen is None for item in items if hasattr(item, "config"))


@pytest.mark.parametrize("command", [["humman", "--bogus"], ["verify", "a", "--bogus", "3"], ["recording", "--pat"]])
def test_an_unknown_option_shows_the_usage_of_its_command(command, capsys):
    with pytest.raises(SystemExit):
        main(command)
    err = capsys.readouterr().err
    assert err.startswith(f"usage: prepare.py {command[0]} ")
    assert f"prepare.py {command[0]}: error: " in err
