"""What readers advise about pictures, boxes, cameras and lists is done here, word by word, and it helps."""

import json
import re

import cv2
import numpy as np
import pytest

from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import folder, itop, keypoints, ntu, recording
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.datasets.cameras.camera_file import CameraFile
from hcmoco.errors import UserError
from tests.helpers import itop_files, keypoint_files, recording_files
from tests.helpers.readers import write_folder

CAMERA = {"width": 120, "height": 90, "fx": 100, "fy": 100, "cx": 60, "cy": 45}


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path / "mine")
    return tmp_path / "mine"


def one(root, line, **options):
    """The outcome of a folder of one line."""
    (root / "people.jsonl").write_text(json.dumps(line))
    options = {**({"label_map": "human3.6m"} if "parts" in line else {}), **options}
    (outcome,) = read_all(folder.READER, folder.FolderConfig(path=str(root), **options))
    return outcome


def refused(root, line, advice, **options) -> str:
    outcome = one(root, line, **options)
    assert isinstance(outcome, Rejected)
    assert re.search(advice, outcome.reason), outcome.reason
    return outcome.reason


def taken(root, line, **options):
    outcome = one(root, line, **options)
    assert isinstance(outcome, Person), outcome
    return outcome


def test_a_box_of_left_top_width_and_height_is_written_as_the_reason_says(root):
    joints = [[x, y, 2] for x, y in ((31, 21), (69, 21), (31, 59), (69, 59))] + [[0, 0, 0]] * 13
    for box in ([30, 20, 40, 40], [30, 20, 25, 40]):  # one with an area and one without
        line = {"rgb": "rgb 1.jpg", "box": box, "keypoints": joints}
        reason = refused(root, line, r"written|write")
        other = json.loads(re.search(r"(?:write|written) (\[.*\])", reason)[1])
        assert taken(root, {**line, "box": other}).box is not None


def test_a_mask_of_labels_is_saved_as_0_and_255(root):
    labels = np.zeros((90, 120), np.uint8)
    labels[20:40, 30:70], labels[40:60, 30:70] = 1, 2
    (root / "m.png").write_bytes(codecs.encode_labels(labels))
    line = {"rgb": "rgb 1.jpg", "mask": "m.png"}
    refused(root, line, "save 0 and 255, one mask for each person")
    (root / "m.png").write_bytes(codecs.encode_labels((labels == 1).astype(np.uint8) * 255))
    taken(root, line)


def test_labels_named_as_rgb_are_named_as_parts_or_mask(root):
    refused(root, {"rgb": "parts.png"}, "name it as parts or mask")
    taken(root, {"rgb": "rgb 1.jpg", "parts": "parts.png"})
    taken(root, {"rgb": "rgb 1.jpg", "mask": "mask.png"})


@pytest.mark.parametrize(("id", "advice"), [(" ", "omit it or make it unique"), ("a\tb", "omit it or give another")])
def test_an_id_that_is_none(root, id, advice):
    refused(root, {"id": id, "rgb": "rgb 1.jpg"}, advice)
    taken(root, {"rgb": "rgb 1.jpg"})
    taken(root, {"id": "anna", "rgb": "rgb 1.jpg"})


def test_confidences_without_their_threshold(root):
    line = {"rgb": "rgb 1.jpg", "keypoints": [[50, 40, 0.7]] * 17}
    reason = refused(root, line, "give --min-confidence, such as 0.3")
    assert taken(root, line, min_confidence=float(reason.rpartition(" ")[2])).keypoints[:, 2].all()


def test_depth_of_another_size_is_registered_by_the_cameras(root):
    (root / "small.png").write_bytes(codecs.encode_depth(np.full((45, 60), 1500, np.uint16), "png16"))
    line = {"rgb": "rgb 1.jpg", "depth": "small.png", "box": [30, 20, 70, 60]}
    refused(root, line, r"register depth to RGB, or give the cameras in camera.json")
    placed = {"rotation": np.eye(3).tolist(), "translation_mm": [10, 0, 0]}
    depth = {"width": 60, "height": 45, "fx": 50, "fy": 50, "cx": 30, "cy": 22}
    (root / "camera.json").write_text(json.dumps({"color": CAMERA, "depth": depth, "depth_to_color": placed}))
    assert taken(root, line).depth


