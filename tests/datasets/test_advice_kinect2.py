"""What is advised about folders of Kinect v2 is done here, word by word, and it helps."""

import json

import numpy as np
import pytest

from hcmoco.datasets.recording.layouts import recognize
from hcmoco.errors import UserError
from tests.datasets.test_kinect2 import ALL, COLOR, SHIFT, TRANSLATION, write_calibration, write_pictures, write_viewer
from tests.datasets.test_recording import config

HD, QUARTER_HD, SD = (1920, 1080), (960, 540), (512, 424)


def refused(root, message: str, **options) -> None:
    with pytest.raises(UserError, match=message):
        recognize(config(root, **options))


def taken(root, **options):
    found = recognize(config(root, **options))
    assert len(found.frames) == 1
    return found.recorded_by


MISTAKES = {
    "shift": ({"depthShift": 5000.0}, {"depthShift": SHIFT}, "a number of millimeters from -300 to 300 is read"),
    "another camera's middle": (
        {"cameraMatrix": COLOR * (0.5, 0.5, 1) + np.array([[0, 0, -500], [0, 0, -300], [0, 0, 0]])},
        {"cameraMatrix": COLOR},
        "give the file that kinect2_calibration wrote, for pictures of any size",
    ),
    "a lens with a thin prism": (
        {"distortionCoefficients": np.array([[0.1] * 12])},
        {"distortionCoefficients": np.array([[0.1] * 8 + [0.0] * 4])},
        "4, 5 or 8 are read: calibrate again without these models",
    ),
    "pose in millimeters": (
        {"translation": 1000 * TRANSLATION},
        {"translation": TRANSLATION},
        "look at which camera and which unit it is of",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_calibration_file_is_written_as_the_line_says(tmp_path, name):
    wrong, right, said = MISTAKES[name]
    write_pictures(tmp_path, QUARTER_HD, SD)
    write_calibration(tmp_path)
    files = ("color",) if "cameraMatrix" in wrong else ALL
    write_calibration(tmp_path, files, **wrong)
    refused(tmp_path, said, lens="distorted")
    write_calibration(tmp_path, files, **right)
    taken(tmp_path, lens="distorted")


def test_pictures_of_another_size_get_a_camera_file_in_place_of_the_calibration(tmp_path):
    write_calibration(tmp_path)
    write_pictures(tmp_path, (640, 480), (640, 480))
    refused(tmp_path, r"move calib_\*.yaml away and write camera.json", lens="rectified")
    (tmp_path / "camera.json").write_text(json.dumps({"registered": True}))
    refused(tmp_path, "either tells the cameras; keep one", lens="rectified")
    for path in tmp_path.glob("calib_*.yaml"):
        path.unlink()
    assert taken(tmp_path).registered


def test_the_lens_is_given_as_the_lines_say(tmp_path):
    write_calibration(tmp_path)
    write_pictures(tmp_path, QUARTER_HD, QUARTER_HD)
    refused(tmp_path, "give --lens distorted for the topics .* or --lens rectified for")
    refused(tmp_path, r"if depth and color are of topics \*_rect, give --lens rectified", lens="distorted")
    assert taken(tmp_path, lens="rectified").registered


@pytest.mark.parametrize(
    ("color", "depth", "lens"), [(QUARTER_HD, SD, "distorted"), (QUARTER_HD, QUARTER_HD, "rectified")]
)
def test_depth_that_the_device_rectified_is_saved_as_the_line_says(tmp_path, color, depth, lens):
    write_calibration(tmp_path)
    write_pictures(tmp_path, HD, SD)
    refused(
        tmp_path,
        "save sd/image_depth and image_color and give --lens distorted, or save qhd/image_depth_rect and qhd/image_col",
        lens="rectified",
    )
    write_pictures(tmp_path, color, depth)
    taken(tmp_path, lens=lens)


@pytest.mark.parametrize("size", [HD, QUARTER_HD])
def test_rectified_pictures_are_of_one_size(tmp_path, size):
    write_calibration(tmp_path)
    write_pictures(tmp_path, HD, QUARTER_HD)
    refused(tmp_path, "save both of hd, or both of qhd", lens="rectified")
    write_pictures(tmp_path, size, size)
    assert taken(tmp_path, lens="rectified").registered


def test_snapshots_lie_on_color_already(tmp_path):
    write_viewer(tmp_path, QUARTER_HD)
    (tmp_path / "camera.json").write_text(json.dumps({"registered": False, "depth_unit": "mm"}))
    refused(tmp_path, "leave depth_to_color and registered out of it")
    (tmp_path / "camera.json").write_text(json.dumps({"depth_unit": "mm"}))
    assert taken(tmp_path).registered
    refused(tmp_path, "leave --lens out", lens="distorted")
    taken(tmp_path)
