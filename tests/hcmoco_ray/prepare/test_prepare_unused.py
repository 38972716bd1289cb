"""Options of `prepare` that count for nothing are refused in one wording, and leaving them out helps."""

import json

import numpy as np
import pytest
import torch

from hcmoco_ray.commands.prepare import main, parser
from hcmoco_ray.prepare.reader import from_arguments
from tests.helpers import itop_files, keypoint_files, ntu_files, recording_files, ros_files, static_camera


def write(kind: str, root):
    """Write what an example is of, and return the options that name it."""
    if kind == "frames":
        static_camera.write(root / "it", static_camera.frames(6), masks="masks")
        (root / "it" / "masks").rename(root / "masks")
        np.save(root / "empty.npy", static_camera.empty())
        return ["recording", f"--path={root / 'it'}"]
    if kind == "lines":
        static_camera.write(root / "it", static_camera.frames(1))
        (root / "it" / "people.jsonl").write_text(json.dumps({"rgb": "rgb/0000.jpg", "box": [20, 20, 60, 60]}))
        return ["folder", f"--path={root / 'it'}"]
    if kind == "video":
        recording_files.write_video(root / "it", count=2)
        return ["recording", f"--path={root / 'it'}"]
    if kind == "bag":
        ros_files.write_ros2(root / "it" / "anna", ros_files.recorded(1))
        return ["recording", f"--path={root / 'it'}"]
    if kind == "openpose":
        shots = keypoint_files.shots()
        keypoint_files.write_pictures(root, shots)
        return ["keypoints", f"--images={root / 'rgb'}", f"--keypoints={keypoint_files.openpose(root, shots)}"]
    if kind == "ntu":
        ntu_files.write(root, [ntu_files.Clip("S001C001P001R001A001", frames=10, person=1)], width=480)
        return ["ntu", f"--source={root}"]
    few = itop_files.frames(4)
    itop_files.write_split(root, "train", few)
    itop_files.write_split(root, "test", few)
    itop_files.write_boxes(root, few.boxes)
    return ["itop", f"--source={root}"]


RGB, DEPTH = ["--use=rgb"], ["--use=depth"]
UNUSED = [
    ("frames", RGB, "--segment=background", "depth, of which a background is removed,"),
    ("frames", RGB, "--segment={root}/empty.npy", "depth, of which a background is removed,"),
    ("frames", RGB, "--depth-masking=unmasked", "depth"),
    ("frames", RGB, "--depth-unit=mm", "depth"),
    ("frames", RGB, "--depth-codec=zstd-delta", "depth"),
    ("frames", ["--segment=background"], "--min-person-score=0.7", "--segment WEIGHTS of a Mask R-CNN"),
    ("frames", ["--segment={root}/masks"], "--segment-side=400", "--segment WEIGHTS of a Mask R-CNN"),
    (
        "frames",
        ["--segment={root}/masks"],
        "--background-tolerance=30",
        "--segment background, or a picture of the empty scene",
    ),
    ("frames", [], "--label-map=lip", "lines that have parts"),
    ("frames", [], "--joint-set-3d=kinect-25", "lines that have joints3d"),
    ("frames", [], "--joint-unit-3d=mm", "lines that have joints3d"),
    ("frames", [], "--min-confidence=0.3", "lines that have keypoints, or --detect WEIGHTS"),
    ("frames", [], "--coordinates=normalized", "lines that have keypoints"),
    ("lines", [], "--depth-unit=mm", "depth"),
    ("lines", [], "--axes=yx", "lines that have keypoints"),
    ("video", [], "--depth-unit=mm", "depth"),
    ("video", [], "--segment=background", "depth, of which a background is removed,"),
    ("bag", RGB, "--depth-topic=/a", "--use both"),
    ("bag", DEPTH, "--color-topic=/a", "--use both"),
    ("bag", RGB, "--depth-masking=masked", "depth"),
    ("bag", [], "--orientation=stored", "pictures or videos in files"),
    ("openpose", [], "--depth-unit=mm", "--depth"),
    ("openpose", [], "--image-list=a.json", "--format coco-results"),
    ("openpose", [], "--calibration=a.json", "--format azure-kinect"),
    ("openpose", [], "--first-frame=1", "--format azure-kinect"),
    ("openpose", [], "--min-score=0.5", "scores of people in the files"),
    ("ntu", RGB, "--depth-codec=png16", "--use both"),
    ("ntu", RGB, "--max-clip-residual=3", "--use both"),
    ("itop", ["--split=train"], "--without-box=joints", "a file of --boxes"),
    ("itop", ["--split=test"], "--joint-margin=20", "--boxes joints or --without-box joints"),
]


@pytest.mark.parametrize(("kind", "beside", "option", "needs"), UNUSED, ids=lambda value: "")
def test_what_counts_for_nothing_is_refused_and_leaving_it_out_helps(tmp_path, capsys, kind, beside, option, needs):
    command = [*write(kind, tmp_path), *(each.format(root=tmp_path) for each in beside)]
    option = option.format(root=tmp_path)
    assert main([*command, option, "--check"]) == 2
    name, _, value = option.partition("=")
    called = f"{name} {value}" if name == "--segment" else name
    assert (
        capsys.readouterr().err == f"error: {called} counts only with {needs}, and there is none; leave {called} out\n"
    )
    assert main([*command, "--check"]) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("frames", ["--segment=background", "--background-tolerance=30"]),
        ("frames", ["--use=depth", "--depth-masking=unmasked", "--depth-unit=mm"]),
        ("frames", ["--use=rgb", "--segment={root}/masks"]),
        ("bag", ["--depth-unit=mm", "--depth-masking=unmasked"]),
        ("itop", ["--split=test", "--without-box=joints", "--joint-margin=20"]),
        ("itop", ["--split=train", "--joint-margin=20"]),
    ],
)
def test_what_counts_is_taken(tmp_path, capsys, kind, options):
    command = [*write(kind, tmp_path), *(each.format(root=tmp_path) for each in options)]
    assert main([*command, "--check"]) == 0, capsys.readouterr()


def test_settings_of_a_network_count_with_its_weights(tmp_path):
    """The weights are opened only after the options are looked at."""
    command = write("frames", tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    arguments = parser().parse_args([*command, f"--segment={tmp_path / 'w.pth'}", "--min-person-score=0.7"])
    source, _ = from_arguments("recording", arguments).resolved()
    assert source.calibrations(source.items())


def test_people_without_depth_are_not_masked(tmp_path, capsys):
    command = ["people", "--out", str(tmp_path / "out"), "--count", "1", "--domain", "wild", "--masked-depth", "false"]
    assert main(command) == 2
    said = "--masked-depth counts only with --domain indoor, and there is none; leave --masked-depth out"
    assert said in capsys.readouterr().err


def test_two_files_of_who_is_where(tmp_path, capsys):
    shots = keypoint_files.shots()
    command = [*write("video", tmp_path), f"--keypoints={keypoint_files.openpose(tmp_path, shots)}"]
    (tmp_path / "it" / "mine.jsonl").write_text("")
    assert main([*command, "--file=mine.jsonl", "--check"]) == 2
    assert "--file and --keypoints both say who is where; give one of them" in capsys.readouterr().err
