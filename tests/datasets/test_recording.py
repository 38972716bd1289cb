"""Recordings in the formats of cameras' own programs, written by recording_files.py, against what the cameras saw."""

import json
import shutil

import av
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import recording
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.io.streams import frames, open_video
from hcmoco.errors import UserError
from tests.helpers import recording_files as files


def config(root, **options) -> recording.RecordingConfig:
    return build(recording.RecordingConfig, {"path": str(root), "size": 4096, **options}, "test")


def people(root, **options) -> list[Person]:
    found = list(read_all(recording.READER, config(root, **options)))
    assert all(isinstance(each, Person) for each in found), [getattr(each, "reason", "") for each in found]
    return found


def whole(person: Person, encoded: str = "depth") -> np.ndarray:
    """A record's picture of its whole source: the part of the square that the source fills."""
    x0, y0, side, width, height = person.crop.astype(int)
    assert side == person.size, "the crop was made smaller"
    data = getattr(person, encoded)
    picture = codecs.decode_rgb(data) if encoded == "rgb" else codecs.decode_depth(data, "png16")
    return picture[-y0 : -y0 + height, -x0 : -x0 + width]


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (files.write_plain, "folder of pictures: 3 frames of rgb and depth"),
        (files.write_realsense_viewer, "RealSense folder: 3 frames of rgb and depth"),
        (files.write_rs_convert, "RealSense folder: 3 frames of rgb and depth"),
    ],
)
def test_depth_is_registered_to_color_as_the_folder_says(tmp_path, write, kind):
    write(tmp_path)
    said = recording.resolve(config(tmp_path))[1]
    assert said[0] == kind
    assert "depth is registered to color with the cameras of camera.json" in said
    found = people(tmp_path)
    seen = files.frame()
    expected = np.rint(register_depth(seen.depth, files.RIG))
    for number, person in enumerate(found):
        assert np.array_equal(whole(person), expected)
        assert np.abs(whole(person, "rgb")[:20, :20].astype(int).mean() - (100 + number)) < 1.5, (
            "frames keep their order"
        )
        fx, fy, cx, cy = person.camera
        x0, y0 = person.crop[:2]
        color = files.COLOR
        np.testing.assert_allclose([fx, fy, cx + x0, cy + y0], [114, 114, color.cx + 0.5, color.cy + 0.5], atol=1e-4)
    # Red is the box in color, 1.8 m away in depth: what lies on each other is the same.
    red = seen.rgb[..., 0].astype(int) - seen.rgb[..., 1] > 100
    near = (expected > 1700) & (expected < 1900)
    assert (near & red).sum() > 0.97 * (red & (expected > 0)).sum()


def test_the_unit_of_a_realsense_folder_is_that_of_its_camera(tmp_path):
    """An L515 counts quarters of a millimeter."""
    files.write_realsense_viewer(tmp_path, 1, unit_mm=0.25)
    assert "depth unit 0.25mm (camera.json)" in recording.resolve(config(tmp_path))[1]
    expected = register_depth(files.frame().depth, files.RIG)
    assert np.abs(whole(people(tmp_path)[0]) - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["intrinsic.json", "camera_intrinsic.json"])
def test_an_open3d_folder_is_registered_already(tmp_path, name):
    files.write_open3d(tmp_path, 2, name)
    said = recording.resolve(config(tmp_path))[1]
    assert said[0] == "Open3D folder: 2 frames of rgb and depth"
    assert f"depth is registered to color already ({name})" in said
    pinhole = files.Camera(160, 120, 114.0, 114.5, 80.2, 59.5)
    for person in people(tmp_path):
        assert np.array_equal(whole(person), files.frame(files.Rig(pinhole, pinhole)).depth)
        fx, fy, cx, cy = person.camera
        np.testing.assert_allclose([fx, fy], [114.0, 114.5])
        np.testing.assert_allclose([cx + person.crop[0], cy + person.crop[1]], [80.7, 60.0], atol=1e-4)


def test_tum_folders_pair_by_time_and_count_fifths_of_a_millimeter(tmp_path):
    files.write_tum(tmp_path, 4)
    (tmp_path / "depth" / "1305031103.900000.png").write_bytes(b"")
    said = recording.resolve(config(tmp_path))[1]
    assert said[0] == "TUM RGB-D folder: 4 frames of rgb and depth"
    assert "1 pictures have no partner and are passed over, for example depth/1305031103.900000.png" in said
    pinhole = files.Camera(160, 120, 114.0, 114.5, 80.2, 59.5)
    *found, alone = read_all(recording.READER, config(tmp_path))
    assert isinstance(alone, Skipped)
    assert "has no partner in the other modality; --use rgb or --use depth" in alone.reason
    for person in found:
        assert np.array_equal(whole(person), files.frame(files.Rig(pinhole, pinhole)).depth)


