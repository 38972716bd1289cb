"""Cameras, and the simple solids that surroundings are built from.

World axes: meters, x right, y away from the camera, z up, the floor at z = 0. Camera axes: x right, y down, z forward.
Shape legend: V vertices, F triangles, N points.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from hcmoco.synthetic.scene.materials import Surface
from hcmoco.synthetic.vectors import cross, norm


def turned(points_N3: np.ndarray, rotation_33: np.ndarray) -> np.ndarray:
    """Return `points_N3 @ rotation_33.T`, with the same bits for any number of threads, which BLAS does not promise."""
    a, (x, y, z) = rotation_33.astype(points_N3.dtype), points_N3.T
    return (x * a[:, 0, None] + y * a[:, 1, None] + z * a[:, 2, None]).T


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: float32 [3], world, meters.
        axes: float32 [3, 3], rows are the camera's x, y, z in world axes.
        fx, fy, cx, cy: pixels of the rendered image; the center of a pixel is at +0.5.
    """

    position: np.ndarray
    axes: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def look_at(cls, position: np.ndarray, target: np.ndarray, roll: float, focal: float) -> "Camera":
        """Return a camera at `position` that looks at `target`, with its principal point at (0, 0).

        Args:
            position: [3], world, meters.
            target: [3], world, meters.
            roll: rotation about the optical axis, radians.
            focal: focal length, pixels.
        """
        forward = np.subtract(target, position)
        forward = forward / norm(forward)
        right = cross(forward, np.array([0.0, 0.0, 1.0]))
        right /= norm(right)
        right = np.cos(roll) * right + np.sin(roll) * cross(right, forward)
        axes = np.stack([right, cross(forward, right), forward])
        return cls(np.asarray(position, np.float32), axes.astype(np.float32), focal, focal, 0.0, 0.0)

    def zoomed(self, x0: float, y0: float, scale: float) -> "Camera":
        """Return the camera of the image that is cropped at (x0, y0), in pixels, and then enlarged by `scale`."""
        return Camera(
            self.position, self.axes, self.fx * scale, self.fy * scale, (self.cx - x0) * scale, (self.cy - y0) * scale
        )

    def to_camera(self, points_N3: np.ndarray) -> np.ndarray:
        """Return world points [N, 3] in camera axes, meters."""
        return turned(points_N3 - self.position, self.axes)

    def project(self, points_N3: np.ndarray) -> np.ndarray:
        """Return the pixels [N, 2] of points [N, 3] in camera axes."""
        return points_N3[:, :2] / points_N3[:, 2:] * (self.fx, self.fy) + (self.cx, self.cy)

    def rays(self, rows: slice, columns: slice) -> np.ndarray:
        """Return rays through the centers of the pixels of the given rows and columns, row by row.

        Returns:
            float32 [N, 3], world directions. Depth along the optical axis is the parameter of the ray.
        """
        y = (np.arange(rows.start, rows.stop, rows.step or 1, dtype=np.float32) + 0.5 - self.cy) / self.fy
        x = (np.arange(columns.start, columns.stop, columns.step or 1, dtype=np.float32) + 0.5 - self.cx) / self.fx
        right, down, forward = self.axes[:, :, None, None]
        return (x * right + (y[:, None] * down + forward)).reshape(3, -1).T


def turn(angle: float) -> np.ndarray:
    """Return the rotation by `angle` radians about the vertical axis, float64 [3, 3]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def tilt(angle: float) -> np.ndarray:
    """Return the rotation by `angle` radians about x, float64 [3, 3]."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@cache
def _unit_box() -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) / 2
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)


