"""`prepare NAME --check` of whole small data sets: what it prints, by the commands of their pages."""

import pytest

from hcmoco_ray.commands.prepare import main
from tests.datasets import test_kinect2, test_lerobot
from tests.helpers import humman_files, synthhuman_files


def write_kinect(root) -> None:
    test_kinect2.write_calibration(root)
    test_kinect2.write_pictures(root, (960, 540), (512, 424))


SETS = {
    "humman": (
        humman_files.write_humman,
        ["humman", "--kinects", "0", "--source"],
        ["humman: 1 RGB pictures, 1 depth pictures, 1 mask pictures, 1 sequences"],
    ),
    "synthhuman": (
        synthhuman_files.write_synthhuman,
        ["synthhuman", "--subset", "full-body", "--source"],
        [
            "synthhuman: 3 samples, 1 rgb files, 1 alpha files, 1 depth files, 1 cam files",
            "  2 samples skipped: the sample is of another subset than --subset",
        ],
    ),
    "kinect-v2": (
        write_kinect,
        ["recording", "--lens", "distorted", "--path"],
        [
            "Kinect v2 folder of iai_kinect2: 1 frames of rgb and depth",
            "-24.2 mm are added to each reading (calib_depth.yaml)",
            "recording: 1 RGB pictures, 1 depth pictures",
        ],
    ),
    "lerobot": (
        lambda root: test_lerobot.write(root, "v3.0"),
        ["recording", "--video-key", test_lerobot.TOP, "--path"],
        ["LeRobot data set: 2 videos", f"cameras: {test_lerobot.TOP}", "recording: 2 videos"],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_a_whole_data_set_has_nothing_missing(name, tmp_path, capsys):
    write, command, lines = SETS[name]
    root = tmp_path / "downloads"
    write(root)
    assert main([*command, str(root), "--check"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert set(lines) <= set(out), out
    assert "  nothing is missing" in out
