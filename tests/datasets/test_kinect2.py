"""Folders of Kinect v2 with iai_kinect2's calibration, which OpenCV's own FileStorage writes here."""

import json

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.datasets import recording
from hcmoco.datasets.base import read_all
from hcmoco.datasets.cameras.camera_file import read_camera_file
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.recording.layouts import recognize
from hcmoco.errors import UserError
from tests.datasets.test_recording import config, whole
from tests.helpers.recording_files import _write
from tests.helpers.rgbd_scene import turned

COLOR = np.array([[1081.4, 0.0, 959.5], [0.0, 1081.2, 539.9], [0.0, 0.0, 1.0]])
DEPTH = np.array([[365.5, 0.0, 255.9], [0.0, 365.7, 207.1], [0.0, 0.0, 1.0]])
COLOR_LENS, DEPTH_LENS = (0.0558, -0.0771, -0.0012, -0.0004, 0.021), (0.0927, -0.2701, 0.0008, -0.0006, 0.0949)
ROTATION, TRANSLATION = turned(0.4, -0.3, 0.1), np.array([[-0.052], [-0.0006], [0.0011]])
SHIFT = -24.25
ALL = ("color", "ir", "pose", "depth")


def write_calibration(root, files=ALL, **change) -> None:
    """As storeCalibration of kinect2_calibration: matrices of doubles in a FileStorage."""

    def camera(matrix, lens):
        return {"cameraMatrix": matrix, "distortionCoefficients": np.array([lens]), "rotation": np.eye(3)}

    given = {
        "color": camera(COLOR, COLOR_LENS),
        "ir": camera(DEPTH, DEPTH_LENS),
        "pose": {"rotation": ROTATION, "translation": TRANSLATION},
        "depth": {"depthShift": SHIFT},
    }
    root.mkdir(parents=True, exist_ok=True)
    for name in files:
        storage = cv2.FileStorage(str(root / f"calib_{name}.yaml"), cv2.FILE_STORAGE_WRITE)
        for key, value in (given[name] | change).items():
            if key in given[name]:
                storage.write(key, value)
        storage.release()


def write_pictures(root, color, depth, reading=2000) -> None:
    """One frame with a wall; sizes are width and height, None leaves the picture out."""
    if color:
        picture = np.full((color[1], color[0], 3), (140, 90, 60), np.uint8)
        _write(root / "color" / "0000.jpg", codecs.encode_rgb(picture))
    if depth:
        picture = np.full((depth[1], depth[0]), reading, np.uint16)
        picture[:20] = 0
        _write(root / "depth" / "0000.png", codecs.encode_depth(picture, "png16"))


def points() -> np.ndarray:
    """Places before the depth camera, meters."""
    rng = np.random.default_rng(4)
    return np.column_stack([rng.uniform(-0.7, 0.7, (50, 2)), rng.uniform(1.5, 4, 50)])


def seen(matrix, lens, rotation=None, translation=None) -> np.ndarray:
    """Where OpenCV sees `points`, which stereoCalibrate's results are defined by."""
    turn = cv2.Rodrigues(np.eye(3) if rotation is None else rotation)[0]
    move = np.zeros(3) if translation is None else translation
    return cv2.projectPoints(points(), turn, move, matrix, np.array(lens))[0][:, 0]


def test_the_cameras_see_what_opencv_says_that_the_files_mean(tmp_path):
    write_calibration(tmp_path)
    write_pictures(tmp_path, (1920, 1080), (512, 424))
    layout = recognize(config(tmp_path, lens="distorted"))
    assert layout.kind == "Kinect v2 folder of iai_kinect2"
    by = layout.recorded_by
    rig = by.rig
    np.testing.assert_allclose(rig.depth.project(points()), seen(DEPTH, DEPTH_LENS), atol=1e-6)
    moved = 1000 * points() @ np.array(rig.rotation).reshape(3, 3).T + rig.translation_mm
    np.testing.assert_allclose(rig.color.project(moved), seen(COLOR, COLOR_LENS, ROTATION, TRANSLATION), atol=1e-6)
    assert (by.depth_unit, by.registered, by.depth_shift_mm) == ("mm", False, SHIFT)
    said = recording.resolve(config(tmp_path, lens="distorted"))[1]
    assert said[:4] == [
        "Kinect v2 folder of iai_kinect2: 1 frames of rgb and depth",
        "depth unit mm (calib_pose.yaml)",
        "depth is registered to color with the cameras of calib_pose.yaml",
        "camera Kinect v2",
    ]
    assert "-24.2 mm are added to each reading (calib_depth.yaml)" in said


