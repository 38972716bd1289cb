"""Tell which way of segmentation an argument asks for, by what lies at its path."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hcmoco.data.containers import PNG_SIGNATURE, check_whole
from hcmoco.datasets.io import depth_files, pictures
from hcmoco.datasets.io.pictures import read_picture_header
from hcmoco.datasets.segmentation.config import FORMS, SegmentOptions
from hcmoco.errors import UserError

FRAMES = "background"
"""The word that asks for the background of the frames themselves."""

WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")
_DEPTH_ALONE = (".exr", ".npy", ".mat")


@dataclass(frozen=True)
class Request:
    """One way of segmentation.

    Attributes:
        kind: masks of a folder (or one file); the background of the frames; that of pictures of the empty scene; or a
            Mask R-CNN.
        path: absolute, of the folder or file; "" for the frames.
    """

    kind: Literal["masks", "frames", "empty scene", "mask-rcnn"]
    path: str = ""


def parse(text: str, option: str) -> Request:
    """Return the way that `text` asks for.

    Args:
        text: as the user gives it.
        option: what messages call it, e.g. --segment.

    Raises:
        UserError: nothing is there, or something of which no mask can be made.
    """
    if text == FRAMES:
        return Request("frames")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if path.is_dir():
        first = next((each for each in _files(path) if each.suffix.lower() in _SUFFIXES), None)
        if first is None:
            raise UserError(f"{option} {text} holds no masks and no depth pictures; give {FORMS}")
        return Request("empty scene" if _is_depth(first) else "masks", str(path))
    if not path.is_file():
        raise UserError(f"{option} {text} does not exist; give {FORMS}")
    if path.suffix.lower() in WEIGHTS:
        return Request("mask-rcnn", str(path))
    if path.suffix.lower() in _SUFFIXES:
        return Request("empty scene" if _is_depth(path) else "masks", str(path))
    raise UserError(f"{option} {text} is neither a mask, a depth picture nor a weight file; give {FORMS}")


def files_of(options: object) -> list[tuple[str, str]]:
    """Return the path that a reader's config segments with: how a message calls it, and the path; empty without one.

    Raises:
        UserError: see `parse`.
    """
    if not isinstance(options, SegmentOptions) or not options.segment:
        return []
    path = parse(options.segment, "--segment").path
    return [("--segment", path)] if path else []


_SUFFIXES = frozenset((*pictures.SUFFIXES, *depth_files.SUFFIXES))


def pictures_in(path: str) -> list[str]:
    """Return the paths of the pictures at `path`: the file itself, or those in the folder and below, sorted."""
    if os.path.isfile(path):
        return [path]
    return [str(each) for each in _files(Path(path)) if each.suffix.lower() in _SUFFIXES]


def _files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file() and not each.name.startswith("."))


def _is_depth(path: Path) -> bool:
    """Whether a picture holds depth, by its header: masks have 8 bits."""
    if path.suffix.lower() in _DEPTH_ALONE:
        return True
    try:
        data = path.read_bytes()
        header = read_picture_header(data)
        if header is not None:
            return header.bits > 8 or header.floating
        return data[:8] == PNG_SIGNATURE and check_whole(data).bits > 8
    except (OSError, ValueError):
        return False  # reading it as a mask says what is wrong
