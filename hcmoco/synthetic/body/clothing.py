"""Find what covers points of the body, and their color, from their places on the template body.

Garments end at heights and at places along the limbs, so their borders are crisp at any resolution. Torso and hips are
always covered.
Shape legend: N points, V vertices. Template axes: x to the person's left, y backwards, z up, meters.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from hcmoco.synthetic.body.mesh import EYE, HAIR, SKIRT, Asset
from hcmoco.synthetic.body.outfit import Outfit
from hcmoco.synthetic.scene.textures import noise

BARE, TOP, BOTTOM, SHOE, SCALP, EYEBALL, SOCK, HAT = range(8)  # what covers a point


@dataclass(frozen=True)
class _Landmarks:
    """Places on the template that garments refer to."""

    neck: np.ndarray
    hip: float
    chest: np.ndarray
    eye: np.ndarray
    legs: np.ndarray  # bool [G]
    arms: np.ndarray
    feet: np.ndarray
    thighs: np.ndarray


@cache
def _landmarks(asset: Asset) -> _Landmarks:
    def head(bone: str) -> np.ndarray:
        return asset.template_heads[asset.bone(bone)]

    names = [name.split(".")[0] for name in asset.group_names]
    return _Landmarks(
        neck=head("neck01"),
        hip=float(head("upperleg01.L")[2]),
        chest=(head("spine01") + head("spine02")) / 2,
        eye=head("eye.L"),
        legs=np.isin(names, ("thigh", "calf", "foot")),
        arms=np.isin(names, ("arm", "fore", "hand")),
        feet=np.isin(names, ("foot",)),
        thighs=np.isin(names, ("thigh",)),
    )


def cover(
    asset: Asset, outfit: Outfit, points_N3: np.ndarray, group_N: np.ndarray, position_N: np.ndarray, kind_N: np.ndarray
) -> np.ndarray:
    """Find what covers points of the body.

    Args:
        asset: the body.
        outfit: the looks.
        points_N3: float [N, 3], template positions, meters.
        group_N: int [N], limb groups (surface_labels.limb_position).
        position_N: float [N], places along the limbs (surface_labels.limb_position).
        kind_N: uint8 [N], piece of the mesh: BODY, EYE, HAIR or SKIRT.

    Returns:
        uint8 [N]: BARE, TOP, BOTTOM, SHOE, SCALP, EYEBALL, SOCK or HAT.
    """
    marks = _landmarks(asset)
    x, y, z = points_N3.T
    torso, head = group_N == asset.group("torso"), np.flatnonzero(group_N == asset.group("head"))
    leg, arm = marks.legs[group_N], marks.arms[group_N]
    result = np.full(len(points_N3), BARE, np.uint8)

    hem = marks.hip + outfit.waist
    result[torso] = np.where(z[torso] > hem, TOP, BOTTOM)
    result[arm & (position_N < outfit.sleeve)] = TOP
    result[leg & (position_N < outfit.leg)] = BOTTOM
    result[marks.thighs[group_N] & (z > hem)] = TOP
    near_neck = np.hypot(x - marks.neck[0], y - marks.neck[1]) < 0.075 + outfit.neckline
    result[torso & near_neck & (z > marks.neck[2] - 0.035 - outfit.neckline)] = BARE
    if outfit.shoes:
        result[leg & (result == BARE) & (position_N > 1.72)] = SOCK
        result[marks.feet[group_N] | (leg & (position_N > 1.93))] = SHOE

    if not outfit.bald or outfit.capped:
        # The hairline falls from the forehead to the nape.
        front = marks.eye[1] - 0.03
        back = np.clip((y[head] - front) / 0.19, 0, 1)
        line = marks.eye[2] + 0.062 + outfit.hairline - (0.135 + outfit.hairline) * back**0.8
        result[head[z[head] > line]] = HAT if outfit.capped and not outfit.long_hair else SCALP
    result[kind_N == HAIR] = SCALP
    result[kind_N == SKIRT] = BOTTOM
    result[kind_N == EYE] = EYEBALL
    return result


@cache
def _thickness(asset: Asset, folds: int) -> np.ndarray:
    """How thick cloth is at each vertex, float32 [V], relative to the outfit's thickness."""
    x, y, z = asset.template.T
    return 0.5 + noise(folds, x * 1.5 + y, z * 1.5)


def stand_off(asset: Asset, outfit: Outfit, cover_V: np.ndarray) -> np.ndarray:
    """Return how far clothes, shoes and hair push each vertex outwards along its normal.

    Args:
        asset: the body.
        outfit: the looks.
        cover_V: uint8 [V], what covers each vertex (`cover`).

    Returns:
        float32 [V], meters.
    """
    depth = np.zeros(8, np.float32)
    depth[[TOP, BOTTOM]] = outfit.thickness
    depth[[SHOE, SCALP, SOCK, HAT]] = 0.006, 0.010, 0.002, 0.016
    off = depth[cover_V] * _thickness(asset, outfit.folds)
    off[asset.vertex_kind == SKIRT] = 0.012
    off[(asset.vertex_kind == EYE) | (asset.vertex_kind == HAIR)] = 0
    return off


