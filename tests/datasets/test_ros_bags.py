"""ROS bags, written by ros_files.py in the real containers, against what the cameras saw."""

import json
import shutil
import sys
from contextlib import suppress

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import recording
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.io.rvl import decode_rvl
from hcmoco.datasets.recording import ros_messages
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from tests.datasets.test_recording import config, people, whole
from tests.helpers import recording_files
from tests.helpers import ros_files as files
from tests.helpers.mutations import damage


def one_file(root, name, storage="mcap"):
    """The file of a bag of ROS 2, without its metadata.yaml."""
    files.write_ros2(root / "whole", files.recorded(), storage)
    suffix = ".mcap" if storage == "mcap" else ".db3"
    (inner,) = (root / "whole").glob(f"*{suffix}")
    shutil.move(inner, root / f"{name}{suffix}")
    shutil.rmtree(root / "whole")


CONTAINERS = {
    "ros1": (lambda root: files.write_ros1(root / "anna.bag", files.recorded(ros1=True)), "anna.bag"),
    "mcap folder": (lambda root: files.write_ros2(root / "anna", files.recorded()), "anna"),
    "sqlite3 folder": (lambda root: files.write_ros2(root / "anna", files.recorded(), "sqlite3"), "anna"),
    "mcap file": (lambda root: one_file(root, "anna"), "anna.mcap"),
    "db3 file": (lambda root: one_file(root, "anna", "sqlite3"), "anna.db3"),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_depth_is_registered_to_color_as_the_bag_says(tmp_path, container):
    write, name = CONTAINERS[container]
    write(tmp_path)
    assert recording.resolve(config(tmp_path))[1] == [
        "ROS bags: 1 bags",
        f"{name}: color {files.COLOR} (3 pictures)",
        f"{name}: depth {files.DEPTH} (3 pictures)",
        "depth is registered to color with the cameras of the bag",
        "nobody's keypoints are known; --detect WEIGHTS of a detector finds them in RGB",
    ]
    assert not recording.inventory(config(tmp_path)).faults
    found = people(tmp_path)
    assert [each.id for each in found] == [f"recording/anna/{number:06d}" for number in range(3)]
    expected = np.rint(register_depth(recording_files.frame(files.RIG).depth, files.RIG))
    for number, person in enumerate(found):
        assert np.abs(whole(person).astype(int) - expected).max() <= 1
        assert (whole(person) > 0).tolist() == (expected > 0).tolist()
        assert np.abs(whole(person, "rgb")[:20, :20].astype(int).mean() - (100 + number)) < 1.5
        color = files.RIG.color
        x0, y0 = person.crop[:2]
        camera = np.add(person.camera, (0, 0, x0, y0))
        np.testing.assert_allclose(camera, [color.fx, color.fy, color.cx + 0.5, color.cy + 0.5], atol=1e-4)


def test_an_mcap_of_another_writer_is_read_alike(tmp_path):
    """Foxglove's own library writes the messages, from their published definitions."""
    from mcap_ros2.writer import Writer

    seen = recording_files.frame(files.RIG, 100)
    store = files.Messages().store
    with (tmp_path / "anna.mcap").open("wb") as file, Writer(file) as writer:
        schema = writer.register_msgdef(
            "sensor_msgs/msg/Image", store.generate_msgdef("sensor_msgs/msg/Image", ros_version=2)[0]
        )
        for topic, encoding, picture in ((files.COLOR, "bgr8", seen.rgb[..., ::-1]), ("/depth", "16UC1", seen.depth)):
            picture = np.ascontiguousarray(picture)
            height, width = picture.shape[:2]
            message = {
                "header": {"stamp": {"sec": 1, "nanosec": 0}, "frame_id": topic},
                "height": height,
                "width": width,
                "encoding": encoding,
                "is_bigendian": 0,
                "step": picture.nbytes // height,
                "data": picture.tobytes(),
            }
            writer.write_message(topic, schema, message, log_time=10**9, publish_time=10**9)
    (rgb,) = people(tmp_path, use="rgb")
    assert np.abs(whole(rgb, "rgb").astype(int) - seen.rgb).mean() < 4
    (depth,) = people(tmp_path, use="depth")
    assert np.array_equal(whole(depth), seen.depth)


def test_a_moment_without_a_partner_is_passed_over_and_numbers_stay(tmp_path):
    files.write_ros2(tmp_path / "anna", files.recorded(5, lost=(1, 3)))
    found = list(read_all(recording.READER, config(tmp_path)))
    assert [type(each) for each in found] == [Person, Skipped, Person, Skipped, Person]
    brightness = [whole(each, "rgb")[:20, :20].mean() for each in found if isinstance(each, Person)]
    assert np.abs(np.subtract(brightness, [100, 102, 104])).max() < 1.5
    assert [each.id for each in read_all(recording.READER, config(tmp_path, stride=2))] == [
        f"recording/anna/{number:06d}" for number in (0, 2, 4)
    ]
    assert len(people(tmp_path, use="rgb")) == 5


def test_depth_of_another_camera_is_refused_and_each_piece_of_advice_helps(tmp_path):
    files.write_ros2(tmp_path / "anna", files.recorded(1, statics=False))
    (refused,) = read_all(recording.READER, config(tmp_path))
    assert isinstance(refused, Rejected)
    assert "nothing says how depth (/camera/depth/image_rect_raw) lies on color" in refused.reason
    (fault,) = recording.inventory(config(tmp_path)).faults
    assert fault.reason == refused.reason
    for use in ("rgb", "depth"):
        assert len(people(tmp_path, use=use)) == 1
    expected = np.rint(register_depth(recording_files.frame(files.RIG).depth, files.RIG))
    (tmp_path / "camera.json").write_text(json.dumps(recording_files.camera_json(files.RIG)))
    (person,) = people(tmp_path)
    assert np.array_equal(whole(person), expected)


def topics(*more, count=1):
    """Color and aligned depth of one size, as realsense2_camera publishes them, and `more`."""
    make = files.Messages()
    color = np.full((90, 120, 3), 90, np.uint8)
    color[20:70, 40:80] = (200, 40, 40)
    depth = np.zeros((90, 120), np.uint16)
    depth[20:70, 40:80] = 1500
    aligned = "/camera/aligned_depth_to_color/image_raw"
    found = []
    for number in range(count):
        at = 10**9 + number * 10**8
        found += [
            make.image("/camera/color/image_raw", at, "color", "rgb8", color),
            make.image(aligned, at, "color", "16UC1", depth),
            *(each(make, at, color, depth) for each in more),
        ]
    return found, color, depth


def test_aligned_depth_goes_before_that_of_its_own_camera_and_infrared_is_no_color(tmp_path):
    messages, _, depth = topics(
        lambda make, at, color, depth: make.image("/camera/depth/image_rect_raw", at, "depth", "16UC1", depth[:50]),
        lambda make, at, color, depth: make.image("/camera/infra1/image_rect_raw", at, "infra", "mono8", color[..., 0]),
        lambda make, at, color, depth: make.compressed(
            "/camera/color/image_raw/compressed", at, "color", "rgb8; jpeg compressed bgr8",
            cv2.imencode(".jpg", color[..., ::-1] // 2)[1].tobytes(),
        ),
    )  # fmt: skip
    files.write_ros2(tmp_path / "anna", messages)
    (person,) = people(tmp_path)
    assert (codecs.decode_depth(person.depth, "png16") > 0).sum() == (depth > 0).sum()
    assert abs(int(codecs.decode_rgb(person.rgb).max()) - 200) < 12


def test_several_topics_are_asked_for_and_the_option_helps(tmp_path):
    messages, _, _ = topics(
        lambda make, at, color, depth: make.image("/other/color/image_raw", at, "other", "rgb8", color // 2)
    )
    files.write_ros2(tmp_path / "anna", messages)
    (refused,) = read_all(recording.READER, config(tmp_path))
    assert "several color topics, /camera/color/image_raw, /other/color/image_raw; say which with --color-topic" in (
        refused.reason
    )
    (person,) = people(tmp_path, color_topic="/camera/color/image_raw")
    assert person.rgb
    assert person.depth
    (other,) = people(tmp_path, use="rgb", color_topic="/other/color/image_raw")
    assert abs(int(codecs.decode_rgb(other.rgb).max()) - 100) < 12
    (refused,) = read_all(recording.READER, config(tmp_path, color_topic="/none"))
    assert "no color topic '/none'; it has /camera/color/image_raw, /other/color/image_raw" in refused.reason


COLORS = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "rgba8": lambda rgb: np.dstack([rgb, rgb[..., 0]]),
    "bgra8": lambda rgb: np.dstack([rgb[..., ::-1], rgb[..., 0]]),
}


@pytest.mark.parametrize("encoding", COLORS)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_order_of_colors_is_rgb(encoding, padding):
    rgb = make_rng(0, "colors").integers(0, 256, (6, 8, 3)).astype(np.uint8)
    message = files.Messages().image("/a", 1, "a", encoding, np.ascontiguousarray(COLORS[encoding](rgb)), padding)
    assert np.array_equal(ros_messages.color_picture(message.content), rgb)


@pytest.mark.parametrize(("encoding", "offset"), [("yuv422_yuy2", 0), ("yuv422", 1)])
def test_colors_of_two_pixels_together(encoding, offset):
    """Brightness is of each pixel, color is gray: 128."""
    luma = np.arange(48, dtype=np.uint8).reshape(6, 8) + 100
    pairs = np.full((6, 8, 2), 128, np.uint8)
    pairs[..., offset] = luma
    found = ros_messages.color_picture(files.Messages().image("/a", 1, "a", encoding, pairs).content)
    assert np.abs(found.astype(int) - ((luma.astype(float) - 16) * 255 / 219)[..., None]).max() <= 1.5


def test_depth_of_every_encoding_is_the_same_distance():
    make = files.Messages()
    meters = make_rng(0, "depth").uniform(0.5, 5, (6, 8)).astype(np.float32)
    meters[2:4, 3:5] = 0
    millimeters = np.rint(1000 * meters).astype(np.uint16)
    for kind in ("<u2", ">u2"):
        message = make.image("/a", 1, "a", "16UC1", millimeters.astype(kind)).content
        assert np.array_equal(ros_messages.depth_picture(message), millimeters)
    assert np.array_equal(ros_messages.depth_picture(make.image("/a", 1, "a", "32FC1", meters).content), meters)
    packed = make.compressed("/a", 1, "a", "16UC1; compressedDepth png", files.compressed_depth(millimeters)).content
    assert ros_messages.is_depth(packed)
    assert np.array_equal(ros_messages.depth_picture(packed), millimeters)
    # The transport's own formula: a = q (q + 1), b = 1 - a / furthest; it stores a / meters + b.
    quantum, furthest = 100.0, 10.0
    a = quantum * (quantum + 1)
    b = 1 - a / furthest
    with np.errstate(divide="ignore"):
        inverse = np.where(meters > 0, a / meters + b, 0).astype(np.uint16)
    packed = make.compressed("/a", 1, "a", "32FC1; compressedDepth", files.compressed_depth(inverse, a, b)).content
    found = ros_messages.depth_picture(packed)
    assert np.array_equal(found > 0, meters > 0)
    assert np.abs(found - meters).max() < 0.01
    packed = make.compressed("/a", 1, "a", "16UC1; compressedDepth rvl", files.compressed_rvl(millimeters)).content
    assert np.array_equal(ros_messages.depth_picture(packed), millimeters)
    data = files.compressed_rvl(inverse, a, b)
    packed = make.compressed("/a", 1, "a", "32FC1; compressedDepth rvl", data).content
    assert np.array_equal(ros_messages.depth_picture(packed), found)


def test_a_lens_that_is_not_read_is_named(tmp_path):
    make = files.Messages()
    info = make.info("/a", 1, "a", files.RIG.color, "equidistant").content
    with pytest.raises(ValueError, match="the lens model 'equidistant' of camera_info is none of plumb_bob"):
        ros_messages.camera_of(info)
    assert ros_messages.camera_of(make.info("/a", 1, "a", files.RIG.color).content) == files.RIG.color


@pytest.mark.parametrize("number", range(12))
def test_a_damaged_bag_costs_its_own_records(tmp_path, number):
    write, _ = CONTAINERS[("ros1", "mcap file", "db3 file")[number % 3]]
    write(tmp_path)
    what = damage(tmp_path, make_rng(0, "bags", number))
    try:
        found = list(read_all(recording.READER, config(tmp_path)))
    except UserError:
        return  # the bag is gone, or called otherwise
    assert found, what
    assert all(isinstance(outcome, Person | Rejected | Skipped) for outcome in found), what


def test_the_folder_of_a_bag_may_be_the_path(tmp_path):
    """A folder of ROS 2 may itself be what --path names."""
    files.write_ros2(tmp_path / "anna", files.recorded(1))
    (person,) = people(tmp_path / "anna")
    assert person.id == "recording/anna/000000"


def test_the_package_that_reads_bags_is_named_where_it_is_missing(tmp_path, monkeypatch):
    files.write_ros2(tmp_path / "anna", files.recorded(1))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rosbags.highlevel", None)  # as Python has it for a package that is not there
        with pytest.raises(UserError, match=r"anna is a ROS bag; install the package .*: pip install 'rosbags>=0.11'"):
            recording.resolve(config(tmp_path))
    assert people(tmp_path)


def pictures_for_rvl():
    rng = make_rng(0, "rvl")
    smooth = np.rint(1500 + 400 * np.sin(np.linspace(0, 9, 60 * 80))).astype(np.uint16).reshape(60, 80)
    yield "a room with holes", np.where(rng.random(smooth.shape) < 0.3, np.uint16(0), smooth)
    yield (
        "every number",
        np.concatenate([np.arange(1 << 16), np.arange(1 << 16)[::-1]]).astype(np.uint16).reshape(256, -1),
    )
    yield "noise", rng.integers(0, 1 << 16, (31, 17)).astype(np.uint16)
    yield "nothing", np.zeros((9, 5), np.uint16)
    yield "readings alone", np.full((3, 4), 65535, np.uint16)
    yield "one pixel", np.array([[1]], np.uint16)
    yield "the end is empty", np.array([[7, 0, 9], [0, 0, 0]], np.uint16)
    yield "the start is empty", np.array([[0, 0, 0], [0, 2, 65535]], np.uint16)


@pytest.mark.parametrize(
    ("name", "picture"), list(pictures_for_rvl()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_rvl_comes_back_bit_by_bit(name, picture):
    assert np.array_equal(decode_rvl(files.rvl(picture), picture.shape[1], picture.shape[0]), picture), name


def test_rvl_is_what_the_paper_says_nibble_by_nibble():
    """5, 5 and 3 after two zeros: 2 zeros, 3 readings, +5 -> 10 = 2 + 8 * 1, 0 -> 0, -2 -> 3; one word is enough."""
    data = (0x2_3_A_1_0_3_00).to_bytes(4, "little")
    assert decode_rvl(data, 5, 1).tolist() == [[0, 0, 5, 5, 3]]
    assert files.rvl(np.array([[0, 0, 5, 5, 3]])) == data


@pytest.mark.parametrize("number", range(30))
def test_damaged_rvl_is_refused_or_another_picture(number):
    rng = make_rng(0, "damaged rvl", number)
    picture = np.where(rng.random((20, 30)) < 0.2, 0, rng.integers(500, 9000, (20, 30))).astype(np.uint16)
    data = bytearray(files.rvl(picture))
    if number % 3 == 0:
        del data[int(rng.integers(len(data) // 2)) :]
    else:
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    if number % 3 == 0:
        with pytest.raises(ValueError, match="the RVL picture is"):
            decode_rvl(bytes(data), 30, 20)
        return
    with suppress(ValueError):
        found = decode_rvl(bytes(data), 30, 20)
        assert (found.shape, found.dtype) == ((20, 30), np.uint16)


def test_rvl_of_an_impossible_size_takes_no_memory():
    for width, height in ((0, 4), (1 << 31, 1), (1 << 16, 1 << 16)):
        with pytest.raises(ValueError, match="RVL picture declares"):
            decode_rvl(bytes(8), width, height)


def test_a_bag_of_compressed_depth_gives_the_same_records(tmp_path):
    """As a ROS driver records it: the topic of the raw picture with /compressedDepth behind it."""
    expected = np.rint(register_depth(recording_files.frame(files.RIG).depth, files.RIG))
    make = files.Messages()
    messages = []
    for each in files.recorded(2):
        if each.topic == files.DEPTH:
            data = files.compressed_rvl(recording_files.frame(files.RIG).depth)
            told = "16UC1; compressedDepth rvl"
            each = make.compressed(f"{files.DEPTH}/compressedDepth", each.at, files.DEPTH_FRAME, told, data)
        messages.append(each)
    files.write_ros2(tmp_path / "anna", messages)
    for person in people(tmp_path):
        assert np.array_equal(whole(person), expected)


@pytest.mark.parametrize("container", ["ros1", "mcap"])
def test_a_bag_of_realsenses_sdk_knows_its_cameras_without_camera_json(tmp_path, container):
    """Extrinsics are given from a third stream; the lens is the SDK's own model."""
    if container == "ros1":
        files.write_ros1(tmp_path / "anna.bag", files.recorded_by_sdk(ros1=True))
    else:
        files.write_ros2(tmp_path / "anna", files.recorded_by_sdk())
    rig = files.SDK_RIG
    expected = np.rint(register_depth(recording_files.frame(rig).depth, rig))
    found = people(tmp_path)
    assert len(found) == 2
    for person in found:
        # Quaternions and meters come back with the precision of their numbers.
        assert (whole(person) != expected).mean() < 1e-3
        camera = np.add(person.camera, (0, 0, *person.crop[:2]))
        np.testing.assert_allclose(camera, rig.color.record_camera, atol=1e-4)
    (depth, *_) = people(tmp_path, use="depth")
    camera = np.add(depth.camera, (0, 0, *depth.crop[:2]))
    np.testing.assert_allclose(camera, rig.depth.record_camera, atol=1e-4)


@pytest.mark.parametrize("lacks", ["cameras", "extrinsics"])
def test_a_bag_of_realsenses_sdk_that_lacks_either_is_refused(tmp_path, lacks):
    files.write_ros2(tmp_path / "anna", files.recorded_by_sdk(**{lacks: False}))
    (refused,) = read_all(recording.READER, config(tmp_path))
    assert "(or tf of RealSense's SDK) with both, or no camera_info of them" in refused.reason
