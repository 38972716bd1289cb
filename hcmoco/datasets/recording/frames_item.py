"""Files with many frames, videos and ROS bags: who is in a frame, and the records of these people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import Found, Outcome, Rejected, Shown
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.detected import DOUBLE, asks, line_box, lines_of, outcome
from hcmoco.datasets.person_crop import checked
from hcmoco.datasets.person_files import PersonPictures
from hcmoco.datasets.person_lines import FolderItem, PersonLine
from hcmoco.datasets.recorded_person import make_person
from hcmoco.datasets.recording.config import FrameLine, RecordingConfig
from hcmoco.datasets.segmentation import MaskFolder, Segmenter

NO_LINE = "nobody is known in the frame: people.jsonl or the keypoints have no line for it"
ALONE = "the picture has no partner in the other modality; --use rgb or --use depth reads one alone"


@dataclass(frozen=True)
class FramesItem:
    """One file with many frames.

    Attributes:
        id: `<name>/<file without its ending>`; records add `/<number of the frame, 6 digits>`.
        name: of the file, or of a bag's folder.
        config: of the reader.
        recorded_by: the cameras, from camera.json.
        lines: what people.jsonl says, by the frame's number in 6 digits; None: there is no such file.
        segmenter: finds the person in depth, where --segment asks for it.
        detected: who is in a frame in which a detector looked, in place of `lines`; a text is why somebody is not.
    """

    id: str
    name: str
    config: RecordingConfig
    recorded_by: RecordedBy | None
    lines: Mapping[str, Sequence[FrameLine]] | None
    segmenter: Segmenter | None = None
    detected: Mapping[str, Sequence[PersonLine | str]] = field(default_factory=dict)

    def known(self, frame: str) -> Sequence[PersonLine]:
        """Return what is known of a frame without a detector."""
        return [PersonLine()] if self.lines is None else self.lines.get(frame, [])

    def people(self, frame: str) -> Sequence[PersonLine | str]:
        """Return who is in a frame, see `detected`."""
        return self.detected.get(frame) or self.known(frame)


def not_reached(item: FramesItem, last: int) -> list[Outcome]:
    """Return who is named in frames that a file does not have.

    Args:
        item: the file.
        last: number of the last frame that was looked at, -1: none.
    """
    ends = last + item.config.stride  # frames between two that are read are there
    reason = f"{item.name!r} ends before this frame: the last one that is read is {max(last, 0):06d}"
    return [Rejected(f"{item.id}/{frame}", reason) for frame in sorted(item.lines or {}) if int(frame) >= ends]


def to_find(item: FramesItem, frame: str, rgb: np.ndarray) -> Shown | None:
    """Return a frame with the boxes of whom a detector is to find in it; None if nobody is asked for.

    Args:
        item: the file.
        frame: its number in 6 digits.
        rgb: uint8 [H, W, 3].
    """
    asking = [line for line in item.known(frame) if asks(line, item.config)]
    return Shown(frame, rgb, [line_box(line, PersonPictures(rgb)) for line in asking]) if asking else None


def people_found(item: FramesItem, found: Mapping[str, Found]) -> dict[str, list[PersonLine | str]]:
    """Return who is in the frames in which a detector looked; a text is why somebody is not.

    Args:
        item: the file.
        found: by frame.
    """
    detected: dict[str, list[PersonLine | str]] = {}
    for frame, answer in found.items():
        people = iter(answer.people)
        lines: list[PersonLine | str] = []
        of_everybody = 0
        for line in item.known(frame):
            if not asks(line, item.config):
                lines.append(line)
                continue
            of_everybody += line.box is None
            here = next(people)
            repeated = line.box is None and of_everybody > 1
            lines += [DOUBLE] if repeated else lines_of(line, here, answer.size, item.config)
        detected[frame] = lines
    return detected


def frame_records(
    item: FramesItem, frame: str, rgb: np.ndarray | None, depth: np.ndarray | None, by: RecordedBy | None
) -> list[Outcome]:
    """Return the records of the people of a frame.

    Args:
        item: the file.
        frame: its number in 6 digits.
        rgb: uint8 [H, W, 3]; None: not read.
        depth: as it is stored, [H, W]; None: not read.
        by: the cameras.
    """
    id = f"{item.id}/{frame}"
    try:
        pictures = PersonPictures(rgb, depth, mask=_mask(item, id))
    except ValueError as error:
        return [Rejected(id, str(error))]
    return [
        _record(item, f"{id}#{number}" if number > 1 else id, line, pictures, by)
        for number, line in enumerate(item.people(frame), 1)
    ]


def _mask(item: FramesItem, id: str) -> np.ndarray | None:
    """The mask that a folder has for a frame, uint8 [H, W], 255 on the person; None if masks are not in one."""
    if not isinstance(item.segmenter, MaskFolder):
        return None
    inside = item.segmenter.read(id.removeprefix(f"{item.config.name}/"), upright=item.config.upright)
    return np.where(inside, np.uint8(255), np.uint8(0))


def _record(
    item: FramesItem, id: str, line: PersonLine | str, pictures: PersonPictures, by: RecordedBy | None
) -> Outcome:
    """The record of one person; `line` is what is known, or a text why a detector has nobody there."""
    if isinstance(line, str):
        return outcome(id, line)
    config = item.config
    id = f"{config.name}/{line.id}" if line.id else id
    person = FolderItem(id, line, config, by, item.segmenter)
    return checked(id, len(joint_set(config.joint_set)), lambda: make_person(person, pictures), config.depth_codec)
