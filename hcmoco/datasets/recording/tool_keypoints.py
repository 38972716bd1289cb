"""Keypoints that a pose estimator found in a recording: the tool's files, as `prepare keypoints` reads them, by frame.

A tool that is given a video names what it writes by the number of the frame: OpenPose
`walk_000000000042_keypoints.json` from 0 on, Ultralytics' YOLO `walk_42.txt` from 1 on. Tools that are given pictures
name it like the picture.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from pydantic import ValidationError

from hcmoco.datasets import keypoints
from hcmoco.datasets.keypoints.people import entries
from hcmoco.datasets.keypoints.tool_person import NoPerson, ToolPerson
from hcmoco.datasets.person_lines import joints_fault
from hcmoco.datasets.recording.config import FrameLine, RecordingConfig
from hcmoco.errors import UserError

_NUMBERED = re.compile(r"(?P<stem>.*?)[_-]?(?P<number>\d+)")
_FIRST = {"openpose": 0, "yolo": 1}
"""Number of a video's first frame in what the tools themselves write."""


def resolve(config: RecordingConfig) -> tuple[RecordingConfig, list[str]]:
    """Return the config with the format, joint set and thresholds of the tool's files, and lines that say them.

    Raises:
        UserError: as `keypoints.resolve`.
    """
    try:
        found, lines = keypoints.resolve(_settings(config))
    except UserError as error:
        raise UserError(str(error).replace("--joints", "--joint-set")) from None  # what it is called here
    values = {
        "joint_set": found.joints,
        **{
            name: getattr(found, name) for name in ("keypoints", "format", "min_confidence", "min_score", "coordinates")
        },
    }
    return config.model_copy(update=values), lines


def _settings(config: RecordingConfig) -> keypoints.KeypointsConfig:
    given = config.model_dump(include={"min_confidence", "full_confidence", "coordinates", "axes", "keypoint_size"})
    joints = config.joint_set if "joint_set" in config.model_fields_set else ""
    if config.format == "azure-kinect":
        raise UserError("--format azure-kinect is of pictures with a calibration; give it to `prepare.py keypoints`")
    return keypoints.KeypointsConfig(
        images=config.path,
        keypoints=str(config.keypoints),
        format=config.format,
        joints=joints,
        min_score=config.min_score,
        **given,
    )


def read_tool_lines(
    config: RecordingConfig, videos: Sequence[str], frames: Sequence[str]
) -> tuple[dict[str, list[FrameLine]], list[str]]:
    """Return what the tool's files say, by frame, and sentences on what of them is not used.

    Args:
        config: with what `resolve` fills in.
        videos: names of the recording's videos and bags without their endings.
        frames: names of its frames, if it is of pictures.

    Raises:
        UserError: a file is missing or of another format, or names a video or picture that the recording lacks.
    """
    settings = _settings(config)
    found: dict[str, list[FrameLine]] = defaultdict(list)
    unused: Counter[str] = Counter()
    first = _first_frame(config, settings.format) if videos else 0
    for entry in entries(settings, ()):
        if isinstance(entry, NoPerson):
            if entry.broken:
                unused[f"{entry.where}: {entry.reason}"] += 1
            continue
        if entry.score is not None and settings.min_score is not None and entry.score < settings.min_score:
            unused[f"the score is below {settings.min_score:g}"] += 1
            continue
        frame = _frame_of(entry, config, videos, frames, first)
        try:
            line = _line(entry, frame, config)
        except ValueError as error:
            unused[f"{entry.where}: {error}"] += 1
        else:
            found[frame].append(line)
    num = sum(unused.values())
    return dict(found), [
        f"{num} people of {config.keypoints} are passed over, such as: {next(iter(unused))}"
    ] if num else []


def _first_frame(config: RecordingConfig, form: str) -> int:
    if config.first_frame is not None:
        return config.first_frame
    if form in _FIRST:
        return _FIRST[form]
    raise UserError(
        f"--keypoints {config.keypoints}: {form} files do not say how they count a video's frames; give --first-frame, "
        "the number that they have for its first one, 0 or 1"
    )


def _frame_of(
    entry: ToolPerson, config: RecordingConfig, videos: Sequence[str], frames: Sequence[str], first: int
) -> str:
    """The frame that an entry is of."""
    name = re.sub(r"\.[A-Za-z]\w{1,4}$", "", entry.picture.rpartition("/")[2])
    if not videos:
        if name in frames:
            return name
        raise UserError(
            f"--keypoints {config.keypoints} names the picture {entry.picture!r}, which the recording lacks; its "
            f"frames are called like {min(frames)!r}"
        )
    match = _NUMBERED.fullmatch(name)
    stem = match["stem"] if match else ""
    if match is None or (stem not in videos and (stem or len(videos) > 1)):
        raise UserError(
            f"--keypoints {config.keypoints} names the frame {entry.picture!r}, which is of none of the recording's "
            f"videos; expected are names such as {min(videos)}_{first + 41:012d}"
        )
    number = int(match["number"]) - first
    if number < 0:
        raise UserError(
            f"--keypoints {config.keypoints} names the frame {entry.picture!r}, and frames are counted from {first}; "
            f"give --first-frame {int(match['number'])}"
        )
    return f"{stem or videos[0]}/{number:06d}"


def _line(entry: ToolPerson, frame: str, config: RecordingConfig) -> FrameLine:
    """One person as a line of people.jsonl. ValueError: the joints cannot be what they are read as."""
    joints = [(x, y, max(confidence, 0.0)) for x, y, confidence in entry.joints.tolist()]
    try:
        line = FrameLine(frame=frame, keypoints=tuple(joints))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    if fault := joints_fault(line, config):
        raise ValueError(fault)
    return line
