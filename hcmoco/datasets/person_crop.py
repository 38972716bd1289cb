"""Turn a full picture into a Person record.

Shapes: H, W of the source picture, J joints. Coordinates are x, y in pixels with a pixel's center at +0.5.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.codecs import encode_depth, encode_iuv, encode_labels, encode_rgb
from hcmoco.data.containers import MAX_SIDE
from hcmoco.data.schema import Person
from hcmoco.data.transforms import CROP_MARGIN, resize_nearest
from hcmoco.data.validation import check_person
from hcmoco.datasets.base import Rejected
from hcmoco.datasets.conventions import inside

# Side of a whole picture, pixels; crops of larger ones are small, but this one is filled.
_LARGEST_WHOLE = 4096


def checked(id: str, joints: int, make: Callable[[], Person], depth_codec: str = "png16") -> Person | Rejected:
    """Return the record of `make`, or Rejected if it raises ValueError or `check_person` finds a fault.

    Args:
        id: of the record.
        joints: number of 2D joints of the data set's joint set.
        make: builds the record.
        depth_codec: codec of the record's depth.
    """
    try:
        person = make()
    except ValueError as error:
        return Rejected(id, str(error))
    reasons = check_person(person, joints, depth_codec)
    return Rejected(id, "; ".join(reasons)) if reasons else person


def crop_square(box: np.ndarray, width: int, height: int) -> tuple[int, int, int]:
    """Return the square to cut: CROP_MARGIN times the box's longest side, around the box's center.

    Args:
        box: [4], x0, y0, x1, y1, pixels.
        width, height: of the picture, pixels.

    Returns:
        x0, y0 and side, in whole pixels.

    Raises:
        ValueError: the box is not finite, has no area, does not touch the picture, or needs more than MAX_SIDE pixels.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {[x0, y0, x1, y1]} has no area")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise ValueError(f"the box {[x0, y0, x1, y1]} lies outside the {width} x {height} picture")
    side = max(2.0, CROP_MARGIN * max(x1 - x0, y1 - y0))
    if side > MAX_SIDE:
        raise ValueError(
            f"the box {[x0, y0, x1, y1]} is too large; at most {MAX_SIDE / CROP_MARGIN:.0f} pixels are cropped"
        )
    side = round(side)
    return round((x0 + x1) / 2 - side / 2), round((y0 + y1) / 2 - side / 2), side


def middle_box(width: int, height: int) -> np.ndarray:
    """Return the box, float [4], whose stored square is a whole picture of that size, padded to a square."""
    half = max(width, height) / CROP_MARGIN / 2
    return np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])


def cut_square(image: np.ndarray, x0: int, y0: int, side: int, fill: int = 0) -> np.ndarray:
    """Return the square of `side` pixels whose corner is at x0, y0 as its own array, `fill` outside the source."""
    height, width = image.shape[:2]
    result = np.full((side, side, *image.shape[2:]), fill, image.dtype)
    top, bottom, left, right = max(y0, 0), min(y0 + side, height), max(x0, 0), min(x0 + side, width)
    if top < bottom and left < right:
        result[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return result


@dataclass(frozen=True)
class PersonImages:
    """The decoded images of one picture, all of one size, None if absent.

    Attributes:
        rgb: uint8 [H, W, 3], RGB.
        depth: uint16 [H, W], millimeters along the optical axis, 0 = no reading.
        parts: uint8 [H, W], train ids of body parts or IGNORE.
        iuv: uint8 [H, W, 3], chart I, U and V.
        mask: uint8 [H, W], 255 on the person.
    """

    rgb: np.ndarray | None = None
    depth: np.ndarray | None = None
    parts: np.ndarray | None = None
    iuv: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def width_height(self) -> tuple[int, int]:
        """Return width and height in pixels; raise ValueError if the images differ in size or there is none."""
        shapes = {name: image.shape[1::-1] for name, image in vars(self).items() if image is not None}
        if not shapes:
            raise ValueError("there is no picture")
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "the pictures differ in size: " + ", ".join(f"{name} {w} x {h}" for name, (w, h) in shapes.items())
            )
        return next(iter(shapes.values()))