def folds(outfit: Outfit, points_N3: np.ndarray, cover_N: np.ndarray) -> np.ndarray:
    """Return what the folds of cloth add to unit normals.

    Args:
        outfit: the looks.
        points_N3: float [N, 3], template positions, meters.
        cover_N: uint8 [N], what covers the points (`cover`).

    Returns:
        float32 [N, 3], zero off cloth.
    """
    x, y, z = points_N3.T
    result = np.zeros_like(points_N3)
    cloth = (cover_N == TOP) | (cover_N == BOTTOM)
    across, along = (x + y)[cloth] * 2.2, z[cloth] * 1.1
    for axis in range(3):
        result[cloth, axis] = outfit.creased * (
            noise(outfit.folds + 4 + axis, across, along + 0.6 * axis * across) - 0.45
        )
    return result


def color(
    asset: Asset, outfit: Outfit, points_N3: np.ndarray, group_N: np.ndarray, cover_N: np.ndarray, lips_N: np.ndarray
) -> np.ndarray:
    """Return the color of points of the body, before lighting.

    Args:
        asset: the body.
        outfit: the looks.
        points_N3: float [N, 3], template positions, meters.
        group_N: int [N], limb groups.
        cover_N: uint8 [N], what covers the points (`cover`).
        lips_N: float [N] in 0..1, 1 on the lips.

    Returns:
        float32 [N, 3], RGB in 0..1.
    """
    marks = _landmarks(asset)
    x, y, z = points_N3.T
    red = 0.8 * lips_N[:, None]
    blotches = 0.92 + 0.16 * noise(outfit.folds + 3, x * 2, z * 2)
    result = outfit.skin * (blotches[:, None] * (1 - red) + red * np.array([0.85, 0.5, 0.5], np.float32))
    folds = 0.82 + 0.36 * noise(outfit.folds + 1, (x + y) * 1.3, z * 1.3)
    strands = 0.7 + 0.6 * noise(outfit.folds + 2, (x + y) * 7, z * 1.1)

    top = cover_N == TOP
    front = top & (y < marks.neck[1]) & (group_N == asset.group("torso"))
    for mask, pattern in ((top, outfit.top), (cover_N == BOTTOM, outfit.bottom)):
        if mask.any():
            result[mask] = pattern(points_N3[mask])
    if outfit.opening:
        result[front & (np.abs(x) < outfit.opening)] = outfit.inner
    if outfit.badge:
        result[front & (np.hypot(x, z - marks.chest[2]) < outfit.badge)] = outfit.inner
    cloth = top | (cover_N == BOTTOM)
    if outfit.belted:
        at_waist = np.abs(z - marks.hip - outfit.waist) < 0.018
        result[cloth & at_waist & (group_N == asset.group("torso"))] = outfit.belt
    result[cloth] *= folds[cloth, None]
    for what, paint in ((SHOE, outfit.shoe), (SOCK, outfit.sock), (HAT, outfit.hat)):
        result[cover_N == what] = paint
    hair = cover_N == SCALP
    result[hair] = outfit.hair * strands[hair, None]
    _face(
        marks,
        outfit,
        points_N3,
        (group_N == asset.group("head")) & (cover_N == BARE),
        cover_N == EYEBALL,
        lips_N,
        result,
    )
    return result


def _face(
    marks: _Landmarks, outfit: Outfit, points_N3: np.ndarray, face_N, eyes_N, lips_N, result_N3: np.ndarray
) -> None:
    """Paints irises, eyebrows and beard into the colors."""
    ahead, up = points_N3[:, 1] - marks.eye[1], points_N3[:, 2] - marks.eye[2]
    off_center = np.abs(points_N3[:, 0]) - marks.eye[0]
    round_eye = np.hypot(off_center, up)
    result_N3[eyes_N] = np.where(
        (round_eye < 0.003)[eyes_N, None],
        np.float32(0.02),
        np.where((round_eye < 0.0064)[eyes_N, None], outfit.iris, np.float32(0.9)),
    )
    result_N3[face_N & (np.abs(off_center) < 0.02) & (np.abs(up - 0.02) < 0.0035) & (ahead < 0)] = outfit.hair * 0.8
    if outfit.beard:
        beard = face_N & (up < -0.062 - 0.3 * np.clip(ahead, 0, 0.1)) & (up > -0.15) & (ahead < 0.07) & (lips_N < 0.3)
        result_N3[beard] = 0.6 * outfit.hair + 0.25 * result_N3[beard]
