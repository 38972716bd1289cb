"""Find the clips of a download, their folders, and what is missing.

    <source>/nturgb+d_rgb/S001C001P001R001A001_rgb.avi
    <source>/nturgb+d_depth_masked/S001C001P001R001A001/MDepth-00000001.png ...
    <source>/nturgb+d_skeletons/S001C001P001R001A001.skeleton

or the same three under <source>/NTURGBD (setups 1 to 17) and <source>/NTURGBD120 (18 to 32). What the second release
(setups 18 to 32) adds may lie in folders of its own, as archives are unpacked: nturgb+d_skeletons120 and so on, and
nturgbd_skeletons_s001_to_s017 and nturgbd_skeletons_s018_to_s032. A tag names setup, camera, performer, replication and
action.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.io.files import path_inside
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.ntu import skeleton_file
from hcmoco.datasets.ntu.config import TWO_PERSON_ACTIONS, NtuConfig
from hcmoco.errors import UserError

_TAG = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
_DEPTH = re.compile(r"MDepth-(\d{8})\.png", re.ASCII)
_ROOTS = ("", "NTURGBD", "NTURGBD/NTURGBD", "NTURGBD120", "NTURGBD120/NTURGBD120", "NTURGBD120/NTURGBD")
_SUFFIXES = {"rgb": "_rgb.avi", "depth": "", "skeletons": ".skeleton"}
_NAMES = {"rgb": "RGB video", "depth": "depth folder", "skeletons": "skeleton file"}
# Ends of the names of folders, where the second release lies beside the first; and names of unpacked archives.
_SECOND = ("", "120", "_120")
_ARCHIVES = {"skeletons": ("nturgbd_skeletons_s001_to_s017", "nturgbd_skeletons_s018_to_s032")}
_THREADS = 32
_MOST_LIST_BYTES = 1 << 24


@dataclass(frozen=True)
class Tag:
    """A clip's name and its numbers."""

    text: str
    setup: int
    camera: int
    performer: int
    action: int

    @property
    def pair(self) -> str:
        """Return setup and camera, which share a registration, e.g. S001C001."""
        return self.text[:8]


@dataclass(frozen=True)
class NtuItem:
    """One clip, whose files are not read yet.

    Attributes:
        id: `ntu/<tag>`.
        tag: name of the clip.
        rgb, depth, skeletons: folders that hold the clip's files; "" for depth that is not read.
        config: of the reader.
        matrix: 12 numbers, rows of the 3 x 4 transform from depth to color picture (registration.Fit), once measured.
        camera: fx, fy, cx, cy of the mirrored depth picture, once measured; empty if the joints do not agree on one.
    """

    id: str
    tag: Tag
    rgb: str
    depth: str
    skeletons: str
    config: NtuConfig
    matrix: tuple[float, ...] = ()
    camera: tuple[float, ...] = ()

    def of_record(self, id: str) -> dict[str, Any]:
        """Return the fields that every record of the clip has, with its id."""
        return {
            "id": id,
            "dataset": "ntu",
            "split": self.config.split,
            "size": self.config.size,
            "subject": f"P{self.tag.performer:03d}",
        }


@dataclass(frozen=True)
class _Listing:
    """Folder of each clip's file, by kind of file and tag; numbers of unknown names and of files in two folders."""

    folders: dict[str, dict[str, str]]
    unknown: int
    doubles: int


def _listing(config: NtuConfig) -> _Listing:
    """List all files; UserError if the source or one of its kinds of folders is missing."""
    if not os.path.isdir(config.source):
        raise UserError(
            f"--source {config.source} is not a folder; "
            f"give the one that holds {config.rgb}, {config.depth}, {config.skeletons}"
        )
    found: dict[str, dict[str, str]] = {}
    unknown = doubles = 0
    for kind in _kinds(config):
        suffix = _SUFFIXES[kind]
        name = getattr(config, kind)
        names = [f"{name}{more}" for more in _SECOND] + list(_ARCHIVES.get(kind, ()))
        paths = [os.path.normpath(os.path.join(config.source, root, each)) for root in _ROOTS for each in names]
        folders = [path for path in dict.fromkeys(paths) if os.path.isdir(path)]
        if not folders:
            raise UserError(
                f"{config.source} has no folder {name}, nor have NTURGBD and NTURGBD120 in it; "
                f"unpack the {_NAMES[kind]}s there or give --{kind}"
                + ("; --use rgb reads RGB and joints without depth" if kind == "depth" else "")
            )
        found[kind] = {}
        for folder in folders:
            for each in _names(folder):
                tag = each[: len(each) - len(suffix)]
                if not each.endswith(suffix) or not _TAG.fullmatch(tag):
                    unknown += 1
                elif tag in found[kind]:
                    doubles += 1
                else:
                    found[kind][tag] = folder
    return _Listing(found, unknown, doubles)


def _kinds(config: NtuConfig) -> list[str]:
    """The kinds of files that are read."""
    return [kind for kind in _SUFFIXES if config.use == "both" or kind != "depth"]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror or error}; check its permissions") from None


def _tag(text: str) -> Tag:
    setup, camera, performer, _, action = map(int, _TAG.fullmatch(text).groups())  # type: ignore[union-attr]
    return Tag(text, setup, camera, performer, action)


def _asked_for(config: NtuConfig, tag: Tag) -> bool:
    """Whether a clip is of the part of the data set that the config names."""
    chosen = ((config.setups, tag.setup), (config.performers, tag.performer), (config.actions, tag.action))
    return all(not only or number in only for only, number in chosen) and (
        config.dataset == 120 or (tag.setup <= 17 and tag.action <= 60)
    )