def test_depth_of_a_quarter_hd_folder_is_shifted_and_registered(tmp_path):
    """A pixel of qhd/image_color is four of hd: its center is not that of the first of them."""
    write_calibration(tmp_path)
    write_pictures(tmp_path, (960, 540), (512, 424))
    options = config(tmp_path, lens="distorted")
    rig = recognize(options).recorded_by.rig
    large = seen(COLOR, COLOR_LENS, ROTATION, TRANSLATION)
    moved = 1000 * points() @ ROTATION.T + 1000 * TRANSLATION[:, 0]
    np.testing.assert_allclose(rig.color.project(moved), (large + 0.5) / 2 - 0.5, atol=1e-6)
    (person,) = read_all(recording.READER, options)
    stored = np.full((424, 512), 2000 + SHIFT)
    stored[:20] = 0
    found = whole(person)
    assert np.array_equal(found, np.rint(register_depth(stored, rig)))
    assert abs(np.median(found[found > 0]) - (2000 + SHIFT)) < 10


@pytest.mark.parametrize(
    ("size", "shrink"), [((1920, 1080), 1), ((960, 540), 2)], ids=lambda value: str(value).replace(" ", "")
)
def test_rectified_pictures_of_one_size_are_registered_already(tmp_path, size, shrink):
    write_calibration(tmp_path, ("color",))
    write_pictures(tmp_path, size, size)
    by = recognize(config(tmp_path, lens="rectified")).recorded_by
    assert by.registered
    assert (by.rig, by.depth_shift_mm, by.color.distortion) == (None, 0.0, ())
    np.testing.assert_allclose(by.color.project(points()), seen(COLOR / shrink, (0.0,) * 5), atol=1e-6)


def write_viewer(root, size) -> None:
    """As saveCloudAndImages of kinect2_viewer."""
    write_pictures(root, size, size)
    (root / "color" / "0000.jpg").rename(root / "0000_color.jpg")
    (root / "depth" / "0000.png").rename(root / "0000_depth.png")
    _write(root / "0000_depth_colored.png", codecs.encode_png(np.full((size[1], size[0], 3), 90, np.uint8)))
    _write(root / "0000_cloud.pcd", b"# .PCD v0.7")
    for name in ("color", "depth"):
        (root / name).rmdir()


def test_snapshots_of_kinect2_viewer_are_read(tmp_path):
    write_viewer(tmp_path, (512, 424))
    said = recording.resolve(config(tmp_path))[1]
    assert said[0] == "Kinect v2 snapshots of kinect2_viewer: 1 frames of rgb and depth"
    assert "depth is registered to color already (Kinect v2 snapshots of kinect2_viewer)" in said
    assert "1 colored depth pictures are passed over" in said
    (person,) = read_all(recording.READER, config(tmp_path))
    assert person.id == "recording/0000"
    assert (whole(person)[20:] == 2000).all()
    assert person.camera is None
    with pytest.raises(UserError, match=r"topics \*_rect, which are rectified; leave --lens out"):
        recognize(config(tmp_path, lens="distorted"))


def test_infrared_of_kinect2_viewer_is_no_color_and_the_advice_helps(tmp_path):
    """Its mode ir saves BGR of which all channels are one; color pictures may be gray here and there."""
    write_viewer(tmp_path, (512, 424))
    infrared = np.random.default_rng(0).integers(0, 255, (424, 512, 1), np.uint8).repeat(3, 2)
    cv2.imwrite(str(tmp_path / "0000_color.jpg"), infrared)
    with pytest.raises(UserError, match=r"0000_color.jpg has no color: .* mode ir .* --use depth, or save color in"):
        recognize(config(tmp_path))
    (person,) = read_all(recording.READER, config(tmp_path, use="depth"))
    assert (whole(person)[20:] == 2000).all()
    colored = infrared.copy()
    colored[200:220, 200:220, 0] = 30
    cv2.imwrite(str(tmp_path / "0001_color.jpg"), colored)
    (tmp_path / "0001_depth.png").write_bytes((tmp_path / "0000_depth.png").read_bytes())
    assert len(recognize(config(tmp_path)).frames) == 2


@pytest.mark.parametrize(
    ("name", "other"), [("0000_color.jpg", "0000_color.png"), ("0000_depth.png", "0000_depth.jpg")]
)
def test_two_files_of_one_number_are_refused_and_the_advice_helps(tmp_path, name, other):
    write_viewer(tmp_path, (512, 424))
    (tmp_path / other).write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(UserError, match=rf"has both {name} and {other}|has both {other} and {name}; keep one of each"):
        recognize(config(tmp_path))
    (tmp_path / other).unlink()
    assert len(recognize(config(tmp_path)).frames) == 1


