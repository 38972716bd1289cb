"""What readers advise about the sources of data sets and tools is done here, word by word, and it helps."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.datasets import coco, densepose_coco, folder, humman, keypoints, mpii, ntu, recording, synthhuman
from hcmoco.datasets.base import Rejected, Skipped, read_all
from hcmoco.detection.onnx_model import open_onnx
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError
from tests.datasets import test_lerobot
from tests.helpers import (
    coco_files,
    humman_files,
    keypoint_files,
    mpii_files,
    ntu_files,
    onnx_files,
    static_camera,
    synthhuman_files,
)


def refused(reader, config, message: str) -> None:
    """The source as a whole, or all of its records, are refused with this line."""
    if reasons := [each.reason for each in outcomes(reader, config) if isinstance(each, Rejected)]:
        assert all(re.search(message, each) for each in reasons), reasons
    else:
        with pytest.raises(UserError, match=message):
            list(read_all(reader, config))


def outcomes(reader, config) -> list:
    """What is read; nothing of a source that is refused as a whole."""
    try:
        return list(read_all(reader, config))
    except UserError:
        return []


def taken(reader, config) -> list[Person]:
    found = [each for each in read_all(reader, config) if not isinstance(each, Skipped)]
    assert found
    assert not [each for each in found if isinstance(each, Rejected)], found
    return found


# --- Published data sets


def write_coco(root: Path):
    coco_files.write_keypoints(root, count=1)
    return coco.READER, coco.CocoConfig(source=str(root))


def write_mpii(root: Path):
    mpii_files.write_mpii(root, count=1)
    return mpii.READER, mpii.MpiiConfig(source=str(root))


def write_densepose(root: Path):
    coco_files.write_densepose(root)
    return densepose_coco.READER, densepose_coco.DensePoseCocoConfig(source=str(root), split="test")


LISTS = {
    "cut": (write_coco, lambda text: text[: len(text) // 2], "is not valid JSON .*; download or write it again"),
    "no lists": (write_coco, lambda text: "{}", "has no list .*; give a file in COCO's form"),
    "no people": (
        write_coco,
        lambda text: text.replace('"person"', '"dog"'),
        "has no category person; give a file of people in COCO's form",
    ),
    "mpii's own": (write_mpii, lambda text: '{"RELEASE": {}}', "in HRNet's layout; convert the .mat file first"),
    "other people": (
        write_densepose,
        lambda text: json.dumps({**json.loads(text), "annotations": []}),
        "no picture with people is in .*; give DensePose's annotation files",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_annotations_is_replaced_as_the_line_says(tmp_path, name):
    write, spoil, said = LISTS[name]
    reader, config = write(tmp_path)
    right = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    for path, text in right.items():
        path.write_text(spoil(text))
    refused(reader, config, said)
    for path, text in right.items():
        path.write_text(text)
    taken(reader, config)


FOLDERS = {
    "humman": (
        humman.READER,
        lambda root: humman_files.write_humman(root, kinects=1),
        humman.HummanConfig,
        "give the folder with HuMMan-Recon's sequences",
    ),
    "synthhuman": (
        synthhuman.READER,
        lambda root: synthhuman_files.write_sample(root, 0),
        synthhuman.SynthHumanConfig,
        "give the folder with SynthHuman's unpacked archives",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_of_a_download_is_given_as_the_line_says(tmp_path, name):
    reader, write, config, said = FOLDERS[name]
    write(tmp_path / "there")
    refused(reader, config(source=str(tmp_path / "elsewhere")), said)
    taken(reader, config(source=str(tmp_path / "there")))


def test_ntu_without_depth_is_read_as_color_or_with_the_folder_that_is_named(tmp_path):
    ntu_files.write(tmp_path, [ntu_files.Clip("S001C001P001R001A001", frames=10, person=1)], width=480)
    (tmp_path / "nturgb+d_depth_masked").rename(tmp_path / "elsewhere")
    config = ntu.NtuConfig(source=str(tmp_path))
    refused(ntu.READER, config, r"unpack the .*s there or give --depth; --use rgb reads RGB and joints without depth")
    taken(ntu.READER, config.model_copy(update={"use": "rgb"}))
    taken(ntu.READER, config.model_copy(update={"depth": "elsewhere"}))
    (tmp_path / "elsewhere").rename(tmp_path / "nturgb+d_depth_masked")
    taken(ntu.READER, config)


def test_alpha_is_multiplied_as_the_line_says(tmp_path):
    synthhuman_files.write_sample(tmp_path, 0)
    path = tmp_path / "alpha_0000000.png"
    right = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), right // 255)
    config = synthhuman.SynthHumanConfig(source=str(tmp_path))
    refused(synthhuman.READER, config, "unpack the archive again, or multiply it by 255")
    cv2.imwrite(str(path), right // 255 * 255)
    taken(synthhuman.READER, config)


# --- What pose estimators write


@pytest.fixture
def shots(tmp_path):
    found = keypoint_files.shots()
    keypoint_files.write_pictures(tmp_path, found)
    return found


def of(root: Path, path: Path, **options) -> keypoints.KeypointsConfig:
    return keypoints.KeypointsConfig(images=str(root / "rgb"), keypoints=str(path), orientation="upright", **options)


def test_the_files_of_a_tool_are_given_as_the_lines_say(tmp_path, shots):
    results = keypoint_files.results(tmp_path, shots)
    joints = json.loads(results.read_text())[0]["keypoints"]
    name = {14: "crowdpose-14", 17: "coco-17", 26: "halpe-26", 133: "wholebody-133"}[len(joints) // 3]
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    config = of(tmp_path, other, format="coco-results", joints=name)
    refused(keypoints.READER, config, "is not a list of people, as COCO's results are; give another --format")
    refused(
        keypoints.READER, of(tmp_path, other, format="coco", joints=name), "has no list .*; give a file in COCO's form"
    )
    config = of(tmp_path, results, format="coco-results", joints=name, image_list=str(other))
    refused(keypoints.READER, config, "has no list images; give the file in COCO's form that the tool was given")
    taken(keypoints.READER, config.model_copy(update={"image_list": ""}))


def test_the_joints_of_yolo_are_given_as_the_line_says(tmp_path, shots):
    path = keypoint_files.yolo(tmp_path, shots)
    refused(keypoints.READER, of(tmp_path, path, joints="h36m-17"), "flip_idx .* give the right --joints")
    taken(keypoints.READER, of(tmp_path, path, joints="coco-17"))


# --- People's own pictures and recordings


def write_moving(root: Path, count: int = 6) -> folder.FolderConfig:
    """A static camera, of whose frames all but the last have no color."""
    static_camera.write(root, static_camera.frames(count))
    return recording.RecordingConfig(path=str(root))


def test_depth_that_is_said_to_be_masked_is_segmented_or_called_unmasked(tmp_path):
    config = write_moving(tmp_path)
    masked = config.model_copy(update={"depth_masking": "masked"})
    refused(recording.READER, masked, "give --segment to remove it, or --depth-masking unmasked")
    taken(recording.READER, config.model_copy(update={"depth_masking": "unmasked"}))
    taken(recording.READER, masked.model_copy(update={"segment": "background"}))


def test_a_mask_is_called_like_its_picture(tmp_path):
    static_camera.write(tmp_path / "it", static_camera.frames(1), masks="../masks")
    mask = tmp_path / "masks" / "0000.png"
    mask.rename(mask.with_name("person.png"))
    config = recording.RecordingConfig(path=str(tmp_path / "it"), segment=str(tmp_path / "masks"))
    refused(recording.READER, config, "mask: .*; name it like the picture")
    mask.with_name("person.png").rename(mask)
    taken(recording.READER, config)


def test_depth_that_points_backward_is_multiplied(tmp_path):
    config = write_moving(tmp_path, 1)
    depth = static_camera.frames(1)[0].depth.astype(np.float32) / 1000
    (tmp_path / "depth" / "0000.png").unlink()
    np.save(tmp_path / "depth" / "0000.npy", -depth)
    refused(recording.READER, config, "multiply them by -1 if z points backward")
    np.save(tmp_path / "depth" / "0000.npy", depth)
    taken(recording.READER, config)


def test_videos_that_are_missing_are_downloaded_or_left_out(tmp_path):
    test_lerobot.write(tmp_path, "v3.0")
    config = recording.RecordingConfig(path=str(tmp_path))
    refused(recording.READER, config, "download it, or choose other cameras with --video-key")
    taken(recording.READER, config.model_copy(update={"video_key": test_lerobot.TOP}))
    shutil.copytree(tmp_path / "videos" / test_lerobot.TOP, tmp_path / "videos" / test_lerobot.WRIST)
    taken(recording.READER, config)


def test_a_picture_without_a_size_gets_its_camera(tmp_path):
    """A .raw file of a folder."""
    (tmp_path / "depth").mkdir()
    picture = np.full((40, 60), 1500, np.uint16)
    (tmp_path / "depth" / "a.raw").write_bytes(picture.tobytes())
    (tmp_path / "people.jsonl").write_text('{"depth": "depth/a.raw"}')
    config = folder.FolderConfig(path=str(tmp_path))
    refused(folder.READER, config, "a raw depth picture has no size of its own; give the depth camera in camera.json")
    camera = {"width": 60, "height": 40, "fx": 50, "fy": 50, "cx": 30, "cy": 20}
    (tmp_path / "camera.json").write_text(json.dumps({"depth": camera}))
    (person,) = taken(folder.READER, config)
    assert (codecs.decode_depth(person.depth, "png16") == 1500).any()


# --- Detectors


def test_a_model_on_a_machine_without_cuda(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    path = onnx_files.write_heatmaps(tmp_path / "a.onnx")
    options = DetectOptions(detect=str(path), detect_input="rgb-0-1")
    with pytest.raises(UserError, match="install onnxruntime-gpu in its place, or leave out --gpus"):
        open_onnx(path, path.read_bytes(), options, cuda=True)
    assert open_onnx(path, path.read_bytes(), options)
