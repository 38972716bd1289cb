"""Read and write the parts of a data set, and measure its calibrations: the functions that run as Ray tasks.

A task leaves a record of what it finished, so a run that is started again does not repeat it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import cv2

from hcmoco.config import upgrade
from hcmoco.data.schema import Person, Scene
from hcmoco.data.shards.writer import PART_ROWS, Part, group_sizes, renumber, write_part
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.rng import make_rng
from hcmoco.storage import Folder
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.request import WORK

_PEOPLE = f"{WORK}/people.json"
# Enough parts to keep a small cluster busy and to show progress, and parts that are not tiny.
_TARGET_PARTS, _SMALLEST_PART = 64, 64


def part_bounds(items: int, rows_per_item: int = 1) -> list[int]:
    """Return where the parts of `items` shuffled items begin, and the end of the last one.

    A function of these numbers alone: the parts do not depend on the cluster.
    """
    largest = min(PART_ROWS, max(_SMALLEST_PART, -(-items * rows_per_item // _TARGET_PARTS)))
    return [0, *accumulate(group_sizes(items, max(1, largest // rows_per_item)))]


def make_part(source: Source, folder: Folder, number: int, first_index: int, items: Sequence) -> tuple[Part, int, bool]:
    """Read `items` and write them as one part, unless an earlier run did.

    Args:
        number: of the part.
        first_index: index of its first row if no record of an earlier part is rejected; `move_part` corrects it.
        items: of the source, in the order of the part.

    Returns:
        The part, the number of items, and whether an earlier run wrote it.
    """
    cv2.setNumThreads(1)
    stored = _finished_part(folder, number)
    if stored:
        return stored, len(items), True
    records: list[Person | Scene] = []
    rejected: list[tuple[str, str]] = []
    skipped: Counter[str] = Counter()
    rejected_items = 0
    for item in items:
        outcomes = source.read(item)
        rejected_items += source.rows_per_item > 1 and all(isinstance(outcome, Rejected) for outcome in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Rejected):
                rejected.append((outcome.id, outcome.reason))
            elif isinstance(outcome, Skipped):
                skipped[outcome.reason] += 1
            else:
                records.append(outcome)
    if source.rows_per_item > 1:
        records = [records[k] for k in make_rng(source.seed, "write", number).permutation(len(records))]
    part = write_part(
        folder,
        number,
        source.about,
        records,
        first_index=first_index,
        rejected=rejected,
        skipped=skipped,
        rejected_items=rejected_items,
    )
    folder.write(_record_name(number), part.model_dump_json().encode())
    return part, len(items), False


def move_part(folder: Folder, source: Source, part: Part, first_index: int) -> Part:
    """Number the rows of a part from `first_index`, in its file and in its record."""
    moved = renumber(folder, part, source.about, first_index)
    folder.write(_record_name(part.number), moved.model_dump_json().encode())
    return moved


def calibrate(source: Source, folder: Folder, name: str, calibration: Any) -> tuple[str, dict, bool]:
    """Measure a calibration, unless an earlier run did.

    Returns:
        Its name, the measured values, and whether an earlier run measured them.
    """
    stored = f"{WORK}/calibration-{name}.json"
    try:
        return name, json.loads(folder.read(stored)), True
    except (OSError, ValueError):
        values = source.calibrate(calibration)
    folder.write(stored, json.dumps(values).encode())
    return name, values, False


def forget_rejected(folder: Folder, *, calibrated: bool) -> None:
    """Delete the records of what a refused run has to read again: parts with rejected records.

    Args:
        calibrated: records depend on calibrations or a detector, so everything is measured, found and read again.
    """
    for name in folder.sizes(WORK):
        place = f"{WORK}/{name}"
        if name.startswith(("calibration-", "detected-")) or (
            name.startswith("part-") and (calibrated or not (part := _load_part(folder, place)) or part.rejected)
        ):
            folder.delete(place)


def forget_parts_of_others(folder: Folder, ids: Sequence[str]) -> None:
    """Delete the records of parts of other items, and leave a record of these.

    Which people there are follows from what a detector finds. A picture that was damaged in an earlier run, and is not
    any more, shifts all parts.
    """
    digest = json.dumps(hashlib.sha256("\n".join(ids).encode()).hexdigest()).encode()
    try:
        same = folder.read(_PEOPLE) == digest
    except OSError:
        same = False
    if not same:
        for name in folder.sizes(WORK):
            if name.startswith("part-"):
                folder.delete(f"{WORK}/{name}")
        folder.write(_PEOPLE, digest)


def _finished_part(folder: Folder, number: int) -> Part | None:
    """Return the part of an earlier run, if its file still has the checksum that its record says."""
    part = _load_part(folder, _record_name(number))
    try:
        if part and part.number == number and (part.file is None or folder.sha256(part.file.name) == part.file.sha256):
            return part
    except OSError:
        pass
    return None


def _load_part(folder: Folder, name: str) -> Part | None:
    """Load the record of a part; None if it is missing or damaged."""
    try:
        return Part.model_validate(upgrade(Part, json.loads(folder.read(name))))
    except (OSError, ValueError):
        return None


def _record_name(number: int) -> str:
    return f"{WORK}/part-{number:05d}.json"