def crop_person(person: Person, images: PersonImages, depth_codec: str = "png16") -> Person:
    """Crop one person of a picture: a square of CROP_MARGIN times the box's longest side, shrunk if it is too large.

    A smaller square keeps its own pixels: nothing is enlarged.

    Args:
        person: everything but the images, with coordinates in pixels of the picture. `box` is required and may reach
            over the picture's edge; `size` is the largest side of the stored square; of `keypoints`, a visibility above
            0 counts as 1.
        images: RGB is averaged over areas when shrunk, black outside the picture and stored as JPEG of quality 92; of
            the others the nearest pixel is taken, 0 outside.
        depth_codec: codec of the stored depth.

    Returns:
        The record: `size` is the square's side; coordinates and camera are moved and scaled with the crop; keypoints
            that are invisible, or outside the square or the picture, are 0.

    Raises:
        ValueError: a box that `crop_square` refuses, images of different sizes, or none at all.
    """
    if person.box is None:
        raise ValueError("there is no box to crop around")
    return _cut_record(person, images, crop_square(person.box, *images.width_height), depth_codec)


def whole_picture(person: Person, images: PersonImages, depth_codec: str = "png16") -> Person:
    """Store a whole picture in the smallest square that holds it, for protocols that score all of it.

    The picture is in the middle, so that the mirror image of a record is the record of the mirror image. Outside the
    picture RGB is black, depth has no reading and `parts` are IGNORE: neither a loss nor a metric sees that it was not
    square.

    Args:
        person: as of `crop_person`, but the box may be absent.
        images: as of `crop_person`.
        depth_codec: codec of the stored depth.

    Returns:
        The record, as of `crop_person`.

    Raises:
        ValueError: images of different sizes, none at all, or more than 4096 pixels a side.
    """
    width, height = images.width_height
    side = max(width, height)
    if side > _LARGEST_WHOLE:
        raise ValueError(
            f"the picture is {width} x {height}; whole pictures have at most {_LARGEST_WHOLE} pixels a side"
        )
    square = (-((side - width) // 2), -((side - height) // 2), side)
    return _cut_record(person, images, square, depth_codec, parts_outside=IGNORE)


def _cut_record(
    person: Person, images: PersonImages, square: tuple[int, int, int], depth_codec: str, parts_outside: int = 0
) -> Person:
    """`person`, whose coordinates are of the whole picture, with the images cut to the square x0, y0, side."""
    width, height = images.width_height
    x0, y0, side = square
    stored = min(side, person.size)
    zoom = stored / side

    def moved(xy: np.ndarray) -> np.ndarray:
        return (np.asarray(xy, np.float64) - (x0, y0)) * zoom

    def encoded(image: np.ndarray | None, encode: Callable[[np.ndarray], bytes], fill: int = 0) -> bytes | None:
        return None if image is None else encode(resize_nearest(cut_square(image, x0, y0, side, fill), stored))

    def stored_floats(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.asarray(values, np.float32)

    rgb, keypoints, camera, dp_points = images.rgb, person.keypoints, person.camera, person.dp_points
    if rgb is not None:
        rgb = cut_square(rgb, x0, y0, side)
        if stored < side:
            rgb = cv2.resize(rgb, (stored, stored), interpolation=cv2.INTER_AREA)
    if keypoints is not None:
        keypoints = np.asarray(keypoints, np.float64)
        xy = moved(keypoints[:, :2])
        # What is not finite is kept, for `check_person` to find. A square that reaches over the picture's edge shows
        # nothing there.
        outside = np.isfinite(xy).all(1) & ~(inside(xy, stored, stored) & inside(keypoints[:, :2], width, height))
        visible = (keypoints[:, 2:] > 0) & ~outside[:, None]
        keypoints = np.where(visible, np.column_stack([xy, visible]), 0.0)
    if camera is not None:
        fx, fy, cx, cy = np.asarray(camera, np.float64)
        camera = np.array([fx * zoom, fy * zoom, (cx - x0) * zoom, (cy - y0) * zoom])
    if dp_points is not None:
        dp_points = np.column_stack([moved(np.asarray(dp_points)[:, :2]), np.asarray(dp_points)[:, 2:]])
    return replace(
        person,
        size=stored,
        rgb=None if rgb is None else encode_rgb(rgb),
        depth=encoded(images.depth, lambda image: encode_depth(image, depth_codec)),
        camera=stored_floats(camera),
        crop=np.array([x0, y0, side, width, height], np.float32),
        box=None
        if person.box is None
        else moved(np.asarray(person.box, np.float64).reshape(2, 2)).ravel().astype(np.float32),
        keypoints=stored_floats(keypoints),
        joints3d=stored_floats(person.joints3d),
        parts=encoded(images.parts, encode_labels, parts_outside),
        iuv=encoded(images.iuv, encode_iuv),
        dp_points=stored_floats(dp_points),
        mask=encoded(images.mask, encode_labels),
    )
