"""--segment of folder and recording: what the records' depth is, against a scene whose person is known."""

import json

import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder, recording
from hcmoco.datasets.base import read_all
from hcmoco.datasets.cameras.registration import register_depth
from hcmoco.datasets.segmentation import Background, parse
from hcmoco.datasets.segmentation.request import files_of
from hcmoco.errors import UserError
from tests.helpers import recording_files, ros_files, static_camera


def read(root, **options):
    config = build(recording.RecordingConfig, {"path": str(root), "size": 320, **options}, "test")
    return list(read_all(recording.READER, config))


def left(person: Person) -> np.ndarray:
    """A record's depth in its picture, uint16 [H, W]; 0 where the crop does not reach."""
    x0, y0, side, width, height = person.crop.astype(int)
    assert side == person.size
    crop = codecs.decode_depth(person.depth, "png16")
    canvas = np.zeros((height + 2 * side, width + 2 * side), np.uint16)
    canvas[y0 + side : y0 + 2 * side, x0 + side : x0 + 2 * side] = crop
    return canvas[side:-side, side:-side]


def check(found, seen, least):
    assert len(found) == len(seen)
    for person, frame in zip(found, seen, strict=True):
        assert isinstance(person, Person), person
        kept, right = left(person) > 0, (frame.depth > 0) & frame.person
        assert (kept & right).sum() / (kept | right).sum() > least
        np.testing.assert_array_equal(left(person)[kept], frame.depth[kept])


@pytest.mark.parametrize("way", ["background", "empty scene", "masks"])
def test_a_recording_keeps_the_person(tmp_path, way):
    seen = static_camera.frames(12)
    static_camera.write(tmp_path / "it", seen, masks="../true masks" if way == "masks" else "")
    (tmp_path / "empty.png").write_bytes(codecs.encode_depth(static_camera.empty(), "png16"))
    given = {"background": "background", "empty scene": tmp_path / "empty.png", "masks": tmp_path / "true masks"}[way]
    check(read(tmp_path / "it", segment=str(given)), seen, {"masks": 0.9999}.get(way, 0.95))


def test_people_of_a_folder_are_told_apart_by_their_boxes(tmp_path):
    one, other = static_camera.frames(2)
    both = np.where(other.person, other.depth, one.depth)
    for name, data in (("both", both), ("empty", static_camera.empty())):
        (tmp_path / f"{name}.png").write_bytes(codecs.encode_depth(data, "png16"))
    boxes = [[1, 8, 16, 68], [80, 8, 96, 68]]
    lines = [{"id": str(k), "depth": "both.png", "box": box} for k, box in enumerate(boxes)]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = folder.FolderConfig(path=str(tmp_path), segment=str(tmp_path / "empty.png"))
    for person, frame in zip(read_all(folder.READER, config), (one, other), strict=True):
        kept, right = left(person) > 0, (both > 0) & frame.person
        assert (kept & right).sum() / (kept | right).sum() > 0.95


def test_a_box_without_anybody_is_told(tmp_path):
    for name, data in (("seen", static_camera.frames(2)[0].depth), ("empty", static_camera.empty())):
        (tmp_path / f"{name}.png").write_bytes(codecs.encode_depth(data, "png16"))
    (tmp_path / "people.jsonl").write_text(json.dumps({"depth": "seen.png", "box": [60, 30, 90, 70]}))
    config = folder.FolderConfig(path=str(tmp_path), segment=str(tmp_path / "empty.png"))
    (refused,) = read_all(folder.READER, config)
    assert "nothing in the person's box [60.0, 30.0, 90.0, 70.0] is in front of the background" in refused.reason


def test_a_mask_of_its_own_goes_before_the_segmentation(tmp_path):
    seen = static_camera.frames(6)
    static_camera.write(tmp_path, seen, masks="mask")
    check(read(tmp_path, segment="background"), seen, 0.9999)


def test_the_frames_of_an_azure_kinect_have_their_background(tmp_path):
    """Nothing moves in this recording, which is said."""
    recording_files.write_azure_kinect(tmp_path, count=6)
    with pytest.raises(UserError, match="nothing moves in front of the background in 6 depth pictures"):
        read(tmp_path, segment="background", use="depth")


def bag(path, seen):
    make = ros_files.Messages()
    messages = []
    for number, frame in enumerate(seen):
        at = 10**9 + number * 10**8
        rgb = np.where(frame.person[..., None], np.uint8(200), np.uint8(90)).repeat(3, axis=2)
        messages.append(make.image("/camera/color/image_raw", at, "color", "rgb8", rgb))
        messages.append(make.image("/camera/aligned_depth_to_color/image_raw", at, "color", "16UC1", frame.depth))
    ros_files.write_ros2(path, messages)


def test_the_frames_of_a_bag_have_their_background_and_masks_of_their_own(tmp_path):
    seen = static_camera.frames(12)
    bag(tmp_path / "it" / "anna", seen)
    for number, frame in enumerate(seen):
        path = tmp_path / "masks" / "anna" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codecs.encode_labels(frame.person.astype(np.uint8) * 255))
    for segment, least in (("background", 0.9), (str(tmp_path / "masks"), 0.999)):
        found = read(tmp_path / "it", segment=segment, size=4096)
        assert [each.id for each in found] == [f"recording/anna/{number:06d}" for number in range(len(seen))]
        for person, frame in zip(found, seen, strict=True):
            truth = frame.person & (frame.depth > 0)
            kept = left(person) > 0
            assert (kept & truth).sum() > least * (kept | truth).sum(), (segment, person.id)


