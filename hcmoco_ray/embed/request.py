"""What a command line of embed.py asks for, and whether a folder of results belongs to it."""

import argparse
import json
from dataclasses import dataclass
from typing import Any

import hcmoco
from hcmoco.config import first_difference
from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.data.shards.manifest import MANIFEST as DATA_MANIFEST
from hcmoco.datasets.base import Rejected
from hcmoco.embedding.crops import Cropping
from hcmoco.embedding.encode import Kinds, shapes
from hcmoco.embedding.sources import People
from hcmoco.embedding.table import MANIFEST, holds_embeddings, part_rows, read_manifest
from hcmoco.errors import UserError
from hcmoco.export import Export, load_export
from hcmoco.pretrained import Pretrained
from hcmoco.storage import Folder, absolute, join
from hcmoco.weights import find_weights, packaged_weights
from hcmoco_ray.embed.data import open_people
from hcmoco_ray.embed.worker import WORK, Job
from hcmoco_ray.paths import resolve_path

REQUEST = f"{WORK}/request.json"
_BATCH_CPU, _BATCH_GPU = 32, 256


@dataclass(frozen=True)
class Embedding:
    """What is to be done.

    Attributes:
        job: for the actors.
        model: the encoders, on this process's CPU.
        request: what decides the content of the folder, as JSON values.
        lines: to print.
    """

    job: Job
    model: Pretrained
    request: dict[str, Any]
    lines: list[str]


def plan(given: argparse.Namespace, out: str) -> Embedding:
    """Return what a command line asks for.

    Args:
        given: the arguments of embed.py.
        out: absolute folder or URI of the results.

    Raises:
        UserError: the weights or the people are bad, or an option does not fit them.
    """
    export = load_export(_weights(given.weights))
    size = _image_size(export, given)
    people, facts, lines = open_people(given, size)
    batch = given.batch if given.batch is not None else _BATCH_GPU if given.gpus else _BATCH_CPU
    modalities = _modalities(people, export, given, lines)
    kinds = Kinds(joints=given.joints, dense=given.dense)
    if given.joints and "keypoints" not in modalities:
        raise UserError(f"--joints: {given.data} has no keypoints that are embedded; drop --joints, or give keypoints")
    model = Pretrained(export.model_with_mappers(), export.training).eval()
    columns = shapes(model, modalities, size, kinds)
    options = {
        "modalities": list(modalities),
        "joints": given.joints,
        "dense": given.dense,
        "size": size,
        "batch": batch,
        "precision": given.precision,
        **facts,
    }
    request = {
        "version": hcmoco.__version__,
        "weights": export.digest,
        "data": people.content,
        "people": len(people),
        **options,
    }
    cropping = Cropping(
        size,
        modalities,
        people.joints,
        model.joint_set,
        people.depth_codec,
        masking_known=bool(people.depth_masking),
    )
    rows = part_rows(len(people), columns)
    job = Job(people, export, cropping, kinds, columns, batch, given.precision, rows, out)
    return Embedding(job, model, request, lines)


def place_of(given: argparse.Namespace) -> str:
    """Return where the people are, for every process."""
    uri = resolve_path(given.data)
    return uri if Folder(uri).exists(DATA_MANIFEST) else absolute(given.data)


def _weights(name: str) -> str:
    """Where the export is. A name that is no folder is left as it is: `find_weights` knows the hub."""
    resolved = name if packaged_weights(name) else resolve_path(name)
    known = resolved == name or any(
        Folder(place).exists("config.json") for place in (resolved, join(resolved, "export"))
    )
    return find_weights(resolved if known else name)


def _image_size(export: Export, given: argparse.Namespace) -> int:
    size = export.training.get("size") if given.size is None else given.size
    if not isinstance(size, int):
        raise UserError("the weights do not say what size of pictures they were trained on; give --size, such as 96")
    if size < 32 or size % 32:
        raise UserError(f"--size {size}: must be a multiple of 32, such as {max(32, round(size / 32) * 32)}")
    return size


def _modalities(people: People, export: Export, given: argparse.Namespace, lines: list[str]) -> tuple[Modality, ...]:
    """What is embedded: what is asked for, else all that the people have."""
    wanted = MODALITIES if given.modalities is None else tuple(given.modalities.split(","))
    if unknown := next((name for name in wanted if name not in MODALITIES), None):
        raise UserError(f"--modalities {unknown!r}: must be some of {','.join(MODALITIES)}, with commas between them")
    if given.modalities is not None and (missing := next((n for n in wanted if n not in people.modalities), None)):
        raise UserError(
            f"--modalities: {given.data} has no {missing}; it has {', '.join(people.modalities) or 'nothing'}"
        )
    found = tuple(name for name in MODALITIES if name in wanted and name in people.modalities)
    if "depth" in found and export.model.depth.is_points:
        if given.modalities is not None or found == ("depth",):
            raise UserError(
                f"the depth encoder of {given.weights} is {export.model.depth.name}, which reads points in the "
                "camera's frame; give --modalities rgb,keypoints, or other weights"
            )
        lines.append(
            f"depth is not embedded: the depth encoder of {given.weights} reads points ({export.model.depth.name})"
        )
        found = tuple(name for name in found if name != "depth")
    if not found:
        first = people.read(0, 1)[0] if len(people) else None
        if isinstance(first, Rejected):
            raise UserError(f"{given.data}: none of {len(people)} people could be read; {first.id}: {first.reason}")
        raise UserError(f"{given.data} has nothing to embed: neither rgb, nor depth, nor keypoints")
    return found


def is_finished(folder: Folder, request: dict[str, Any]) -> bool:
    """Return whether a folder holds these embeddings. Raises UserError if it holds others."""
    if not folder.exists(MANIFEST):
        return False
    if not holds_embeddings(folder):
        raise UserError(f"--out {folder.uri} holds something else, of which {MANIFEST} is; choose another --out")
    _check_same(read_manifest(folder).request, request, folder, "already holds embeddings")
    return True


def check_request(folder: Folder, request: dict[str, Any]) -> None:
    """Raise UserError unless the folder is empty, or holds the beginning of these embeddings."""
    if folder.exists(REQUEST):
        try:
            earlier = json.loads(folder.read(REQUEST))
        except ValueError:
            earlier = {}  # cut short: no part was written after it
        _check_same(earlier or request, request, folder, "holds the beginning of embeddings")
    elif folder.sizes() or folder.folders():
        raise UserError(f"--out {folder.uri} is not empty and holds no embeddings; choose another --out")


def _check_same(stored: dict, requested: dict, folder: Folder, what: str) -> None:
    if difference := first_difference(stored, requested, sort=False):
        key, value, needed = difference
        was, now = (f"no {key}" if each is None else f"{key} = {_short(each)}" for each in (value, needed))
        raise UserError(f"{folder.uri} {what} with {was}, and {now} is requested; choose another --out or delete it")


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else repr(value)
