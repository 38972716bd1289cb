"""Config of the ITOP reader."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from hcmoco.config import Config

JOINTS = "joints"
TEST_BOXES = "itop_side_bndbox_test.mat"
FRAMES = {"train": (39795, 17991), "test": (10501, 4863)}
"""Frames of the published side view, and how many of them are valid."""


class ItopConfig(Config):
    """ITOP's side view, one split."""

    source: str = Field(description="folder of the unpacked .h5 files")
    split: Literal["train", "test"] = Field("train", description="train or test")
    depth: str = Field("", description="depth file, relative to source; empty: ITOP_side_<split>_depth_map.h5")
    labels: str = Field("", description="label file, relative to source; empty: ITOP_side_<split>_labels.h5")
    boxes: str = Field(
        "",
        description="boxes of the valid frames, in their order: a .mat, .npy or .json file, relative to source, or the "
        f"word joints, for boxes around the labeled joints; empty: joints for train, {TEST_BOXES} for test, where "
        "boxes from labels would tell the answer",
    )
    without_box: Literal["leave-out", "joints"] = Field(
        "leave-out",
        description="a frame that the file of boxes has no box for: leave-out (skip it), or joints (a box around them)",
    )
    joint_margin: float = Field(
        15.0, ge=0, le=100, description="how far a box around the joints reaches beyond them, pixels of the frame"
    )
    size: int = Field(
        320, ge=32, le=4096, description="largest side of a stored image, pixels; 320 keeps the frames as they are"
    )

    @property
    def depth_file(self) -> str:
        """Return the path of the depth file."""
        return self.depth or f"ITOP_side_{self.split}_depth_map.h5"

    @property
    def labels_file(self) -> str:
        """Return the path of the label file."""
        return self.labels or f"ITOP_side_{self.split}_labels.h5"

    @property
    def boxes_file(self) -> str | None:
        """Return the path of the file of boxes, None for boxes around the joints."""
        given = self.boxes or (JOINTS if self.split == "train" else TEST_BOXES)
        return None if given == JOINTS else given


def place(config: ItopConfig, name: str) -> tuple[str, str]:
    """Return folder and name of a file: below `source`, or of an absolute path."""
    path = Path(name).expanduser()
    return (str(path.parent), path.name) if path.is_absolute() else (config.source, name)


def what_to_do(folder: str, name: str, reason: str) -> str:
    """Return the reason, and for a file that is still packed how to unpack it."""
    packed = Path(folder) / f"{name}.gz"
    return (
        f"{reason}; unpack it: gunzip -k '{packed}'"
        if not (Path(folder) / name).exists() and packed.is_file()
        else reason
    )
