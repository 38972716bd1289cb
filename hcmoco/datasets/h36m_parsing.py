"""Human3.6M's part segmentation: frames of its videos with the 25 classes, two a second.

<source>/S1/
  Videos/Directions 1.54138969.mp4                     50 frames a second; <action>.<camera>; _* are not actions
  MySegmentsMat/PartLabels/Directions 1.54138969.mat   MATLAB v7.3: cell array Feat, a matrix of raw part ids per frame

and S5 to S9 and S11 likewise. Video and labels of one name belong together. Frames count from 0 in both; where one is
longer, its remaining frames are skipped. Pixels and labels are unmirrored, left is the person's.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from hcmoco.config import Config
from hcmoco.data.body_parts import labeled_box, train_ids
from hcmoco.data.schema import Person
from hcmoco.datasets.base import DatasetReader, Outcome, Rejected, Skipped
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.io.matlab_v73 import Cells, open_cells
from hcmoco.datasets.io.mp4 import open_mp4
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person, whole_picture
from hcmoco.errors import UserError

UNIT = "videos"
ROWS_PER_ITEM = 100
SUBJECTS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
"""The published split."""
PUBLISHED = {"S1": 9996, "S5": 15912, "S6": 10044, "S7": 16316, "S8": 10400, "S9": 12764, "S11": 9380}
"""Every 25th frame of a subject's 120 videos, as the published lists count them."""
MAX_FRAMES = 20_000
"""Largest number of frames of one video; the longest have about 6,400."""

_VIDEOS = 120
_MAX_LABEL_BYTES = 8 * 2048 * 2048
_VIDEO_ENDS = "the video ends before its labels do"
_LABELS_END = "the labels end before the video does"


class H36mParsingConfig(Config):
    """Where Human3.6M is, which subjects are read and what is stored of a frame."""

    source: str = Field(description="folder with one folder per subject: S1, S5, ...")
    split: Literal["train", "test"] = Field("train", description="train (S1, S5, S6, S7, S8) or test (S9, S11)")
    subjects: tuple[str, ...] | None = Field(
        None, min_length=1, description="other subjects, for example S1,S5; null: those of the split"
    )
    videos: str = Field("Videos", description="folder of the videos in that of a subject")
    labels: str = Field("MySegmentsMat/PartLabels", description="folder of the labels in that of a subject")
    stride: int = Field(
        25, ge=5, le=10_000, description="frames 0, stride, 2 x stride, ... are read; 25 is two a second"
    )
    stored: Literal["whole", "person"] = Field(
        "whole",
        description="whole (the picture, as the protocol scores it) or person (1.5 times the labeled person's box)",
    )
    size: int = Field(
        1002, ge=32, le=4096, description="largest side of a stored picture, pixels; 1002 keeps the videos' own"
    )

    @field_validator("subjects")
    @classmethod
    def _plain_names(cls, subjects: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for each in subjects or ():
            if not each.isalnum():
                raise ValueError(f"{each!r} is not a subject; they are called S1, S5, ...")
        if len(set(subjects or ())) != len(subjects or ()):
            raise ValueError("a subject is named twice")
        return subjects

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the subjects that are read."""
        return self.subjects or SUBJECTS[self.split]


@dataclass(frozen=True)
class H36mParsingItem:
    """One video with its labels, neither opened yet. `stem` is the name that both have."""

    id: str
    subject: str
    stem: str
    videos: str
    labels: str
    config: H36mParsingConfig


def inventory(config: H36mParsingConfig) -> Inventory:
    """Check the subjects' videos and labels; raise UserError if the source does not exist."""
    result = Inventory()
    whole = True
    for subject in config.chosen:
        videos, labels = _folders(config, subject)
        for folder in (each for each in (videos, labels) if not os.path.isdir(each)):
            result.faults.append(Fault(folder, "does not exist"))
        if not os.path.isdir(videos):
            whole = False
            continue
        stems = _stems(videos, ".mp4")
        taken = [stem for stem in stems if not stem.startswith("_")]
        result.check_files("videos", videos, [f"{stem}.mp4" for stem in taken], "MP4")
        result.check_files("label tracks", labels, [f"{stem}.mat" for stem in taken], "MATLAB 7.3", "HDF5")
        others = _without_video(labels, stems)
        result.faults += [
            Fault(os.path.join(videos, f"{stem}.mp4"), "does not exist, but its labels do") for stem in others
        ]
        whole &= len(taken) == _VIDEOS
        if len(taken) != _VIDEOS:
            result.notes.append(f"{subject} has {len(taken)} videos; the release has {_VIDEOS}")
        if len(taken) < len(stems):
            result.notes.append(
                f"skipped, since their names begin with _: {len(stems) - len(taken)} videos of {subject}"
            )
    known = all(subject in PUBLISHED for subject in config.chosen)
    if whole and known and config.stride == 25 and not result.faults:
        frames = sum(PUBLISHED[subject] for subject in config.chosen)
        result.notes.append(
            f"the set is whole; the published lists have {frames:,} frames of {', '.join(config.chosen)}"
        )
    return result


def _folders(config: H36mParsingConfig, subject: str) -> tuple[str, str]:
    """Folders of the subject's videos and labels; UserError if the source does not exist."""
    source = Path(config.source)
    if not source.is_dir():
        raise UserError(
            f"Human3.6M folder {source} does not exist; give --source the folder that holds {config.chosen[0]}/"
        )
    return str(source / subject / config.videos), str(source / subject / config.labels)


def _stems(folder: str, suffix: str) -> list[str]:
    return sorted(name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))


