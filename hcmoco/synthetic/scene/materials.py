"""Draw the materials of rooms and streets: walls, floors, furniture, facades, leaves.

Shape legend: N points, meters, z up.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hcmoco.synthetic.scene.textures import MAPS, WOOD, any_color, cloth_color, mix, near, noise, pick


@dataclass(frozen=True)
class Surface:
    """A material: a color as a function of the point and its normal in world axes.

    Attributes:
        kind: name of the texture, a key of _KINDS.
        colors: two float32 [3], RGB in 0..1, between which the texture mixes.
        scale: repeats per meter, in the texture's own unit.
        which: number of the noise map.
        glow: share of the color that needs no light (windows, lamps, screens), 0..1.
    """

    kind: str
    colors: tuple[np.ndarray, np.ndarray]
    scale: float
    which: int
    glow: float = 0.0

    def __call__(self, points_N3: np.ndarray, normals_N3: np.ndarray) -> np.ndarray:
        """Return the color at world points [N, 3] with the given unit normals [N, 3], float32 [N, 3]."""
        x, y, z = points_N3.T
        if self.kind in _FLOORS:
            u, v = x, y
        elif self.kind == "leaves":
            u, v = x + 0.6 * y, z + 0.7 * y
        else:
            flat = np.abs(normals_N3[:, 2]) > 0.8
            u = np.where(np.abs(normals_N3[:, 0]) > np.abs(normals_N3[:, 1]), y, x)
            v = np.where(flat, y, z)
            u = np.where(flat, x, u)
        return mix(*self.colors, _KINDS[self.kind](self.which, u * self.scale, v * self.scale))


def _bricks(which: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    rows = np.floor(v * 8)
    joint = (v * 8 % 1 < 0.12) | ((u * 4 + 0.5 * (rows % 2)) % 1 < 0.07)
    return joint * 0.6 + 0.3 * noise(which, u * 0.6, v * 0.6)


def _windows(which: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    pane = (np.abs(u % 1 - 0.5) < 0.3) & (np.abs(v * 0.8 % 1 - 0.5) < 0.32)
    return pane * (0.6 + 0.4 * noise(which, np.floor(u) * 0.37, np.floor(v * 0.8) * 0.23)) + ~pane * 0.15 * noise(
        which, u * 0.5, v * 0.5
    )


def _books(which: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    shelf = np.floor(v * 3)
    back = noise(which, np.floor(u * 22) * 0.137, shelf * 0.31)
    return np.where((v * 3 % 1 < 0.12) | (v * 3 % 1 > 0.72 + 0.25 * back), 0.0, 0.25 + 0.75 * back)


def _tiles(which: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    joint = (u * 2 % 1 < 0.04) | (v * 2 % 1 < 0.04)
    return np.where(joint, 0.9, 0.3 * noise(which, np.floor(u * 2) * 0.17 + u * 0.1, np.floor(v * 2) * 0.29 + v * 0.1))


def _planks(which: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row = np.floor(u * 6)
    joint = (u * 6 % 1 < 0.06) | ((v * 0.7 + row * 0.37) % 1 < 0.01)
    return 0.7 * joint + 0.5 * noise(which, u * 0.9, v * 0.09 + row * 0.23)


_KINDS: dict[str, Callable[[int, np.ndarray, np.ndarray], np.ndarray]] = {
    "paint": lambda k, u, v: 0.3 * noise(k, u * 0.15, v * 0.15),
    "plaster": lambda k, u, v: 0.5 * noise(k, u * 0.9, v * 0.9) + 0.2 * noise(k + 1, u * 0.13, v * 0.13),
    "panels": lambda k, u, v: (
        0.7 * ((np.abs(u * 1.4 % 1 - 0.5) > 0.475) | (np.abs(v * 0.9 % 1 - 0.5) > 0.48))
        + 0.2 * noise(k, u * 0.3, v * 0.3)
    ),
    "bricks": _bricks,
    "wallpaper": lambda k, u, v: 0.8 * (u * 5 % 1 < 0.5) + 0.1 * noise(k, u * 0.3, v * 0.3),
    "damask": lambda k, u, v: (noise(k, u * 0.8 % 0.5, v * 0.8 % 0.5) > 0.52) * 0.6,
    "graffiti": lambda k, u, v: np.clip((noise(k, u * 0.35, v * 0.35) - 0.48) * 9, 0, 1),
    "wood": lambda k, u, v: 0.8 * noise(k, u * 1.3, v * 0.12),
    "books": _books,
    "windows": _windows,
    "leaves": lambda k, u, v: np.clip((noise(k, u * 1.1, v * 1.1) - 0.35) * 2.5, 0, 1),
    "picture": lambda k, u, v: np.clip((noise(k, u * 0.6, v * 0.6) - 0.3) * 2.5, 0, 1),
    "planks": _planks,
    "tiles": _tiles,
    "carpet": lambda k, u, v: 0.5 * noise(k, u * 2.3, v * 2.3) + 0.4 * noise(k + 1, u * 0.2, v * 0.2),
    "chequer": lambda k, u, v: ((np.floor(u * 1.5) + np.floor(v * 1.5)) % 2) * 0.8 + 0.1 * noise(k, u * 0.4, v * 0.4),
    "grass": lambda k, u, v: 0.65 * noise(k, u * 1.7, v * 1.7) + 0.5 * noise(k + 1, u * 0.06, v * 0.06),
    "asphalt": lambda k, u, v: 0.6 * noise(k, u * 2.9, v * 2.9) + 0.3 * noise(k + 1, u * 0.08, v * 0.08),
    "paving": lambda k, u, v: np.where(
        (u * 1.6 % 1 < 0.05) | (v * 1.6 % 1 < 0.05), 1.0, 0.6 * noise(k, np.floor(u * 1.6) * 0.13 + u * 0.2, v * 0.31)
    ),
    "sand": lambda k, u, v: 0.5 * noise(k, u * 0.7, v * 0.7) + 0.3 * noise(k + 1, u * 0.1, v * 0.1),
}
_FLOORS = {"planks", "tiles", "carpet", "chequer", "grass", "asphalt", "paving", "sand"}


def _surface(
    rng: np.random.Generator,
    kind: str,
    first: np.ndarray,
    second: np.ndarray,
    scale: tuple[float, float] = (0.7, 1.5),
    glow=0.0,
) -> Surface:
    return Surface(
        kind,
        (np.asarray(first, np.float32), np.asarray(second, np.float32)),
        float(rng.uniform(*scale)),
        int(rng.integers(MAPS)),
        glow,
    )


def wall(rng: np.random.Generator) -> Surface:
    """Draw the wall of a room, usually light and of low saturation."""
    first = any_color(rng, (0.0, 0.35), (0.35, 0.95))
    kind = pick(
        rng,
        {"paint": 0.35, "plaster": 0.2, "panels": 0.12, "bricks": 0.1, "wallpaper": 0.1, "damask": 0.08, "wood": 0.05},
    )
    return _surface(rng, kind, first, np.clip(first * rng.uniform(0.55, 1.25), 0, 1))


def floor(rng: np.random.Generator) -> Surface:
    """Draw the floor of a room."""
    kind = pick(rng, {"planks": 0.4, "tiles": 0.2, "carpet": 0.25, "chequer": 0.15})
    first = near(rng, WOOD) if kind == "planks" else any_color(rng, (0.02, 0.4), (0.25, 0.85))
    return _surface(rng, kind, first, first * rng.uniform(0.45, 0.85))


def thing(rng: np.random.Generator) -> Surface:
    """Draw the material of furniture: wood, paint or cloth."""
    kind = pick(rng, {"wood": 0.4, "paint": 0.3, "plaster": 0.1, "wallpaper": 0.05, "damask": 0.1, "panels": 0.05})
    first = near(rng, WOOD) if kind == "wood" else cloth_color(rng, 0.6)
    return _surface(rng, kind, first, np.clip(first * rng.uniform(0.5, 1.4), 0, 1))


def picture(rng: np.random.Generator) -> Surface:
    """Draw a picture on a wall, with two free colors."""
    return _surface(
        rng,
        pick(rng, {"picture": 0.6, "graffiti": 0.2, "chequer": 0.1, "books": 0.1}),
        any_color(rng),
        any_color(rng),
        (1.0, 4.0),
    )


def books(rng: np.random.Generator) -> Surface:
    """Draw the front of a filled bookshelf."""
    return _surface(rng, "books", near(rng, WOOD), any_color(rng))


def bright(rng: np.random.Generator) -> Surface:
    """Draw a window by day or a lamp, which glows."""
    return _surface(
        rng, "plaster", any_color(rng, (0.0, 0.2), (0.9, 1.0)), any_color(rng, (0.0, 0.4), (0.7, 1.0)), glow=0.7
    )


def ground(rng: np.random.Generator) -> Surface:
    """Draw an outdoor ground: grass, asphalt, paving or sand."""
    kind = pick(rng, {"grass": 0.3, "asphalt": 0.25, "paving": 0.25, "sand": 0.2})
    first: np.ndarray
    if kind == "grass":
        first = np.array([0.25, 0.42, 0.14], np.float32) * rng.uniform(0.6, 1.3) + rng.uniform(0, 0.08, 3)
    elif kind == "sand":
        first = np.array([0.78, 0.68, 0.5], np.float32) * rng.uniform(0.6, 1.1)
    else:
        first = np.array([0.5, 0.5, 0.5], np.float32) * rng.uniform(0.5, 1.5) * (1 + rng.normal(0, 0.06, 3))
    return _surface(rng, kind, np.clip(first, 0, 1), np.clip(first * rng.uniform(0.4, 0.75), 0, 1))


def facade(rng: np.random.Generator) -> Surface:
    """Draw the front of a building."""
    kind = pick(rng, {"windows": 0.45, "bricks": 0.2, "plaster": 0.12, "graffiti": 0.08, "panels": 0.15})
    first = any_color(rng, (0.0, 0.45), (0.3, 0.95))
    return _surface(rng, kind, first, any_color(rng, (0.0, 0.5), (0.05, 0.45)), (0.35, 1.0))


def clutter(rng: np.random.Generator) -> Surface:
    """Draw the material of other outdoor props: stalls, cars, signs."""
    kind = pick(rng, {"paint": 0.35, "panels": 0.2, "picture": 0.2, "graffiti": 0.15, "wallpaper": 0.1})
    return _surface(rng, kind, any_color(rng), any_color(rng), (0.7, 2.5))


def foliage(rng: np.random.Generator) -> Surface:
    """Draw the leaves of a tree or bush."""
    first = np.array([0.16, 0.30, 0.10], np.float32) * rng.uniform(0.5, 1.5) + rng.uniform(0, 0.1) * np.array(
        [1, 0.6, 0], np.float32
    )
    return _surface(rng, "leaves", first, np.clip(first * rng.uniform(1.4, 2.2), 0, 1), (0.8, 2.0))


def bark(rng: np.random.Generator) -> Surface:
    """Draw a trunk or a post."""
    first = near(rng, WOOD) * 0.7
    return _surface(rng, "wood", first, first * 0.5)
