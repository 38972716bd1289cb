"""Every reader of files with the smallest whole data set that it reads: what the reader contract (test_readers.py) is
tested on.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from hcmoco.data import codecs
from hcmoco.datasets import (
    coco,
    densepose_coco,
    folder,
    h36m_parsing,
    humman,
    itop,
    keypoints,
    mpii,
    ntu,
    ntu_parsing,
    recording,
    synthhuman,
)
from hcmoco.datasets.base import DatasetReader, Outcome
from hcmoco.datasets.io.inventory import Inventory
from tests.helpers import (
    coco_files,
    h36m_files,
    humman_files,
    itop_files,
    keypoint_files,
    mpii_files,
    ntu_files,
    ntu_parsing_files,
    recording_files,
    synthhuman_files,
)

NTU_CLIPS = ("S001C001P001R001A001", "S001C001P002R001A001", "S001C002P001R001A001")


@dataclass(frozen=True)
class Reader:
    """A reader and a data set for it.

    Attributes:
        name: as `prepare` calls it.
        module: of hcmoco.datasets.
        write: writes the data set below a folder.
        configs: of all that lies in that folder; more than one where a config reads one split alone.
        records: number of records of the whole data set.
        item_bytes: most that an item may have as a message to a worker.
        unneeded: names of files that may be missing without a word.
    """

    name: str
    module: ModuleType
    write: Callable[[Path], object]
    configs: Callable[[Path], Sequence]
    records: int
    item_bytes: int = 1200
    unneeded: tuple[str, ...] = ()

    @property
    def reader(self) -> DatasetReader:
        """What `prepare` calls."""
        return self.module.READER

    def items(self, root: Path) -> list:
        """What can be read of the data set in `root`, with what was measured before."""
        found = []
        for config in self.configs(root):
            items = self.reader.items(config)
            if self.reader.calibrations:
                wanted = self.reader.calibrations(config, items)
                measured = {name: self.reader.calibrate(calibration) for name, calibration in wanted.items()}
                items = self.reader.with_calibrations(config, items, measured)
            found += items
        return found

    def read(self, items: list) -> list[Outcome]:
        """Every outcome of the items."""
        return [outcome for item in items for outcome in self.reader.outcomes(item)]

    def inventories(self, root: Path) -> list[Inventory]:
        """What is there and what is missing."""
        return [self.reader.inventory(config) for config in self.configs(root)]


def write_folder(root: Path) -> None:
    """Three lines of people.jsonl, which between them use every kind of picture."""
    rgb, depth, mask = (
        np.full((90, 120, 3), 80, np.uint8),
        np.zeros((90, 120), np.uint16),
        np.zeros((90, 120), np.uint8),
    )
    depth[20:60, 30:70], mask[25:55, 35:65] = 2000, 1
    (root / "bilder über").mkdir(parents=True)
    (root / "rgb 1.jpg").write_bytes(codecs.encode_rgb(rgb))
    (root / "bilder über" / "rgb 2.jpg").write_bytes(codecs.encode_rgb(rgb))
    (root / "depth.png").write_bytes(codecs.encode_depth(depth, "png16"))
    (root / "mask.png").write_bytes(codecs.encode_labels(mask))
    (root / "parts.png").write_bytes(codecs.encode_labels(mask * 24))
    keypoints = [[50.0, 40.0, 2], *[[0, 0, 0]] * 16]
    lines = [
        {
            "id": "anna",
            "rgb": "rgb 1.jpg",
            "depth": "depth.png",
            "camera": [100, 100, 60, 45],
            "keypoints": keypoints,
            "mask": "mask.png",
        },
        {"rgb": "bilder über/rgb 2.jpg", "parts": "parts.png", "box": [30, 20, 70, 60]},
        {"depth": "depth.png", "depth_unit": "0.2mm", "subject": "ben"},
    ]
    (root / "people.jsonl").write_text(
        "\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8"
    )


def write_ntu(root: Path) -> None:
    """NTU_CLIPS, as small as they may be, with the depth pictures of two frames each."""
    ntu_files.write(root, [ntu_files.Clip(tag, 10, number) for number, tag in enumerate(NTU_CLIPS)], width=240)
    for path in (root / "nturgb+d_depth_masked").rglob("MDepth-*.png"):
        if path.name[-6:] not in ("05.png", "10.png"):
            path.unlink()


def write_h36m(root: Path) -> None:
    """A video of 12 frames, and one whose labels end before it does."""
    h36m_files.write_video(root, "S1", "Eating %03d.1", h36m_files.make_clip(20, 12, 48))
    h36m_files.write_video(root, "S1", "Posing.2", h36m_files.make_clip(21, 11, 48, 50), label_frames=7)


def write_itop(root: Path) -> None:
    """Both splits, each with another way of storing depth, and the boxes of the test split."""
    few = itop_files.frames(6)
    itop_files.write_split(root, "train", few, chunks=(2, 240, 320), compression="gzip")
    itop_files.write_split(root, "test", few)
    itop_files.write_boxes(root, few.boxes)


def write_keypoints(root: Path) -> None:
    """Three pictures and OpenPose's files of them, in one of which nobody was found."""
    taken = keypoint_files.shots()
    keypoint_files.write_pictures(root, taken)
    keypoint_files.openpose(root, taken)
    for path in (root / "depth").iterdir():  # not read here
        path.unlink()


READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "folder",
            folder,
            write_folder,
            lambda root: [folder.FolderConfig(path=str(root), label_map="human3.6m")],
            records=3,
            item_bytes=2000,
        ),
        Reader(
            "keypoints",
            keypoints,
            write_keypoints,
            lambda root: [
                keypoints.KeypointsConfig(images=str(root / "rgb"), keypoints=str(root / "openpose"), joints="body-25")
            ],
            records=3,
            item_bytes=2000,
            unneeded=("0002.jpg", *(f"{number:04d}_keypoints.json" for number in range(3))),
        ),
        Reader(
            "recording",
            recording,
            lambda root: recording_files.write_realsense_viewer(root, 2),
            lambda root: [recording.RecordingConfig(path=str(root))],
            records=2,
            item_bytes=3500,
            # Whatever is there is the recording; a picture without its partner is skipped with a reason.
            unneeded=tuple(
                f"anna {number}_{end}"
                for number in (0, 1)
                for end in ("Color.png", "Depth.raw", "Depth.png", "Depth_metadata.csv")
            ),
        ),
        Reader("ntu", ntu, write_ntu, lambda root: [ntu.NtuConfig(source=str(root), stride=5)], records=6),
        Reader(
            "ntu-parsing",
            ntu_parsing,
            lambda root: ntu_parsing_files.write_ntu_parsing(root, 2, 1),
            lambda root: [ntu_parsing.NtuParsingConfig(source=str(root), split=split) for split in ("train", "val")],
            records=3,
            unneeded=("train_v3.txt", "val_v3.txt"),
        ),
        Reader("mpii", mpii, mpii_files.write_mpii, lambda root: [mpii.MpiiConfig(source=str(root))], records=3),
        Reader("coco", coco, coco_files.write_keypoints, lambda root: [coco.CocoConfig(source=str(root))], records=3),
        Reader(
            "densepose-coco",
            densepose_coco,
            coco_files.write_densepose,
            lambda root: [
                densepose_coco.DensePoseCocoConfig(source=str(root), split=split) for split in ("train", "test")
            ],
            records=5,
            item_bytes=6000,
            unneeded=("COCO_train2014_000000000900.jpg",),
        ),
        Reader(
            "h36m-parsing",
            h36m_parsing,
            write_h36m,
            lambda root: [h36m_parsing.H36mParsingConfig(source=str(root), subjects=("S1",), stride=5)],
            records=5,
        ),
        Reader(
            "itop",
            itop,
            write_itop,
            lambda root: [itop.ItopConfig(source=str(root), split=split) for split in ("train", "test")],
            records=8,
            item_bytes=3500,
        ),
        Reader(
            "humman",
            humman,
            lambda root: humman_files.write_humman(root, kinects=1),
            lambda root: [humman.HummanConfig(source=str(root))],
            records=1,
            item_bytes=2000,
        ),
        Reader(
            "synthhuman",
            synthhuman,
            synthhuman_files.write_synthhuman,
            lambda root: [synthhuman.SynthHumanConfig(source=str(root))],
            records=3,
            unneeded=tuple(f"normal_{number:07d}.exr" for number in (12, 98040, 198016)),
        ),
    )
}