def test_a_bag_without_depth_has_no_background(tmp_path):
    seen = np.full((90, 120, 3), 90, np.uint8)
    make = ros_files.Messages()
    ros_files.write_ros2(tmp_path / "anna", [make.image("/color/image", 10**9, "color", "rgb8", seen)])
    with pytest.raises(UserError, match="the bag 'anna' has no depth, so it has no background to remove"):
        read(tmp_path, segment="background")


def test_the_depth_camera_of_a_video_stands_still_not_the_color_camera(tmp_path):
    """The background goes before depth is registered to color."""
    recording_files.write_azure_kinect(tmp_path / "it", count=1)
    seen = recording_files.kinect_depth()
    box = (seen > 0) & (seen < 2200)
    np.save(tmp_path / "empty.npy", np.where(box, np.uint16(3500), seen))
    (person,) = read(tmp_path / "it", segment=str(tmp_path / "empty.npy"), size=4096)
    near = np.where(Background(np.where(box, np.uint16(3500), seen), 50.0, "", 1).foreground(seen), seen, np.uint16(0))
    assert (near > 0).sum() > 0.97 * box.sum()
    expected = np.rint(register_depth(near, recording_files.kinect_rig()))
    np.testing.assert_array_equal(left(person), expected)


def test_each_missing_mask_is_named(tmp_path):
    static_camera.write(tmp_path / "it", static_camera.frames(6), masks="../masks")
    (tmp_path / "masks" / "0003.png").unlink()
    found = read(tmp_path / "it", segment=str(tmp_path / "masks"))
    (refused,) = [each for each in found if not isinstance(each, Person)]
    assert refused.id == "recording/0003"
    assert "mask: its picture 'rgb/0003' does not exist in" in refused.reason
    config = build(
        recording.RecordingConfig, {"path": str(tmp_path / "it"), "segment": str(tmp_path / "masks")}, "test"
    )
    checked = recording.inventory(config)
    assert checked.counts["masks of --segment"] == 5
    (fault,) = checked.faults
    assert (fault.path, fault.reason) == ("rgb/0003.jpg", refused.reason)


def test_depth_that_is_called_masked_and_is_not_is_refused(tmp_path):
    static_camera.write(tmp_path, static_camera.frames(6), masks="")
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": "0000", "box": [1, 8, 16, 68]}))
    (refused,) = [each for each in read(tmp_path, depth_masking="masked") if "background" in each.reason]
    assert "depth shows the background, too, and --depth-masking says masked" in refused.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "nowhere does not exist; give a folder of masks named like the pictures; background"),
        ("notes.txt", "is neither a mask, a depth picture nor a weight file"),
        ("void", "holds no masks and no depth pictures"),
        ("0000.png", "is the mask of one picture; give the folder of all masks"),
    ],
)
def test_what_cannot_segment_is_refused(tmp_path, given, message):
    static_camera.write(tmp_path / "it", static_camera.frames(6), masks="../masks")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "void").mkdir()
    (tmp_path / "0000.png").write_bytes((tmp_path / "masks" / "0000.png").read_bytes())
    with pytest.raises(UserError, match=message):
        read(tmp_path / "it", segment=str(tmp_path / given))


def test_few_frames_do_not_tell_the_background(tmp_path):
    static_camera.write(tmp_path, static_camera.frames(3))
    with pytest.raises(UserError, match=r"3 depth pictures are too few .* give a depth picture of the empty scene"):
        read(tmp_path, segment="background")


def test_a_mask_rcnn_needs_rgb(tmp_path):
    static_camera.write(tmp_path, static_camera.frames(6))
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="a Mask R-CNN looks at RGB, and there is depth alone; give --segment backgr"):
        read(tmp_path, segment=str(tmp_path / "w.pth"), use="depth")


def test_the_way_is_told_by_what_lies_there(tmp_path):
    static_camera.write(tmp_path, static_camera.frames(2), masks="masks")
    np.save(tmp_path / "empty.npy", static_camera.empty())
    (tmp_path / "w.safetensors").write_bytes(b"x")
    kinds = {"background": "frames", "masks": "masks", "depth": "empty scene", "empty.npy": "empty scene"}
    for name, kind in {**kinds, "w.safetensors": "mask-rcnn", "masks/0000.png": "masks"}.items():
        assert parse(name if name == "background" else str(tmp_path / name), "--segment").kind == kind


def test_what_other_nodes_have_to_see(tmp_path):
    np.save(tmp_path / "empty.npy", static_camera.empty())

    def files(segment):
        return files_of(build(folder.FolderConfig, {"path": str(tmp_path), "segment": segment}, "test"))

    assert files(str(tmp_path / "empty.npy")) == [("--segment", str(tmp_path / "empty.npy"))]
    assert files("background") == files("") == []
    assert files_of(object()) == []


def test_settings_of_a_segmentation_that_is_not_asked_for_are_refused(tmp_path):
    static_camera.write(tmp_path, static_camera.frames(6))
    with pytest.raises(UserError, match="--background-tolerance counts only with --segment, and there is none"):
        read(tmp_path, background_tolerance=30)
    assert len(read(tmp_path, segment="background", background_tolerance=30)) == 6
    with pytest.raises(UserError, match=r"background_tolerance = 0\.05"):  # meters, most probably
        read(tmp_path, segment="background", background_tolerance=0.05)