@cache
def _unit_ball(rings: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball of diameter 1; two rings make a cylinder without lids."""
    angles = 2 * np.pi * np.arange(sectors) / sectors
    if rings == 2:
        profile = [(0.5, -0.5), (0.5, 0.5)]
    else:
        polar = np.linspace(0, np.pi, rings)
        profile = list(zip(0.5 * np.sin(polar), -0.5 * np.cos(polar), strict=True))
    points = np.array([[r * np.cos(a), r * np.sin(a), z] for r, z in profile for a in angles], np.float32)
    first = np.array(
        [(ring * sectors + k, ring * sectors + (k + 1) % sectors) for ring in range(rings - 1) for k in range(sectors)]
    )
    a, b = first.T
    return points, np.concatenate(
        [np.stack([a, b, b + sectors], 1), np.stack([a, b + sectors, a + sectors], 1)]
    ).astype(np.int32)


class Solids:
    """A growing triangle mesh in which every triangle knows its material. Lengths are meters in world axes."""

    def __init__(self) -> None:
        self._mesh: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._shapes: list[tuple[np.ndarray, np.ndarray]] = []
        self._placed: list[np.ndarray] = []  # edges, rotation and center of each solid, float32 [15]
        self._bulges: list[tuple[float, float, float]] = []
        self.surfaces: list[Surface] = []

    def _add(
        self,
        shape: tuple[np.ndarray, np.ndarray],
        center,
        size,
        yaw: float,
        surface: Surface,
        lean=None,
        bulge=(0, 0, 0),
    ) -> None:
        axes = turn(yaw) if lean is None else turn(yaw) @ lean
        self._mesh = None
        self._shapes.append(shape)
        self._placed.append(np.array([*size, *axes.flat, *center], np.float32))
        self._bulges.append(bulge)
        self.surfaces.append(surface)

    def box(self, center, size, surface: Surface, yaw: float = 0.0) -> None:
        """Add a box with the given center [3] and edge lengths [3], rotated by `yaw` radians about the vertical."""
        self._add(_unit_box(), center, size, yaw, surface)

    def ball(self, center, size, surface: Surface) -> None:
        """Add an ellipsoid with the given center [3] and diameters [3]."""
        self._add(_unit_ball(8, 12), center, size, 0.0, surface, bulge=(1, 1, 1))

    def pole(self, center, size, surface: Surface, lean: np.ndarray | None = None) -> None:
        """Add a round pole with the given center [3] and size [3] (two diameters and the length).

        It is upright unless `lean`, a rotation [3, 3], is given.
        """
        self._add(_unit_ball(2, 10), center, size, 0.0, surface, lean, bulge=(1, 1, 0) if lean is None else (0, 0, 0))

    def __bool__(self) -> bool:
        return bool(self._shapes)

    def rounds(self) -> np.ndarray:
        """Return what makes coarse balls and poles look round.

        Returns:
            float32 [surfaces, 6]: the center and, for each axis, the reciprocal of the squared size; the latter is zero
            for boxes. The normal at p is along (p - center) times these reciprocals.
        """
        placed = np.array(self._placed, np.float32).reshape(-1, 15)
        bulges = np.array(self._bulges, np.float32).reshape(-1, 3)
        return np.concatenate([placed[:, 12:], bulges / np.square(placed[:, :3])], axis=1)

    def mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return vertices float32 [V, 3], faces int32 [F, 3] and the surface number of each face int32 [F]."""
        if self._mesh is None:
            self._mesh = self._built()
        return self._mesh

    def _built(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        placed = np.array(self._placed, np.float32)
        vertices: list[np.ndarray] = [np.empty(0)] * len(placed)
        for shape in {id(shape): shape for shape in self._shapes}.values():
            alike = [number for number, other in enumerate(self._shapes) if other is shape]
            x, y, z = (shape[0][:, None] * placed[alike, :3]).transpose(2, 0, 1)[..., None]  # [corner, solid, 1]
            along_x, along_y, along_z = placed[alike, 3:12].reshape(-1, 3, 3).transpose(2, 0, 1)
            points = x * along_x + y * along_y + z * along_z + placed[alike, 12:]
            for number, own in zip(alike, points.transpose(1, 0, 2), strict=True):
                vertices[number] = own
        counts = [len(faces) for _, faces in self._shapes]
        first = np.cumsum([0] + [len(points) for points, _ in self._shapes[:-1]], dtype=np.int32)
        return (
            np.concatenate(vertices),
            np.concatenate([faces for _, faces in self._shapes]) + np.repeat(first, counts)[:, None],
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        )
