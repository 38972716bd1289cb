"""NTURGBD-Parsing-4K: single frames of NTU RGB+D with registered RGB, masked depth and the 25 classes of Human3.6M.

<source>/
  images/<frame>.jpg               512 x 424, RGB registered onto the depth picture
  depth/MDepth-<frame>.png         16 bits, millimeters, 0 off the person
  png_annotation_v2/<frame>.png    8 bits, grayscale or palette; the numbers are Human3.6M's raw part ids
  one list for training and one for validation, with lines such as `images/S001C001P001R001A001F060.jpg`

With `--ntu DOWNLOAD`, images/ and depth/ are not needed: RGB and depth are those frames of an NTU RGB+D download, laid
out as `prepare.py ntu` reads it, and RGB is registered onto depth as `ntu` does it, on the download's skeleton files.
These also give the depth camera of each setup and camera, without which depth cannot become points.

<frame> is SsssCcccPpppRrrrAaaaFfff: setup, camera, performer, repetition, action, and the frame's number, counted from
1. Pixels and labels stay as they are published, mirrored as Kinect sees the world, unless `mirror` says otherwise.
Orientations that files declare are ignored; Kinect's have none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hcmoco.config import Config
from hcmoco.data.body_parts import LEFT_RIGHT_PAIRS, labeled_box, train_ids
from hcmoco.data.codecs import DepthCodec, decode_depth, decode_labels
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import KINECT_25
from hcmoco.data.transforms import flip_labels
from hcmoco.datasets import ntu
from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.few import calibrated_few, readable, spread
from hcmoco.datasets.io.files import below_source, read_inside, read_rgb, text_lines
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.ntu.config import WIDTH
from hcmoco.datasets.ntu.frames import (
    check_frames,
    download_clips,
    registered_frame,
    registrations,
    with_registrations,
)
from hcmoco.datasets.ntu.layout import NtuItem
from hcmoco.datasets.person_crop import PersonImages, checked, crop_person, whole_picture
from hcmoco.errors import UserError
from hcmoco.unused_options import check_unused

JOINT_SET = KINECT_25.name
PUBLISHED = {"v2": 1963, "v3": 392}
"""Lines of the published lists, of each split; those of version 3 are the beginnings of those of version 2."""

_LINE = re.compile(r"(?:[^\s/]+/)*(?P<frame>S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}F\d{3,6})(?:\.(?:jpg|png))?")
_PERFORMER = slice(8, 12)
_TAG = 20  # characters of a frame's name that are its clip's
_LISTS = (".txt", ".lst")
_LIST_BYTES = 1 << 24


class NtuParsingConfig(Config):
    """Where NTURGBD-Parsing-4K is, which list is read and what is stored of a frame."""

    source: str = Field(description="folder of the download, with the folders and lists below")
    split: Literal["train", "val"] = Field(
        "train", description="train or val; which list is looked for, and what the rows are called"
    )
    lists: Literal["v2", "v3"] = Field(
        "v2", description="v2 (1,963 frames of each split) or v3 (20 %: the first 392 of each)"
    )
    list_file: str | None = Field(
        None,
        description="the list itself, relative to source or absolute; null: the one text file in source that is named "
        "after the split",
    )
    images: str = Field("images", description="folder of the registered RGB pictures, relative to source or absolute")
    depth: str = Field("depth", description="folder of the depth pictures, likewise")
    ntu: str | None = Field(
        None,
        description="folder of an NTU RGB+D download whose videos, depth and skeleton files are taken instead of "
        "images/ and depth/, relative to source or absolute",
    )
    labels: str = Field("png_annotation_v2", description="folder of the label pictures, likewise")
    stored: Literal["whole", "person"] = Field(
        "whole",
        description="whole (the picture, as the protocol scores it) or person (1.5 times the labeled person's box)",
    )
    mirror: Literal["none", "pixels", "pixels and sides"] = Field(
        "none",
        description="none (as published), pixels (flipped, labels keep their side) or pixels and sides (left and right "
        "exchanged, too)",
    )
    size: int = Field(512, ge=32, le=4096, description="largest side of a stored picture, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")


@dataclass(frozen=True)
class NtuParsingItem:
    """One frame of the list, whose files are not read yet.

    Attributes:
        id: `ntu-parsing/<frame>`.
        frame: its name.
        config: of the reader.
        clip: its clip of the NTU RGB+D download, where RGB and depth are taken from there.
    """

    id: str
    frame: str
    config: NtuParsingConfig
    clip: NtuItem | None = None


def inventory(config: NtuParsingConfig) -> Inventory:
    """Check the files of the frames of the list; raise UserError as `items` does."""
    path, found = _listed(config)
    frames = [each.frame for each in found if isinstance(each, NtuParsingItem)]
    result = Inventory(counts={"lines of the list": len(found)})
    expected = PUBLISHED[config.lists]
    published = "as many as" if len(found) == expected else f"not the {expected:,} of"
    result.notes.append(
        f"{path} lists {len(found):,} frames, {published} the published {config.lists} list of {config.split}"
    )
    bad = [each for each in found if isinstance(each, Rejected)]
    if bad:
        result.notes.append(f"{len(bad)} lines of the list will be rejected, for example: {bad[0].reason}")
    for what, (folder, names) in _files(config, frames).items():
        if Path(folder).is_dir():
            result.check_files(what, folder, names, "JPEG" if what == "RGB pictures" else "PNG")
        else:
            result.counts[what] = len(names)
            result.faults.append(Fault(folder, f"does not exist; {len(names):,} {what} are looked for in it"))
    if config.ntu is not None:
        placed = _with_clips(config, found)
        there = {each.id: each for each in placed if isinstance(each, NtuParsingItem)}
        check_frames(result, [(each.clip, _number(each)) for each in there.values() if each.clip])
        listed = {each.id for each in found if isinstance(each, NtuParsingItem)}
        lost = [each for each in placed if isinstance(each, Rejected) and each.id in listed and each.id not in there]
        result.faults += [Fault(each.id.removeprefix("ntu-parsing/"), each.reason) for each in lost]
    return result


def _number(item: NtuParsingItem) -> int:
    """Return the number of the frame in its clip, counted from 1."""
    return int(item.frame[_TAG + 1 :])


def _files(config: NtuParsingConfig, frames: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Folder and names of each kind of picture."""
    labels = {"label pictures": (_folder(config, config.labels), [f"{frame}.png" for frame in frames])}
    if config.ntu is not None:
        return labels
    return {
        "RGB pictures": (_folder(config, config.images), [f"{frame}.jpg" for frame in frames]),
        "depth pictures": (_folder(config, config.depth), [f"MDepth-{frame}.png" for frame in frames]),
        **labels,
    }


