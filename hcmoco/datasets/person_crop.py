"""Making a Person from a full picture, and setting aside what is broken.

Shapes: H, W of the source picture, J joints. Coordinates are x, y in pixels with a pixel's centre at +0.5.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.codecs import MAX_SIDE, encode_depth, encode_iuv, encode_labels, encode_rgb
from hcmoco.data.schema import Person
from hcmoco.data.transforms import CROP_MARGIN
from hcmoco.data.validation import check_person

_LONGEST = 500
# Side of a whole picture, pixels; crops of larger ones are small, but this one is filled.
_LARGEST_WHOLE = 4096


@dataclass(frozen=True)
class _Named:
    id: str
    reason: str

    def __post_init__(self):
        # Both end up in reports: neither may break a line or an encoder, nor fill a page.
        for name in ("id", "reason"):
            text = " ".join(getattr(self, name).split())
            text = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2 - 2]}...{text[1 - _LONGEST // 2 :]}"
            object.__setattr__(self, name, text.encode(errors="backslashreplace").decode())


class Rejected(_Named):
    """A record that is broken, so set aside, and why; `reason` is one sentence for people."""


class Skipped(_Named):
    """A record that is whole and not wanted, by a rule of the data set or of its reader; `reason` says which, the same words each time."""


def checked(id: str, joints: int, make: Callable[[], Person], depth_codec: str = "png16") -> Person | Rejected:
    """What `make` returns if `check_person` finds nothing, else Rejected with the reasons; a ValueError of `make` is one, too."""
    try:
        person = make()
    except ValueError as error:
        return Rejected(id, str(error))
    reasons = check_person(person, joints, depth_codec)
    return Rejected(id, "; ".join(reasons)) if reasons else person


def crop_square(box: np.ndarray, width: int, height: int) -> tuple[int, int, int]:
    """x0, y0 and side, in whole pixels, of the square of CROP_MARGIN times the box's longest side around the box's centre.

    Raises ValueError for a box that is not finite, has no area, does not touch the picture or needs more than MAX_SIDE pixels.
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


