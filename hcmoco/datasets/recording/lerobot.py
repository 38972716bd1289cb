"""The color videos of a LeRobot data set, as it lies on a disk; nothing is downloaded.

Layout: docs/source/lerobot-dataset-v3.mdx and src/lerobot/datasets/utils.py (INFO_PATH, DEFAULT_VIDEO_PATH,
LEGACY_DEFAULT_VIDEO_PATH) of github.com/huggingface/lerobot. meta/info.json has codebase_version, video_path and
features; a feature of dtype "video" is a camera, and its name is the video_key:

    v2.0, v2.1    videos/chunk-000/<video_key>/episode_000000.mp4    one episode a file, chunks_size episodes a chunk
    v3.0          videos/<video_key>/chunk-000/file-000.mp4          several episodes a file, one after the other

Not read: depth videos ("video.is_depth_map", or depth in the name), whose numbers mean what nothing says; pictures
inside Parquet (dtype "image"); the state of the robot; tables of Lance ("storage_format").
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcmoco import unique_keys
from hcmoco.datasets.cameras.camera_file import read_camera_file
from hcmoco.datasets.recording.config import Layout, RecordingConfig
from hcmoco.errors import UserError

KIND = "LeRobot data set"
INFO = "meta/info.json"
_BY_EPISODE = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_BY_FILE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_TEMPLATES = {"v2.0": _BY_EPISODE, "v2.1": _BY_EPISODE, "v3.0": _BY_FILE}
_NAME = re.compile(r"videos/(?:chunk-\d+/([^/]+)/(episode_\d+)|([^/]+)/(chunk-\d+/file-\d+))\.mp4")
_KEY = re.compile(r"[^/\\\x00-\x1f]+")
_MOST_EPISODES = 10_000_000
_MOST_MISSING = 1000  # episodes; each is a line of its own


def is_lerobot(root: Path) -> bool:
    """Return whether a folder is a LeRobot data set."""
    return (root / INFO).is_file()


def stem(name: str) -> str:
    """Return what ids call a video: `<video_key>/episode_000000`, or `<video_key>/chunk-000/file-000`."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no video of a LeRobot data set")
    return "/".join(part for part in match.groups() if part)


def layout(root: Path, config: RecordingConfig) -> Layout:
    """Return the color videos of the data set in `root`.

    Raises:
        UserError: info.json is not readable, of another version or layout; there is no color video; or an option asks
            for something else.
    """
    if config.use == "depth":
        raise UserError(f"{root} is a LeRobot data set, of which color videos alone are read; leave --use out")
    if config.keypoints:
        raise UserError(
            f"{root} is a LeRobot data set, whose videos of several cameras have the same names, so --keypoints cannot "
            "tell them apart; give people.jsonl, or --detect WEIGHTS of a detector"
        )
    info = _info(root / INFO)
    color, notes = _cameras(root / INFO, info, config.video_key)
    names = [name for key in color for name in _videos(root, info, key)]
    if not names:
        raise UserError(f"{root} holds no video of {', '.join(color)}; download videos/, too")
    return Layout(KIND, read_camera_file(root), videos=tuple(names), notes=notes)


def _info(path: Path) -> dict[str, Any]:
    try:
        info = unique_keys.loads(path.read_bytes().decode())
        if not isinstance(info, dict):
            raise ValueError(f"it must be a JSON object, it is {type(info).__name__}")
        version, template, features = (info[key] for key in ("codebase_version", "video_path", "features"))
        if not isinstance(features, dict) or not all(isinstance(each, dict) for each in features.values()):
            raise ValueError("features must be an object of objects")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy it again") from None
    except KeyError as error:
        raise UserError(f"{path} is no info.json of LeRobot from version 2.0 on: {error} is missing") from None
    known = ", ".join(_TEMPLATES)
    if not isinstance(version, str) or version not in _TEMPLATES:
        raise UserError(f"{path}: codebase_version is {version!r}; {known} are read: convert it with LeRobot's scripts")
    if storage := info.get("storage_format"):
        raise UserError(f"{path}: storage_format is {storage!r}; videos in files are read: convert it to MP4 files")
    if template is not None and template != _TEMPLATES[version]:
        raise UserError(
            f"{path}: video_path is {template!r}; of {version} it is {_TEMPLATES[version]!r}: move the videos there"
        )
    return info


