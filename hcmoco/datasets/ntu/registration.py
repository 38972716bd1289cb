"""Fit the transform from the depth to the color picture to joints whose positions in both are known.

The two cameras of a Kinect are about 5 cm apart, so one plane-to-plane transform is right at one distance only: between
2 and 4 meters the pictures shift by about 5 pixels of depth against each other. The model is therefore a homography and
a shift in proportion to 1 / distance,

    color ~ A [x, y, 1] + b / z,        A: 3 x 3,  b: 3,  z: meters along the depth camera's axis

which is exact for two pinhole cameras. A frame is warped by its homography at the person's distance. If the pairs do
not need that many parameters (Bayesian information criterion), b is 0, or the transform is affine.

Coordinates count from 0 at the center of the first pixel, in mirrored pictures, as Kinect's do.
Shapes: N pairs. References: R. Hartley and A. Zisserman, Multiple View Geometry, 2nd edition, sections 4.1, 8.4 and 13;
J. W. Tukey's biweight.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcmoco.datasets.ntu.config import COLOR_HEIGHT, COLOR_WIDTH, HEIGHT, WIDTH
from hcmoco.rng import make_rng

MIN_PAIRS = 24
"""Joints of one body in one frame, less one that is not seen."""
_RANSAC_PIXELS = 4.0  # of the depth picture; what distance shifts a joint within a room is less
_RANSAC_PAIRS = 5000
_ROUNDS = 60
_TUKEY = 4.685  # standard deviations; 95 % of the efficiency of least squares on normal errors
_NOISE = 0.02  # depth pixels; finer residuals are rounding
# Columns of the linear system below: two rows of [x, y, 1, q], then x, y and q of the third.
_MODELS = {
    "affine": [0, 1, 2, 4, 5, 6],
    "homography": [0, 1, 2, 4, 5, 6, 8, 9],
    "homography and parallax": list(range(11)),
}


@dataclass(frozen=True)
class Fit:
    """A transform and how well it fits.

    Attributes:
        model: key of _MODELS.
        matrix: float64 [3, 4], [A | b].
        residuals: float64 [N], distance of each pair, in pixels of the depth picture.
        inliers: bool [N], pairs that took part in the fit.
    """

    model: str
    matrix: np.ndarray
    residuals: np.ndarray
    inliers: np.ndarray


def project(matrix_34: np.ndarray, depth_N2: np.ndarray, z_N: np.ndarray) -> np.ndarray:
    """Return the positions in the color picture of points of the depth picture.

    Args:
        matrix_34: float64 [3, 4], the transform.
        depth_N2: float64 [N, 2], pixels of the depth picture.
        z_N: float64 [N], distances, meters.

    Returns:
        float64 [N, 2], pixels of the color picture; NaN behind the camera.
    """
    flat = np.column_stack([depth_N2, np.ones(len(depth_N2)), 1 / z_N]) @ matrix_34.T
    return flat[:, :2] / np.where(flat[:, 2:] > 0, flat[:, 2:], np.nan)


def at_distance(matrix_34: np.ndarray, z: float) -> np.ndarray:
    """Return the homography from the depth to the color picture at a distance of `z` meters, float64 [3, 3]."""
    plane = matrix_34[:, :3].copy()
    plane[:, 2] += matrix_34[:, 3] / z
    return plane


def magnification(matrix_34: np.ndarray, z: float) -> float:
    """Return the pixels of the color picture per pixel of the depth picture, in its middle at distance `z` meters.

    Raises:
        ValueError: the transform mirrors or collapses the picture there.
    """
    x, y = WIDTH / 2, HEIGHT / 2
    a, b, c = project(matrix_34, np.array([[x, y], [x + 1, y], [x, y + 1]]), np.full(3, z))
    area = float((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0])
    if not area > 0:
        raise ValueError("the transform turns the picture over")
    return area**0.5


def fit(depth_N2: np.ndarray, z_N: np.ndarray, color_N2: np.ndarray) -> Fit:
    """Fit the transform to pairs, of which up to a third may be wrong.

    RANSAC is followed by reweighted least squares with Tukey's biweight.

    Args:
        depth_N2: float64 [N, 2], pixels of the depth picture, finite.
        z_N: float64 [N], meters, above 0.
        color_N2: float64 [N, 2], pixels of the color picture, finite.

    Raises:
        ValueError: there are fewer than MIN_PAIRS pairs, or they lie in a line or determine no transform.
    """
    count = len(depth_N2)
    if count < MIN_PAIRS:
        raise ValueError(f"there are {count} joint pairs, at least {MIN_PAIRS} are needed")
    to_unit, from_unit = _scaling(WIDTH, HEIGHT), np.linalg.inv(_scaling(COLOR_WIDTH, COLOR_HEIGHT))
    xy = depth_N2 * to_unit[[0, 1], [0, 1]] + to_unit[:2, 2]
    target = color_N2 / from_unit[[0, 1], [0, 1]] - from_unit[:2, 2] / from_unit[[0, 1], [0, 1]]
    middle = float(np.median(1 / z_N))
    basis_N4 = np.column_stack([xy, np.ones(count), 1 / z_N - middle])
    start = _consensus(xy, target)
    # The model of the most parameters goes first: its noise is the measure for the others.
    fits, noise = {}, 0.0
    for model, columns in reversed(_MODELS.items()):
        matrix, distance = _reweighted(basis_N4, target, start, columns)
        unit = float(_unit(matrix))
        noise = noise or max(1.4826 * float(np.median(distance)) / unit, _NOISE)
        loss = float(_tukey_loss(distance / (unit * noise)).sum())
        fits[model] = (2 * loss + len(columns) * np.log(2 * count), matrix, distance / unit)
    model = min(_MODELS, key=lambda each: fits[each][0])
    _, matrix, residuals = fits[model]
    denormalized = from_unit @ matrix @ np.block([[to_unit, np.zeros((3, 1))], [0, 0, -middle, 1]])
    limit = _TUKEY * max(1.4826 * float(np.median(residuals)), _NOISE)
    return Fit(model, denormalized / np.abs(denormalized[2]).max(), residuals, residuals <= limit)


def _scaling(width: int, height: int) -> np.ndarray:
    """Pixels to about -1..1."""
    return np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1]])


def _unit(matrix_34: np.ndarray) -> float:
    """Length in the target of one depth pixel, both in units of `_scaling`."""
    return 2 / WIDTH * max(float(np.abs(np.linalg.det(matrix_34[:2, :2]))) ** 0.5 / abs(matrix_34[2, 2]), 1e-6)


def _consensus(xy_N2: np.ndarray, target_N2: np.ndarray) -> np.ndarray:
    """A first homography [3, 4]. OpenCV always seeds its RANSAC with the same number."""
    some = np.linspace(0, len(xy_N2) - 1, min(len(xy_N2), _RANSAC_PAIRS)).astype(int)
    spread = np.linalg.svd(xy_N2[some] - xy_N2[some].mean(0), compute_uv=False) / len(some) ** 0.5
    if spread[1] < 4 * 2 / WIDTH:
        raise ValueError("the joints lie in a line; they determine no transform")
    guess = 2 / WIDTH * COLOR_HEIGHT / COLOR_WIDTH  # about what a depth pixel is in the color picture
    found, _ = cv2.findHomography(
        xy_N2[some], target_N2[some], cv2.RANSAC, _RANSAC_PIXELS * guess, maxIters=4000, confidence=0.9999
    )
    if found is None or not np.isfinite(found).all() or abs(found[2, 2]) < 1e-6:
        raise ValueError("no transform takes the joints of the depth picture to those of the color picture")
    return np.column_stack([found / found[2, 2], np.zeros(3)])


def _reweighted(
    basis_N4: np.ndarray, target_N2: np.ndarray, start: np.ndarray, columns: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix [3, 4], with entry [2, 2] = 1, that minimizes Tukey's loss of the distances, and the distances."""
    count = len(basis_N4)
    design = np.zeros((2, count, 11))
    design[0, :, 0:4] = design[1, :, 4:8] = basis_N4
    design[:, :, 8:11] = -target_N2.T[:, :, None] * basis_N4[:, [0, 1, 3]]
    design = design[:, :, columns]
    matrix, distance = start, _distances(basis_N4, target_N2, start)
    for _ in range(_ROUNDS):
        scale = max(1.4826 * float(np.median(distance)), _NOISE * _unit(matrix))
        below = basis_N4 @ matrix[2]
        weight = np.maximum(1 - (distance / (_TUKEY * scale)) ** 2, 0) / np.where(np.abs(below) > 1e-3, below, np.inf)
        weighted = (design * weight[None, :, None]).reshape(2 * count, -1)
        normal, right = weighted.T @ weighted, weighted.T @ (target_N2.T * weight).ravel()
        solution = np.zeros(11)
        # Least norm where the pairs do not tell parameters apart, as at one distance only.
        solution[columns] = np.linalg.lstsq(normal, right, rcond=1e-13)[0]
        matrix = np.array([solution[:4], solution[4:8], [solution[8], solution[9], 1, solution[10]]])
        before, distance = distance, _distances(basis_N4, target_N2, matrix)
        if np.abs(distance - before).max() < 1e-9:
            break
    return matrix, distance


