"""Open what is embedded: a prepared data set at any URI, a folder of pictures, or one picture."""

import argparse
import math
from pathlib import Path
from typing import Any

from hcmoco.config import build
from hcmoco.data.depth_units import millimeters
from hcmoco.data.shards.manifest import MANIFEST
from hcmoco.data.shards.reader import Shards
from hcmoco.data.transforms import CROP_MARGIN
from hcmoco.datasets.person_lines import FolderConfig
from hcmoco.datasets.segmentation import parse
from hcmoco.embedding import table
from hcmoco.embedding.pictures import PicturedPeople, lines_of, pictures_with_boxes
from hcmoco.embedding.sources import People, PreparedPeople, check_persons
from hcmoco.embedding.table import EmbeddingSet, holds_embeddings
from hcmoco.errors import UserError
from hcmoco.finetuning.row_mask import ROWS, make_row_mask
from hcmoco.finetuning.row_mask import facts as mask_facts
from hcmoco.inference.boxes import check_box
from hcmoco.inference.inputs import find_inputs
from hcmoco.inference.people import read_boxes
from hcmoco.storage import Folder, is_local
from hcmoco.unused_options import unused
from hcmoco_ray.mask_options import mask_settings
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.predict_options import four_numbers

LINES = "people.jsonl"
_OF_PICTURES = ("box", "boxes", "modality", "depth_unit", "joint_set", "min_confidence")
_OF_BARE_PICTURES = ("box", "boxes", "modality")
_OF_LINES = ("joint_set", "min_confidence")


def open_people(given: argparse.Namespace, image_size: int) -> tuple[People, dict[str, Any], list[str]]:
    """Open the people of a command line.

    Args:
        given: the arguments of embed.py.
        image_size: side of the crops, pixels.

    Returns:
        The people, what the options say of them as JSON values, and lines to print.

    Raises:
        UserError: nothing is there, an option does not fit it, or it cannot be read.
    """
    settings = mask_settings(given)
    uri, path = resolve_path(given.data), Path(given.data).expanduser()
    if Folder(uri).exists(MANIFEST):
        if holds_embeddings(Folder(uri)):
            raise UserError(
                f"DATA {given.data} holds embeddings ({table.FORMAT}); give what they were made of, or --nearest"
            )
        _refuse(given, _OF_PICTURES, "a folder of pictures")
        shards = Shards.open(uri)
        check_persons(shards, given.data)
        if given.mask is None:
            return PreparedPeople(shards), {}, []
        request = None if given.mask == ROWS else parse(given.mask, "--mask")
        mask = make_row_mask(given.mask, request, shards.manifest, settings)
        return PreparedPeople(shards, mask), {"mask": mask_facts(mask)}, []
    if not is_local(given.data):
        raise UserError(
            f"DATA {given.data} is not a prepared data set (it has no {MANIFEST}); pictures are read locally"
        )
    if not path.exists():
        raise UserError(
            f"DATA {given.data} does not exist; give a folder of pictures, or a data set of `python "
            "pipelines/prepare.py` (a folder or a URI)"
        )
    if given.mask is not None:
        raise unused("--mask", "a prepared data set; a folder's people.jsonl names masks itself")
    return _pictures(given, path, image_size)


def reopen_people(embeddings: EmbeddingSet) -> People:
    """Return the people of finished embeddings, to look at them again.

    Raises:
        UserError: they are not there any more, or have changed.
    """
    manifest = embeddings.manifest
    uri = str(manifest.data["uri"])
    people: People
    if manifest.pictures is None:
        people = PreparedPeople(Shards.open(uri))
    else:
        config = build(FolderConfig, manifest.pictures.config, f"{embeddings.uri}: pictures")
        lines = Folder(embeddings.uri).read(table.LINES)
        people = PicturedPeople.from_lines(config, lines, whole=manifest.pictures.whole)
    if people.content != manifest.data["content"]:
        raise UserError(f"the people of {uri} have changed since {embeddings.uri} was embedded")
    return people


def _pictures(given: argparse.Namespace, path: Path, image_size: int) -> tuple[People, dict[str, Any], list[str]]:
    root = path if path.is_dir() else path.parent
    has_lines = path.is_dir() and (path / LINES).is_file()
    if given.depth_unit is not None:
        try:
            millimeters(given.depth_unit)
        except ValueError as error:
            raise UserError(f"--depth-unit {given.depth_unit}: {error}") from None
    values: dict[str, Any] = {
        "path": str(root.resolve()),
        "name": root.resolve().name or "pictures",
        # A crop of the model's size is cut out of the stored square, which is not enlarged.
        "size": max(320, math.ceil(image_size * CROP_MARGIN / 1.25)),
        # The lines may have no depth, for which a codec that is named would count for nothing.
        **({} if has_lines else {"depth_codec": "zstd-delta"}),
        **{name: getattr(given, name) for name in ("depth_unit", *_OF_LINES) if getattr(given, name) is not None},
    }
    config = build(FolderConfig, values, "embed")
    if has_lines:
        _refuse(given, _OF_BARE_PICTURES, f"pictures without a {LINES}")
        return lines_of(config), _facts(given), [f"people   {path / LINES}"]
    _refuse(given, _OF_LINES, f"a {LINES} in the folder")
    modality = given.modality or "rgb"
    if modality == "rgb" and given.depth_unit is not None:
        raise unused("--depth-unit", "depth; --modality depth reads the pictures as depth")
    if given.box is not None and given.boxes is not None:
        raise UserError("--box and --boxes are both given; keep one of them")
    box = given.box if given.box in (None, "picture") else four_numbers("--box", given.box, "120,40,310,460")
    if isinstance(box, tuple):
        check_box("--box", box)
    found = find_inputs([str(path)], MANIFEST)
    if not found.images:
        raise UserError(f"{path}: videos alone; embed reads pictures: prepare the frames with pipelines/prepare.py")
    boxes = None if given.boxes is None else read_boxes(Path(given.boxes).expanduser(), found.images)
    names = [file.name for file in found.images]
    lines = [f"passed over: {each}" for each in found.passed_over]
    if found.videos:
        lines.append(f"passed over: videos: {len(found.videos)}, such as {found.videos[0].name}")
    return pictures_with_boxes(config, names, modality, boxes, box), _facts(given), lines


def _facts(given: argparse.Namespace) -> dict[str, Any]:
    """What was said of pictures. The boxes of a file are part of the people's own digest."""
    names = ("box", "depth_unit", "joint_set", "min_confidence", "modality")
    return {name: getattr(given, name) for name in names if getattr(given, name) is not None}


def _refuse(given: argparse.Namespace, names: tuple[str, ...], needs: str) -> None:
    for name in names:
        if getattr(given, name) is not None:
            raise unused(f"--{name.replace('_', '-')}", needs)