def test_azure_kinect_recordings_bring_their_own_cameras(tmp_path):
    files.write_azure_kinect(tmp_path, count=2)
    with open_video(tmp_path, "kinect.mkv") as container:
        stream = container.streams.video[1]
        stored = next(bytes(packet) for packet in container.demux(stream))
    assert np.array_equal(np.frombuffer(stored, ">u2").reshape(288, 320), files.kinect_depth()), (
        "as the device writes it"
    )
    found = people(tmp_path)
    assert [each.id for each in found] == ["recording/kinect/000000", "recording/kinect/000001"]
    expected = np.rint(register_depth(files.kinect_depth(), files.kinect_rig()))
    assert (expected > 0).mean() > 0.3
    assert np.array_equal(whole(found[0]), expected)
    color = files.kinect_rig().color
    np.testing.assert_allclose(found[0].camera[:2], [color.fx, color.fy], rtol=1e-6)
    only = people(tmp_path, use="depth")[0]
    assert only.rgb is None
    assert np.array_equal(whole(only), files.kinect_depth())
    assert people(tmp_path, use="rgb")[0].depth is None


def test_a_kinect_recording_without_calibration_is_refused_with_the_reason(tmp_path):
    files.write_azure_kinect(tmp_path, count=1, calibration=False)
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "'kinect.mkv' has no attachment calibration.json; record it with k4arecorder" in found.reason


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_videos_are_turned_upright(tmp_path, degrees):
    files.write_video(tmp_path, "walk.mp4", 3, degrees)
    person = people(tmp_path)[0]
    picture = whole(person, "rgb").astype(int)
    assert picture.shape[:2] == ((120, 160) if degrees % 180 == 0 else (160, 120))
    red = picture[..., 0] - picture[..., 1] > 100
    corner = {0: red[:25, :35], 90: red[:35, -25:], 180: red[-25:, -35:], 270: red[-35:, :25]}[degrees]
    assert corner.all()
    assert red.mean() < 0.1
    stored = whole(people(tmp_path, orientation="stored")[0], "rgb").astype(int)
    assert stored.shape[:2] == (120, 160)
    assert (stored[:25, :35, 0] - stored[:25, :35, 1] > 100).all()


def test_a_turned_video_beside_its_camera_is_refused_with_what_to_do(tmp_path):
    """camera.json tells how the camera saw the frames, which is how they are stored."""
    camera = {"width": 160, "height": 120, "fx": 150, "fy": 150, "cx": 80, "cy": 60}
    (tmp_path / "camera.json").write_text(json.dumps({"color": camera}))
    files.write_video(tmp_path, "walk.mp4", 3, 180)
    reasons = {each.reason for each in read_all(recording.READER, config(tmp_path))}
    (reason,) = reasons
    assert "camera.json saw the video as it is stored, and it says that it is turned by 180 degrees" in reason
    assert "give --orientation stored" in reason
    assert len(people(tmp_path, orientation="stored")) == 3


