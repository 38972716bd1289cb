"""Read the label file and the ids of the depth file, which are small.

Shapes: N frames, J = 15 joints in the order of skeletons.ITOP_15.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcmoco.datasets.io.hdf5 import array, open_hdf5, read_array
from hcmoco.datasets.itop.config import ItopConfig, place, what_to_do
from hcmoco.errors import UserError

HEIGHT, WIDTH, JOINTS = 240, 320, 15
# Of the coordinates as published: x_world = (x - 160) * z * 0.0035, y_world = (120 - y) * z * 0.0035, x and y counting
# pixels from 0. The point cloud of a frame is made so from its depth, which leaves no doubt: pixel 160 has x_world = 0,
# and its center is at 160.5 here.
FOCAL = 1 / 0.0035
CAMERA = (FOCAL, FOCAL, 160.5, 120.5)
_MAX_FRAMES = 1_000_000


@dataclass(frozen=True)
class Labels:
    """All frames of a split in the order of the label file.

    Attributes:
        ids: as the file has them, e.g. "00_00053" for person 0 and frame 53; the number of the row if it has none.
        valid: int64 [N], 1 for approved frames.
        keypoints: float32 [N, J, 3], x, y in pixels of the frame (a pixel's center is at +0.5), and visibility 0 or 1.
        joints3d: float32 [N, J, 3], meters, x right, y down, z forward.
        rows: int64 [N], the frame's row in the depth file; -1: it has none, -2: more than one.
        unlabeled: ids of the depth file that the label file lacks.
        by_number: whether rows were matched by their number, since a file has no ids.
    """

    ids: list[str]
    valid: np.ndarray
    keypoints: np.ndarray
    joints3d: np.ndarray
    rows: np.ndarray
    unlabeled: list[str]
    by_number: bool

    @property
    def chosen(self) -> np.ndarray:
        """Return the rows of the valid frames, int64. Boxes and record numbers have this order."""
        return np.flatnonzero(self.valid)


def read_labels(config: ItopConfig) -> Labels:
    """Read the labels and match them to the rows of the depth file.

    Raises:
        UserError: one of the two files is missing, damaged or not of this layout.
    """
    folder, name = place(config, config.labels_file)
    try:
        with open_hdf5(folder, name) as file:
            count = array(file, "is_valid", (None,), "iub").shape[0]
            if not 0 < count <= _MAX_FRAMES:
                raise ValueError(f"'is_valid' has {count} rows, 1 to {_MAX_FRAMES} are read")
            valid = read_array(file, "is_valid", (count,), "iub").astype(np.int64)
            xy = read_array(file, "image_coordinates", (count, JOINTS, 2), "iuf").astype(np.float32) + np.float32(0.5)
            world = read_array(file, "real_world_coordinates", (count, JOINTS, 3), "f").astype(np.float32)
            seen = np.ones((count, JOINTS), bool)
            if "visible_joints" in file:
                seen = read_array(file, "visible_joints", (count, JOINTS), "iubf") > 0
            ids = _ids(file, count)
    except ValueError as error:
        raise UserError(
            f"label file {Path(folder, name)}: {what_to_do(folder, name, str(error))}; check --source and --labels"
        ) from None
    folder, name = place(config, config.depth_file)
    try:
        with open_hdf5(folder, name) as file:
            depth_count = array(file, "data", (None, HEIGHT, WIDTH), "f").shape[0]
            if not 0 < depth_count <= _MAX_FRAMES:
                raise ValueError(f"'data' has {depth_count} rows, 1 to {_MAX_FRAMES} are read")
            depth_ids = _ids(file, depth_count)
        by_number = ids is None or depth_ids is None
        if by_number and count != depth_count:
            raise ValueError(
                f"it has {depth_count} frames and the label file {count}, and without ids they cannot be matched"
            )
    except ValueError as error:
        raise UserError(
            f"depth file {Path(folder, name)}: {what_to_do(folder, name, str(error))}; check --source and --depth"
        ) from None
    inside = np.isfinite(xy).all(-1) & (xy >= 0).all(-1) & (xy < (WIDTH, HEIGHT)).all(-1)
    keypoints = np.concatenate([xy, (seen & inside)[..., None]], -1).astype(np.float32)
    rows: np.ndarray = np.arange(count)
    unlabeled: list[str] = []
    if ids is not None and depth_ids is not None:
        rows, unlabeled = _matched(ids, depth_ids)
    names = [str(row) for row in range(count)] if ids is None else ids
    # The file's y points up.
    return Labels(names, valid, keypoints, world * np.array([1, -1, 1], np.float32), rows, unlabeled, by_number)


def _ids(file, count: int) -> list[str] | None:
    """The ids; None if there are none, and for texts of variable length, which `array` does not support."""
    if "id" not in file or array(file, "id", (count,), "SOiu").dtype.kind == "O":
        return None
    values = read_array(file, "id", (count,), "Siu").tolist()
    return [
        each.rstrip(b"\0").decode(errors="backslashreplace") if isinstance(each, bytes) else str(each)
        for each in values
    ]


def _matched(ids: list[str], depth_ids: list[str]) -> tuple[np.ndarray, list[str]]:
    place: dict[str, int] = {}
    for row, id in enumerate(depth_ids):
        place[id] = -2 if id in place else row
    labeled = set(ids)
    return np.array([place.get(id, -1) for id in ids]), [id for id in place if id not in labeled]
