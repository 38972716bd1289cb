"""Subtract the background of a camera that does not move from its depth pictures.

Per pixel the background is the farthest surface that was seen there often: of all readings over time, the mean of those
near their far quantile. A person hides it for a while only, and nothing is seen through it. What is nearer than the
background by more than a tolerance is the person. A pixel without a reading stays without one; where the background has
no reading (a window, a dark or a far wall) everything that has one is in front of it.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hcmoco.data.codecs import decode_depth, encode_depth
from hcmoco.data.depth_units import FURTHEST_MM, rounded

MAX_FRAMES = 100
"""Of a recording so many frames, spread over it, tell the background."""

LEAST_FRAMES = 5
"""Of fewer frames nobody can say what stays behind."""

_FAR_QUANTILE = 0.95  # not the farthest reading itself, which may be an outlier
_SEEN_SHARE = 0.5  # of the frames: readings that come and go are no surface
_SMALLEST_SHARE = 5e-4  # of the picture: smaller spots are noise
_BESIDE = 0.1  # of a box's longer side: how far the person may reach out of it
_PIECE_SHARE = 0.1  # of the largest piece: a hand that the background cuts off, not a chair that was pushed


@dataclass(frozen=True, eq=False)
class Background:
    """The background of a static camera.

    Attributes:
        depth_HW: uint16, millimeters, 0 where it is not known.
        tolerance_mm: what is nearer by more is the person.
        by: what it was measured on, for manifests.
        frames: number of pictures that it was measured on.
    """

    depth_HW: np.ndarray
    tolerance_mm: float
    by: str
    frames: int

    @staticmethod
    def of_frames(frames: Iterable[np.ndarray], tolerance_mm: float, by: str) -> "Background":
        """Measure the background.

        Args:
            frames: [H, W] each, millimeters, 0 = no reading.
            tolerance_mm: readings that differ by less are of one surface.
            by: what the frames are.

        Raises:
            ValueError: there is no frame, or they differ in size.
        """
        stack = [rounded(frame, FURTHEST_MM) for frame in frames]
        if not stack:
            raise ValueError("there is no depth picture to measure a background on")
        sizes = sorted({(each.shape[1], each.shape[0]) for each in stack})
        if len(sizes) > 1:
            raise ValueError(
                "the depth pictures differ in size (" + ", ".join(f"{w} x {h}" for w, h in sizes[:3]) + "), so they "
                "are not of one camera that stands still"
            )
        count, height = len(stack), stack[0].shape[0]
        found = np.zeros(stack[0].shape, np.uint16)
        for row in range(0, height, 64):  # in bands, which fit the memory of small machines
            band = np.sort(np.stack([each[row : row + 64] for each in stack]), axis=0)
            seen = (band > 0).sum(0)
            last = count - 1 - np.floor((1 - _FAR_QUANTILE) * seen).astype(int)
            far = np.take_along_axis(band, last[None], 0).astype(np.float32)
            near_far = (band > 0) & (np.abs(band.astype(np.float32) - far) <= tolerance_mm)
            mean = (band * near_far).sum(0, dtype=np.float64) / np.maximum(near_far.sum(0), 1)
            found[row : row + 64] = np.where(seen >= max(1, _SEEN_SHARE * count), np.rint(mean), 0)
        return Background(found, tolerance_mm, by, count)

    def foreground(self, depth_HW: np.ndarray) -> np.ndarray:
        """Return bool [H, W]: readings in front of the background, without specks.

        Args:
            depth_HW: millimeters, 0 = no reading.

        Raises:
            ValueError: the picture has another size.
        """
        if depth_HW.shape != self.depth_HW.shape:
            (height, width), (own_height, own_width) = depth_HW.shape, self.depth_HW.shape
            raise ValueError(
                f"the depth picture is {width} x {height}, the background {own_width} x {own_height} pixels"
            )
        behind = self.depth_HW.astype(np.float32)
        near = (depth_HW > 0) & ((behind == 0) | (depth_HW < behind - self.tolerance_mm))
        number, labels, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8), connectivity=8)
        area = stats[:, cv2.CC_STAT_AREA].copy()
        area[0] = 0
        kept = area >= max(_SMALLEST_SHARE * near.size, _PIECE_SHARE * area.max(initial=0), 1)
        return kept[labels] if number > 1 else np.zeros_like(near)

    def remove(self, depth_HW: np.ndarray) -> np.ndarray:
        """Return the picture without its background; arguments and errors as of `foreground`.

        Raises:
            ValueError: nothing is left.
        """
        front = self.foreground(depth_HW)
        if not front.any():
            raise ValueError(
                f"nothing is nearer than the background by more than {self.tolerance_mm:g} mm: nobody is in the "
                "picture, or the person stood still for so long that they count as background; then give a depth "
                "picture of the empty scene"
            )
        return np.where(front, depth_HW, depth_HW.dtype.type(0))

    def facts(self) -> dict[str, Any]:
        """Return what there is to say of the background but its picture, as JSON values."""
        return {
            "by": self.by,
            "pictures": self.frames,
            "tolerance_mm": self.tolerance_mm,
            "known_share": round(float((self.depth_HW > 0).mean()), 4),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the background as JSON values, which the manifest keeps; its picture as a 16-bit PNG in base64."""
        return {
            **self.facts(),
            "background": {"png16": base64.b64encode(encode_depth(self.depth_HW, "png16")).decode()},
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Background":
        """Return the background that `to_json` gave."""
        picture = decode_depth(base64.b64decode(values["background"]["png16"]), "png16")
        return Background(picture, values["tolerance_mm"], values["by"], values["pictures"])


def near_box(depth_HW: np.ndarray, box_4: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return depth without what lies off a person's box: other people are in front of the background, too.

    Args:
        depth_HW: 0 = no reading.
        box_4: x0, y0, x1, y1, pixels; the person may reach out of it a little.
    """
    box_4 = np.asarray(box_4, np.float64)
    margin = _BESIDE * max(box_4[2] - box_4[0], box_4[3] - box_4[1])
    x0, y0, x1, y1 = np.clip(np.rint(box_4 + margin * np.array([-1, -1, 1, 1])), 0, 1 << 15).astype(int)
    near_HW = np.zeros_like(depth_HW)
    near_HW[y0:y1, x0:x1] = depth_HW[y0:y1, x0:x1]
    return near_HW