def _without_video(labels: str, stems: list[str]) -> list[str]:
    tracks = _stems(labels, ".mat") if os.path.isdir(labels) else []
    return [stem for stem in tracks if stem not in set(stems) and not stem.startswith("_")]


def items(config: H36mParsingConfig) -> list[H36mParsingItem | Rejected | Skipped]:
    """List the videos of the subjects, in the order of their names.

    Labels without a video are Rejected, videos whose names begin with _ are Skipped.

    Args:
        config: where Human3.6M is and which subjects are read.

    Returns:
        The videos, with ids `h36m-parsing/<subject>/<action>.<camera>`. Their frames add a number of eight digits.

    Raises:
        UserError: a folder is missing.
    """
    found: list[H36mParsingItem | Rejected | Skipped] = []
    for subject in config.chosen:
        videos, labels = _folders(config, subject)
        for what, folder in (("videos", videos), ("labels", labels)):
            if not os.path.isdir(folder):
                raise UserError(
                    f"folder of {what} {folder} does not exist; download {subject}, "
                    "or name those that exist with --subjects"
                )
        stems = _stems(videos, ".mp4")
        for stem in stems:
            id = f"h36m-parsing/{subject}/{stem}"
            skipped = stem.startswith("_")
            found.append(
                Skipped(id, "its name begins with _")
                if skipped
                else H36mParsingItem(id, subject, stem, videos, labels, config)
            )
        found += [
            Rejected(f"h36m-parsing/{subject}/{stem}", "its video does not exist")
            for stem in _without_video(labels, stems)
        ]
    return found


def read(item: H36mParsingItem | Rejected | Skipped) -> list[Outcome]:
    """Return the records of one video.

    The whole video is Rejected if it or its labels cannot be opened, else single frames are.
    """
    if isinstance(item, Rejected | Skipped):
        return [item]
    try:
        with (
            open_mp4(item.videos, f"{item.stem}.mp4", MAX_FRAMES) as video,
            open_cells(item.labels, f"{item.stem}.mat", "Feat", MAX_FRAMES) as cells,
        ):
            stride = item.config.stride
            both = min(len(cells), video.declared)
            found: dict[int, Outcome] = {
                number: _frame(item, number, image, cells) for number, image in video.sampled(stride, both)
            }
            for number in range(0, both, stride):
                if number >= video.sound or number not in found:
                    found[number] = Rejected(
                        _id(item, number), f"the video breaks off at frame {video.sound} of {video.declared}"
                    )
            for number in range(0, max(len(cells), video.declared), stride):
                if number >= both:
                    found[number] = Skipped(_id(item, number), _VIDEO_ENDS if len(cells) > both else _LABELS_END)
            return [found[number] for number in sorted(found)]
    except ValueError as error:
        return [Rejected(item.id, str(error))]


def _id(item: H36mParsingItem, number: int) -> str:
    return f"{item.id}/{number:08d}"


def _frame(item: H36mParsingItem, number: int, rgb: np.ndarray, cells: Cells) -> Outcome:
    config = item.config
    id = _id(item, number)

    def make() -> Person:
        parts = train_ids(_part_ids(cells.matrix(number, _MAX_LABEL_BYTES)))
        box = labeled_box(parts)
        person = Person(id, "h36m-parsing", config.split, config.size, item.subject, box=box)
        images = PersonImages(rgb=rgb, parts=parts)
        if config.stored == "whole":
            return whole_picture(person, images)
        if box is None:
            raise ValueError("the labels show no person to crop around")
        return crop_person(person, images)

    return checked(id, 0, make)


def _part_ids(matrix: np.ndarray) -> np.ndarray:
    """uint8 from a matrix of any type; ValueError for anything but whole numbers from 0 to 255."""
    if matrix.dtype == np.uint8:
        return matrix
    with np.errstate(invalid="ignore"):
        ids = matrix.astype(np.uint8)
    if not np.array_equal(ids, matrix):
        raise ValueError("the labels hold values that are no part ids (whole numbers from 0 to 255)")
    return ids


READER = DatasetReader(H36mParsingConfig, items, read, inventory, unit=UNIT, rows_per_item=ROWS_PER_ITEM)
