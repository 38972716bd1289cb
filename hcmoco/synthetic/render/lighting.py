"""Light people and their surroundings.

Colors are RGB in 0..1. Shape legend: N points or pixels.
"""

import numpy as np

from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene.environment import Environment
from hcmoco.synthetic.scene.materials import Surface
from hcmoco.synthetic.scene.textures import noise
from hcmoco.synthetic.vectors import length, rows

_BIAS = 0.008  # meters that shadow rays start above the surface, or it would shadow itself
_SHADOWED = 0.2  # share of the direct light that still arrives in a shadow
# The tone curve of a camera as a table over 0.._WHITE: it rolls off towards white, so that bright skin keeps its color.
_WHITE = 2.0
_TONE = (255 * ((1 - np.exp(-1.7 * np.linspace(0, _WHITE, 4096))) / (1 - np.exp(-1.7 * _WHITE))) ** 1.05).astype(
    np.float32
)


def tone(color: np.ndarray) -> np.ndarray:
    """Apply the tone curve of a camera: color, of which 1 is a well lit white, to float32 in 0..255."""
    return _TONE.take((np.clip(color, 0, _WHITE) * (4095 / _WHITE)).astype(np.int16))


def shade(
    scene: Environment,
    color_N3: np.ndarray,
    points_N3: np.ndarray,
    normals_N3: np.ndarray,
    meshes: tuple[Mesh, ...],
    glow_N: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return the color of points under the light of the surroundings, with shadows.

    Args:
        scene: the surroundings, which hold the light.
        color_N3: float [N, 3], color without light.
        points_N3: float [N, 3], world, meters.
        normals_N3: float [N, 3], unit normals.
        meshes: what throws shadows.
        glow_N: float [N] or a number, share of the color that needs no light, 0..1.

    Returns:
        float32 [N, 3]; 1 is a well lit white, highlights exceed it.
    """
    light, above, below = scene.light, *scene.ambient
    towards = light[:3] - light[3] * points_N3 if light[3] else np.broadcast_to(light[:3], points_N3.shape)
    cosine = np.einsum("ni,ni->n", normals_N3, towards) / np.sqrt(np.einsum("ni,ni->n", towards, towards))
    direct = np.maximum(cosine, 0)
    lit = np.flatnonzero(cosine > 0)
    starts, ways = rows(points_N3, lit) + _BIAS * rows(normals_N3, lit), rows(towards, lit)
    shadow = np.zeros(len(lit), bool)
    for mesh in meshes:
        lighted = np.flatnonzero(~shadow)
        # A lamp is a point: what lies behind it throws no shadow.
        shadow[lighted] = mesh.blocked(rows(starts, lighted), rows(ways, lighted), 0.98 if light[3] else 1e37)
    direct[lit[shadow]] *= _SHADOWED
    if light[3]:
        # A room's lamp fades with distance, but its walls give some light back.
        direct *= np.minimum(6.0 / (1.0 + np.einsum("ni,ni->n", towards, towards)), 1.4)
    ambient = (above + below) / 2 + (above - below) / 2 * normals_N3[:, 2]
    strength = (ambient + scene.direct * direct) * (1 - glow_N) + glow_N
    return color_N3 * strength[:, None] * scene.tint


def surroundings(
    surfaces: list[Surface], owner_N: np.ndarray, points_N3: np.ndarray, normals_N3: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the color float32 [N, 3] and the glow float32 [N] of points on surfaces.

    Args:
        surfaces: the surfaces.
        owner_N: int [N], number of each point's surface, in ascending order.
        points_N3: float32 [N, 3], world, meters.
        normals_N3: float32 [N, 3], unit normals.
    """
    color, glow = np.empty_like(points_N3), np.zeros(len(points_N3), np.float32)
    ends = np.cumsum(np.bincount(owner_N, minlength=len(surfaces))).tolist()
    for surface, first, last in zip(surfaces, [0, *ends], ends, strict=False):
        if first < last:
            color[first:last] = surface(points_N3[first:last], normals_N3[first:last])
            glow[first:last] = surface.glow
    return color, glow


def sky(scene: Environment, directions_N3: np.ndarray) -> np.ndarray:
    """Return the color of the sky in the given directions, float32 [N, 3]; black indoors."""
    if scene.sky is None:
        return np.zeros_like(directions_N3)
    zenith, horizon, clouds = scene.sky
    unit = directions_N3 / length(directions_N3)[:, None]
    height = np.clip(2 * unit[:, 2:], 0, 1)
    cover = np.clip(1.6 * noise(clouds, unit[:, 0] * 0.4, unit[:, 2] * 0.9)[:, None] - 0.5, 0, 0.9)
    return (horizon + (zenith - horizon) * height) * (1 - cover) + cover * np.float32(0.95)
