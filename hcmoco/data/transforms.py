"""One affine for RGB, depth, keypoints and labels: how a stored square crop becomes the S x S input of an encoder.

Shapes: H, W rows and columns of a source image, S side of the result, J joints, 23 a 2 x 3 matrix. Coordinates are x, y
in pixels with a pixel's center at +0.5, so an image of W columns spans [0, W). `matrix_23` maps source to result:
p_result = matrix_23 @ (x, y, 1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from hcmoco.config import Config

CROP_MARGIN = 1.5
"""Side of a stored crop / longest side of the person's box. An augmentation that reaches further is refused."""

# Bilinear taps see two source pixels a side; from this shrinking factor on, the source is averaged down first.
_ANTIALIAS_FROM = 1.5


def extent(image_HW: np.ndarray) -> np.ndarray | None:
    """Return the box around all pixels above 0, float64 [4] (outer edges of pixels); None if all pixels are 0."""
    rows, columns = np.flatnonzero(image_HW.any(1)), np.flatnonzero(image_HW.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64) if len(rows) else None


def resize_nearest(image: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Resample so that every pixel takes the one under its center: no value is ever blended.

    Args:
        image: [H, W] or [H, W, C], any type.
        height: of the result, pixels.
        width: likewise; None: a square.

    Returns:
        [height, width] or [height, width, C] of the same type.
    """
    width = height if width is None else width
    row = (2 * np.arange(height) + 1) * image.shape[0] // (2 * height)
    column = (2 * np.arange(width) + 1) * image.shape[1] // (2 * width)
    return image[row[:, None], column]


def _fits_encoders(size: int) -> int:
    if size < 32 or size % 32:
        raise ValueError(f"must be a positive multiple of 32, for example {max(32, round(size / 32) * 32)}")
    return size


InputSide = Annotated[int, AfterValidator(_fits_encoders)]
"""Side of an encoder's input in pixels: a multiple of 32, the largest stride."""


class AugmentConfig(Config):
    """How crops are drawn.

    The crop (before it is rotated) stays inside the stored square; the corners of a rotated crop may leave it and are
    black there. Published settings for MPII and COCO: rotation as the defaults here, scale 0.75 to 1.25 of a box that
    is 1.25 times the person's, no flip, no color jitter.
    """

    renamed: ClassVar = {"centre_scale": "center_scale"}

    size: InputSide = Field(320, description="side of the result, pixels; a multiple of 32")
    scale: tuple[float, float] = Field(
        (1.0, 1.4), description="range of the crop's side, in longest sides of the person's box; uniform"
    )
    shift: float = Field(
        0.05, ge=0, description="largest move of the crop's center along x and y, in longest sides of the box; uniform"
    )
    rotation: float = Field(30.0, ge=0, description="standard deviation of the rotation, degrees; normal")
    rotation_limit: float = Field(60.0, ge=0, le=180, description="rotations beyond this are cut to it, degrees")
    rotation_probability: float = Field(0.6, ge=0, le=1, description="share of samples that are turned at all")
    flip_probability: float = Field(
        0.0, ge=0, le=1, description="share of samples that are mirrored, with left and right exchanged"
    )
    brightness: float = Field(0.0, ge=0, lt=1, description="RGB gain is drawn from 1 - this to 1 + this")
    contrast: float = Field(0.0, ge=0, lt=1, description="likewise for the distance to mid-gray")
    saturation: float = Field(0.0, ge=0, le=1, description="likewise for the distance to the pixel's own gray")
    center_scale: float = Field(
        1.25, gt=0, le=CROP_MARGIN, description="side of the fixed crop of evaluations, in longest sides of the box"
    )
    independent: bool = Field(
        False,
        description="in training, crop RGB, depth and keypoints of a row that has RGB and depth each by an affine of "
        "its own (one mirror for all). Where they share one crop, as published, the position in it answers the dense "
        "terms. Positions and joints are matched through the affines. Source: not the paper's",
    )

    @field_validator("scale")
    @classmethod
    def _scale_inside_the_stored_crop(cls, scale: tuple[float, float]) -> tuple[float, float]:
        low, high = scale
        if not 0.05 <= low <= high <= CROP_MARGIN:
            raise ValueError(f"must be low <= high within 0.05 and {CROP_MARGIN}, the stored crop's side in box sides")
        return scale

    @field_validator("shift")
    @classmethod
    def _shift_inside_the_stored_crop(cls, shift: float, info: ValidationInfo) -> float:
        room = (CROP_MARGIN - info.data["scale"][1]) / 2 if "scale" in info.data else math.inf
        if shift > room + 1e-9:
            raise ValueError(
                f"with scale up to {info.data['scale'][1]:g} the crop would leave the stored square of {CROP_MARGIN} "
                f"box sides; at most {room:g}, or a smaller scale"
            )
        return shift

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. Shared crops have the identity that they had before there were others."""
        named = super().identity()
        if not self.independent:
            del named["independent"]
        return named


@dataclass(frozen=True)
class Augmentation:
    """The drawn augmentation of one sample.

    Attributes:
        matrix_23: float64 [2, 3], source to result, mirror included.
        flipped: whether left and right must be exchanged.
        color_34: float64 [3, 4], linear map of (r, g, b, 1) in 0..255, or None if colors stay.
    """

    matrix_23: np.ndarray
    flipped: bool = False
    color_34: np.ndarray | None = None


def crop_matrix(
    center: tuple[float, float], side: float, size: int, degrees: float = 0.0, flip: bool = False
) -> np.ndarray:
    """Return the affine that maps a square of the source onto the S x S result.

    Args:
        center: x, y of the square, pixels.
        side: of the square, pixels.
        size: S, pixels.
        degrees: rotation of the square, clockwise on screen.
        flip: mirror the result.

    Returns:
        float64 [2, 3].
    """
    zoom = size / side
    cos, sin = zoom * math.cos(math.radians(degrees)), zoom * math.sin(math.radians(degrees))
    linear = np.array([[cos, sin], [-sin, cos]])
    if flip:
        linear[0] = -linear[0]
    return np.column_stack([linear, size / 2 - linear @ np.asarray(center, np.float64)])


def _center_and_side(box: np.ndarray | None, image_size: tuple[int, int]) -> tuple[float, float, float]:
    """Center and longest side of the box; without one, those of the centered square inside the stored margin."""
    if box is None:
        width, height = image_size
        return width / 2, height / 2, min(width, height) / CROP_MARGIN
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x0 < x1 < math.inf and y0 < y1 < math.inf and min(x0, y0) > -math.inf):
        raise ValueError(f"the box {[x0, y0, x1, y1]} has no area")
    return (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)


def draw_affine(
    config: AugmentConfig,
    box: np.ndarray | None,
    image_size: tuple[int, int],
    rng: np.random.Generator,
    *,
    flipped: bool | None = None,
) -> Augmentation:
    """Draw a random crop around a person.

    Args:
        config: ranges of the draws.
        box: float [4], x0, y0, x1, y1 in pixels of the source image, or None.
        image_size: width and height of the source image.
        rng: source of the draws. The number of draws is constant, so switching off one setting leaves the others as
            they were.
        flipped: whether the crop is mirrored; None: that is drawn.

    Raises:
        ValueError: a box that is not finite or has no area.
    """
    x, y, longest = _center_and_side(box, image_size)
    unit = rng.random(8)
    degrees = float(np.clip(rng.standard_normal() * config.rotation, -config.rotation_limit, config.rotation_limit))
    low, high = config.scale
    flip = bool(unit[4] < config.flip_probability) if flipped is None else flipped
    matrix = crop_matrix(
        (x + (2 * unit[1] - 1) * config.shift * longest, y + (2 * unit[2] - 1) * config.shift * longest),
        (low + (high - low) * unit[0]) * longest,
        config.size,
        degrees if unit[3] < config.rotation_probability else 0.0,
        flip,
    )
    ranges = np.array([config.brightness, config.contrast, config.saturation])
    color = color_matrix(*(1 + ranges * (2 * unit[5:] - 1))) if ranges.any() else None
    return Augmentation(matrix, flip, color)


def center_affine(config: AugmentConfig, box: np.ndarray | None, image_size: tuple[int, int]) -> Augmentation:
    """Return the fixed crop of evaluations: centered on the box, `config.center_scale` times its longest side.

    `box` and `image_size` are as of `draw_affine`.
    """
    x, y, longest = _center_and_side(box, image_size)
    return Augmentation(crop_matrix((x, y), config.center_scale * longest, config.size))


def color_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Combine gains of brightness, contrast (distance to mid-gray) and saturation (distance to the pixel's own gray).

    Returns:
        float64 [3, 4], one linear map of (r, g, b, 1) in 0..255; all gains 1 is the identity.
    """
    gray = np.full((3, 1), 1.0) @ np.array([[0.299, 0.587, 0.114]])
    linear = saturation * np.eye(3) + (1 - saturation) * gray
    return np.column_stack([contrast * brightness * linear, np.full(3, 127.5 * (1 - contrast))])


def warp(
    image: np.ndarray, matrix_23: np.ndarray, size: int, interpolation: int, border: tuple[int, ...] = (0, 0, 0)
) -> np.ndarray:
    """Map an image by an affine whose pixel centers are at +0.5.

    Args:
        image: [H, W] or [H, W, C].
        matrix_23: float64 [2, 3], source to result.
        size: S, side of the result.
        interpolation: OpenCV's, e.g. `cv2.INTER_NEAREST`.
        border: value outside the source.

    Returns:
        [S, S] or [S, S, C] of the same type.
    """
    # OpenCV puts a pixel's center at integers: the inverse map is moved by half a pixel on both sides.
    inverse = np.asarray(cv2.invertAffineTransform(matrix_23), np.float64)
    inverse[:, 2] += 0.5 * (inverse[:, 0] + inverse[:, 1]) - 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, inverse, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=border)