def test_a_shift_in_meters_is_refused_and_the_advice_helps(tmp_path):
    write_pictures(tmp_path, (960, 540), (512, 424))
    write_calibration(tmp_path, depthShift=SHIFT / 1000)
    options = config(tmp_path, lens="distorted")
    with pytest.raises(
        UserError, match=r"depthShift is -0.02425, .* probably meant in meters; write -24.25 in"
    ) as told:
        recognize(options)
    for value in (float(str(told.value).partition("write ")[2].split()[0]), 0.0):
        write_calibration(tmp_path, depthShift=value)
        assert recognize(options).recorded_by.depth_shift_mm == value


def test_the_calibration_beside_snapshots_gives_their_camera(tmp_path):
    write_viewer(tmp_path, (960, 540))
    write_calibration(tmp_path, ("color",))
    np.testing.assert_allclose(recognize(config(tmp_path)).recorded_by.color.fx, COLOR[0, 0] / 2)


FAULTS = [
    (
        {},
        {"lens": ""},
        "has iai_kinect2's calibration, and nothing says .* give --lens distorted .* or --lens rectified",
    ),
    ({"translation": -TRANSLATION}, {}, r"calib_pose.yaml: .*x is \+52 mm .* the pictures are mirrored"),
    ({"translation": 1000 * TRANSLATION}, {}, "x is -5.2e.04 mm and Kinect v2's is about -52 mm; .* which unit"),
    ({"rotation": 2 * ROTATION}, {}, "calib_pose.yaml: rotation.* must be a rotation"),
    ({"cameraMatrix": COLOR.T}, {}, "cameraMatrix must be fx, 0, cx, 0, fy, cy, 0, 0, 1, row by row"),
    (
        {"cameraMatrix": np.diag([0.56, 1.0, 1.0])},
        {},
        "fx 0.56 and fy 1 cannot be of a 1920 x 1080 picture; give pixels",
    ),
    (
        {"cameraMatrix": np.diag([0.5, 0.5, 1]) @ COLOR},
        {},
        "far from the middle of 1920 x 1080 pixels, which iai_kinect2",
    ),
    ({"cameraMatrix": np.eye(2)}, {}, "cameraMatrix must be a matrix of 3 x 3 numbers"),
    ({"distortionCoefficients": np.arange(14.0)[None]}, {}, "14 numbers, of a lens with a thin prism or a tilted"),
    ({"depthShift": 1e4}, {}, "depthShift is 10000.0; a number of millimeters from -300 to 300 is read"),
]


@pytest.mark.parametrize(("change", "options", "said"), FAULTS, ids=lambda value: "")
def test_a_calibration_that_cannot_be_right_is_one_line(tmp_path, change, options, said):
    write_calibration(tmp_path, **change)
    write_pictures(tmp_path, (960, 540), (512, 424))
    with pytest.raises(UserError, match=said) as refused:
        recognize(config(tmp_path, **{"lens": "distorted", **options}))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_coefficients_of_unused_models_are_zeros(tmp_path):
    lens = (*COLOR_LENS, 0.01, 0.02, 0.03, *(0.0,) * 6)
    write_calibration(tmp_path, ("color",), distortionCoefficients=np.array([lens]))
    write_pictures(tmp_path, (1920, 1080), None)
    camera = recognize(config(tmp_path, lens="distorted")).recorded_by.color
    np.testing.assert_allclose(camera.project(points()), seen(COLOR, lens), atol=1e-6)


@pytest.mark.parametrize("start", ["%YAML:1.0\n", "%YAML:1.0\n---\n", "%YAML 1.2\n---\n"])
def test_every_opencv_begins_its_files_in_its_own_way(tmp_path, start):
    """Those in kinect2_bridge/data/ begin in the first two ways."""
    write_calibration(tmp_path)
    write_pictures(tmp_path, (960, 540), (512, 424))
    options = config(tmp_path, lens="distorted")
    before = recognize(options).recorded_by
    for path in tmp_path.glob("calib_*.yaml"):
        path.write_text(start + path.read_text().partition("---\n")[2])
    assert recognize(options).recorded_by == before


@pytest.mark.parametrize("damage", ["[", "%YAML:1.0\n3\n", "%YAML:1.0\nrotation: !!python/name:os.system\n", "\0"])
def test_a_calibration_file_that_is_damaged_is_one_line(tmp_path, damage):
    write_calibration(tmp_path)
    write_pictures(tmp_path, (960, 540), (512, 424))
    (tmp_path / "calib_pose.yaml").write_text(damage)
    with pytest.raises(UserError, match=r"calib_pose\.yaml is no YAML file of OpenCV.* write it again") as refused:
        recognize(config(tmp_path, lens="distorted"))
    assert "\n" not in str(refused.value)


