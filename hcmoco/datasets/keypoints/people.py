"""From the people of a tool's file to records: match pictures, check conventions, place joints, cut crops."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hcmoco.data.depth_units import FURTHEST_MM, default_unit, in_millimeters, rounded
from hcmoco.data.orientation import read_orientation
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.conventions import check_on_mask
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.pictures import decode_picture
from hcmoco.datasets.keypoint_convention import Convention, exchanged_fault, sample_fault, value_fault
from hcmoco.datasets.keypoints import (
    azure_kinect,
    coco_annotations,
    coco_results,
    mediapipe,
    mmpose,
    openpose,
    yolo,
)
from hcmoco.datasets.keypoints.config import KeypointsConfig
from hcmoco.datasets.keypoints.formats import FORMATS
from hcmoco.datasets.keypoints.pictures import Pictures
from hcmoco.datasets.keypoints.resolve import resolve
from hcmoco.datasets.keypoints.tool_person import Entry, NoPerson
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person
from hcmoco.datasets.person_files import PersonPictures, find_box, read_person_files
from hcmoco.datasets.recorded_person import check_depth_in_box
from hcmoco.errors import UserError
from hcmoco.unused_options import unused

_SAMPLE = 24  # pictures that are opened to see whether the keypoints are theirs
_NOT_NAMED = "the keypoints say nothing of the picture"
_NOBODY_VISIBLE = "no joint of the person is confident enough and in the picture"


@dataclass(frozen=True, eq=False)
class Settings:
    """What the reading of every person needs of the config: small, for it is sent with each."""

    images: str
    depth: str
    depth_unit: str
    mask: str
    orientation: str
    dataset: str
    split: str
    size: int
    depth_codec: str
    convention: Convention

    @property
    def upright(self) -> bool:
        """Return whether files are turned as they declare. Without a choice none of the photographs declares it."""
        return self.orientation != "stored"


@dataclass(frozen=True, eq=False)
class KeypointItem:
    """One person, whose picture is not read yet.

    Attributes:
        id: `<name>/<picture>/<number of the person in it>`.
        image: path of the picture below the folder.
        joints: float64 [J, 3], as the file has them.
        box: float64 [4] in the unit of the joints, or None.
        expected: width and height of the picture that the file says, or None.
        settings: of the data set.
    """

    id: str
    image: str
    joints: np.ndarray
    box: np.ndarray | None
    expected: tuple[int, int] | None
    settings: Settings


def items(config: KeypointsConfig) -> list[KeypointItem | Rejected | Skipped]:
    """List the people of the file, in its order.

    Args:
        config: with or without what `resolve` fills in.

    Returns:
        The people, with ids `<name>/<picture>/<number of the person in it>`.

    Raises:
        UserError: a file or folder is missing, is of another format, or its keypoints are in another convention.
    """
    config, _ = resolve(config)
    form = FORMATS[config.format]
    pictures = Pictures(Path(config.images).expanduser())
    convention = Convention.of(config, form.normalized, form.offset)
    settings = Settings(
        str(pictures.folder), config.depth, config.depth_unit, config.mask, config.orientation, config.name,
        config.split, config.size, config.depth_codec, convention,
    )  # fmt: skip
    if config.format == "coco-results" and not config.image_list:
        _require_names(config, pictures)
    found: list[KeypointItem | Rejected | Skipped] = []
    in_picture: dict[str, int] = {}
    scored = False
    for entry in entries(config, pictures.names):
        found.append(_item(entry, config, pictures, settings, in_picture))
        scored = scored or (not isinstance(entry, NoPerson) and entry.score is not None)
    if found and not scored and config.min_score != form.min_score:
        raise unused("--min-score", "scores of people in the files")
    found += [Skipped(f"{config.name}/{name}", _NOT_NAMED) for name in pictures.names if name not in in_picture]
    people = [each for each in found if isinstance(each, KeypointItem)]
    if fault := value_fault([each.joints for each in people], convention):
        raise UserError(f"--keypoints {config.keypoints}: {fault}")
    _check_sample(config, people)
    return found


def entries(config: KeypointsConfig, names: Sequence[str]) -> Iterator[Entry]:
    """Yield the people that a tool's files have, as the files have them.

    Args:
        config: with what `resolve` fills in.
        names: of the pictures; for azure-kinect, whose files do not name any.
    """
    path, joints = Path(config.keypoints), joint_set(config.joints)
    if config.format == "azure-kinect":
        calibration = Path(config.calibration) if config.calibration else None
        return azure_kinect.read(path, joints, calibration, list(names), config.first_frame)
    if config.format == "coco-results":
        return coco_results.read(path, joints, Path(config.image_list) if config.image_list else None)
    readers = {
        "openpose": openpose.read,
        "coco": coco_annotations.read,
        "mmpose": mmpose.read,
        "mediapipe": mediapipe.read,
        "yolo": yolo.read,
    }
    return readers[config.format](path, joints)


def _require_names(config: KeypointsConfig, pictures: Pictures) -> None:
    """Raise UserError if pictures are numbers, and are not named by them as COCO's are."""
    number = coco_results.numbered(Path(config.keypoints))
    if number is None:
        return
    try:
        pictures.find(f"{number:012d}")
    except ValueError:
        raise UserError(
            f"--keypoints {config.keypoints} numbers its pictures (image_id {number}), and no picture is called "
            f"{number:012d}; give --image-list with the JSON file in COCO's form that the tool was given"
        ) from None


