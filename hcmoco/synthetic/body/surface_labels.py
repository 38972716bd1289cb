"""Labels of the body's surface: the 25 parts and the 24 DensePose charts, as functions of the place on the template.

They are evaluated at every pixel, on values interpolated from the triangle's corners, not at vertices. The limb of a
point is the largest of its interpolated group weights. Its place along the limb is its projection on the template's
bone. So borders are as crisp as the image, and shape and pose do not change a label.

The widths of the bands (how much of a thigh counts as knee) are our choice: Human3.6M publishes no definition. Charts
have the numbers of DensePose-COCO. Their parametrization is our own, so U and V are comparable between synthetic people
only:

    1, 2        torso back, front             U around it, V upwards
    3, 4        right, left hand              unwrapped, one island each
    5, 6        left, right foot              unwrapped
    7-10        upper leg: right back, left back, right front, left front        U around the bone, V along it
    11-14       lower leg, likewise
    15-18       upper arm: left inner, right inner, left outer, right outer      likewise
    19-22       lower arm, likewise
    23, 24      head: right, left half        U from the face to the back, V upwards

A mirror image of the body exchanges left and right charts and keeps U and V, except that the torso's U becomes 1 - U.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from hcmoco.data.body_parts import part
from hcmoco.synthetic.body.mesh import BODY, Asset

# bones at either end of each limb group; a limb's position runs 0..1 on the first bone of an arm or leg, 1..2 on the
# next, then 2..3
_BONES = {
    "thigh": ("upperleg01", "lowerleg01", 0),
    "calf": ("lowerleg01", "foot", 1),
    "foot": ("foot", "toe3-1", 2),
    "arm": ("upperarm01", "lowerarm01", 0),
    "fore": ("lowerarm01", "wrist", 1),
    "hand": ("wrist", "finger3-3", 2),
}
# parts along each limb group and the limb positions where they change
_BANDS = {
    "thigh": (("hip", "thigh", "knee"), (0.2, 0.83)),
    "calf": (("knee", "calf"), (1.17,)),
    "foot": (("foot",), ()),
    "arm": (("shoulder", "arm", "elbow"), (0.22, 0.8)),
    "fore": (("elbow", "forearm"), (1.2,)),
    "hand": (("hand",), ()),
}
_PELVIS_ABOVE_HIP = 0.09  # meters: the trunk below this height over the hip joints is crotch and hips
_CROTCH_SHARE = 0.75  # of the distance from the middle to a hip joint
_SHOULDER_RADIUS = 0.085  # meters of trunk around a shoulder joint
_HEAD_CENTER = 0.07  # meters above the head bone's joint

# (front or outer, back or inner) chart of the groups that are wrapped around a bone
_AROUND = {
    "torso": (2, 1),
    "thigh.R": (9, 7), "thigh.L": (10, 8), "calf.R": (13, 11), "calf.L": (14, 12),
    "arm.L": (17, 15), "arm.R": (18, 16), "fore.L": (21, 19), "fore.R": (22, 20),
}  # fmt: skip
_ISLANDS = {"hand.R": 3, "hand.L": 4, "foot.L": 5, "foot.R": 6}
_HEAD_CHARTS = (23, 24)  # right, left

CHART_FLIP = np.array(
    [0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23], np.uint8
)
CHART_FLIP.setflags(write=False)


def mirror_iuv(iuv: np.ndarray) -> np.ndarray:
    """Return the chart coordinates of the same places on the body's mirror image, as a horizontal flip needs them.

    Left and right charts are exchanged and keep U and V. The torso (charts 1, 2) is its own mirror image: U becomes 1 -
    U.

    Args:
        iuv: [..., 3], I in 0..24, U and V in 0..255 if uint8, else in 0..1. The caller flips the pixels themselves.

    Returns:
        An array of the same shape and dtype.
    """
    chart = iuv[..., 0].astype(np.int64)
    one = 255 if iuv.dtype == np.uint8 else 1
    u = np.where((chart == 1) | (chart == 2), one - iuv[..., 1], iuv[..., 1])
    return np.stack([CHART_FLIP[chart], u, iuv[..., 2]], axis=-1).astype(iuv.dtype)


@dataclass(frozen=True, eq=False)
class _Frames:
    """A row for each of the G limb groups. A frame is an origin and three unit vectors: rows along, front, side."""

    origin: np.ndarray  # [G, 3]
    axes: np.ndarray  # [G, 3, 3]
    position_start: np.ndarray  # [G], limb position at the origin
    position_rate: np.ndarray  # [G], limb position per meter along; 0 for torso and head
    bands: np.ndarray  # uint8 [G, 3], parts in order along the limb
    borders: np.ndarray  # [G, 2], limb positions between them; infinite where there are fewer parts
    low: np.ndarray  # [G], meters along the axis where V = 0
    rate: np.ndarray  # [G], V per meter
    charts: np.ndarray  # uint8 [G, 2], front and back chart, or right and left
    is_island: np.ndarray  # bool [G]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _frame(along: np.ndarray, towards: np.ndarray) -> np.ndarray:
    along = _unit(along)
    front = _unit(towards - along * (towards @ along))
    return np.stack([along, front, np.cross(along, front)])


@cache
def _frames(asset: Asset) -> _Frames:
    count = len(asset.group_names)
    origin, axes = np.zeros((count, 3)), np.zeros((count, 3, 3))
    start, rate = np.zeros(count), np.zeros(count)
    bands, borders = np.zeros((count, 3), np.uint8), np.full((count, 2), np.inf)
    charts, is_island = np.zeros((count, 2), np.uint8), np.zeros(count, bool)
    on_body = asset.vertex_kind == BODY
    owner = asset.label_groups.argmax(1)
    up, forward = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
    mirror = np.array([-1.0, 1, 1])

    for row, name in enumerate(asset.group_names):
        limb, _, side = name.partition(".")
        if name == "torso":
            middle = np.median(asset.template[on_body & (owner == row), 1])
            origin[row], axes[row], bands[row] = (0, middle, 0), _frame(up, forward), part("upper spine")
        elif name == "head":
            origin[row] = asset.template_heads[asset.bone("head")] + _HEAD_CENTER * up
            axes[row], bands[row] = _frame(up, forward), part("head")
        else:
            # the right side's frame is the mirror image of the left's, so that U and V are too
            first, last, start[row] = _BONES[limb]
            a, b = (asset.template_heads[asset.bone(bone + ".L")].astype(np.float64) for bone in (first, last))
            outwards = np.array([1.0, -0.3, 0.6]) if limb in ("arm", "fore", "hand") else forward
            reflect = mirror if side == "R" else 1
            origin[row], axes[row] = a * reflect, _frame(b - a, outwards) * reflect
            rate[row] = 1 / np.linalg.norm(b - a)
            parts, changes = _BANDS[limb]
            named = [part(f"{'left' if side == 'L' else 'right'} {name}") for name in parts]
            bands[row] = [*named, *[named[-1]] * (3 - len(named))]
            borders[row, : len(changes)] = changes
        is_island[row] = name in _ISLANDS
        charts[row] = _HEAD_CHARTS if name == "head" else _AROUND.get(name) or (_ISLANDS[name],) * 2

    low, high = np.zeros(count), np.ones(count)
    for row in range(count):
        along = (asset.template[on_body & (owner == row)] - origin[row]) @ axes[row, 0]
        low[row], high[row] = along.min(), along.max()
    single = np.float32
    return _Frames(
        origin.astype(single), axes.astype(single), start.astype(single), rate.astype(single), bands,
        borders.astype(single), low.astype(single), (1 / (high - low)).astype(single), charts, is_island,
    )  # fmt: skip


def _in_frame(frames: _Frames, points: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", frames.axes[group], points - frames.origin[group])


def limb_position(asset: Asset, points_N3: np.ndarray, groups_NG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the limb group of each surface point and its place along the limb.

    Args:
        asset: the body.
        points_N3: float [N, 3], template positions in meters, interpolated from `asset.template`.
        groups_NG: float [N, G], group weights interpolated from `asset.label_groups`.

    Returns:
        Group int64 [N], and position float32 [N]: 0 at the hip or shoulder joint, 1 at the knee or elbow, 2 at the
        ankle or wrist, 3 at the last joint of the toes or the middle finger, and a little beyond either end. It is 0 on
        torso and head.
    """
    frames = _frames(asset)
    group = groups_NG.argmax(1)
    along = np.einsum("ni,ni->n", frames.axes[group, 0], points_N3 - frames.origin[group])
    return group, frames.position_start[group] + along * frames.position_rate[group]


