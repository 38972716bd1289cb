"""SynthHuman's files as its README describes them, of a person-sized box before a wall."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenEXR

from hcmoco.data import codecs

SIZE = (96, 128)  # width and height
FOCAL, CENTER = (140.0, 141.0), (48.0, 64.0)


@dataclass(frozen=True)
class Sample:
    """What is written.

    Attributes:
        rgb: uint8 [H, W, 3].
        alpha: uint8 [H, W]: 255 on the person, 120 and 130 in the columns beside them.
        depth_cm: float32 [H, W].
    """

    rgb: np.ndarray
    alpha: np.ndarray
    depth_cm: np.ndarray


def sample(number: int = 0) -> Sample:
    """One sample; `number` tells them apart."""
    width, height = SIZE
    rgb = np.full((height, width, 3), 60, np.uint8)
    rgb[20:110, 30:60] = (200, 40 + number % 50, 40)
    alpha = np.zeros((height, width), np.uint8)
    alpha[20:110, 30:60], alpha[20:110, 29], alpha[20:110, 60] = 255, 120, 130
    depth = np.full((height, width), 950.0, np.float32)
    depth[20:110, 29:61] = 230.4 + np.arange(32) / 10
    return Sample(rgb, alpha, depth)


def write_sample(folder: Path, number: int, center: tuple[float, float] = CENTER, unit: float = 1.0) -> Sample:
    """Write the files of a sample; `unit` multiplies its depth."""
    folder.mkdir(parents=True, exist_ok=True)
    one = sample(number)
    (folder / f"rgb_{number:07d}.png").write_bytes(codecs.encode_png(one.rgb))
    (folder / f"alpha_{number:07d}.png").write_bytes(codecs.encode_labels(one.alpha))
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    depth = {"Y": np.ascontiguousarray(one.depth_cm * np.float32(unit))}
    OpenEXR.File(header, depth).write(str(folder / f"depth_{number:07d}.exr"))
    (folder / f"normal_{number:07d}.exr").write_bytes(b"not read")
    rows = ((FOCAL[0], 0.0, center[0]), (0.0, FOCAL[1], center[1]), (0.0, 0.0, 1.0))
    np.savetxt(folder / f"cam_{number:07d}.txt", rows)
    return one


def write_synthhuman(root: Path) -> None:
    """A face in the folder itself, a whole and an upper body in a folder of it."""
    write_sample(root, 12)
    write_sample(root / "SynthHuman 0020", 98040)
    write_sample(root / "SynthHuman 0020", 198016)