def _item(
    entry: Entry, config: KeypointsConfig, pictures: Pictures, settings: Settings, in_picture: dict[str, int]
) -> KeypointItem | Rejected | Skipped:
    try:
        image = pictures.find(entry.picture) if entry.picture else ""
    except ValueError as error:
        return Rejected(f"{config.name}/{entry.where}", str(error))
    if isinstance(entry, NoPerson):
        in_picture.setdefault(image, -1)
        return (Rejected if entry.broken else Skipped)(f"{config.name}/{entry.where}", entry.reason)
    number = in_picture[image] = in_picture.get(image, -1) + 1
    id = f"{config.name}/{image}/{number}"
    if entry.score is not None and config.min_score is not None and entry.score < config.min_score:
        return Skipped(id, f"the person's score is below {config.min_score:g}")
    return KeypointItem(id, image, entry.joints, entry.box, entry.size, settings)


def _check_sample(config: KeypointsConfig, people: list[KeypointItem]) -> None:
    """Raise UserError if the joints of some people, spread over the file, cannot belong to their pictures."""
    seen = []
    for k in range(0, len(people), max(1, len(people) // _SAMPLE)):
        each = people[k]
        try:
            height, width = _read_rgb(each).shape[:2]
        except ValueError:
            continue
        seen.append((each.joints, (width, height)))
    if seen and (fault := sample_fault(seen, people[0].settings.convention)):
        raise UserError(f"--keypoints {config.keypoints}: {fault}")


def read(item: KeypointItem | Rejected | Skipped) -> Person | Rejected | Skipped:
    """Return the record of one person.

    It is Rejected if a picture is missing, damaged or of another size than the file says, or if its joints are in
    another convention; and Skipped if no joint of it is visible.
    """
    if isinstance(item, Rejected | Skipped):
        return item
    settings, convention = item.settings, item.settings.convention
    png = Path(item.image).with_suffix(".png").as_posix()
    files = {
        "rgb": (settings.images, item.image),
        "depth": (settings.depth, png if settings.depth else None),
        "mask": (settings.mask, png if settings.mask else None),
    }
    try:
        _require_orientation(item)
        pictures = read_person_files(files, upright=settings.upright)
        depth, unit = _millimeters(pictures, settings)
        picture = PersonImages(rgb=pictures.rgb, depth=depth, mask=pictures.mask).width_height
    except ValueError as error:
        return Rejected(item.id, str(error))
    if item.expected and item.expected != picture and convention.size is None:
        return Rejected(
            item.id, f"{item.image!r} is {picture[0]} x {picture[1]}, the file says {item.expected[0]} x "
            f"{item.expected[1]}; if it was resized, give --keypoint-size {item.expected[0]},{item.expected[1]}"
        )  # fmt: skip
    fault = exchanged_fault(item.joints, convention, picture) or value_fault([item.joints], convention)
    if fault:
        return Rejected(item.id, str(fault))
    keypoints = convention.placed(item.joints, picture)
    if not keypoints[:, 2].any():
        return Skipped(item.id, _NOBODY_VISIBLE)

    def make() -> Person:
        box = _box(item, keypoints, picture)
        if pictures.mask is not None:
            check_on_mask(keypoints[keypoints[:, 2] > 0, :2], pictures.mask)
        if depth is not None:
            whole = item.box is not None or 2 * keypoints[:, 2].sum() > len(keypoints)
            check_depth_in_box(depth, unit, "give --depth-unit {unit}", box, shown=True, whole=whole)
        person = Person(item.id, settings.dataset, settings.split, settings.size, box=box, keypoints=keypoints)
        images = PersonImages(
            rgb=pictures.rgb, depth=None if depth is None else rounded(depth, FURTHEST_MM), mask=pictures.mask
        )
        return crop_person(person, images, settings.depth_codec)

    return checked(item.id, len(item.joints), make, settings.depth_codec)


def _millimeters(pictures: PersonPictures, settings: Settings) -> tuple[np.ndarray | None, str]:
    """Depth [H, W] in millimeters, on the mask only, and the unit of the file; None and "" without depth."""
    stored, mask = pictures.stored_depth, pictures.mask
    if stored is None:
        return None, ""
    unit = settings.depth_unit or default_unit(stored)
    depth = in_millimeters(stored, unit)
    return (depth if mask is None or mask.shape != depth.shape else np.where(mask > 0, depth, np.uint16(0))), unit


def _box(item: KeypointItem, keypoints: np.ndarray, picture: tuple[int, int]) -> np.ndarray:
    """x0, y0, x1, y1 in pixels: the file's, if it touches the picture, else around the visible joints."""
    if item.box is not None:
        # A box counts from the picture's corner, whatever joints count from.
        corners = replace(item.settings.convention, offset=0.0, swapped=False).xy(item.box.reshape(2, 2), picture)
        low, high = corners.clip(0, picture)
        if (high > low).all():
            return np.concatenate([low, high])
    width, height = picture
    return find_box(None, keypoints, None, np.empty((height, width, 3), np.uint8))


def _read_rgb(item: KeypointItem) -> np.ndarray:
    """uint8 [H, W, 3]: the picture as the tool saw it. Raises ValueError if it cannot be used."""
    _require_orientation(item)
    return decode_picture(read_inside(item.settings.images, item.image), upright=item.settings.upright)


def _require_orientation(item: KeypointItem) -> None:
    """Raise ValueError for a photograph that is stored turned, if nobody said how the tool took such ones."""
    if item.settings.orientation:
        return
    if read_orientation(read_inside(item.settings.images, item.image)) != 1:
        raise ValueError(
            f"{item.image!r} is stored turned (EXIF orientation); give --orientation upright if the tool turned it, as "
            "OpenPose, MMPose, detectron2 and Ultralytics do, or --orientation stored"
        )