def warp_rgb(
    rgb_HW3: np.ndarray, augmentation: Augmentation, size: int, border: tuple[int, int, int] = (0, 0, 0)
) -> np.ndarray:
    """Warp RGB uint8 [H, W, 3] to [S, S, 3] with bilinear interpolation, `border` outside the source.

    Where the crop shrinks by more than 1.5, the source is averaged over areas first.
    """
    if augmentation.color_34 is not None:
        rgb_HW3 = cv2.transform(rgb_HW3, augmentation.color_34)
    (height, width), matrix = averaged_down(augmentation.matrix_23, rgb_HW3.shape[:2])
    if (height, width) != rgb_HW3.shape[:2]:
        rgb_HW3 = cv2.resize(rgb_HW3, (width, height), interpolation=cv2.INTER_AREA)
    return warp(rgb_HW3, matrix, size, cv2.INTER_LINEAR, border)


def averaged_down(matrix_23: np.ndarray, height_width: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
    """Return to which height and width a picture is averaged over areas before it is warped, and the warp from there.

    Both are those given where the warp shrinks by 1.5 at most.

    Args:
        matrix_23: float64 [2, 3], source to result.
        height_width: of the source, pixels.
    """
    shrink = 1 / math.sqrt(abs(np.linalg.det(matrix_23[:, :2])))
    height, width = height_width
    if shrink <= _ANTIALIAS_FROM:
        return (height, width), matrix_23
    small = max(1, round(height / shrink)), max(1, round(width / shrink))
    return small, matrix_23 @ np.diag([width / small[1], height / small[0], 1.0])


def warp_depth(depth_HW: np.ndarray, augmentation: Augmentation, size: int) -> np.ndarray:
    """Warp depth uint16 [H, W] to [S, S] by the nearest pixel: every value is one of the source's, or 0 outside it."""
    return warp(depth_HW, augmentation.matrix_23, size, cv2.INTER_NEAREST)


def warp_labels(
    labels_HW: np.ndarray, augmentation: Augmentation, size: int, pairs: Iterable[tuple[int, int]] = (), border: int = 0
) -> np.ndarray:
    """Warp labels uint8 [H, W] to [S, S] by the nearest pixel, with `border` outside the source.

    The labels of each of `pairs` are exchanged if the sample is mirrored.
    """
    labels = warp(labels_HW, augmentation.matrix_23, size, cv2.INTER_NEAREST, (border,))
    return flip_labels(labels, pairs) if augmentation.flipped else labels


def flip_labels(labels_HW: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Exchange the labels of each pair, uint8; the picture itself is not mirrored."""
    table = np.arange(256, dtype=np.uint8)
    for left, right in pairs:
        table[left], table[right] = right, left
    return table[labels_HW]


def warp_keypoints(keypoints_J3: np.ndarray, augmentation: Augmentation, size: int, flip_J: np.ndarray) -> np.ndarray:
    """Warp keypoints with the image.

    Args:
        keypoints_J3: float32 [J, 3], x, y, visibility 0 or 1 in pixels of the source.
        augmentation: the crop.
        size: S, side of the result.
        flip_J: int64 [J], the joint set's left/right gather (`JointSet.flip`), used if the sample is mirrored.

    Returns:
        float32 [J, 3]; visibility and coordinates are 0 outside [0, size).
    """
    if augmentation.flipped:
        keypoints_J3 = keypoints_J3[flip_J]
    matrix = augmentation.matrix_23
    xy = keypoints_J3[:, :2].astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    xy = xy.astype(np.float32)
    visible = (keypoints_J3[:, 2] > 0) & (xy >= 0).all(1) & (xy < size).all(1)
    return np.where(visible[:, None], np.column_stack([xy, np.ones(len(xy), np.float32)]), np.float32(0))
