"""LeRobot data sets on a disk, in the layouts of versions 2 and 3: their color videos are read."""

import json

import pytest

from hcmoco.data.schema import Person
from hcmoco.datasets import recording
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.errors import UserError
from tests.datasets.test_recording import config, whole
from tests.helpers.recording_files import write_video

TOP, WRIST, DEPTH = "observation.images.top", "observation.images.wrist", "observation.images.top_range"
BY_EPISODE = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
BY_FILE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def info(version: str, **more) -> dict:
    """meta/info.json."""

    def video(depth: bool) -> dict:
        told = {"video.codec": "h264", "video.is_depth_map": depth, "has_audio": False}
        return {"dtype": "video", "shape": [120, 160, 3], "names": ["height", "width", "channels"], "info": told}

    return {
        "codebase_version": version,
        "total_episodes": 2,
        "chunks_size": 1,
        "fps": 30,
        "video_path": BY_FILE if version == "v3.0" else BY_EPISODE,
        "features": {
            "observation.state": {"dtype": "float32", "shape": [6], "names": None},
            TOP: video(depth=False),
            WRIST: video(depth=False),
            DEPTH: video(depth=True),
            "observation.images.still": {"dtype": "image", "shape": [120, 160, 3], "names": None},
        },
        **more,
    }


def write(root, version: str, keys=(TOP,), **more) -> None:
    """Two videos of three frames for each of `keys`."""
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info(version, **more)))
    for key in keys:
        for number in range(2):
            place = f"videos/{key}/chunk-000/file-{number:03d}.mp4"
            if version != "v3.0":
                place = f"videos/chunk-{number:03d}/{key}/episode_{number:06d}.mp4"
            write_video((root / place).parent, place.rpartition("/")[2], 3)


@pytest.mark.parametrize(
    ("version", "stems"),
    [("v2.1", ("episode_000000", "episode_000001")), ("v3.0", ("chunk-000/file-000", "chunk-000/file-001"))],
)
def test_color_videos_are_read_and_the_rest_is_said(tmp_path, version, stems):
    write(tmp_path, version)
    options = config(tmp_path, video_key=TOP, stride=2)
    assert recording.resolve(options)[1][:4] == [
        "LeRobot data set: 2 videos",
        f"cameras: {TOP}",
        f"depth videos are passed over, since nothing says what their numbers mean: {DEPTH}",
        "pictures inside Parquet are passed over: observation.images.still",
    ]
    found = list(read_all(recording.READER, options))
    assert [each.id for each in found] == [
        f"recording/{TOP}/{stem}/{number:06d}" for stem in stems for number in (0, 2)
    ]
    assert abs(whole(found[1], "rgb")[60:, 80:].astype(int).mean() - (40 + 6 * 2)) < 3
    assert recording.inventory(options).faults == []


def test_people_are_named_by_camera_and_episode(tmp_path):
    write(tmp_path, "v2.0")
    frame = f"{TOP}/episode_000001/000002"
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": frame, "box": [0, 0, 40, 30], "subject": "anna"}))
    found = read_all(recording.READER, config(tmp_path, video_key=TOP))
    assert [(each.id, each.subject) for each in found if isinstance(each, Person)] == [(f"recording/{frame}", "anna")]


def test_a_video_that_is_missing_is_said(tmp_path):
    """All color cameras are read where none is named."""
    write(tmp_path, "v2.1")
    found = list(read_all(recording.READER, config(tmp_path)))
    assert sum(isinstance(each, Person) for each in found) == 6
    missing = [each for each in found if isinstance(each, Rejected)]
    assert [each.id for each in missing] == [f"recording/{WRIST}/episode_{number:06d}" for number in (0, 1)]
    assert len(recording.inventory(config(tmp_path)).faults) == 2


FAULTS = [
    ({"codebase_version": "v1.6"}, {}, r"codebase_version is 'v1\.6'; v2\.0, v2\.1, v3\.0 are read: convert it"),
    ({"storage_format": "lance"}, {}, "storage_format is 'lance'; videos in files are read"),
    ({"video_path": "clips/{video_key}.mp4"}, {}, "video_path is 'clips.*: move the videos there"),
    ({"features": 3}, {}, "features must be an object of objects"),
    ({"features": {"observation.state": {"dtype": "float32"}}}, {}, "names no color video; save color as videos"),
    ({"features": {"still": {"dtype": "image"}}}, {}, "still are pictures inside Parquet, which are not read"),
    (
        {"features": {"observation/top": {"dtype": "video"}}},
        {},
        "names the camera 'observation/top', which is no name of a folder",
    ),
    ({"features": {"..": {"dtype": "video"}}}, {}, r"names the camera '\.\.', which is no name of a folder"),
    ({"features": {"a\\b": {"dtype": "video"}}}, {}, "which is no name of a folder"),
    ({"total_episodes": 5_000_000}, {}, r"total_episodes is 5,000,000, and .*videos has 0 of the camera"),
    ({"total_episodes": "2"}, {}, "total_episodes is '2'; a whole number from 1 to 10000000 is read"),
    ({"chunks_size": 0}, {}, "chunks_size is 0; a whole number from 1 to"),
    ({}, {"video_key": "front"}, "has no color video 'front'; --video-key is one of observation.images.top, "),
    ({}, {"video_key": DEPTH}, "has no color video"),
    ({}, {"use": "depth"}, "of which color videos alone are read; leave --use out"),
    ({}, {"keypoints": "openpose"}, "cannot tell them apart; give people.jsonl, or --detect WEIGHTS"),
]