def _distances(basis_N4: np.ndarray, target_N2: np.ndarray, matrix_34: np.ndarray) -> np.ndarray:
    """float64 [N]; a large number for points behind the camera."""
    flat = basis_N4 @ matrix_34.T
    front = flat[:, 2] > 1e-3
    shift = flat[:, :2] / np.where(front, flat[:, 2], 1)[:, None] - target_N2
    return np.where(front, np.minimum(np.hypot(*shift.T), 1e3), 1e3)


def _tukey_loss(residual_N: np.ndarray) -> np.ndarray:
    """Tukey's loss of residuals in standard deviations: half their square near 0, flat beyond _TUKEY of them."""
    return _TUKEY**2 / 6 * (1 - np.maximum(1 - (residual_N / _TUKEY) ** 2, 0) ** 3)


def fit_camera(xyz_N3: np.ndarray, depth_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the depth camera to joints in space: x = cx + fx X / Z and y = cy - fy Y / Z.

    Args:
        xyz_N3: float64 [N, 3], meters, Z above 0.
        depth_N2: float64 [N, 2], pixels of the mirrored depth picture.

    Returns:
        fx, fy, cx, cy, and the residuals [N] in pixels.

    Raises:
        ValueError: there are too few pairs, or the joints do not spread in x or in y.
    """
    if len(xyz_N3) < MIN_PAIRS:
        raise ValueError(f"there are {len(xyz_N3)} joints with positions in space, at least {MIN_PAIRS} are needed")
    fx, cx = _line(xyz_N3[:, 0] / xyz_N3[:, 2], depth_N2[:, 0])
    fy, cy = _line(-xyz_N3[:, 1] / xyz_N3[:, 2], depth_N2[:, 1])
    if fx <= 0 or fy <= 0:
        raise ValueError("joints further to the right or lower in space do not lie so in the depth picture")
    camera = np.array([fx, fy, cx, cy])
    return camera, np.hypot(*(project_camera(camera, xyz_N3) - depth_N2).T)


def project_camera(camera: np.ndarray, xyz_N3: np.ndarray) -> np.ndarray:
    """Project points in Kinect's camera space [N, 3] to pixels of the mirrored depth picture, float64 [N, 2]."""
    fx, fy, cx, cy = camera
    return np.column_stack([cx + fx * xyz_N3[:, 0] / xyz_N3[:, 2], cy - fy * xyz_N3[:, 1] / xyz_N3[:, 2]])


def _line(a_N: np.ndarray, b_N: np.ndarray) -> tuple[float, float]:
    """Slope and offset of b over a: the best of 256 lines through two points (least median), then as `_reweighted`."""
    rng = make_rng(0, "ntu line", len(a_N))
    i, j = rng.integers(len(a_N), size=(2, 256))
    apart = np.abs(a_N[i] - a_N[j]) > 0.02
    if not apart.any():
        raise ValueError("the joints do not spread over the picture; they determine no camera")
    i, j = i[apart], j[apart]
    slope = (b_N[i] - b_N[j]) / (a_N[i] - a_N[j])
    some = rng.integers(len(a_N), size=2000)
    misses = np.abs(b_N[some] - (b_N[i] + slope * (a_N[some, None] - a_N[i])).T)
    best = int(np.median(misses, axis=1).argmin())
    line = np.array([slope[best], b_N[i[best]] - slope[best] * a_N[i[best]]])
    design = np.column_stack([a_N, np.ones(len(a_N))])
    for _ in range(_ROUNDS):
        miss = np.abs(design @ line - b_N)
        weight = np.maximum(1 - (miss / (_TUKEY * max(1.4826 * float(np.median(miss)), _NOISE))) ** 2, 0)
        before, line = line, np.linalg.lstsq(design * weight[:, None], b_N * weight, rcond=None)[0]
        if np.abs(line - before).max() < 1e-9:
            break
    return float(line[0]), float(line[1])