def _cut(image: np.ndarray, x0: int, y0: int, side: int, fill: int = 0) -> np.ndarray:
    """The square as its own array, `fill` outside the source."""
    height, width = image.shape[:2]
    result = np.full((side, side, *image.shape[2:]), fill, image.dtype)
    top, bottom, left, right = max(y0, 0), min(y0 + side, height), max(x0, 0), min(x0 + side, width)
    if top < bottom and left < right:
        result[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return result


def _shrink_nearest(image: np.ndarray, size: int) -> np.ndarray:
    """Every pixel takes the one under its centre, so no value is ever blended."""
    under = (2 * np.arange(size) + 1) * len(image) // (2 * size)
    return image[under[:, None], under]


def crop_person(
    *,
    id: str,
    dataset: str,
    split: str,
    box: np.ndarray,
    size: int,
    subject: str = "",
    depth_codec: str = "png16",
    rgb: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    camera: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    joints3d: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    iuv: np.ndarray | None = None,
    dp_points: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Person:
    """One person of a picture as a record: a square of CROP_MARGIN times the box's longest side, shrunk to `size` if it is larger.

    A smaller square keeps its own pixels: nothing is enlarged, and `Person.size` is the smaller side.

    Args:
        box: x0, y0, x1, y1 in pixels of the picture; may reach over its edge.
        size: largest side of the stored square, pixels.
        rgb: uint8 [H, W, 3]; averaged over areas when shrunk, black outside the picture, stored as JPEG of quality 92.
        depth: uint16 [H, W], millimetres; nearest pixel, 0 outside. parts, mask: uint8 [H, W]; iuv: uint8 [H, W, 3]; likewise.
        camera: fx, fy, cx, cy of the picture; moved and scaled with the crop.
        keypoints: float [J, 3], x, y, visibility (above 0 counts as 1); invisible ones, and those outside the square, become 0.
        joints3d: float [J3, 3], metres; kept. dp_points: float [N, 5]; x, y are moved.

    Raises ValueError for a box that `crop_square` refuses, for pictures of different sizes, and where there is no picture at all.
    """
    given = Person(
        id,
        dataset,
        split,
        0,
        subject,
        camera=camera,
        keypoints=keypoints,
        joints3d=joints3d,
        dp_points=dp_points,
        box=box,
    )
    pictures = {"rgb": rgb, "depth": depth, "parts": parts, "iuv": iuv, "mask": mask}
    width, height = _picture_size(pictures)
    return _squared(given, pictures, crop_square(box, width, height), size, depth_codec)


def whole_picture(
    *,
    id: str,
    dataset: str,
    split: str,
    size: int,
    box: np.ndarray | None = None,
    subject: str = "",
    depth_codec: str = "png16",
    rgb: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    camera: np.ndarray | None = None,
    keypoints: np.ndarray | None = None,
    joints3d: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Person:
    """A whole picture as a record, for protocols that score all of it: the smallest square that holds it, the picture in its middle.

    Outside the picture RGB is black, depth has no reading and `parts` are IGNORE: neither a loss nor a metric sees that a picture was not
    square. In the middle, so that the mirror image of a record is the record of the mirror image. A square larger than `size` is shrunk
    to it, a smaller one keeps its pixels.

    Args and errors: as of `crop_person`, but the box may be absent; ValueError also for a picture of more than 4096 pixels a side.
    """
    given = Person(id, dataset, split, 0, subject, camera=camera, keypoints=keypoints, joints3d=joints3d, box=box)
    pictures = {"rgb": rgb, "depth": depth, "parts": parts, "mask": mask}
    width, height = _picture_size(pictures)
    side = max(width, height)
    if side > _LARGEST_WHOLE:
        raise ValueError(
            f"the picture is {width} x {height}; whole pictures have at most {_LARGEST_WHOLE} pixels a side"
        )
    square = (-((side - width) // 2), -((side - height) // 2), side)
    return _squared(given, pictures, square, size, depth_codec, parts_outside=IGNORE)


def _picture_size(pictures: dict[str, np.ndarray | None]) -> tuple[int, int]:
    """Width and height, the same for all. ValueError where they differ, and where there is no picture."""
    shapes = {name: image.shape[1::-1] for name, image in pictures.items() if image is not None}
    if not shapes:
        raise ValueError("there is no picture")
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "the pictures differ in size: " + ", ".join(f"{name} {w} x {h}" for name, (w, h) in shapes.items())
        )
    return next(iter(shapes.values()))


def _squared(
    given: Person,
    pictures: dict[str, np.ndarray | None],
    square: tuple[int, int, int],
    size: int,
    depth_codec: str,
    parts_outside: int = 0,
) -> Person:
    """`given`, whose coordinates are of the whole pictures, with what lies in the square x0, y0, side, shrunk to `size` if it is larger."""
    width, height = _picture_size(pictures)
    x0, y0, side = square
    stored = min(side, size)
    zoom = stored / side

    def moved(xy: np.ndarray) -> np.ndarray:
        return (np.asarray(xy, np.float64) - (x0, y0)) * zoom

    def encoded(name: str, encode: Callable[[np.ndarray], bytes], fill: int = 0) -> bytes | None:
        image = pictures.get(name)
        return None if image is None else encode(_shrink_nearest(_cut(image, x0, y0, side, fill), stored))

    def stored_floats(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.asarray(values, np.float32)

    rgb, keypoints, camera, dp_points = pictures["rgb"], given.keypoints, given.camera, given.dp_points
    if rgb is not None:
        rgb = _cut(rgb, x0, y0, side)
        if stored < side:
            rgb = cv2.resize(rgb, (stored, stored), interpolation=cv2.INTER_AREA)
    if keypoints is not None:
        keypoints = np.asarray(keypoints, np.float64)
        xy = moved(keypoints[:, :2])
        # What is not finite is kept, for `check_person` to find.
        outside = (np.isfinite(xy) & ((xy < 0) | (xy >= stored))).any(1)
        visible = (keypoints[:, 2:] > 0) & ~outside[:, None]
        keypoints = np.where(visible, np.column_stack([xy, visible]), 0.0)
    if camera is not None:
        fx, fy, cx, cy = np.asarray(camera, np.float64)
        camera = np.array([fx * zoom, fy * zoom, (cx - x0) * zoom, (cy - y0) * zoom])
    if dp_points is not None:
        dp_points = np.column_stack([moved(np.asarray(dp_points)[:, :2]), np.asarray(dp_points)[:, 2:]])
    return replace(
        given,
        size=stored,
        rgb=None if rgb is None else encode_rgb(rgb),
        depth=encoded("depth", lambda image: encode_depth(image, depth_codec)),
        camera=stored_floats(camera),
        crop=np.array([x0, y0, side, width, height], np.float32),
        box=None
        if given.box is None
        else moved(np.asarray(given.box, np.float64).reshape(2, 2)).ravel().astype(np.float32),
        keypoints=stored_floats(keypoints),
        joints3d=stored_floats(given.joints3d),
        parts=encoded("parts", encode_labels, parts_outside),
        iuv=encoded("iuv", encode_iuv),
        dp_points=stored_floats(dp_points),
        mask=encoded("mask", encode_labels),
    )