@pytest.mark.parametrize(("change", "options", "said"), FAULTS, ids=lambda value: "")
def test_what_is_not_read_is_one_line(tmp_path, change, options, said):
    write(tmp_path, "v2.1", (), **change)
    with pytest.raises(UserError, match=said) as refused:
        recording.items(config(tmp_path, **options))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_recordings_have_no_video_key(tmp_path):
    write_video(tmp_path, count=2)
    with pytest.raises(UserError, match="--video-key counts only with a LeRobot data set"):
        recording.resolve(config(tmp_path, video_key=TOP))


def test_a_camera_or_file_that_version_3_lacks_is_one_line_whose_advice_helps(tmp_path):
    write(tmp_path, "v3.0")
    with pytest.raises(UserError, match=rf"videos/{WRIST}/chunk-000/file-000.mp4 is missing.* with --video-key"):
        recording.items(config(tmp_path))
    assert len(recording.items(config(tmp_path, video_key=TOP))) == 2
    (tmp_path / "videos" / TOP / "chunk-000" / "file-000.mp4").unlink()
    with pytest.raises(UserError, match=rf"videos/{TOP}/chunk-000/file-000.mp4 is missing"):
        recording.items(config(tmp_path, video_key=TOP))


@pytest.mark.parametrize("frame", ["nobody/000000", "it/1", "it", "000001"])
def test_a_frame_of_no_video_is_one_line_whose_advice_helps(tmp_path, frame):
    write_video(tmp_path, "it.mp4", 3)
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": frame, "box": [0, 0, 40, 30]}))
    with pytest.raises(UserError, match=r"names the frame .*, which the recording lacks; .* for example 'it/000000'"):
        recording.items(config(tmp_path))
    (tmp_path / "people.jsonl").write_text(json.dumps({"frame": "it/000000", "box": [0, 0, 40, 30]}))
    assert sum(isinstance(each, Person) for each in read_all(recording.READER, config(tmp_path))) == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_who_is_named_after_the_last_frame_is_rejected(tmp_path, stride):
    write_video(tmp_path, "it.mp4", 3)
    lines = [{"frame": f"it/{number:06d}", "box": [0, 0, 40, 30]} for number in (0, 2, 9)]
    (tmp_path / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = list(read_all(recording.READER, config(tmp_path, stride=stride)))
    assert [each.id for each in found if isinstance(each, Person)] == ["recording/it/000000", "recording/it/000002"]
    rejected = [each for each in found if isinstance(each, Rejected)]
    assert [each.id for each in rejected] == ["recording/it/000009"]
    assert "ends before this frame: the last one that is read is 000002" in rejected[0].reason


def test_a_file_of_people_that_is_named_has_to_be_there(tmp_path):
    write_video(tmp_path, "it.mp4", 2)
    with pytest.raises(UserError, match=r"nothere.jsonl does not exist; .* or leave --file out"):
        recording.items(config(tmp_path, file="nothere.jsonl"))
    assert len(recording.items(config(tmp_path))) == 1
    (tmp_path / "people.jsonl").mkdir()
    with pytest.raises(UserError, match=r"people\.jsonl is no file"):
        recording.items(config(tmp_path))


@pytest.mark.parametrize(("text", "said"), [("[]", "it must be a JSON object, it is list"), ("3", "it is int")])
def test_an_info_of_another_shape_is_one_line(tmp_path, text, said):
    write(tmp_path, "v2.1", ())
    (tmp_path / "meta" / "info.json").write_text(text)
    with pytest.raises(UserError, match=f"info.json cannot be read .*{said}.*; copy it again"):
        recording.items(config(tmp_path))


def test_episodes_that_are_counted_and_missing_are_said_and_the_advice_helps(tmp_path):
    write(tmp_path, "v2.1", total_episodes=9_999_999)
    with pytest.raises(UserError, match=r"has 2 of the camera .* or the info.json that belongs to these"):
        recording.items(config(tmp_path, video_key=TOP))
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info("v2.1")))
    assert len(recording.items(config(tmp_path, video_key=TOP))) == 2


def test_a_camera_is_renamed_as_the_line_says(tmp_path):
    write(tmp_path, "v2.1", ("observation.top",), features={"observation/top": {"dtype": "video"}})
    with pytest.raises(UserError, match="rename it there, and its folder of videos"):
        recording.items(config(tmp_path))
    (tmp_path / "meta" / "info.json").write_text(
        json.dumps(info("v2.1", features={"observation.top": {"dtype": "video"}}))
    )
    assert len(recording.items(config(tmp_path))) == 2