def _folder(config: NtuParsingConfig, name: str) -> str:
    return str(below_source(config.source, name))


def items(config: NtuParsingConfig) -> list[NtuParsingItem | Rejected]:
    """List the frames of the list, in its order.

    A line that names no frame, or repeats an earlier one, is Rejected.

    Args:
        config: where the download is and which list is read.

    Returns:
        The frames, with ids `ntu-parsing/<frame>`.

    Raises:
        UserError: a folder is missing, or the list is missing, ambiguous or not text.
    """
    found = _listed(config)[1]
    for what, (folder, _) in _files(config, []).items():
        if not Path(folder).is_dir():
            raise UserError(
                f"folder of {what} {folder} does not exist; "
                "unpack them there, or name the folder with a flag (see --help)"
                + ("" if what == "label pictures" else "; --ntu takes RGB and depth from an NTU RGB+D download")
            )
    return found if config.ntu is None else _with_clips(config, found)


def _with_clips(
    config: NtuParsingConfig, found: Sequence[NtuParsingItem | Rejected]
) -> list[NtuParsingItem | Rejected]:
    """Add their clips of the NTU RGB+D download; a frame whose clip lacks a file is Rejected."""
    frames = [each.frame for each in found if isinstance(each, NtuParsingItem)]
    clips = {each.id: each for each in download_clips(str(below_source(config.source, str(config.ntu))), frames)}

    def placed(item: NtuParsingItem | Rejected) -> NtuParsingItem | Rejected:
        if isinstance(item, Rejected):
            return item
        clip = clips.get(f"ntu/{item.frame[:_TAG]}")
        if isinstance(clip, NtuItem):
            return replace(item, clip=clip)
        return Rejected(item.id, "the NTU RGB+D download does not have its clip" if clip is None else clip.reason)

    return [placed(item) for item in found]