def test_depth_that_is_said_not_to_be_registered(root):
    line = {"rgb": "rgb 1.jpg", "depth": "depth.png"}
    (root / "camera.json").write_text('{"registered": false}')
    refused(root, line, "give color, depth and depth_to_color in it")
    placed = {"rotation": np.eye(3).tolist(), "translation_mm": [10, 0, 0]}
    values = {"registered": False, "color": CAMERA, "depth": CAMERA, "depth_to_color": placed}
    (root / "camera.json").write_text(json.dumps(values))
    taken(root, line)


def test_the_camera_of_another_picture_size(root):
    (root / "camera.json").write_text(json.dumps({"color": {**CAMERA, "width": 240, "height": 180}}))
    refused(root, {"rgb": "rgb 1.jpg"}, "give the camera of the pictures' own size")
    (root / "camera.json").write_text(json.dumps({"color": CAMERA}))
    taken(root, {"rgb": "rgb 1.jpg"})


def test_distortion_without_its_model_and_registered_pictures_that_are_to_be_registered():
    bent = {**CAMERA, "distortion": [0.1, 0, 0, 0]}
    with pytest.raises(UserError, match=r"write brown-conrady .* or modified-brown-conrady"):
        build(CameraFile, {"color": bent}, "camera.json")
    for model in ("brown-conrady", "modified-brown-conrady"):
        build(CameraFile, {"color": {**bent, "distortion_model": model}}, "camera.json")
    both = {"registered": True, "color": CAMERA, "depth": CAMERA, "depth_to_color": {"translation_mm": [1, 0, 0]}}
    with pytest.raises(UserError, match="drop it, or registered"):
        build(CameraFile, both, "camera.json")
    for dropped in ("depth_to_color", "registered"):
        build(CameraFile, {key: value for key, value in both.items() if key != dropped}, "camera.json")