def _excluded(config: NtuConfig) -> frozenset[str]:
    """The tags that the list of `config.exclude` names; UserError if it is missing or names none."""
    if not config.exclude:
        return frozenset()
    path = Path(config.source, config.exclude)
    try:
        text = path_inside(path.parent, path.name, _MOST_LIST_BYTES).read_bytes().decode(errors="replace")
    except (OSError, ValueError) as error:
        raise UserError(f"--exclude {path}: {error}; give a text file with tags such as S001C002P005R002A008") from None
    tags = frozenset(match.group() for match in _TAG.finditer(text))
    if not tags:
        raise UserError(f"--exclude {path} names no clip; give a text file with tags such as S001C002P005R002A008")
    return tags


def items(config: NtuConfig) -> list[NtuItem | Rejected | Skipped]:
    """List the clips that the config asks for, by tag.

    A clip that lacks one of its files is Rejected; a clip that a rule excludes is Skipped.

    Args:
        config: where the download is and which clips are read.

    Returns:
        The clips, with ids `ntu/<tag>`.

    Raises:
        UserError: a folder is missing, or no clip is asked for.
    """
    listing, excluded = _listing(config), _excluded(config)
    tags = [tag for tag in map(_tag, sorted(set().union(*listing.folders.values()))) if _asked_for(config, tag)]
    if not tags:
        raise UserError(
            f"{config.source} has no clip that is asked for; "
            "check the folder, --dataset, --setups, --performers and --actions"
        )
    return [_item(config, tag, listing, excluded) for tag in tags]


def _item(config: NtuConfig, tag: Tag, listing: _Listing, excluded: frozenset[str]) -> NtuItem | Rejected | Skipped:
    id = f"ntu/{tag.text}"
    if tag.text in excluded:
        return Skipped(id, "the clip is on the list to exclude")
    if tag.action in TWO_PERSON_ACTIONS and not config.two_person_actions:
        return Skipped(id, "the clip's action is one of two people")
    folders = {kind: listing.folders[kind].get(tag.text) for kind in _kinds(config)}
    missing = [_NAMES[kind] for kind, folder in folders.items() if folder is None]
    if missing:
        return Rejected(id, f"the clip has no {' and no '.join(missing)}")
    return NtuItem(id, tag, config=config, **{"depth": "", **folders})  # type: ignore[arg-type]


def inventory(config: NtuConfig) -> Inventory:
    """Check the files of the clips that will be read: videos, skeleton files, and the depth pictures of their frames.

    Files are opened for their first bytes alone. The number of frames of a clip is what its skeleton file declares.
    """
    result = Inventory()
    listing, found = _listing(config), items(config)
    clips = [each for each in found if isinstance(each, NtuItem)]
    result.counts["clips"] = len(found) - sum(isinstance(each, Skipped) for each in found)
    result.faults += [Fault(each.id.removeprefix("ntu/"), each.reason) for each in found if isinstance(each, Rejected)]
    for folder in sorted({clip.rgb for clip in clips}):
        result.check_files(
            "RGB videos", folder, (f"{clip.tag.text}_rgb.avi" for clip in clips if clip.rgb == folder), "AVI"
        )
    for folder in sorted({clip.skeletons for clip in clips}):
        result.check_files(
            "skeleton files", folder, (f"{clip.tag.text}.skeleton" for clip in clips if clip.skeletons == folder)
        )
    with ThreadPoolExecutor(_THREADS) as pool:
        frames = dict(zip(clips, pool.map(_declared, clips), strict=True))
    odd = [clip for clip in clips if not frames[clip]]
    result.faults += [
        Fault(f"{clip.skeletons}/{clip.tag.text}.skeleton", "does not begin with a number of frames") for clip in odd
    ]
    for folder in sorted({clip.depth for clip in clips if clip.depth}):
        names = (
            depth_name(clip.tag, n)
            for clip in clips
            if clip.depth == folder
            for n in range(config.stride, frames[clip] + 1, config.stride)
        )
        result.check_files("depth pictures to be read", folder, names, "PNG")
    for reason in sorted({each.reason for each in found if isinstance(each, Skipped)}):
        count = sum(isinstance(clip, Skipped) and clip.reason == reason for clip in found)
        result.notes.append(f"{count} clips will be skipped: {reason}")
    others = len(set().union(*listing.folders.values())) - len(found)
    if others:
        result.notes.append(f"{others} more clips are there and not asked for")
    if listing.unknown:
        result.notes.append(f"{listing.unknown} files or folders are not named like a clip and are ignored")
    if listing.doubles:
        result.notes.append(
            f"{listing.doubles} files lie in two folders; "
            f"the first, in the order {config.source}, NTURGBD, NTURGBD120, is read"
        )
    return result


def depth_name(tag: Tag, number: int) -> str:
    """Return the path of the depth picture of a frame, counted from 1, in the folder of all clips."""
    return f"{tag.text}/MDepth-{number:08d}.png"


def depth_number(name: str) -> int:
    """Return the frame of a file in a clip's depth folder; 0 if the file is not a depth picture."""
    found = _DEPTH.fullmatch(name)
    return int(found[1]) if found else 0


def _declared(clip: NtuItem) -> int:
    """Frames that the skeleton file declares; 0 if its first line is not a number."""
    try:
        with path_inside(clip.skeletons, f"{clip.tag.text}.skeleton", skeleton_file.MAX_BYTES).open("rb") as file:
            text = file.readline(32).strip()
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdigit() and int(text) <= skeleton_file.MAX_FRAMES else 0
