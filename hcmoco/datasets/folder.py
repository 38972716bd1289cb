"""Your own pictures: a folder with a JSON Lines file, one person per line.

`people.jsonl`, each line a JSON object (wrapped here); paths are relative to the folder and stay inside it:

    {"id": "anna-0001", "rgb": "rgb/0001.jpg", "depth": "depth/0001.png", "depth_unit": "mm",
     "camera": [365.5, 365.5, 256.3, 208.5], "keypoints": [[251.0, 88.5, 2], [0, 0, 0], ...],
     "joint_set": "coco-17", "box": [180, 60, 330, 400], "subject": "anna"}

- rgb: JPEG, PNG, WebP, TIFF or BMP of 8 bits per channel.
- depth: 16-bit PNG or TIFF, floating-point TIFF, EXR, NPY, or MAT with the variable depth; one channel, 0 or NaN = no
  reading. It has the size of the RGB picture and is registered to it, or `camera.json` tells how to register it. A line
  has rgb, depth or both. Readings beyond 20 m become none.
- depth_unit: length of the number 1: mm, m, cm, um or e.g. 0.25mm (RealSense L515), 0.2mm (5000 units are a meter).
  Default: that of --depth-unit, else of `camera.json`, else mm for whole numbers and m for floating point.
- camera: fx, fy, cx, cy in pixels, counted from the picture's upper left corner as keypoints are (add 0.5 to the cx and
  cy of OpenCV and camera SDKs). Default: that of `camera.json`.
- keypoints: one [x, y, v] per joint, in pixels from the picture's upper left corner, so that the first pixel's center
  is (0.5, 0.5); v is 0 for absent, 1 or 2 for annotated. A joint outside the picture counts as absent. With
  --min-confidence v is a confidence instead. For the files that pose estimators write, see `prepare.py keypoints`.
- joint_set: the set that the keypoints belong to; it must be the data set's.
- joints3d: one [x, y, z] per joint of the set that `--joint-set-3d` names, null where not annotated, in the unit that
  `--joint-unit-3d` names, in the frame of the picture's camera: x to the right, y down, z forward. They need a camera;
  the pose task needs depth, too.
- parts: 8-bit PNG, grayscale or palette, of the numbers that `--label-map` names; 255 ignore. The parsing tasks learn
  the classes of that map.
- mask: in the formats of rgb, above 0 on the person (JPEG and WebP: at least half white); depth outside it is dropped.
  --segment finds the masks of lines without one (docs/data/masks.md).
- box: x0, y0, x1, y1 of the person in pixels. Default: the extent of the mask, else of the labeled parts, else of the
  visible keypoints (wider by a tenth of its longer side all around), else of the depth readings, else the whole
  picture.
- id: unique in the file; default: the path of rgb, else of depth.
- subject: who the person is.
- split: default: the data set's.

Left is the person's own left in an unmirrored picture.

Pictures are upright, as people see them: each file (rgb, depth, parts, mask) is turned by the orientation that it
declares itself (EXIF), and all numbers are of the upright picture. `--orientation stored` takes the pixels of all files
as they are stored, for numbers from a program that ignores orientation, as PIL's Image.open does.

`camera.json` in the folder, which may be missing, has the unit of all depth pictures and the cameras:

    {"model": "RealSense D435", "depth_unit": "mm",
     "color": {"width": 640, "height": 480, "fx": 617.2, "fy": 617.4, "cx": 321.8, "cy": 239.6},
     "depth": {"width": 848, "height": 480, "fx": 422.1, "fy": 422.1, "cx": 424.3, "cy": 240.2},
     "depth_to_color": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "translation_mm": [14.8, 0.1, 0.2]}}

docs/data/recordings.md tells what each key means. With depth_to_color, depth pictures beside RGB are registered to it.

With `--detect WEIGHTS` a detector finds the keypoints of lines that have none: of the person in the line's box, mask or
parts, else of everybody in its picture. Then people.jsonl may be missing: every picture in the folder is read.
docs/data/detectors.md tells which detectors are taken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hcmoco.data.schema import Person
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.base import DatasetReader, Found, Rejected, Shown, Skipped, ToDetect
from hcmoco.datasets.cameras.camera_file import RecordedBy, read_camera_file
from hcmoco.datasets.detected import (
    asks,
    asks_for_everybody,
    check_placed,
    line_box,
    lines_of,
    outcome,
    resolve_detector,
    without_doubles,
)
from hcmoco.datasets.io.files import text_lines
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.io.pictures import SUFFIXES, picture_names
from hcmoco.datasets.line_options import check_counted
from hcmoco.datasets.person_crop import checked
from hcmoco.datasets.person_files import PersonPictures, read_person_files
from hcmoco.datasets.person_lines import FolderConfig, FolderItem, PersonLine, check_named, parse_line
from hcmoco.datasets.recorded_person import make_person
from hcmoco.datasets.segmentation import MaskFolder, stage
from hcmoco.errors import UserError

PICTURES = {
    "rgb": ("JPEG", "PNG", "WebP", "TIFF", "big-endian TIFF", "BMP"),
    "depth": ("PNG", "TIFF", "big-endian TIFF", "EXR", "NPY", "MATLAB 5", "MATLAB 7.3", "HDF5"),
    "parts": ("PNG",),
    "mask": ("JPEG", "PNG", "WebP", "TIFF", "big-endian TIFF", "BMP"),
}

_OTHER_FOLDERS = ("depth", "mask", "masks", "parts")


def items(config: FolderConfig) -> list[FolderItem | Rejected]:
    """List the persons of the file, in its order.

    A line that cannot be used, or repeats an id, is Rejected. Empty lines are ignored.

    Args:
        config: where the folder is.

    Returns:
        The persons, with ids `<name>/<id>`.

    Raises:
        UserError: the file is missing, not text, or has no line; lines have parts or 3D joints, and no option says
            what they mean; or `camera.json` is wrong.
    """
    recorded_by = read_camera_file(config.path)
    path = Path(config.path) / config.file
    if not path.is_file():
        if config.detect and Path(config.path).is_dir():
            return _every_picture(config, recorded_by)
        raise UserError(
            f"{path} does not exist; write one JSON object per person into it, as `prepare.py folder --help` shows; or "
            "give --detect WEIGHTS of a detector, which finds the people of all pictures in the folder"
        )
    found: list[FolderItem | Rejected] = []
    seen: set[str] = set()
    for number, text in text_lines(path):
        item = parse_line(config, f"{config.file} line {number}", text, recorded_by)
        if isinstance(item, FolderItem):
            if item.id in seen:
                item = Rejected(item.id, f"{config.file} line {number}: an earlier line has the same id")
            seen.add(item.id)
        found.append(item)
    if not found:
        raise UserError(
            f"{path} has no line; write one JSON object per person into it, as `prepare.py folder --help` shows"
        )
    lines = [each.line for each in found if isinstance(each, FolderItem)]
    check_named(config, lines, path)
    if lines:
        check_counted(config, lines, has_depth=any(line.depth for line in lines))
    if not config.detect:
        return found
    check_placed(config, (asks_for_everybody(each.line, config) for each in found if isinstance(each, FolderItem)))
    return without_doubles(found)


def _every_picture(config: FolderConfig, recorded_by: RecordedBy | None) -> list[FolderItem | Rejected]:
    """A line for each picture in the folder and its sub-folders, of everybody in it."""
    root = Path(config.path)
    if other := next((name for name in _OTHER_FOLDERS if (root / name).is_dir()), None):
        raise UserError(
            f"{root} has a folder {other}/, and without {config.file} every picture is taken for RGB; read it with "
            f"`prepare.py recording --path {root}`, or write {config.file}"
        )
    found = picture_names(root)
    if not found:
        raise UserError(f"{root} holds neither {config.file} nor a picture ({', '.join(SUFFIXES)})")
    check_placed(config, [True])
    check_counted(config, (), has_depth=False)
    return [FolderItem(f"{config.name}/{name}", PersonLine(rgb=name), config, recorded_by) for name in found]


def read_pictures(item: FolderItem) -> PersonPictures:
    """Return the pictures of a person; raise ValueError as `read_person_files` does."""
    line, config = item.line, item.config
    files = {name: (config.path, getattr(line, name)) for name in ("rgb", "depth", "parts", "mask")}
    if isinstance(item.segmenter, MaskFolder) and line.mask is None:
        files["mask"] = item.segmenter.find(line.rgb or line.depth or "")
    return read_person_files(files, item.recorded_by, upright=config.upright, labels=config.label_map)


def shown(item: FolderItem) -> Iterator[Shown]:
    """Yield the picture of a line without keypoints, for a detector."""
    if not asks(item.line, item.config) or item.line.rgb is None:
        return
    pictures = read_pictures(item)
    if pictures.rgb is not None:
        yield Shown("", pictures.rgb, [line_box(item.line, pictures)])


def with_people(item: FolderItem, found: Mapping[str, Found]) -> list[FolderItem | Rejected | Skipped]:
    """Return the people that a detector found for a line; the second and further ones of a picture are `<id>#2`..."""
    if not found:
        return [item]
    answer = found[""]
    lines = lines_of(item.line, answer.people[0], answer.size, item.config)
    ids = [item.id, *(f"{item.id}#{number}" for number in range(2, len(lines) + 1))]
    return [
        outcome(id, line) if isinstance(line, str) else replace(item, id=id, line=line)
        for id, line in zip(ids, lines, strict=True)
    ]


def inventory(config: FolderConfig) -> Inventory:
    """Check the pictures that the file names."""
    found = Inventory()
    wanted = items(config)
    lines = [each.line for each in wanted if isinstance(each, FolderItem)]
    rejected = [each for each in wanted if isinstance(each, Rejected)]
    found.counts["lines"] = len(wanted)
    found.faults += [Fault(str(Path(config.path) / config.file), each.reason) for each in rejected]
    for what, formats in PICTURES.items():
        named = [name for line in lines if (name := getattr(line, what)) is not None]
        if named or what == "rgb":
            found.check_files(f"{'RGB' if what == 'rgb' else what} pictures", config.path, named, *formats)
    unmasked = [line.rgb or line.depth or "" for line in lines if line.mask is None]
    stage.check(found, config, wanted, unmasked, PICTURES["mask"])
    return found


def read(item: FolderItem | Rejected) -> Person | Rejected:
    """Return the record of one person.

    It is Rejected if a file is missing, damaged, outside the folder or of the wrong kind.
    """
    if isinstance(item, Rejected):
        return item

    def make() -> Person:
        return make_person(item, read_pictures(item))

    return checked(item.id, len(joint_set(item.config.joint_set)), make, item.config.depth_codec)


READER = DatasetReader(
    FolderConfig,
    items,
    read,
    inventory,
    root="path",
    name=lambda config: config.name,
    joint_set=lambda config: config.joint_set,
    joint_set_3d=lambda config: config.joint_set_3d,
    depth_codec=lambda config: config.depth_codec,
    label_map=lambda config: config.stored_label_map,
    depth_masking=lambda config: config.masking,
    calibrations=stage.calibrations,
    calibrate=stage.calibrate,
    with_calibrations=stage.with_calibrations,
    sampled=stage.sampled,
    resolve=resolve_detector,
    to_detect=ToDetect(shown, with_people),
)
