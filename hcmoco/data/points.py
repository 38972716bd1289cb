"""Points of a depth crop: which pixels become points, and the rays through them.

Depth and the row's own camera give points in meters. The frame is that of the camera, turned and mirrored about the
optical axis as the crop is: x to the right and y down in the crop, z forward. That is what a camera sees that was
rolled, or looks into a mirror, so distances stay what they are, and a mirrored person's left arm is at the left.

Shapes: S side of the crop, N points, P anchors, 23 a 2 x 3 matrix. `rays_23` maps x, y in pixels of the crop (a pixel's
center is at +0.5) to x / z, y / z: the slopes of the ray through it.
"""

import numpy as np

from hcmoco.data.schema import MAP_STRIDE
from hcmoco.errors import UserError


def require_camera(row: dict) -> np.ndarray:
    """Return float64 [4], fx, fy, cx, cy in pixels of the row's image.

    Args:
        row: of `person_schema`, with depth.

    Raises:
        UserError: it has no camera, or one whose focal lengths are not above 0.
    """
    if row.get("camera") is None:
        raise UserError(
            f"record {row.get('id')!r} has depth and no camera: points need fx, fy, cx, cy of each depth picture; "
            "prepare the data set with its intrinsics, or take an encoder of pictures (name=hrnet_w18)"
        )
    camera_4 = np.asarray(row["camera"], np.float64)
    if not (camera_4.shape == (4,) and np.isfinite(camera_4).all() and (camera_4[:2] > 0).all()):
        raise UserError(
            f"record {row.get('id')!r}: its camera is {camera_4.tolist()}; fx and fy are pixels above 0, cx and cy "
            "pixels; prepare the data set again with its intrinsics"
        )
    return camera_4


def crop_rays(camera_4: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """Return float64 [2, 3]: the rays through the pixels of a crop.

    Args:
        camera_4: fx, fy, cx, cy in pixels of the row's image.
        matrix_23: the row's image to the crop, pixels. What of it turns and mirrors does so to the rays; what of it
            scales or moves only changes which pixel sees which ray.
    """
    to_image = np.linalg.inv(np.vstack([matrix_23, [0, 0, 1]]))[:2]
    slopes_23 = (to_image - np.outer(camera_4[2:], [0, 0, 1])) / camera_4[:2, None]
    return crop_turn(matrix_23) @ slopes_23


def crop_turn(matrix_23: np.ndarray) -> np.ndarray:
    """Return float64 [2, 2]: the turn and the mirror of a crop, which points of the camera's frame make with it.

    It is the orthogonal matrix that is nearest to the crop's: of a crop that is turned, mirrored and scaled exactly the
    turn and the mirror.
    """
    left, _, right = np.linalg.svd(np.asarray(matrix_23, np.float64)[:, :2])
    return left @ right


def draw_points(
    depth_SS: np.ndarray,
    num_points: int,
    num_anchors: int,
    rng: np.random.Generator,
    *,
    among_G: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the points of a crop, and the positions at which they are compared with the RGB map.

    Args:
        depth_SS: uint16, 0 = no reading.
        num_points: N.
        num_anchors: P, at most N.
        rng: source of the draws.
        among_G: bool [(S / 4)²], cells that may be anchors; None: all.

    Returns:
        points: int64 [N], pixels with a reading, row * S + column, in random order. All are distinct, or each pixel is
            there at least once where the crop has fewer than N. All -1 in a crop without a reading.
        anchors: int64 [P], distinct cells of the stride-4 map, row * (S // 4) + column; the i-th is the cell of the
            i-th point. -1 where the points lie in fewer than P such cells.
    """
    pixels = np.flatnonzero(depth_SS)
    if not len(pixels):
        return np.full(num_points, -1, np.int64), np.full(num_anchors, -1, np.int64)
    if len(pixels) >= num_points:
        points = rng.choice(pixels, num_points, replace=False)
    else:
        points = np.concatenate([rng.permutation(pixels), rng.choice(pixels, num_points - len(pixels))])
    side = depth_SS.shape[1]
    cells = points // side // MAP_STRIDE * (side // MAP_STRIDE) + points % side // MAP_STRIDE
    first = np.sort(np.unique(cells, return_index=True)[1])
    first = (first if among_G is None else first[among_G[cells[first]]])[:num_anchors]
    points = np.concatenate([points[first], np.delete(points, first)])
    anchors = np.concatenate([cells[first], np.full(num_anchors - len(first), -1)])
    return points.astype(np.int64), anchors.astype(np.int64)