@pytest.mark.parametrize("named", [{"mask": "mask.png"}, {"parts": "parts.png"}])
def test_a_frame_of_a_video_has_no_mask_and_no_parts(tmp_path, named):
    files.write_video(tmp_path, count=2)
    line = {"frame": "walk/000001", **named}
    (tmp_path / "people.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match="names a mask or parts for 'walk/000001', a frame of a video"):
        recording.items(config(tmp_path, label_map="human3.6m" if "parts" in named else ""))
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": line["frame"]}))
    found = read_all(recording.READER, config(tmp_path))
    assert [each.id for each in found if isinstance(each, Person)] == ["recording/walk/000001"]


def test_every_frame_of_a_video_keeps_its_number(tmp_path):
    files.write_video(tmp_path, count=24)
    found = people(tmp_path, stride=5)
    assert [each.id for each in found] == [f"recording/walk/{number:06d}" for number in range(0, 24, 5)]
    for number, person in zip(range(0, 24, 5), found, strict=True):
        assert abs(whole(person, "rgb")[60:, 80:].astype(int).mean() - (40 + 6 * number)) < 3


@pytest.mark.parametrize("damaged", [1, 4, 9, 12, 20])
def test_frames_behind_a_damaged_packet_are_rejected_until_the_next_key_frame(tmp_path, damaged):
    files.write_video(tmp_path, count=24)
    path = tmp_path / "walk.mp4"
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        numbers = sorted(packet.pts for packet in packets)
        keys = [numbers.index(packet.pts) for packet in packets if packet.is_keyframe]
        hit = packets[damaged]
        position, size, number = hit.pos, hit.size, numbers.index(hit.pts)
    assert number not in keys
    assert len(keys) > 2
    data = bytearray(path.read_bytes())
    data[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(data)
    found = list(read_all(recording.READER, config(tmp_path)))
    assert [each.id for each in found] == [f"recording/walk/{each:06d}" for each in range(24)], "nothing is lost"
    good = {at: each for at, each in enumerate(found) if isinstance(each, Person)}
    for at, each in good.items():
        assert round((whole(each, "rgb")[60:, 80:].astype(int).mean() - 40) / 6) == at, "a frame keeps its number"
    last, following = max(key for key in keys if key < number), min([key for key in keys if key > number] + [24])
    assert {*range(last), last, *range(following, 24)} <= set(good), "whole groups stay"
    assert number not in good
    reasons = {each.reason for each in found if isinstance(each, Rejected)}
    assert reasons == {"the video is damaged here: the frame is made of data that do not decode"}


def test_a_video_that_is_cut_short_is_rejected_or_ends(tmp_path):
    files.write_video(tmp_path, count=24)
    data = (tmp_path / "walk.mp4").read_bytes()
    (tmp_path / "walk.mp4").write_bytes(data[: len(data) // 2])
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "'walk.mp4' is cut short or damaged" in found.reason
    (tmp_path / "walk.mp4").write_bytes(b"#EXTM3U\n/etc/hostname\n")
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "is no MP4, MOV, Matroska or AVI file" in found.reason


def test_times_are_those_of_the_file(tmp_path):
    files.write_video(tmp_path, count=6)
    with open_video(tmp_path, "walk.mp4") as container:
        seconds = [frame.seconds for frame in frames(container, container.streams.video[0])]
    np.testing.assert_allclose(np.diff(seconds), 1 / 30, atol=1e-6)


def test_masks_and_people_ride_along(tmp_path):
    files.write_plain(tmp_path)
    mask = np.zeros((120, 160), np.uint8)
    mask[20:110, 60:100] = 255
    for number in (0, 1):
        files._write(tmp_path / "masks" / f"{number:04d}.png", codecs.encode_labels(mask))
    keypoints = [[80.0, 60.0, 2]] + [[70.0, 50.0, 1]] + [[0, 0, 0]] * 15
    lines = [
        {"frame": "0000", "keypoints": keypoints, "subject": "anna"},
        {"frame": "0002", "box": [50, 10, 110, 110]},
        {"frame": "0002", "box": [60, 10, 120, 110], "subject": "ben"},
    ]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "2 frames have a mask in masks/" in recording.resolve(config(tmp_path))[1]
    found = list(read_all(recording.READER, config(tmp_path)))
    assert [each.id for each in found] == ["recording/0000", "recording/0001", "recording/0002", "recording/0002#2"]
    first, skipped, second, third = found
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "nobody is known in the frame: people.jsonl or the keypoints have no line for it"
    assert (first.subject, second.subject, third.subject) == ("anna", "", "ben")
    assert first.keypoints[0].tolist() == [80 - first.crop[0], 60 - first.crop[1], 1]
    x0, y0 = first.crop[:2].astype(int)
    outside = np.zeros((120, 160), bool)
    outside[20:110, 60:100] = True
    inside = np.zeros((first.size, first.size), bool)
    inside[20 - y0 : 110 - y0, 60 - x0 : 100 - x0] = True
    assert not codecs.decode_depth(first.depth, "png16")[~inside].any(), "depth outside the mask is dropped"
    assert second.mask is None


def test_names_and_numbers_pair_and_strides_pass_over(tmp_path):
    files.write_plain(tmp_path, 5)
    for path in (tmp_path / "depth").iterdir():
        path.rename(path.with_name(f"depth_{int(path.stem):06d}.png"))
    for path in (tmp_path / "rgb").iterdir():
        path.rename(path.with_name(f"frame-{path.name}"))
    (tmp_path / "rgb").rename(tmp_path / "Color")
    found = people(tmp_path, stride=2, name="lab")
    assert [each.id for each in found] == ["lab/frame-0000", "lab/frame-0002", "lab/frame-0004"]
    assert all(each.depth is not None for each in found)


def test_a_wrong_unit_of_a_recording_is_told_and_the_advice_helps(tmp_path):
    files.write_plain(tmp_path, 1)
    values = json.loads((tmp_path / "camera.json").read_text())
    (tmp_path / "camera.json").write_text(json.dumps({**values, "depth_unit": "m"}))
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "2.81 km with the depth unit m; 0.2 to 20 m can be right: mm was probably meant" in found.reason
    assert found.reason.endswith("give --depth-unit mm")
    assert len(people(tmp_path, depth_unit="mm")) == 1


CAMERA_FAULTS = [
    ({"depth_scale": 1000}, 'depth_scale 1000 is not read, .*; write "depth_unit": "mm" in its place'),
    ({"depth_scale": 0.00025}, 'write "depth_unit": "0.25mm" in its place'),
    ({"depth_scale": 5000.0}, 'write "depth_unit": "0.2mm" in its place'),
    ({"depth_unit": "millimetre"}, "depth_unit = 'millimetre': must be a unit of depth with its name: write mm, m, cm"),
    ({"depth_unit": 1000}, "depth_unit = 1000: must be text"),
    ({"registered": True}, "depth_to_color is for pictures that are not registered"),
    ({"color": None}, "depth_to_color needs both cameras; color is missing"),
    ({"depth": None}, "depth_to_color needs both cameras; depth is missing"),
    ({"colour": {}}, "unknown key 'colour'; allowed here: model, depth_unit"),
    ({"depth_to_color": {"translation_m": [14.8, 0.1, 0.2]}}, "14.8 m apart, .* translation_mm was probably meant"),
    ({"depth_to_color": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 2]], "translation_mm": [1, 0, 0]}}, "a rotation"),
    ({"depth_to_color": {"rotation": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], "translation_mm": [1, 0, 0]}}, "a rotation"),
    ({"depth_to_color": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}, "give one of translation_mm .* and transl"),
]


