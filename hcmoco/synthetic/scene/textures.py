"""Textures: tileable noise, random colors, and solid patterns for cloth. Rooms and streets are in materials.py.

Shape legend: N points. Colors are RGB in 0..1 before the renderer's tone curve; positions are meters.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np

from hcmoco.rng import make_rng
from hcmoco.synthetic.vectors import norm

MAPS = 8  # number of noise maps
_SIDE = 512  # their side in texels, a power of two so that wrapping is a mask

# Base colors that rooms and clothes mostly have; saturated ones are drawn freely on top.
_NEUTRAL = np.array(
    [
        (0.05, 0.05, 0.06), (0.12, 0.13, 0.15), (0.30, 0.31, 0.33), (0.55, 0.56, 0.57), (0.85, 0.85, 0.84),
        (0.08, 0.11, 0.22), (0.16, 0.22, 0.38), (0.62, 0.54, 0.42), (0.36, 0.27, 0.19), (0.33, 0.35, 0.24),
    ],
    np.float32,
)  # fmt: skip
WOOD = np.array(
    [(0.62, 0.45, 0.28), (0.45, 0.30, 0.18), (0.75, 0.62, 0.45), (0.28, 0.19, 0.13), (0.55, 0.50, 0.44)], np.float32
)


@cache
def _noise_maps() -> np.ndarray:
    """float32 [MAPS, side, side] in 0..1: fractal noise that tiles. A constant, not part of a sample's randomness."""
    rng = make_rng(0, "people-noise-maps")
    maps = np.zeros((MAPS, _SIDE, _SIDE), np.float32)
    for image in maps:
        amplitude = 1.0
        for cells in (4, 8, 16, 32, 64, 128, 256):
            # Padding by whole wrapped cells before the cubic resize is what makes the map tile.
            grid = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
            step = _SIDE // cells
            wide = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
            image += amplitude * wide[2 * step : 2 * step + _SIDE, 2 * step : 2 * step + _SIDE]
            amplitude *= 0.6
        image -= image.min()
        image /= image.max()
    return maps


def noise(which: int, u_N: np.ndarray, v_N: np.ndarray) -> np.ndarray:
    """Return noise map `which` (modulo MAPS) at u, v: float32 [N] in 0..1, with period 1 in both."""
    columns, rows = (_texel(u_N * _SIDE), _texel(v_N * _SIDE))
    rows *= _SIDE
    rows += columns
    return _noise_maps()[which % MAPS].ravel().take(rows)


def _texel(place_N: np.ndarray) -> np.ndarray:
    """The number of the texel, int32 [N], at a place that may lie beyond the map; the place is overwritten."""
    texel = np.floor(place_N, out=place_N).astype(np.int32)
    texel &= _SIDE - 1
    return texel


def any_color(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.0, 0.7), value: tuple[float, float] = (0.1, 0.95)
) -> np.ndarray:
    """Draw a color of any hue, float32 [3], with saturation and value from the given ranges within 0..1."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def near(rng: np.random.Generator, palette: np.ndarray, spread: float = 0.12) -> np.ndarray:
    """Draw a color close to a random one of the palette.

    Args:
        rng: source of the draws.
        palette: float32 [C, 3].
        spread: relative standard deviation of each channel.

    Returns:
        float32 [3].
    """
    color = palette[rng.integers(len(palette))] * (1 + rng.normal(0, spread, 3)) + rng.normal(0, 0.015, 3)
    return np.minimum(np.maximum(color, 0.02), 0.97).astype(np.float32)


def cloth_color(rng: np.random.Generator, neutral: float = 0.45, unlike: np.ndarray | None = None) -> np.ndarray:
    """Draw a color of clothes.

    Args:
        rng: source of the draws.
        neutral: share of grays, navies and browns, 0..1.
        unlike: float32 [3] or None; no color that passes for this one is returned.

    Returns:
        float32 [3].
    """
    while True:
        color = (
            near(rng, _NEUTRAL)
            if rng.random() < neutral
            else any_color(rng, (0.2, rng.choice((0.5, 0.65, 0.85))), (0.15, 0.85))
        )
        if unlike is None or not passes_for(color, unlike):
            return color


def passes_for(color: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two colors [3] may be the same one under another light.

    They are if hue and saturation are close and their brightness differs by less than a factor of 2.2.
    """
    lengths = norm(color), norm(other)
    angle = np.arccos(min(color @ other / (lengths[0] * lengths[1]), 1.0))
    return bool(angle < 0.17 and max(lengths) < 2.2 * min(lengths))


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """Draw a key of `weights` in proportion to its value."""
    names, bounds = _bounds(tuple(weights.items()))
    return names[min(bisect_right(bounds, rng.random()), len(names) - 1)]


