"""People that a detector found, as the lines that nobody wrote: who is asked for, and what becomes of the answer.

A line with keypoints keeps them. One without is of the person in its box, mask or parts; without these, of everybody in
its picture.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from hcmoco.data.body_parts import labeled_box
from hcmoco.data.boxes import overlap
from hcmoco.data.transforms import extent
from hcmoco.datasets.base import Found, Item, Rejected, Shown, Skipped, absolute_folder
from hcmoco.datasets.keypoint_convention import Convention
from hcmoco.datasets.person_files import PersonPictures
from hcmoco.datasets.person_lines import DetectedLine, FolderConfig, FolderItem, PersonLine
from hcmoco.detection.detector import Detected, Detector
from hcmoco.detection.opened import joint_set_of, open_detector
from hcmoco.detection.options import LINES, PICTURE, DetectOptions
from hcmoco.errors import UserError
from hcmoco.unused_options import check_unused, unused

ItemT = TypeVar("ItemT", bound=Item)
ConfigT = TypeVar("ConfigT", bound=FolderConfig)
NOBODY = "the detector found nobody in the picture"
NOT_IN_BOX = "the detector found nobody where the person's box is"
NOBODY_VISIBLE = "no joint that the detector found is confident enough and in the picture"
SEVERAL = "its line names a subject, and the detector found several people; give the line the person's box"
DOUBLE = "an earlier line is of everybody in the picture, too; keep one of them, or give each the person's box"
_SAME = 0.5
"""Intersection over union from which on a box that was found is a line's person: COCO's loosest match."""
_NEEDS = ("detect_boxes", "detect_input", "detect_size", "min_score", "detect_sha256", "detect_boxes_sha256")


def resolve_detector(config: ConfigT) -> tuple[ConfigT, list[str]]:
    """Return the config with what the detector's files decide: joint set, thresholds and the files' SHA-256.

    Returns:
        The config, and lines that say what was recognized and which defaults were taken.

    Raises:
        UserError: see `open_detector`; or an option is given that only counts with --detect.
    """
    if not config.detect:
        of_tool = ("min_score",) if getattr(config, "keypoints", "") else ()  # those of `recording --keypoints` count
        check_unused(config, [name for name in _NEEDS if name not in of_tool], "--detect WEIGHTS")
        return config, []
    boxes = config.detect_boxes
    paths = {
        "detect": absolute_folder(config.detect),
        "detect_boxes": boxes if boxes in (None, PICTURE, LINES) else absolute_folder(boxes),
    }
    config = config.model_copy(update=paths)
    opened = open_detector(config)
    model, people = opened.model, opened.people
    given = config.joint_set if "joint_set" in config.model_fields_set else ""
    joints = joint_set_of(model, given, f"--detect {config.detect}")
    confidence = model.min_confidence if config.min_confidence is None else config.min_confidence
    finder = people or model
    if config.min_score is not None and not finder.finds_people:
        raise unused("--min-score", f"a detector that finds people ({model.kind} does not)")
    score = finder.min_score if config.min_score is None else config.min_score
    lines = [
        f"{config.detect}: {model.kind}, joints {joints}",
        *([f"{config.detect_boxes}: {people.kind}, for where people are"] if people else []),
        f"a joint is visible from confidence {confidence:g} on (--min-confidence; default: {model.whose})"
        + (
            f", a person is kept from score {score:g} on (--min-score; default: {finder.whose})"
            if finder.finds_people
            else ""
        ),
    ]
    values = {
        "detect_boxes": config.detect_boxes if model.finds_people or config.detect_boxes else LINES,
        "joint_set": joints,
        "min_confidence": confidence,
        "min_score": score if finder.finds_people else None,
        "detect_sha256": model.sha256,
        "detect_boxes_sha256": people.sha256 if people else None,
    }
    return config.model_copy(update=values), lines


def check_placed(config: FolderConfig, everybody: Iterable[bool]) -> None:
    """Raise UserError if a model that has to be told where people are is asked for everybody in a picture.

    Args:
        config: which `resolve_detector` returned.
        everybody: whether each line asks so.
    """
    if config.detect_boxes == LINES and any(everybody):
        raise UserError(
            f"--detect {config.detect} finds the joints of one person, and nothing says where people are; give "
            f"--detect-boxes {PICTURE} if each picture shows one person, or --detect-boxes WEIGHTS of a Keypoint R-CNN "
            "or YOLO pose model, or boxes or masks of all people"
        )


def asks_for_everybody(line: PersonLine, config: FolderConfig) -> bool:
    """Return whether the detector is asked for everybody in the picture of a line."""
    return asks(line, config) and line.box is None and line.mask is None and line.parts is None


def asks(line: PersonLine, config: FolderConfig) -> bool:
    """Return whether the detector is asked for the keypoints of a line."""
    return bool(config.detect) and line.keypoints is None


def line_box(line: PersonLine, pictures: PersonPictures) -> np.ndarray | None:
    """Return where a line's person is, float [4], if its box, mask or parts say so."""
    if line.box is not None:
        return np.array(line.box)
    if pictures.mask is not None:
        return extent(pictures.mask)
    return None if pictures.parts is None else labeled_box(pictures.parts)