@pytest.mark.parametrize(("change", "said"), CAMERA_FAULTS, ids=lambda value: "")
def test_a_camera_file_that_cannot_be_right_is_one_line(tmp_path, change, said):
    files.write_plain(tmp_path, 1)
    values = json.loads((tmp_path / "camera.json").read_text())
    (tmp_path / "camera.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(UserError, match=said) as refused:
        recording.items(config(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


CAMERA_NUMBERS = [
    ({"fx": 0.7}, "fx 0.7 and fy 114 cannot be of a 160 x 120 picture; give pixels"),
    ({"cx": 0.5, "cy": 0.5, "fx": 0.9, "fy": 0.9}, "give pixels"),
    ({"cx": 640}, "cx 640 and cy 59.5 lie outside the 160 x 120 picture"),
    ({"distortion": [1, 2, 3]}, "must be 4, 5 or 8 numbers .*; it has 3"),
    ({"distortion_model": "none"}, "distortion is given and distortion_model is none: write brown-conrady"),
    ({"distortion_model": "ftheta"}, "must be 'none', 'brown-conrady' or 'modified-brown-conrady'"),
    ({"pixel_center": 1}, r"must be 0 \(OpenCV, camera SDKs\) or 0.5"),
]


@pytest.mark.parametrize(("change", "said"), CAMERA_NUMBERS, ids=lambda value: "")
def test_a_camera_that_cannot_be_right_is_one_line(tmp_path, change, said):
    files.write_plain(tmp_path, 1)
    values = json.loads((tmp_path / "camera.json").read_text())
    (tmp_path / "camera.json").write_text(json.dumps({**values, "color": {**values["color"], **change}}))
    with pytest.raises(UserError, match=said):
        recording.items(config(tmp_path))


def test_a_matrix_row_by_row_is_told_apart_from_open3ds(tmp_path):
    files.write_open3d(tmp_path, 1)
    rows = [114.0, 0.0, 80.2, 0.0, 114.5, 59.5, 0.0, 0.0, 1.0]
    (tmp_path / "intrinsic.json").write_text(json.dumps({"width": 160, "height": 120, "intrinsic_matrix": rows}))
    with pytest.raises(UserError, match="column by column; it is written row by row"):
        recording.items(config(tmp_path))


def test_the_camera_of_another_size_of_picture_is_refused(tmp_path):
    files.write_open3d(tmp_path, 1)
    matrix = [228.0, 0.0, 0.0, 0.0, 229.0, 0.0, 160.4, 119.0, 1.0]
    (tmp_path / "intrinsic.json").write_text(json.dumps({"width": 320, "height": 240, "intrinsic_matrix": matrix}))
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "the picture is 160 x 120 pixels, its camera in intrinsic.json 320 x 240" in found.reason


def faults():
    def without_camera(root):
        files.write_plain(root, 1)
        (root / "camera.json").unlink()

    def colored_alone(root):
        files.write_realsense_viewer(root, 1)
        for path in root.glob("*.raw"):
            path.unlink()

    def without_csv(root):
        files.write_realsense_viewer(root, 1)
        next(root.glob("*.csv")).unlink()
        (root / "camera.json").unlink()

    def other_format(root):
        files.write_realsense_viewer(root, 1)
        path = next(root.glob("*.csv"))
        path.write_text(path.read_text().replace("Z16", "DISPARITY16"))

    def two_kinds(root):
        files.write_plain(root, 1)
        files.write_video(root)

    def unlike_names(root):
        files.write_plain(root, 1)
        (root / "depth" / "0000.png").rename(root / "depth" / "first.png")

    def unknown_frame(root):
        files.write_plain(root, 1)
        (root / "people.jsonl").write_text('{"frame": "17"}')

    def twice(root):
        files.write_plain(root, 1)
        shutil.copy(root / "rgb" / "0000.jpg", root / "rgb" / "0000.png")

    return [
        (lambda root: None, "holds no recording; expected are rgb/ .* Open3D's .* RealSense's .* videos"),
        (
            without_camera,
            'nothing says how depth pictures lie on color .* {"registered": true} .* --use rgb or --use depth',
        ),
        (colored_alone, "depth as colored pictures only, .* rs-convert -p PREFIX -r PREFIX"),
        (without_csv, r"raw depth pictures do not say how large they are; keep the viewer's \*_Depth_metadata.csv"),
        (other_format, "says that its picture is DISPARITY16; depth in Z16 is read"),
        (two_kinds, "holds picture folders and videos; give each recording a folder of its own"),
        (unlike_names, "no color picture and no depth picture have the same name or number, for example rgb/0000.jpg"),
        (unknown_frame, "names the frame '17', which the recording lacks; .* for example '0000'"),
        (twice, "has both 0000.jpg and 0000.png; keep one of each name"),
    ]


@pytest.mark.parametrize(("write", "said"), faults(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, write, said):
    write(tmp_path)
    with pytest.raises(UserError, match=said) as refused:
        recording.items(config(tmp_path))
    assert "\n" not in str(refused.value)


def test_what_the_line_about_registration_says_helps(tmp_path):
    files.write_plain(tmp_path, 1)
    (tmp_path / "camera.json").unlink()
    assert [each.depth for each in people(tmp_path, use="rgb")] == [None]
    assert [each.rgb for each in people(tmp_path, use="depth")] == [None]
    pinhole = files.Rig(files.DEPTH, files.DEPTH)
    files._write(tmp_path / "rgb" / "0000.jpg", codecs.encode_rgb(files.frame(pinhole).rgb))
    (tmp_path / "camera.json").write_text('{"registered": true}')
    assert np.array_equal(whole(people(tmp_path)[0]), files.frame().depth)


def test_raw_depth_of_another_size_is_rejected(tmp_path):
    files.write_realsense_viewer(tmp_path, 1)
    path = next(tmp_path.glob("*.raw"))
    path.write_bytes(path.read_bytes()[:-2])
    (found,) = read_all(recording.READER, config(tmp_path))
    assert "the raw depth picture has 50878 bytes, a depth camera of 212 x 120 pixels gives 50880" in found.reason


def test_the_inventory_names_what_is_missing_or_no_picture(tmp_path):
    files.write_realsense_viewer(tmp_path, 2)
    (tmp_path / "anna 0_Color.png").write_bytes(b"x")
    found = recording.inventory(config(tmp_path))
    assert found.counts == {"RGB pictures": 2, "depth pictures": 2}
    assert [fault.reason for fault in found.faults] == ["is not JPEG or PNG or WebP or TIFF or big-endian TIFF or BMP"]
