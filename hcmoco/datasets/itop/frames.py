"""Turn valid frames into records. Neighboring frames are read at once, since each reading opens the file.

Measured on one core with the file in memory: coding and checking a record's depth takes 1.1 ms. Opening the file and
reading one frame takes 0.2 ms, or 0.5 ms if frames are compressed one by one; 16 neighbors take 0.02 and 0.3 ms a
frame.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from hcmoco.data.schema import Person
from hcmoco.data.skeletons import ITOP_15
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.io.hdf5 import array, open_hdf5, rows
from hcmoco.datasets.itop.boxes import read_boxes
from hcmoco.datasets.itop.config import ItopConfig, place
from hcmoco.datasets.itop.labels import CAMERA, FOCAL, HEIGHT, JOINTS, WIDTH, Labels, read_labels
from hcmoco.datasets.person_crop import PersonImages, checked, whole_picture
from hcmoco.errors import UserError

JOINT_SET = JOINT_SET_3D = ITOP_15.name
# As small as png16 on real frames, written in an eighth and read in a third of the time.
DEPTH_CODEC = "zstd-delta"
UNIT = "blocks of frames"
ROWS_PER_ITEM = 16
_FAR = 20.0
_FAR_SHARE = 0.01
_FAR_PIXELS = 10_000


@dataclass(frozen=True)
class Frame:
    """A valid frame.

    Attributes:
        id: of the record.
        subject: number of the person, "" if the id does not say.
        row: in the depth file.
        box: float64 [4], x0, y0, x1, y1, pixels of the frame.
        keypoints, joints3d: as `Labels` has them.
    """

    id: str
    subject: str
    row: int
    box: np.ndarray
    keypoints: np.ndarray
    joints3d: np.ndarray


@dataclass(frozen=True)
class Block:
    """The valid frames among ROWS_PER_ITEM neighbors of the depth file.

    Attributes:
        id: names the rows.
        folder, depth: folder and name of the depth file.
        split, size: as in the config.
        frames: the valid frames.
        excluded: rejected and skipped frames nearby.
    """

    id: str
    folder: str
    depth: str
    split: str
    size: int
    frames: tuple[Frame, ...]
    excluded: tuple[Rejected | Skipped, ...] = field(default=())


def items(config: ItopConfig) -> list[Block]:
    """Divide the split into blocks; every frame is in one of them.

    Ids are `itop/<split>-<number>/<id of the file>`. The number counts the valid frames from 1 in the order of the
    label file, as the published subsets and boxes do, and has leading zeros: records sorted by id are in that order.

    Args:
        config: where the files are and which split is read.

    Raises:
        UserError: a file is missing, damaged or not of this layout, or no frame is valid.
    """
    labels = read_labels(config)
    chosen = labels.chosen
    if not len(chosen):
        raise UserError(
            f"{config.labels_file}: no frame of {len(labels.ids)} is valid (is_valid = 1); download it again"
        )
    given = config.boxes_file
    boxes = np.full((len(chosen), 4), np.nan)
    if given is not None:
        boxes = read_boxes(*place(config, given), len(chosen))
    from_joints = given is None or config.without_box == "joints"
    numbers = {int(row): number for number, row in enumerate(chosen)}
    repeats = {id for id, count in Counter(labels.ids).items() if count > 1}
    seen: set[str] = set()
    frames: dict[int, list[Frame]] = defaultdict(list)
    excluded: dict[int, list[Rejected | Skipped]] = defaultdict(list)
    for row, raw in enumerate(labels.ids):
        first = raw not in repeats or raw not in seen
        seen.add(raw)
        number = numbers.get(row)
        outcome = _frame(config, labels, row, number, first, None if number is None else boxes[number], from_joints)
        if isinstance(outcome, Frame):
            frames[outcome.row // ROWS_PER_ITEM].append(outcome)
        else:
            excluded[max(int(labels.rows[row]), 0) // ROWS_PER_ITEM].append(outcome)
    excluded[0] += [
        Rejected(f"itop/{config.split}/{raw}", "the label file has no such frame") for raw in labels.unlabeled
    ]
    return _blocks(config, frames, excluded)


def _frame(
    config: ItopConfig,
    labels: Labels,
    row: int,
    number: int | None,
    first: bool,
    box: np.ndarray | None,
    from_joints: bool,
) -> Frame | Rejected | Skipped:
    raw = labels.ids[row]
    if number is None or box is None:
        return Skipped(f"itop/{config.split}/{raw}", "not approved by its annotators (is_valid = 0)")
    id = f"itop/{config.split}-{number + 1:05d}/{raw}"
    if np.isnan(box).all() and not from_joints:
        return Skipped(id, "the file of boxes has none for it")
    if labels.valid[row] != 1:
        return Rejected(id, f"is_valid is {labels.valid[row]}; allowed are 0 and 1")
    if not first:
        return Rejected(id, "the label file has a frame of this id before")
    at = int(labels.rows[row])
    if at < 0:
        return Rejected(
            id,
            "the depth file has no frame of this id"
            if at == -1
            else "the depth file has more than one frame of this id",
        )
    joints = labels.joints3d[row]
    if not np.isfinite(joints).all():
        return Rejected(
            id, f"3D joints: '{ITOP_15.joints[int(np.flatnonzero(~np.isfinite(joints).all(1))[0])]}' is not finite"
        )
    if np.abs(joints).max() > _FAR:
        return Rejected(
            id, f"3D joints: one is {np.abs(joints).max():.0f} away, more than {_FAR:.0f} m; the unit must be meters"
        )
    before = joints[:, 2] > 0
    if not before.any():
        return Rejected(id, "3D joints: none is in front of the camera")
    if np.isnan(box).all():
        box = _box_of(joints[before], config.joint_margin)
    if not np.abs(box).max() < _FAR_PIXELS:
        return Rejected(id, f"the box {box.tolist()} is not of this frame")
    subject = re.match(r"(\d+)_\d+$", raw)
    return Frame(id, subject[1] if subject else "", at, box, labels.keypoints[row], joints)


def _box_of(joints_J3: np.ndarray, margin: float) -> np.ndarray:
    """float64 [4]: around the joints' projections, with the margin, inside the frame."""
    x, y = joints_J3[:, 0] / joints_J3[:, 2] * FOCAL + CAMERA[2], joints_J3[:, 1] / joints_J3[:, 2] * FOCAL + CAMERA[3]
    box = np.array([x.min() - margin, y.min() - margin, x.max() + margin, y.max() + margin], np.float64)
    return np.clip(box, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))