def test_an_animation_is_saved_as_pictures(root):
    from PIL import Image

    frames = [Image.fromarray(np.full((90, 120, 3), value, np.uint8)) for value in (50, 90)]
    frames[0].save(root / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    refused(root, {"rgb": "a.webp"}, "save its frames as pictures")
    frames[0].save(root / "a.webp", lossless=True)
    taken(root, {"rgb": "a.webp"})


def test_a_class_of_people_is_called_person_once(tmp_path):
    taken_ = keypoint_files.shots()
    keypoint_files.write_pictures(tmp_path, taken_)
    described = keypoint_files.yolo(tmp_path, taken_)
    text = described.read_text()

    def people(names):
        described.write_text(re.sub(r"names:(\n\s.*)*.*", "", text) + f"\nnames: {names}\n")
        config = keypoints.KeypointsConfig(
            images=str(tmp_path / "rgb"), keypoints=str(described), joints="coco-17", orientation="upright"
        )
        return [each for each in read_all(keypoints.READER, config) if not isinstance(each, Skipped)]

    for names, told in (("[dog, cat]", "none is called person"), ("[person, person]", "several are called person")):
        with pytest.raises(UserError, match=f"{told}; name the class of people so, in names, and no other"):
            people(names)
    assert people("[person, cat]")


def test_a_list_of_clips_to_skip(tmp_path):
    for name in ("nturgb+d_rgb", "nturgb+d_depth_masked", "nturgb+d_skeletons"):
        (tmp_path / name).mkdir()
    (tmp_path / "nturgb+d_rgb" / "S001C002P005R002A008_rgb.avi").write_bytes(b"")
    settings = {"source": str(tmp_path), "exclude": "skip.txt"}
    for text in (None, "nothing"):
        if text:
            (tmp_path / "skip.txt").write_text(text)
        with pytest.raises(UserError, match="give a text file with tags such as S001C002P005R002A008"):
            ntu.items(ntu.NtuConfig(**settings))
    (tmp_path / "skip.txt").write_text("S001C002P005R002A008")
    (item,) = ntu.items(ntu.NtuConfig(**settings))
    assert isinstance(item, Skipped)


@pytest.mark.parametrize("boxes", ["boxes.txt", "boxes.json"])
def test_boxes_of_itop_that_cannot_be_read(tmp_path, boxes):
    few = itop_files.frames(4)
    itop_files.write_split(tmp_path, "test", few)
    itop_files.write_boxes(tmp_path, few.boxes)
    (tmp_path / boxes).write_text("not boxes")
    with pytest.raises(UserError, match="or --boxes joints"):
        itop.READER.items(itop.ItopConfig(source=str(tmp_path), split="test", boxes=boxes))
    assert itop.READER.items(itop.ItopConfig(source=str(tmp_path), split="test", boxes="joints"))


def test_pictures_of_a_recording_are_named_alike_or_read_alone(tmp_path):
    recording_files.write_plain(tmp_path, 2)
    for number, path in enumerate(sorted((tmp_path / "depth").iterdir())):
        path.rename(path.with_name(f"d{'ab'[number]}{path.suffix}"))
    config = recording.RecordingConfig(path=str(tmp_path))
    with pytest.raises(UserError, match="name both of a frame alike"):
        recording.items(config)
    assert recording.items(config.model_copy(update={"use": "rgb"}))
    for color, depth in zip(sorted((tmp_path / "rgb").iterdir()), sorted((tmp_path / "depth").iterdir()), strict=True):
        depth.rename(depth.with_name(color.stem + depth.suffix))
    assert len(recording.items(config)) == 2


def test_the_line_that_help_shows_is_one_that_is_read(root):
    """The advice of an empty file: one JSON object per person, as `prepare.py folder --help` shows."""
    (root / "people.jsonl").write_text("")
    with pytest.raises(
        UserError, match=r"write one JSON object per person into it, as `prepare.py folder --help` shows"
    ):
        folder.items(folder.FolderConfig(path=str(root)))
    shown = re.search(r'\{"id": .*?\}', folder.__doc__, re.DOTALL)[0].replace("[0, 0, 0], ...", "[0, 0, 0]")
    line = json.loads(shown)
    line["keypoints"] += [[0, 0, 0]] * (17 - len(line["keypoints"]))
    for name, size in (("rgb", (424, 512, 3)), ("depth", (424, 512))):
        (root / line[name]).parent.mkdir(exist_ok=True)
        picture = np.full(size, 2000 if name == "depth" else 90, np.uint16 if name == "depth" else np.uint8)
        assert cv2.imwrite(str(root / line[name]), picture)
    taken(root, line)


def test_joints_in_another_order_are_written_in_the_one_that_the_line_says(tmp_path):
    taken_ = keypoint_files.shots()
    keypoint_files.write_pictures(tmp_path, taken_)
    path = keypoint_files.annotations(tmp_path, taken_)
    right = json.loads(path.read_text())

    def ordered(order):
        """The file with its joints in this order of the category's names."""
        (category,) = right["categories"]
        at = [category["keypoints"].index(name) for name in order]
        people = [
            {**each, "keypoints": np.reshape(each["keypoints"], (-1, 3))[at].ravel().tolist()}
            for each in right["annotations"]
        ]
        path.write_text(json.dumps({**right, "annotations": people, "categories": [{**category, "keypoints": order}]}))

    config = keypoints.KeypointsConfig(images=str(tmp_path / "rgb"), keypoints=str(path))
    expected = [each.joints.tolist() for each in keypoints.items(config) if hasattr(each, "joints")]
    ordered(right["categories"][0]["keypoints"][::-1])
    with pytest.raises(UserError, match="in another order; write them in this one: ") as caught:
        keypoints.items(config)
    ordered(str(caught.value).rpartition("in this one: ")[2].split(", "))
    assert [each.joints.tolist() for each in keypoints.items(config) if hasattr(each, "joints")] == expected


def test_frames_of_a_video_that_are_to_have_masks_are_saved_as_pictures(tmp_path):
    import av

    recording_files.write_video(tmp_path, "walk.mp4", 4)
    mask = np.zeros((120, 160), np.uint8)
    mask[20:100, 40:120] = 255
    (tmp_path / "m.png").write_bytes(codecs.encode_labels(mask))
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": "walk/000002", "mask": "m.png"}))
    config = recording.RecordingConfig(path=str(tmp_path))
    with pytest.raises(UserError, match=r"save the video's frames as pictures in rgb/, or leave them out"):
        recording.items(config)
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": "walk/000002"}))
    assert sum(isinstance(each, Person) for each in read_all(recording.READER, config)) == 1
    root = tmp_path / "pictures"
    (root / "rgb").mkdir(parents=True)
    with av.open(str(tmp_path / "walk.mp4")) as container:
        for number, frame in enumerate(container.decode(video=0)):
            (root / "rgb" / f"{number:06d}.jpg").write_bytes(codecs.encode_rgb(frame.to_ndarray(format="rgb24")))
    (tmp_path / "m.png").rename(root / "m.png")
    (root / "people.jsonl").write_text(json.dumps({"frame": "000002", "mask": "m.png"}))
    found = list(read_all(recording.READER, recording.RecordingConfig(path=str(root))))
    assert [each.id for each in found if isinstance(each, Person)] == ["recording/000002"]


def test_raw_depth_gets_its_size_from_the_viewers_csv_or_from_camera_json(tmp_path):
    recording_files.write_realsense_viewer(tmp_path, 1)
    csv = next(tmp_path.glob("*_Depth_metadata.csv"))
    kept = csv.read_text()
    csv.unlink()
    config = recording.RecordingConfig(path=str(tmp_path))
    given = (tmp_path / "camera.json").read_text()
    (tmp_path / "camera.json").write_text(json.dumps({"registered": True}))
    with pytest.raises(
        UserError, match=r"keep the viewer's .*csv beside them, or give the depth camera in camera.json"
    ):
        recording.items(config)
    (tmp_path / "camera.json").write_text(json.dumps(recording_files.camera_json()))
    assert len(recording.items(config)) == 1
    csv.write_text(kept)
    (tmp_path / "camera.json").write_text(given)
    assert len(recording.items(config)) == 1


def test_azure_kinects_joints_are_for_pictures(tmp_path):
    recording_files.write_video(tmp_path, "walk.mp4", 2)
    config = recording.RecordingConfig(path=str(tmp_path), keypoints=str(tmp_path), format="azure-kinect")
    with pytest.raises(UserError, match=r"give it to `prepare.py keypoints`"):
        recording.resolve(config)


@pytest.mark.parametrize("value", ["false", "true", 0, 1])
def test_registered_is_true_or_false(value):
    with pytest.raises(UserError, match=r"registered = .*: must be true or false"):
        build(CameraFile, {"registered": value}, "camera.json")
    assert build(CameraFile, {"registered": bool(value)}, "camera.json").registered is bool(value)


@pytest.mark.parametrize(
    ("key", "other", "scale"), [("translation_mm", "translation_m", 0.001), ("translation_m", "translation_mm", 1)]
)
def test_a_translation_under_the_name_of_the_other_unit(key, other, scale):
    """15 mm between lenses."""
    move = [14.8 * scale, 0, 0.1 * scale]
    with pytest.raises(UserError, match=f"the cameras would be .* apart.*; {other} was probably meant"):
        build(CameraFile, {"color": CAMERA, "depth": CAMERA, "depth_to_color": {key: move}}, "camera.json")
    given = build(CameraFile, {"color": CAMERA, "depth": CAMERA, "depth_to_color": {other: move}}, "camera.json")
    assert given.depth_to_color.millimeters[0] == pytest.approx(14.8)