def _clips(items: Sequence[NtuParsingItem | Rejected | Skipped]) -> list[NtuItem | None]:
    return [item.clip for item in items if isinstance(item, NtuParsingItem)]


def calibrations(
    config: NtuParsingConfig, items: Sequence[NtuParsingItem | Rejected | Skipped]
) -> Mapping[str, ntu.Calibration]:
    """Return the registrations to measure on the NTU RGB+D download; none where pictures are registered already."""
    del config
    return registrations(_clips(items))


def with_calibrations(
    config: NtuParsingConfig, items: Sequence[NtuParsingItem | Rejected | Skipped], results: Mapping[str, dict]
) -> list[NtuParsingItem | Rejected | Skipped]:
    """Add the registration to each frame's clip; frames of a refused one become Rejected. See `ntu`."""
    del config
    clips = with_registrations(_clips(items), results)

    def measured(item: NtuParsingItem | Rejected | Skipped) -> NtuParsingItem | Rejected | Skipped:
        if not isinstance(item, NtuParsingItem) or item.clip is None:
            return item
        clip = clips[item.clip.id]
        return replace(item, clip=clip) if isinstance(clip, NtuItem) else Rejected(item.id, clip.reason)

    return [measured(item) for item in items]


def sampled(
    config: NtuParsingConfig, items: Sequence[NtuParsingItem | Rejected | Skipped]
) -> Sequence[NtuParsingItem | Rejected | Skipped]:
    """Return the few frames that `prepare --check` reads, see `ntu`; their pictures may be registered already."""
    if config.ntu is None:
        return spread(readable(items))

    def measure(config: NtuParsingConfig, frames: Sequence[NtuParsingItem]) -> Sequence[Any]:
        measured = {name: ntu.calibrate(each) for name, each in calibrations(config, frames).items()}
        return with_calibrations(config, frames, measured)

    return calibrated_few(config, items, lambda item: item.clip.tag.pair, measure)


def _listed(config: NtuParsingConfig) -> tuple[Path, list[NtuParsingItem | Rejected]]:
    source = Path(config.source)
    if not source.is_dir():
        raise UserError(
            f"NTURGBD-Parsing-4K folder {source} does not exist; give --source the folder that holds {config.images}/"
        )
    path = _find_list(config)
    lines = _text_lines(path)
    if not lines:
        raise UserError(f"list {path} is empty; each line names a frame, such as images/S001C001P001R001A001F060.jpg")
    if not any(_LINE.fullmatch(line) for _, line in lines):
        raise UserError(f"list {path} names no frame; its lines should be such as images/S001C001P001R001A001F060.jpg")
    found: list[NtuParsingItem | Rejected] = []
    seen: set[str] = set()
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            found.append(
                Rejected(f"ntu-parsing/line {number}", f"line {number} of the list, {line[:80]!r}, names no frame")
            )
            continue
        frame = match["frame"]
        id = f"ntu-parsing/{frame}"
        if frame in seen:
            found.append(Rejected(id, f"line {number} of the list repeats an earlier one"))
            continue
        seen.add(frame)
        found.append(NtuParsingItem(id, frame, config))
    return path, found