SIZES = [
    ("distorted", (640, 480), (512, 424), "color pictures are 640 x 480 pixels; .* move .* and write camera.json"),
    ("distorted", (960, 540), (960, 540), "sd/image_depth. 512 x 424; .* give --lens rectified"),
    ("rectified", (960, 540), (512, 424), "sd/image_depth_rect. is so with the device's own numbers"),
    ("rectified", (1920, 1080), (960, 540), "both have one size: save both of hd, or both of qhd"),
    ("rectified", None, (640, 480), "depth pictures are 640 x 480 pixels; those of iai_kinect2's topics"),
]


@pytest.mark.parametrize(("lens", "color", "depth", "said"), SIZES, ids=lambda value: "")
def test_pictures_of_other_topics_are_refused(tmp_path, lens, color, depth, said):
    write_calibration(tmp_path)
    write_pictures(tmp_path, color, depth)
    with pytest.raises(UserError, match=said):
        recognize(config(tmp_path, lens=lens))


@pytest.mark.parametrize("missing", ALL)
def test_a_missing_calibration_file_is_said(tmp_path, missing):
    write_calibration(tmp_path, [name for name in ALL if name != missing])
    write_pictures(tmp_path, (960, 540), (512, 424))
    options = config(tmp_path, lens="distorted")
    if missing == "depth":
        note = "calib_depth.yaml is missing: readings are taken as the device gave them"
        assert note in recognize(options).notes
        return
    with pytest.raises(UserError, match=f"calib_{missing}.yaml is missing; copy all of calib_color.yaml"):
        recognize(options)


def test_two_answers_and_an_idle_option_are_refused(tmp_path):
    write_pictures(tmp_path, (960, 540), (960, 540))
    (tmp_path / "camera.json").write_text('{"registered": true}')
    with pytest.raises(UserError, match=r"--lens counts only with iai_kinect2's calib_color\.yaml"):
        recording.resolve(config(tmp_path, lens="rectified"))
    write_calibration(tmp_path)
    with pytest.raises(UserError, match=r"has both camera.json and iai_kinect2's calib_\*.yaml, .* keep one"):
        recognize(config(tmp_path, lens="rectified"))


def test_a_mirrored_camera_file_is_refused_and_the_advice_helps(tmp_path):
    """What docs/data/kinect-v2.md says to write gives the camera of the pictures that are turned around."""

    def write(sign) -> None:
        def camera(matrix, size):
            cx = matrix[0, 2] if sign > 0 else size[0] - 1 - matrix[0, 2]
            numbers = {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": cx, "cy": matrix[1, 2]}
            return {"width": size[0], "height": size[1], **numbers}

        flip = np.diag([sign, 1.0, 1.0])
        placed = {
            "rotation": (flip @ ROTATION @ flip).tolist(),
            "translation_mm": (1000 * flip @ TRANSLATION)[:, 0].tolist(),
        }
        cameras = {"color": camera(COLOR, (1920, 1080)), "depth": camera(DEPTH, (512, 424))}
        (tmp_path / "camera.json").write_text(json.dumps({**cameras, "depth_to_color": placed}))

    write(1)
    rig = read_camera_file(tmp_path).rig
    write(-1)
    with pytest.raises(UserError, match=r"depth_to_color of a Kinect v2: x is \+52 mm .*docs/data/kinect-v2.md"):
        read_camera_file(tmp_path)
    given = json.loads((tmp_path / "camera.json").read_text())
    for name in ("color", "depth"):
        given[name]["cx"] = given[name]["width"] - 1 - given[name]["cx"]
    (a, b, c), (d, e, f), (g, h, i) = given["depth_to_color"]["rotation"]
    x, y, z = given["depth_to_color"]["translation_mm"]
    given["depth_to_color"] = {"rotation": [[a, -b, -c], [-d, e, f], [-g, h, i]], "translation_mm": [-x, y, z]}
    (tmp_path / "camera.json").write_text(json.dumps(given))
    fixed = read_camera_file(tmp_path).rig
    np.testing.assert_allclose(fixed.rotation, rig.rotation)
    np.testing.assert_allclose(fixed.translation_mm, rig.translation_mm)
    np.testing.assert_allclose([fixed.color.cx, fixed.depth.cx], [rig.color.cx, rig.depth.cx])
