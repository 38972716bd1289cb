"""NTURGBD-Parsing-4K as it is given out, of synthetic people: folders of pictures and lists of frames."""

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hcmoco.data.body_parts import RAW_IDS
from hcmoco.synthetic import PeopleConfig, render_person

WIDTH, HEIGHT = 512, 424
_SIDE = 256  # of a person, who stands in an empty room


@dataclass(frozen=True)
class Frame:
    """What was put in: uint8 [424, 512, 3], uint16 [424, 512] in millimeters, and train ids uint8 [424, 512]."""

    rgb: np.ndarray
    depth: np.ndarray
    parts: np.ndarray


def frame_name(number: int) -> str:
    clip = f"S{1 + number // 4:03d}C{1 + number % 3:03d}P{1 + number % 7:03d}R001A{1 + number:03d}"
    return f"{clip}F{10 * (2 + number % 4):03d}"


def make_frame(number: int) -> Frame:
    """Person `number`, left of the middle, in a picture of NTU's depth camera."""
    seen = render_person(PeopleConfig(size=_SIDE, seed=11), number)
    x, y = 40 + 13 * (number % 9), 120
    place = np.s_[y : y + _SIDE, x : x + _SIDE]
    rgb = np.full((HEIGHT, WIDTH, 3), (90, 110, 130), np.uint8)
    depth, parts = np.zeros((HEIGHT, WIDTH), np.uint16), np.zeros((HEIGHT, WIDTH), np.uint8)
    rgb[place], depth[place], parts[place] = seen.rgb, seen.depth, seen.parts
    return Frame(rgb, depth, parts)


def label_png(parts: np.ndarray, palette: bool) -> bytes:
    """Raw part ids as the PNG that annotation tools write, with a palette, or as plain gray."""
    raw = np.array(RAW_IDS, np.uint8)[parts]
    picture = Image.frombytes("P" if palette else "L", raw.shape[::-1], raw.tobytes())
    if palette:
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_ntu_parsing(root: Path, train: int = 4, val: int = 2) -> dict[str, Frame]:
    """Writes `train` + `val` frames under `root`; returns them by name, in the order of the lists."""
    for folder in ("images", "depth", "png_annotation_v2"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    frames = {frame_name(number): make_frame(number) for number in range(train + val)}
    for number, (name, frame) in enumerate(frames.items()):
        cv2.imwrite(str(root / "images" / f"{name}.jpg"), frame.rgb[..., ::-1])
        cv2.imwrite(str(root / "depth" / f"MDepth-{name}.png"), frame.depth)
        (root / "png_annotation_v2" / f"{name}.png").write_bytes(label_png(frame.parts, palette=number % 2 == 0))
    names = [f"images/{name}.jpg\n" for name in frames]
    for split, lines in (("train", names[:train]), ("val", names[train:])):
        (root / f"{split}_v2.txt").write_text("".join(lines))
        (root / f"{split}_v3.txt").write_text("".join(lines[: max(1, len(lines) // 5)]))
    return frames