def _find_list(config: NtuParsingConfig) -> Path:
    """The list that the config names, or the only one of its split and kind; UserError otherwise.

    The name of a frame does not say which half it is in.
    """
    source = Path(config.source)
    if config.list_file is not None:
        path = below_source(config.source, config.list_file)
        if not path.is_file():
            raise UserError(f"list {path} does not exist; --list-file is relative to {source} or absolute")
        return path
    pictures = {Path(name).parts[0] for name in (config.images, config.depth, config.labels) if Path(name).parts}
    folders = [source, *sorted(each for each in source.iterdir() if each.is_dir() and each.name not in pictures)]
    texts = [
        each
        for folder in folders
        for each in sorted(folder.iterdir())
        if each.suffix.lower() in _LISTS and each.is_file()
    ]
    named = [each for each in texts if config.split in each.stem.lower()]
    fits = [each for each in named if config.lists in each.stem.lower()]
    if not fits and config.lists == "v2":
        fits = [each for each in named if "v3" not in each.stem.lower()]
    if len(fits) == 1:
        return fits[0]
    names = ", ".join(str(each.relative_to(source)) for each in (fits or texts)[:8]) or "none"
    own = "; it is the first 392 lines of the v2 list" if config.lists == "v3" else ""
    raise UserError(
        f"the {config.lists} list of {config.split} frames, a text file such as {config.split}_{config.lists}.txt, is "
        f"{'not certain' if fits else 'missing'} in {source} (there: {names}); "
        f"it comes with the annotations and cannot be guessed: put it there or name it with --list-file{own}"
    )


def _text_lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1."""
    try:
        if path.stat().st_size > _LIST_BYTES:
            raise UserError(f"list {path} has {path.stat().st_size} bytes, which no list of frames has; check the path")
        lines = text_lines(path, f"list {path}", "download it again")
    except OSError as error:
        raise UserError(f"list {path} cannot be read: {error.strerror or error}; check the file") from None
    return [(number, line.strip()) for number, line in lines]


def read(item: NtuParsingItem | Rejected) -> Person | Rejected:
    """Return the record of one frame.

    It is Rejected if a file is missing, damaged, outside its folder or of another size than the others, or if a part id
    is unknown.
    """
    if isinstance(item, Rejected):
        return item
    return checked(item.id, len(KINECT_25), lambda: _person(item), item.config.depth_codec)


def _person(item: NtuParsingItem) -> Person:
    config = item.config
    files = {what: (folder, names[0]) for what, (folder, names) in _files(config, [item.frame]).items()}
    parts = train_ids(decode_labels(read_inside(*files["label pictures"])))
    if item.clip is None:
        rgb = read_rgb(*files["RGB pictures"])
        depth = decode_depth(read_inside(*files["depth pictures"]), "png16")
    else:
        rgb, depth = registered_frame(item.clip, _number(item))
    if config.mirror != "none":
        rgb, depth, parts = rgb[:, ::-1], depth[:, ::-1], parts[:, ::-1]
    if config.mirror == "pixels and sides":
        parts = flip_labels(parts, LEFT_RIGHT_PAIRS)
    box = labeled_box(parts)
    person = Person(
        *(item.id, "ntu-parsing", config.split, config.size, item.frame[_PERFORMER]), box=box, camera=_camera(item)
    )
    images = PersonImages(rgb=rgb, depth=depth, parts=parts)
    if config.stored == "whole":
        return whole_picture(person, images, config.depth_codec)
    if box is None:
        raise ValueError("the label picture shows no person to crop around")
    return crop_person(person, images, config.depth_codec)


def _camera(item: NtuParsingItem) -> np.ndarray | None:
    """fx, fy, cx, cy of the depth camera in the picture as it is stored; None where no skeleton file tells it.

    The measured one is of the published, mirrored pictures, and counts pixels from the center of the first.
    """
    if item.clip is None or not item.clip.camera:
        return None
    fx, fy, cx, cy = item.clip.camera
    return np.array([fx, fy, cx + 0.5 if item.config.mirror == "none" else WIDTH - (cx + 0.5), cy + 0.5])


def resolve(config: NtuParsingConfig) -> tuple[NtuParsingConfig, list[str]]:
    """Return the config as it is; raise UserError for folders of pictures that are not read beside --ntu."""
    if config.ntu is not None:
        check_unused(config, ("images", "depth"), "pictures that are registered already, not those of --ntu,")
    return config, []


READER = DatasetReader(
    NtuParsingConfig,
    items,
    read,
    inventory,
    joint_set=JOINT_SET,
    depth_codec=lambda config: config.depth_codec,
    calibrations=calibrations,
    calibrate=ntu.calibrate,
    with_calibrations=with_calibrations,
    sampled=sampled,
    resolve=resolve,
    depth_masking="masked",
)