def _blocks(
    config: ItopConfig, frames: dict[int, list[Frame]], excluded: dict[int, list[Rejected | Skipped]]
) -> list[Block]:
    folder, depth = place(config, config.depth_file)
    # Rejected and skipped frames go with the block before them: a block without a frame to read is not an item.
    starts = sorted(frames) or [0]
    with_start: dict[int, list[Rejected | Skipped]] = defaultdict(list)
    at = np.maximum(np.searchsorted(starts, sorted(excluded), side="right") - 1, 0)
    for start, block in zip(at, sorted(excluded), strict=True):
        with_start[starts[int(start)]] += excluded[block]
    return [
        Block(
            f"itop/{config.split} frames {ROWS_PER_ITEM * start} to {ROWS_PER_ITEM * start + ROWS_PER_ITEM - 1}",
            *(folder, depth, config.split, config.size, tuple(frames.get(start, ())), tuple(with_start[start])),
        )
        for start in starts
    ]


def read(item: Block | Rejected | Skipped) -> list[Person | Rejected | Skipped]:
    """Return the records of a block, and its rejected and skipped frames.

    A frame whose depth is missing or damaged is Rejected.
    """
    if isinstance(item, Rejected | Skipped):
        return [item]
    if not item.frames:
        return list(item.excluded)
    try:
        with open_hdf5(item.folder, item.depth) as file:
            depths = _depths(array(file, "data", (None, HEIGHT, WIDTH), "f"), [frame.row for frame in item.frames])
    except ValueError as error:
        return [*item.excluded, *(Rejected(frame.id, f"depth: {error}") for frame in item.frames)]
    return [*item.excluded, *(_record(item, frame, depth) for frame, depth in zip(item.frames, depths, strict=True))]


def _depths(data, wanted: list[int]) -> list[np.ndarray | str]:
    """Meters of each wanted row, or why it cannot be read.

    Rows are read at once, and one by one if damage would affect neighbors.
    """
    first, end = min(wanted), max(wanted) + 1
    try:
        found = rows(data, first, end)
        return [found[row - first] if row - first < len(found) else "the depth file has no such row" for row in wanted]
    except ValueError:
        return [_depth(data, row) for row in wanted]


def _depth(data, row: int) -> np.ndarray | str:
    try:
        return rows(data, row, row + 1)[0]
    except ValueError as error:
        return str(error)


def _record(item: Block, frame: Frame, meters: np.ndarray | str) -> Person | Rejected:
    def make() -> Person:
        if isinstance(meters, str):
            raise ValueError(f"depth: {meters}")
        person = Person(
            id=frame.id,
            dataset="itop",
            split=item.split,
            size=item.size,
            subject=frame.subject,
            camera=np.array(CAMERA),
            box=frame.box,
            keypoints=frame.keypoints,
            joints3d=frame.joints3d,
        )
        return whole_picture(person, PersonImages(depth=_millimeters(meters)), DEPTH_CODEC)

    return checked(frame.id, JOINTS, make, DEPTH_CODEC)


def _millimeters(meters: np.ndarray) -> np.ndarray:
    """uint16, rounded; 0 for readings that are not finite or not above 0.

    ValueError if many readings are farther than a room is long.
    """
    with np.errstate(invalid="ignore"):
        found = np.where(np.isfinite(meters) & (meters > 0), meters, 0).astype(np.float32)
    readings = found[found > 0]
    if len(readings) and (far := float(np.mean(readings > _FAR))) > _FAR_SHARE:
        raise ValueError(f"depth: {far:.0%} of the readings are beyond {_FAR:.0f} m; the file must hold meters")
    return np.rint(np.minimum(1000 * found, 65535)).astype(np.uint16)