def find_people(detector: Detector, shown: Shown) -> Found:
    """Ask a detector for the people of a picture.

    Raises:
        ValueError: its output cannot be what it is read as.
    """
    boxes = [box for box in shown.boxes if box is not None]
    told = iter(detector.detect(shown.rgb, np.array(boxes))) if boxes and detector.takes_boxes else None
    everybody = [] if told is not None and len(boxes) == len(shown.boxes) else detector.detect(shown.rgb)

    def people(box: np.ndarray | None) -> list[Detected]:
        if box is None:
            return everybody
        if told is not None:
            return [next(told)]
        best = max(everybody, key=lambda each: overlap(each.box, box), default=None)
        return [best] if best is not None and overlap(best.box, box) >= _SAME else []

    height, width = shown.rgb.shape[:2]
    return Found((width, height), [people(box) for box in shown.boxes])


def lines_of(
    line: PersonLine, people: Sequence[Detected], size: tuple[int, int], config: FolderConfig
) -> list[DetectedLine | str]:
    """Return the lines of the people that were found for a line, or for some why there is none.

    Args:
        line: which asked.
        people: the answer.
        size: width and height of the picture.
        config: with the threshold of joints.
    """
    placed = line.box is not None or line.mask is not None or line.parts is not None
    if not people:
        return [NOT_IN_BOX if placed else NOBODY]
    if line.subject and len(people) > 1:
        return [SEVERAL]
    convention = Convention(min_confidence=config.min_confidence or 0.0)
    found: list[DetectedLine | str] = []
    for each in people:
        joints = np.nan_to_num(each.joints)
        joints[:, 2] = joints[:, 2].clip(0, 1)
        if not convention.placed(joints, size)[:, 2].any():
            found.append(NOBODY_VISIBLE)
            continue
        values = line.model_dump(include=set(PersonLine.model_fields)) | {"keypoints": joints.round(3).tolist()}
        if line.id and found:
            values["id"] = f"{line.id}#{len(found) + 1}"
        low, high = each.box.reshape(2, 2).clip(0, size)
        if not placed and (high > low).all():
            values["box"] = np.concatenate([low, high]).round(3).tolist()
        found.append(DetectedLine(**values))
    return found


def without_doubles(items: Sequence[ItemT]) -> list[ItemT | Rejected]:
    """Reject lines without keypoints and boxes that an earlier one is like: each of their people would be two rows."""
    seen: set[tuple] = set()
    kept: list[ItemT | Rejected] = []
    for item in items:
        line = item.line if isinstance(item, FolderItem) else None
        if line is not None and line.rgb and line.keypoints is None and line.box is None:
            alike = (line.rgb, line.mask, line.parts)
            kept.append(Rejected(item.id, DOUBLE) if alike in seen else item)
            seen.add(alike)
        else:
            kept.append(item)
    return kept


def outcome(id: str, reason: str) -> Rejected | Skipped:
    """Return what a line is that `lines_of` has no person for."""
    return Rejected(id, reason) if reason in (SEVERAL, DOUBLE) else Skipped(id, reason)


def is_detected(options: object) -> bool:
    """Return whether a reader's config names a detector."""
    return isinstance(options, DetectOptions) and bool(options.detect)


def weights_of(options: object) -> list[tuple[str, str]]:
    """Return the files of weights that a config names: how a message calls each, and its path."""
    if not isinstance(options, DetectOptions):
        return []
    named = (("--detect", options.detect), ("--detect-boxes", options.detect_boxes))
    return [(flag, str(Path(path))) for flag, path in named if path and path not in (PICTURE, LINES)]
