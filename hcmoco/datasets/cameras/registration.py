"""See a depth picture from the color camera: registration with known lenses and a known place of the two cameras.

Each reading is a small square of surface, as large as the depth camera's pixel at its distance. It covers the pixels of
the color picture whose centers are inside the square as the color camera sees it; where squares overlap the nearest
wins (a z-buffer). So a coarse depth camera leaves no grid of holes in a fine color picture, nothing behind a person
shines through, and no value between two surfaces is made up. What the depth camera did not see stays a hole: pixels
without a reading, and the shadow beside a person.

NTU RGB+D is registered elsewhere (datasets/ntu/registration.py): its cameras are not calibrated, so there the
transform is fitted to joints, and the color picture is warped to the depth picture.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.datasets.cameras.camera import Camera, pixel_rays

# On a slanted surface neighboring squares part by a fraction of a pixel: so that it is not torn, they are this larger.
_OVERLAP = 0.15
_MOST_PIXELS = 24  # a side: a square that covers more is too near, or its camera is not that of the picture
_NEAREST_MM = 20.0  # of the color camera; what is nearer is a wrong reading


@dataclass(frozen=True)
class Rig:
    """Two cameras that are fixed to each other.

    Attributes:
        depth, color: the cameras.
        rotation: 9 numbers, row by row: the axes of the depth camera as the color camera sees them.
        translation_mm: where the depth camera is in the color camera's coordinates, millimeters. A point p of the depth
            camera is rotation p + translation for the color camera.
    """

    depth: Camera
    color: Camera
    rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


def register_depth(depth_HW: np.ndarray, rig: Rig) -> np.ndarray:
    """Return what the color camera would measure.

    Args:
        depth_HW: millimeters along the depth camera's axis, 0 = no reading; of the depth camera's size.
        rig: the cameras.

    Returns:
        float64 of the color camera's size: millimeters along the color camera's axis, 0 = no reading.

    Raises:
        ValueError: the picture is not of the depth camera's size.
    """
    if depth_HW.shape != (rig.depth.height, rig.depth.width):
        raise ValueError(
            f"the depth picture is {depth_HW.shape[1]} x {depth_HW.shape[0]} pixels, "
            f"its camera {rig.depth.width} x {rig.depth.height}"
        )
    rotation, translation = np.array(rig.rotation).reshape(3, 3), np.array(rig.translation_mm)
    rows, columns = np.nonzero(depth_HW > 0)
    z = depth_HW[rows, columns].astype(np.float64)
    rays_N32 = pixel_rays(rig.depth)[rows, columns]

    def seen(which: int) -> tuple[np.ndarray, np.ndarray]:
        xyz = np.column_stack([rays_N32[:, which] * z[:, None], z]) @ rotation.T + translation
        return rig.color.project(xyz), xyz[:, 2]

    center, near = seen(0)
    right, down = seen(1)[0] - center, seen(2)[0] - center
    whole = np.isfinite(center).all(1) & np.isfinite(right).all(1) & np.isfinite(down).all(1) & (near > _NEAREST_MM)
    # From far to near: of several values for one pixel the last one stays.
    order = np.flatnonzero(whole)
    order = order[np.argsort(-near[order], kind="stable")]
    return _splat(center[order], right[order], down[order], near[order], rig.color.width, rig.color.height)


def _splat(
    center_N2: np.ndarray, right_N2: np.ndarray, down_N2: np.ndarray, z_N: np.ndarray, width: int, height: int
) -> np.ndarray:
    """Draw parallelograms center +- right +- down, nearer ones over farther ones."""
    result = np.full(height * width, np.inf)
    reach = (np.abs(right_N2) + np.abs(down_N2)) * (1 + _OVERLAP)
    first = np.ceil(center_N2 - reach)
    counts = np.floor(center_N2 + reach) - first + 1
    drawn = (reach <= _MOST_PIXELS / 2).all(1) & (counts > 0).all(1)
    det = right_N2[:, 0] * down_N2[:, 1] - right_N2[:, 1] * down_N2[:, 0]
    drawn &= np.abs(det) > 0
    drawn &= (first < (width, height)).all(1) & (first + counts > 0).all(1)
    center, right, down, z, first, counts, det = (
        each[drawn] for each in (center_N2, right_N2, down_N2, z_N, first, counts, det)
    )
    most_x, most_y = counts.max(0, initial=0).astype(int)
    for i in range(most_x):
        for j in range(most_y):
            at = np.flatnonzero((counts[:, 0] > i) & (counts[:, 1] > j))
            pixel = first[at] + (i, j)
            off = pixel - center[at]
            a = (off[:, 0] * down[at, 1] - off[:, 1] * down[at, 0]) / det[at]
            b = (right[at, 0] * off[:, 1] - right[at, 1] * off[:, 0]) / det[at]
            inside = (np.abs(a) <= 1 + _OVERLAP) & (np.abs(b) <= 1 + _OVERLAP)
            inside &= (pixel >= 0).all(1) & (pixel < (width, height)).all(1)
            index = (pixel[inside, 1] * width + pixel[inside, 0]).astype(int)
            nearer = z[at[inside]] < result[index]
            result[index[nearer]] = z[at[inside]][nearer]
    return np.where(np.isfinite(result), result, 0.0).reshape(height, width)
