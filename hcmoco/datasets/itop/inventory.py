"""Check ITOP's files: which are present, how many frames they hold, and whether they fit each other."""

from pathlib import Path

import numpy as np

from hcmoco.datasets.io.hdf5 import array, open_hdf5
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.itop.boxes import read_boxes
from hcmoco.datasets.itop.config import FRAMES, ItopConfig, place, what_to_do
from hcmoco.datasets.itop.frames import ROWS_PER_ITEM
from hcmoco.datasets.itop.labels import CAMERA, FOCAL, HEIGHT, WIDTH, Labels, read_labels
from hcmoco.errors import UserError

_DEEP = 4 * ROWS_PER_ITEM


def inventory(config: ItopConfig) -> Inventory:
    """Return missing and unreadable files, numbers of frames, and what will be skipped.

    Raises:
        UserError: the source folder does not exist.
    """
    if not Path(config.source).is_dir():
        raise UserError(
            f"source {config.source} is no folder; give the one that holds ITOP_side_{config.split}_depth_map.h5"
        )
    found = Inventory()
    for what, name in (("depth files", config.depth_file), ("label files", config.labels_file)):
        found.check_files(what, *_one(config, name), "HDF5")
    found.faults = [Fault(each.path, what_to_do(*_split(each.path), each.reason)) for each in found.faults]
    if config.boxes_file is not None:
        found.check_files("files of boxes", *_one(config, config.boxes_file))
    if found.faults:
        return found
    try:
        labels = read_labels(config)
        _count(config, labels, found)
        if config.boxes_file is not None:
            missing = int(np.isnan(read_boxes(*place(config, config.boxes_file), len(labels.chosen))).all(1).sum())
            instead = "skipped" if config.without_box == "leave-out" else "given a box around their joints"
            found.notes += (
                [f"{missing} valid frames have no box in {config.boxes_file} and are {instead}"] if missing else []
            )
    except (UserError, ValueError) as error:
        found.faults.append(Fault(config.source, str(error)))
    return found


def _one(config: ItopConfig, name: str) -> tuple[str, list[str]]:
    folder, name = place(config, name)
    return folder, [name]


def _split(path: str) -> tuple[str, str]:
    return str(Path(path).parent), Path(path).name


def _count(config: ItopConfig, labels: Labels, found: Inventory) -> None:
    frames, valid = len(labels.ids), len(labels.chosen)
    found.counts |= {"frames": frames, "valid frames": valid}
    all_frames, all_valid = FRAMES[config.split]
    whole = (frames, valid) == (all_frames, all_valid)
    found.notes.append(
        f"{valid} of {frames} frames are valid and read; "
        f"the published {config.split} split has {all_valid} of {all_frames}"
        + ("" if whole else ", so this is not the whole of it, and the published subsets will be others")
    )
    if labels.by_number:
        found.notes.append(
            "the files have no ids of fixed length: depth and labels are matched by the number of the row"
        )
    for state, words in ((-1, "have no depth"), (-2, "have more than one depth frame")):
        if count := int((labels.rows[labels.chosen] == state).sum()):
            found.notes.append(f"{count} valid frames {words} and will be rejected")
    if labels.unlabeled:
        found.notes.append(f"{len(labels.unlabeled)} frames of the depth file have no label and will be rejected")
    if config.boxes_file is None:
        found.notes.append(f"boxes are computed from the labeled joints, {config.joint_margin:g} pixels beyond them")
    joints, seen = labels.joints3d[labels.chosen], labels.keypoints[labels.chosen]
    with np.errstate(all="ignore"):
        apart = np.abs(joints[..., :2] / joints[..., 2:] * FOCAL + CAMERA[2:] - seen[..., :2])[seen[..., 2] > 0]
    off = float(np.nanmedian(apart)) if len(apart) else 0.0
    if not off <= 2:
        found.notes.append(
            f"the labels' image coordinates lie {off:.0f} pixels from their coordinates in space (median): "
            "check the file"
        )
    with open_hdf5(*place(config, config.depth_file)) as file:
        chunks = array(file, "data", (None, HEIGHT, WIDTH), "f").chunks
    if chunks and chunks[0] > _DEEP:
        found.notes.append(
            f"depth is stored in chunks of {chunks[0]} frames, which is slow to read in pieces; "
            f"h5repack -l data:CHUNK={ROWS_PER_ITEM}x{HEIGHT}x{WIDTH} IN OUT makes a file that is not"
        )
