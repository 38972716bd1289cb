"""A camera that stands still and sees a person walk through a room: which readings are the person's is known."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcmoco.data import codecs

WIDTH, HEIGHT = 96, 72
PERSON_MM = 2000


@dataclass(frozen=True)
class Frame:
    """One moment.

    Attributes:
        depth: uint16 [H, W], millimeters, with the sensor's noise and holes.
        person: bool [H, W], what the person hides of the room.
    """

    depth: np.ndarray
    person: np.ndarray


def room() -> np.ndarray:
    """float64 [H, W], millimeters: a wall that goes away to the right, and a window without a reading."""
    depth = np.tile(np.linspace(3000, 4500, WIDTH), (HEIGHT, 1))
    depth[10:24, 60:80] = 0
    return depth


def frames(count: int = 40, noise_mm: float = 8.0, holes: float = 0.03, seed: int = 0) -> list[Frame]:
    """The person, 14 pixels wide, walks from left to right, and through the window's view."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for number in range(count):
        middle = 8 + (WIDTH - 16) * number / max(1, count - 1)
        person = ((x - middle) / 7) ** 2 + ((y - 38) / 30) ** 2 < 1
        true = np.where(person, PERSON_MM + 4.0 * (x - middle), room())
        noisy = np.where(true > 0, true + noise_mm * rng.standard_normal(true.shape), 0)
        noisy[rng.random(true.shape) < holes] = 0
        found.append(Frame(np.rint(noisy).astype(np.uint16), person))
    return found


def empty(noise_mm: float = 8.0, seed: int = 1) -> np.ndarray:
    """The room without anybody, uint16 [H, W], millimeters."""
    true, noise = room(), np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH))
    return np.rint(np.where(true > 0, true + noise_mm * noise, 0)).astype(np.uint16)


def write(root: Path, seen: list[Frame], *, masks: str = "") -> None:
    """A recording: rgb/, depth/ and camera.json; `masks` names a folder for the true masks, too."""
    for number, frame in enumerate(seen):
        rgb = np.where(frame.person[..., None], np.uint8(200), np.uint8(90)).repeat(3, axis=2)
        _write(root / "rgb" / f"{number:04d}.jpg", codecs.encode_rgb(rgb))
        _write(root / "depth" / f"{number:04d}.png", codecs.encode_depth(frame.depth, "png16"))
        if masks:
            _write(root / masks / f"{number:04d}.png", codecs.encode_labels(frame.person.astype(np.uint8) * 255))
    (root / "camera.json").write_text(json.dumps({"registered": True}))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
