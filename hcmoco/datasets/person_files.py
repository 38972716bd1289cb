"""Read the pictures of one person, which people recorded themselves, and refuse what does not fit.

Pictures are upright, as people see them: each file is turned by the orientation that it declares itself. So are
numbers: keypoints and boxes are of the upright picture.
"""

from collections.abc import Callable, Mapping

import numpy as np

from hcmoco.data.body_parts import labeled_box
from hcmoco.data.codecs import decode_depth, decode_labels, decode_rgb
from hcmoco.data.containers import read_header
from hcmoco.data.orientation import read_orientation
from hcmoco.data.transforms import extent
from hcmoco.datasets.conventions import check_mask, check_rgb
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.person_crop import PersonImages

# Of the joints' longer side: how far a box around them reaches beyond them.
_KEYPOINT_MARGIN = 0.1


def read_person_files(
    files: Mapping[str, tuple[str, str | None]], read_depth: Callable[[bytes], np.ndarray], *, upright: bool
) -> PersonImages:
    """Read the files of one person in one view.

    Args:
        files: of rgb, depth, parts and mask a folder and the file's path in it, which is None where there is none.
        read_depth: depth file's bytes -> uint16 [H, W], millimeters.
        upright: turn files as their orientation says; else take their pixels as they are stored.

    Returns:
        The pictures, all of one size, depth only on the mask.

    Raises:
        ValueError: a file cannot be used, files do not fit each other, or values are of another convention.
    """
    data = {name: read_inside(folder, path) for name, (folder, path) in files.items() if path is not None}
    turned = {name: read_orientation(each) for name, each in data.items()} if upright else {}
    images: dict[str, np.ndarray] = {}
    for name, each in data.items():
        if name == "rgb":
            images[name] = decode_rgb(each, upright=upright)
            check_rgb(images[name], read_header(each).channels)
        else:
            images[name] = read_depth(each) if name == "depth" else decode_labels(each, upright=upright)
    try:
        width, height = PersonImages(**images).width_height
    except ValueError as error:
        raise ValueError(f"{error}{_declared(turned)}") from None
    if {"rgb", "depth"} <= turned.keys() and not _surely_fit(turned["rgb"], turned["depth"], width == height):
        raise ValueError(f"nobody can say whether depth fits rgb{_declared(turned)}")
    if "mask" in images:
        check_mask(images["mask"])
        images["mask"] = np.where(images["mask"] > 0, np.uint8(255), np.uint8(0))
        if "depth" in images:
            images["depth"] = np.where(images["mask"] > 0, images["depth"], np.uint16(0))
    return PersonImages(**images)


def _surely_fit(rgb: int, depth: int, square: bool) -> bool:
    """Whether files of these orientations, whose upright sizes are equal, are known to show the same.

    A camera declares for RGB how it was held, and often nothing for depth. If depth was not turned before it was saved,
    its size would be another, unless the picture is square or was only upside down or mirrored.
    """
    return rgb == depth or ((rgb > 4) != (depth > 4) and not square)


def _declared(orientations: Mapping[str, int]) -> str:
    """What to do about files of which at least one is turned; "" if none is."""
    if all(each == 1 for each in orientations.values()):
        return ""
    declared = ", ".join(f"{name} {number}" for name, number in orientations.items())
    return (
        f": the files declare the orientations (EXIF) {declared}; save all of them upright, or give --orientation "
        "stored if they fit each other as they are stored"
    )


def read_depth(data: bytes, scale: float, *, upright: bool) -> np.ndarray:
    """Return uint16 [H, W], millimeters, of a 16-bit PNG whose unit is `scale` millimeters, cut to 65.5 m.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    stored = decode_depth(data, "png16", upright=upright)
    return stored if scale == 1 else np.minimum(np.rint(stored * scale), np.iinfo(np.uint16).max).astype(np.uint16)


def find_box(
    mask: np.ndarray | None,
    keypoints: np.ndarray | None,
    depth: np.ndarray | None,
    rgb: np.ndarray | None,
    parts: np.ndarray | None = None,
) -> np.ndarray:
    """Find the box of a person for whom no box is given.

    Args:
        mask: uint8 [H, W], above 0 on the person.
        keypoints: float [J, 3], x, y, visibility.
        depth: uint16 [H, W], millimeters, 0 = no reading.
        rgb: uint8 [H, W, 3].
        parts: uint8 [H, W], 0 off the person, 255 unknown.

    Returns:
        float [4], x0, y0, x1, y1, from the first of mask, parts, keypoints and depth that shows a person, else the
        whole picture.
    """
    if mask is not None and (box := extent(mask)) is not None:
        return box
    if parts is not None and (box := labeled_box(parts)) is not None:
        return box
    visible = keypoints[keypoints[:, 2] > 0, :2] if keypoints is not None else np.empty((0, 2))
    if len(visible) and np.ptp(visible, axis=0).max() > 0:
        low, high = visible.min(0), visible.max(0)
        margin = _KEYPOINT_MARGIN * (high - low).max()
        return np.concatenate([low - margin, high + margin])
    if depth is not None and (box := extent(depth)) is not None:
        return box
    height, width = next(image for image in (rgb, depth, mask) if image is not None).shape[:2]
    return np.array([0.0, 0.0, width, height])