def _cameras(path: Path, info: dict[str, Any], wanted: str) -> tuple[list[str], tuple[str, ...]]:
    """The names of the color cameras that are read, and sentences on those that are not."""
    features: dict[str, dict] = info["features"]
    videos = [key for key, each in features.items() if each.get("dtype") == "video"]
    if bad := next((key for key in videos if not _KEY.fullmatch(key) or not key.strip(".")), None):
        raise UserError(
            f"{path} names the camera {bad!r}, which is no name of a folder; LeRobot's own names are like "
            "observation.images.top: rename it there, and its folder of videos"
        )
    depth = [key for key in videos if _is_depth(key, features[key])]
    color = [key for key in videos if key not in depth]
    inside = [key for key, each in features.items() if each.get("dtype") == "image"]
    if wanted and wanted not in color:
        raise UserError(f"{path} has no color video {wanted!r}; --video-key is one of {', '.join(color) or 'none'}")
    if not color:
        why = f": {', '.join(inside)} are pictures inside Parquet, which are not read" if inside else ""
        raise UserError(f"{path} names no color video{why}; save color as videos with LeRobot's scripts")
    notes = [f"cameras: {', '.join([wanted] if wanted else color)}"]
    if depth:
        notes.append(f"depth videos are passed over, since nothing says what their numbers mean: {', '.join(depth)}")
    if inside:
        notes.append(f"pictures inside Parquet are passed over: {', '.join(inside)}")
    return [wanted] if wanted else color, tuple(notes)


def _is_depth(key: str, feature: dict[str, Any]) -> bool:
    told = [feature.get(name) for name in ("info", "video_info")]
    return "depth" in key.lower() or any(isinstance(each, dict) and each.get("video.is_depth_map") for each in told)


def _videos(root: Path, info: dict[str, Any], key: str) -> list[str]:
    """Names of a camera's videos: those that info.json counts; of v3.0, which counts no files, all there are."""
    if _TEMPLATES[info["codebase_version"]] == _BY_FILE:
        found = (root / "videos" / key).glob("chunk-*/file-*.mp4") if (root / "videos" / key).is_dir() else ()
        names = [name for name in sorted(each.relative_to(root).as_posix() for each in found) if _NAME.fullmatch(name)]
        _check_all_there(root, key, names)
        return names
    count, chunk = _count(root, info, "total_episodes"), _count(root, info, "chunks_size")
    num_there = sum(1 for _ in (root / "videos").glob(f"chunk-*/{glob.escape(key)}/episode_*.mp4"))
    if count > num_there + _MOST_MISSING:
        raise UserError(
            f"{root / INFO}: total_episodes is {count:,}, and {root / 'videos'} has {num_there:,} of the camera {key}; "
            "download the others, or the info.json that belongs to these"
        )
    return [
        _BY_EPISODE.format(episode_chunk=number // chunk, video_key=key, episode_index=number)
        for number in range(count)
    ]


def _check_all_there(root: Path, key: str, names: Sequence[str]) -> None:
    """Raise UserError if a camera has no video, or if one is missing before its last."""
    by_chunk: dict[str, list[int]] = {}
    for name in names:
        chunk, _, file = name.rpartition("/")
        by_chunk.setdefault(chunk, []).append(int(file.removeprefix("file-").removesuffix(".mp4")))
    first = root / "videos" / key / "chunk-000" / "file-000.mp4"
    missing = [] if names else [first]
    for chunk, numbers in by_chunk.items():
        missing += [
            root / chunk / f"file-{number:03d}.mp4" for number in range(max(numbers)) if number not in set(numbers)
        ]
    if missing:
        raise UserError(
            f"{missing[0]} is missing, a video of the camera {key} of {INFO}; download it, or choose other cameras "
            "with --video-key"
        )


def _count(root: Path, info: dict[str, Any], name: str) -> int:
    value = info.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_EPISODES:
        raise UserError(f"{root / INFO}: {name} is {value!r}; a whole number from 1 to {_MOST_EPISODES} is read")
    return value
