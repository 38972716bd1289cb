"""A room whose depth is known in closed form, seen by two cameras: what registration must give."""

import numpy as np

from hcmoco.datasets.cameras.camera import Camera
from hcmoco.datasets.cameras.registration import Rig

# Millimeters, in the depth camera's coordinates: a slanted wall, a floor, and a person-sized box in front of them.
PLANES = ((np.array([0.15, 0.0, -1.0]), -3000.0), (np.array([0.0, 1.0, 0.0]), 900.0))  # normal, offset: n p = d
BOX = np.array([[-250.0, -700.0, 1800.0], [250.0, 900.0, 2100.0]])
FAR = 1e9


def turned(degrees_x: float, degrees_y: float, degrees_z: float) -> np.ndarray:
    """The rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, degrees in enumerate((degrees_x, degrees_y, degrees_z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        result = turn @ result
    return result


def hit(origin: np.ndarray, directions_N3: np.ndarray) -> np.ndarray:
    """Distances to the first surface along rays from `origin`, in lengths of the direction; FAR without one."""
    distance = np.full(len(directions_N3), FAR)
    with np.errstate(divide="ignore", invalid="ignore"):
        for normal, offset in PLANES:
            t = (offset - normal @ origin) / (directions_N3 @ normal)
            distance = np.where((t > 1e-6) & (t < distance), t, distance)
        near, far = np.sort((BOX[:, None] - origin) / directions_N3, axis=0)
        enter, leave = near.max(1), far.min(1)
        distance = np.where((enter > 1e-6) & (enter <= leave) & (enter < distance), enter, distance)
    return distance


def pixels(camera: Camera) -> np.ndarray:
    """float64 [H W, 2]: all pixel centers."""
    y, x = np.mgrid[: camera.height, : camera.width].astype(float)
    return np.column_stack([x.ravel(), y.ravel()])


def seen_by_depth(rig: Rig) -> np.ndarray:
    """float64 [H, W], millimeters: what the depth camera measures."""
    rays = rig.depth.rays(pixels(rig.depth))
    z = hit(np.zeros(3), np.column_stack([rays, np.ones(len(rays))]))
    return np.where(np.isfinite(rays).all(1) & (z < FAR), z, 0).reshape(rig.depth.height, rig.depth.width)


def seen_by_color(rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """float64 [h, w] millimeters along the color camera's axis; bool [h, w]: the depth camera sees that point, too."""
    rotation, translation = np.array(rig.rotation).reshape(3, 3), np.array(rig.translation_mm)
    rays = rig.color.rays(pixels(rig.color))
    directions = np.column_stack([rays, np.ones(len(rays))]) @ rotation
    origin = -rotation.T @ translation
    z = hit(origin, directions)
    points = origin + directions * z[:, None]
    xy = rig.depth.project(points)
    with np.errstate(invalid="ignore", divide="ignore"):
        first = hit(np.zeros(3), points / points[:, 2:])
        inside = ((xy > -0.5) & (xy < (rig.depth.width - 0.5, rig.depth.height - 0.5))).all(1)
        seen = inside & (np.abs(first - points[:, 2]) < 1e-3 * points[:, 2])
    shape = rig.color.height, rig.color.width
    return np.where(z < FAR, z, 0).reshape(shape), seen.reshape(shape)