def _parts(asset: Asset, frames: _Frames, points: np.ndarray, group: np.ndarray, position: np.ndarray) -> np.ndarray:
    borders = frames.borders[group]
    parts = frames.bands[group, (position >= borders[:, 0]).astype(np.int8) + (position >= borders[:, 1])]
    trunk = np.flatnonzero(group == asset.group("torso"))
    x, y, z = points[trunk].T
    is_left, x = x > 0, np.abs(x)
    hip, shoulder = (asset.template_heads[asset.bone(name)] for name in ("upperleg01.L", "upperarm01.L"))
    label = np.where(z < asset.template_heads[asset.bone("spine02"), 2], part("lower spine"), part("upper spine"))
    pelvis = np.where(
        x < _CROTCH_SHARE * hip[0], part("crotch"), np.where(is_left, part("left hip"), part("right hip"))
    )
    label = np.where(z < hip[2] + _PELVIS_ABOVE_HIP, pelvis, label)
    from_shoulder = np.linalg.norm(np.stack([x, y, z], axis=1) - shoulder, axis=1)
    parts[trunk] = np.where(
        from_shoulder < _SHOULDER_RADIUS, np.where(is_left, part("left shoulder"), part("right shoulder")), label
    )
    return parts


def _charts(asset: Asset, frames: _Frames, local: np.ndarray, group: np.ndarray, islands: np.ndarray) -> np.ndarray:
    angle = np.arctan2(local[:, 2], local[:, 1])
    is_front = np.abs(angle) <= np.pi / 2
    # on the back half the angle is measured from the back, so that it does not jump in the middle of the chart
    from_middle = np.where(is_front, angle, angle - np.copysign(np.pi, angle))
    second = ~is_front
    u = from_middle / np.pi + 0.5
    v = (local[:, 0] - frames.low[group]) * frames.rate[group]
    on_head = group == asset.group("head")
    u = np.where(on_head, np.abs(angle) / np.pi, u)
    second = np.where(on_head, local[:, 2] > 0, second)
    uv = np.where(frames.is_island[group, None], islands, np.stack([u, v], axis=1))
    return np.concatenate(
        [frames.charts[group, second.astype(np.int8)][:, None], np.clip(uv, 0, 1)], axis=1, dtype=np.float32
    )


def surface_labels(
    asset: Asset, points_N3: np.ndarray, groups_NG: np.ndarray, islands_N2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return part and chart coordinates of N surface points, of body, eyes, hair and skirt alike.

    Args:
        asset: the body.
        points_N3: float [N, 3], template positions in meters, interpolated from `asset.template`.
        groups_NG: float [N, G], group weights interpolated from `asset.label_groups`.
        islands_N2: float [N, 2], interpolated from `asset.island_uv` at the face's corners.

    Returns:
        Parts uint8 [N], 1..24 (`hcmoco.data.body_parts`), and IUV float32 [N, 3]: chart 1..24, U and V in 0..1.
    """
    frames = _frames(asset)
    points = np.asarray(points_N3, np.float32)
    group = groups_NG.argmax(1)
    local = _in_frame(frames, points, group)
    position = frames.position_start[group] + local[:, 0] * frames.position_rate[group]
    return _parts(asset, frames, points, group, position), _charts(asset, frames, local, group, islands_N2)
