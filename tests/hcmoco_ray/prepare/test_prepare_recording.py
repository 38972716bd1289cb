"""A RealSense folder from the viewer's files to shards, by the commands of docs/data/recordings.md."""

import json

import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.shards.reader import Shards
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco_ray.commands.prepare import main
from tests.helpers import recording_files as files


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "recordings" / "anna"
    files.write_realsense_viewer(root, 3)
    return root


def run(capsys, *arguments):
    """Exit status, stdout and stderr of one call of the program."""
    status = main(["recording", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_the_check_says_what_it_takes_a_folder_for(folder, capsys):
    status, out, _ = run(capsys, "--path", folder, "--check")
    assert status == 0
    assert out.splitlines() == [
        "RealSense folder: 3 frames of rgb and depth",
        "depth unit 1mm (camera.json)",
        "depth is registered to color with the cameras of camera.json",
        "camera RealSense D435",
        "3 colored depth pictures are passed over",
        "nobody's keypoints are known; --detect WEIGHTS of a detector finds them in RGB",
        "recording: 3 RGB pictures, 3 depth pictures",
        "  nothing is missing",
        "  3 records were read to try it, and none is rejected",
    ]


def test_without_the_cameras_the_line_says_what_to_write_and_it_helps(folder, capsys):
    given = json.loads((folder / "camera.json").read_text())
    (folder / "camera.json").unlink()
    status, _, err = run(capsys, "--path", folder, "--check")
    assert status == 2
    assert "camera.json is missing, so nothing says how depth pictures lie on color pictures; write" in err
    for use in ("rgb", "depth"):
        assert run(capsys, "--path", folder, "--check", "--use", use)[0] == 0
    (folder / "camera.json").write_text(json.dumps({key: given[key] for key in ("color", "depth_to_color")}))
    assert run(capsys, "--path", folder, "--check")[0] == 0


def test_an_option_that_is_none_is_one_line(folder, capsys):
    status, _, err = run(capsys, "--path", folder, "--check", "--depth-unit", "0.001")
    assert status == 2
    assert "depth_unit = '0.001': must be a unit of depth with its name: write mm, m, cm, um" in err


def test_shards_hold_registered_depth(folder, capsys, ray_session, tmp_path):
    status, out, _ = run(capsys, "--path", folder, "--name", "anna", "--size", 4096, "--out", tmp_path / "shards")
    assert status == 0
    assert out.splitlines()[0] == "RealSense folder: 3 frames of rgb and depth"
    shards = Shards.open(str(tmp_path / "shards"))
    rows = [row for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()]
    assert sorted(row["id"] for row in rows) == ["anna/anna 0", "anna/anna 1", "anna/anna 2"]
    expected = np.rint(register_depth(files.frame().depth, files.RIG))
    x0, y0, _, width, height = np.array(rows[0]["crop"]).astype(int)
    depth = codecs.decode_depth(rows[0]["depth"], shards.manifest.depth_codec)
    assert np.array_equal(depth[-y0 : -y0 + height, -x0 : -x0 + width], expected)
