"""A camera with a lens: where a point in space is seen, and from which direction a pixel sees.

Coordinates here are those of calibrations (OpenCV, RealSense, Azure Kinect): x, y in pixels with the center of the
first pixel at 0, 0; in space x right, y down, z forward. Records count from the pixel's corner: see `record_camera`.

Distortion is Brown and Conrady's, in the order of OpenCV: k1, k2, p1, p2, k3, k4, k5, k6. With x, y = X/Z, Y/Z and
r2 = x x + y y:

    radial = (1 + k1 r2 + k2 r2^2 + k3 r2^3) / (1 + k4 r2 + k5 r2^2 + k6 r2^3)
    brown-conrady           x' = x radial + 2 p1 x y + p2 (r2 + 2 x x),  y' = y radial + p1 (r2 + 2 y y) + 2 p2 x y
    modified-brown-conrady  the same with the p terms of x radial, y radial; r2 stays

References: OpenCV, "Camera Calibration and 3D Reconstruction" (docs.opencv.org, calib3d); the modified form is what
librealsense computes for "Modified" and "Inverse Brown Conrady" (include/librealsense2/rsutil.h,
github.com/IntelRealSense/librealsense); Azure Kinect's model is the rational one of 8 parameters (k4atypes.h,
github.com/microsoft/Azure-Kinect-Sensor-SDK).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

DistortionModel = Literal["none", "brown-conrady", "modified-brown-conrady"]
_ROUNDS = 40
_CONVERGED = 1e-5  # of the image plane at distance 1; a hundredth of a pixel at a focal length of 1000
# A lens model is fitted to what the camera sees. Beyond that its polynomial may bend back, and far points land inside.
_FOLDS = 1e-3


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with distortion.

    Attributes:
        width, height: pixels.
        fx, fy, cx, cy: pixels; the center of the first pixel is 0, 0.
        model: of the distortion.
        distortion: 0, 4, 5 or 8 numbers, k1, k2, p1, p2, k3, k4, k5, k6.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: DistortionModel = "none"
    distortion: tuple[float, ...] = ()

    @property
    def record_camera(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy as records have them: counted from the corner of the first pixel, whose center is 0.5, 0.5."""
        return self.fx, self.fy, self.cx + 0.5, self.cy + 0.5

    def project(self, xyz_N3: np.ndarray) -> np.ndarray:
        """Return float64 [N, 2], where points in front of the camera are seen; NaN for points that the lens cannot see.

        Args:
            xyz_N3: float64 [N, 3], in any unit.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            plane = xyz_N3[:, :2] / np.where(xyz_N3[:, 2:] > 0, xyz_N3[:, 2:], np.nan)
        return self._distorted(plane) * (self.fx, self.fy) + (self.cx, self.cy)

    def rays(self, xy_N2: np.ndarray) -> np.ndarray:
        """Return float64 [N, 2], X/Z and Y/Z of what pixels see; NaN where no direction is seen there."""
        target = (xy_N2 - (self.cx, self.cy)) / (self.fx, self.fy)
        if not any(self.distortion):
            return target
        # Newton's method, with the derivative by differences: fixed points alone diverge at wide angles.
        plane, step = target.copy(), 1e-6
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for _ in range(_ROUNDS):
                miss = self._polynomial(plane) - target
                if np.nanmax(np.abs(miss), initial=0) < 1e-12:
                    break
                dx = (self._polynomial(plane + np.array([step, 0])) - self._polynomial(plane - np.array([step, 0]))) / (
                    2 * step
                )
                dy = (self._polynomial(plane + np.array([0, step])) - self._polynomial(plane - np.array([0, step]))) / (
                    2 * step
                )
                det = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
                move = np.column_stack(
                    [dy[:, 1] * miss[:, 0] - dy[:, 0] * miss[:, 1], dx[:, 0] * miss[:, 1] - dx[:, 1] * miss[:, 0]]
                )
                plane = plane - np.clip(move / det[:, None], -0.5, 0.5)
            plane[~(np.abs(self._distorted(plane) - target) < _CONVERGED).all(1)] = np.nan
        return plane

    def _distorted(self, plane_N2: np.ndarray) -> np.ndarray:
        """`_polynomial`, NaN beyond the angle at which it begins to bend back."""
        bent = self._polynomial(plane_N2)
        radius = np.hypot(*plane_N2.T)
        bent[radius > _largest_radius(self.model, self.distortion)] = np.nan
        return bent

    def _polynomial(self, plane_N2: np.ndarray) -> np.ndarray:
        if not any(self.distortion):
            return plane_N2.copy()
        _, _, p1, p2 = (*self.distortion, 0, 0, 0, 0)[:4]
        x, y = plane_N2.T
        r2 = x * x + y * y
        radial = _radial(r2, self.distortion)
        u, v = x * radial, y * radial
        a, b = (u, v) if self.model == "modified-brown-conrady" else (x, y)
        return np.column_stack([u + 2 * p1 * a * b + p2 * (r2 + 2 * a * a), v + p1 * (r2 + 2 * b * b) + 2 * p2 * a * b])


def _radial(r2: np.ndarray, distortion: tuple[float, ...]) -> np.ndarray:
    k1, k2, _, _, k3, k4, k5, k6 = (*distortion, *[0.0] * 8)[:8]
    return (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))


@lru_cache(maxsize=16)
def _largest_radius(model: DistortionModel, distortion: tuple[float, ...]) -> float:
    """The tangent of the angle from the axis up to which a larger angle is seen further out."""
    if model == "none" or not any(distortion):
        return np.inf
    radius = np.linspace(0, 4, 4001)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = radius * _radial(radius * radius, distortion)
    back = np.flatnonzero(~(np.diff(seen) > _FOLDS * np.diff(radius)))
    return float(radius[back[0]]) if len(back) else np.inf


@lru_cache(maxsize=8)
def pixel_rays(camera: Camera) -> np.ndarray:
    """Return float64 [H, W, 3, 2], read-only: X/Z and Y/Z seen by each pixel's center, and half a pixel right and down.

    Solving the lens for every pixel takes longer than registering a picture, and is the same for all of a recording.
    """
    y, x = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    center = np.stack([x, y], -1)
    points = np.stack([center, center + np.array([0.5, 0]), center + np.array([0, 0.5])], 2)
    rays = camera.rays(points.reshape(-1, 2)).reshape(points.shape)
    rays.flags.writeable = False
    return rays