@lru_cache(maxsize=128)
def _bounds(weights: tuple[tuple[str, float], ...]) -> tuple[list[str], list[float]]:
    """The names, and for each the end of its share of 0..1."""
    shares = np.array([share for _, share in weights], float)
    return [name for name, _ in weights], np.cumsum(shares / shares.sum()).tolist()


@dataclass(frozen=True)
class Pattern:
    """A two-color solid texture of cloth.

    It is a function of the place on the template body, so it has no seams and moves with the skin.

    Attributes:
        kind: name of the pattern.
        colors: two float32 [3], RGB in 0..1.
        frequency: repeats per meter.
        phase: offsets of the pattern in repeats, 0..1.
        which: number of the noise map.
    """

    kind: str
    colors: tuple[np.ndarray, np.ndarray]
    frequency: float
    phase: tuple[float, float]
    which: int

    @classmethod
    def draw(cls, rng: np.random.Generator, plain: float = 0.35, unlike: np.ndarray | None = None) -> "Pattern":
        """Draw a random pattern.

        Args:
            rng: source of the draws.
            plain: share of patterns of one color, 0..1.
            unlike: float32 [3] or None; no color of the pattern passes for this one.
        """
        kinds = {
            "heather": 0.2,
            "stripes": 0.2,
            "pinstripe": 0.1,
            "check": 0.12,
            "plaid": 0.16,
            "dots": 0.1,
            "camouflage": 0.08,
            "print": 0.1,
        }
        kind = "plain" if rng.random() < plain else pick(rng, kinds)
        first = cloth_color(rng, unlike=unlike)
        second = (
            np.clip(first * rng.uniform(0.55, 1.5), 0, 1).astype(np.float32)
            if kind == "heather"
            else cloth_color(rng, unlike=unlike)
        )
        frequency = float(rng.uniform(9, 34))
        return cls(
            kind, (first, second), frequency, (float(rng.random()), float(rng.random())), int(rng.integers(MAPS))
        )

    def __call__(self, points_N3: np.ndarray) -> np.ndarray:
        """Return the color at points [N, 3] of the template body, float32 [N, 3]."""
        first, second = self.colors
        if self.kind == "plain":
            return np.broadcast_to(first, points_N3.shape)
        u = points_N3[:, 0] * self.frequency + self.phase[0]
        v = points_N3[:, 2] * self.frequency + self.phase[1]
        w = points_N3[:, 1] * self.frequency
        return mix(first, second, self._share(u, v, w))

    def _share(self, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        match self.kind:
            case "heather":
                return noise(self.which, u / 6 + w / 7, v / 6)
            case "stripes":
                return v * 0.5 % 1 < 0.5
            case "pinstripe":
                return (u + w) * 0.7 % 1 < 0.25
            case "check":
                return (np.floor(u) + np.floor(v) + np.floor(w)) % 2
            case "plaid":
                return 0.5 * (u * 0.5 % 1 < 0.4) + 0.4 * (v * 0.5 % 1 < 0.4) + 0.1 * (v % 1 < 0.2)
            case "dots":
                return (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.07
            case "camouflage":
                return noise(self.which, u / 18 + w / 19, v / 18) > 0.5
            case _:  # a print: large soft blotches
                return np.clip((noise(self.which, u / 30 + w / 31, v / 30) - 0.45) * 6, 0, 1)


def mix(first: np.ndarray, second: np.ndarray, share_N: np.ndarray) -> np.ndarray:
    """Mix two colors [3]: `first` where the share is 0, `second` where it is 1; float32 [N, 3]."""
    return (first[:, None] + (second - first)[:, None] * np.asarray(share_N, np.float32)).T
