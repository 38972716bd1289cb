"""Read the pictures of one person, which people recorded themselves, and refuse what does not fit.

Pictures are upright, as people see them: each file is turned by the orientation that it declares itself. So are
numbers: keypoints and boxes are of the upright picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hcmoco.data.body_parts import labeled_box
from hcmoco.data.codecs import decode_labels
from hcmoco.data.label_maps import label_map
from hcmoco.data.orientation import read_orientation
from hcmoco.data.transforms import extent
from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.conventions import check_mask, check_rgb
from hcmoco.datasets.io.depth_files import read_depth_file
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.pictures import decode_mask, decode_picture, num_channels

# Of the joints' longer side: how far a box around them reaches beyond them.
_KEYPOINT_MARGIN = 0.1


@dataclass(frozen=True)
class PersonPictures:
    """The decoded files of one person in one view, None where there is none.

    Attributes:
        rgb: uint8 [H, W, 3], RGB.
        stored_depth: [h, w], numbers as of `read_depth_file`; of its own size where it is to be registered.
        parts: uint8 [H, W], train ids of body parts or IGNORE.
        mask: uint8 [H, W], 255 on the person.
    """

    rgb: np.ndarray | None = None
    stored_depth: np.ndarray | None = None
    parts: np.ndarray | None = None
    mask: np.ndarray | None = None


def read_person_files(
    files: Mapping[str, tuple[str, str | None]],
    recorded_by: RecordedBy | None = None,
    *,
    upright: bool,
    labels: str = "",
) -> PersonPictures:
    """Read the files of one person in one view.

    Args:
        files: of rgb, depth, parts and mask a folder and the file's path in it, which is None where there is none.
        recorded_by: the cameras, if they are known.
        upright: turn files as their orientation says; else take their pixels as they are stored.
        labels: label map of parts.

    Raises:
        ValueError: a file cannot be used, files do not fit each other, or values are of another convention.
    """
    given = {name: (folder, path) for name, (folder, path) in files.items() if path is not None}
    data = {name: read_inside(*where) for name, where in given.items()}
    turned = {name: read_orientation(each) for name, each in data.items()} if upright else {}
    rgb, depth, parts, mask = (None, None, None, None)
    if "rgb" in data:
        rgb = decode_picture(data["rgb"], upright=upright)
        check_rgb(rgb, num_channels(data["rgb"]))
    if "depth" in given:
        depth = read_depth_file(*given["depth"], _raw_size(recorded_by), upright=upright)
    if "parts" in data:
        parts = _parts(decode_labels(data["parts"], upright=upright), labels)
    if "mask" in data:
        mask = decode_mask(data["mask"], upright=upright)
        check_mask(mask)
        mask = np.where(mask > 0, np.uint8(255), np.uint8(0))
    found = {"rgb": rgb, "depth": depth, "parts": parts, "mask": mask}
    _check_turned(turned, {name: each.shape[1::-1] for name, each in found.items() if each is not None}, recorded_by)
    return PersonPictures(rgb, depth, parts, mask)


def _raw_size(recorded_by: RecordedBy | None) -> tuple[int, int] | None:
    camera = recorded_by.depth if recorded_by else None
    return (camera.width, camera.height) if camera else None


def _parts(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels as records have them; ValueError, which begins as other faults of parts do."""
    try:
        return label_map(name).read(labels)
    except ValueError as error:
        raise ValueError(f"parts: {error}") from None


def _check_turned(
    turned: Mapping[str, int], sizes: Mapping[str, tuple[int, ...]], recorded_by: RecordedBy | None
) -> None:
    """Raise ValueError if pictures were turned, and do not surely fit each other or their cameras."""
    if all(each == 1 for each in turned.values()):
        return
    if recorded_by and (recorded_by.color or recorded_by.depth):
        raise ValueError(
            f"the cameras of {recorded_by.file} saw the pictures as they are stored, and the files declare the "
            f"orientations (EXIF) {_shown(turned)}; give --orientation stored"
        )
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
        raise ValueError(f"the pictures differ in size: {shown}{_declared(turned)}")
    width, height = next(iter(sizes.values()))
    if {"rgb", "depth"} <= turned.keys() and not _surely_fit(turned["rgb"], turned["depth"], width == height):
        raise ValueError(f"nobody can say whether depth fits rgb{_declared(turned)}")


def _surely_fit(rgb: int, depth: int, square: bool) -> bool:
    """Whether files of these orientations, whose upright sizes are equal, are known to show the same.

    A camera declares for RGB how it was held, and often nothing for depth. If depth was not turned before it was saved,
    its size would be another, unless the picture is square or was only upside down or mirrored.
    """
    return rgb == depth or ((rgb > 4) != (depth > 4) and not square)


def _declared(orientations: Mapping[str, int]) -> str:
    """What to do about files of which at least one is turned."""
    return (
        f": the files declare the orientations (EXIF) {_shown(orientations)}; save all of them upright, or give "
        "--orientation stored if they fit each other as they are stored"
    )


def _shown(orientations: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in orientations.items())


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
