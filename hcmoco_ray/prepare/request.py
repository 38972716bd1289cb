"""Check the folder of a data set before anything is read: it holds nothing else, and the disk has room."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace

import hcmoco
from hcmoco.config import first_difference, upgrade
from hcmoco.data.schema import Person, Scene
from hcmoco.data.shards.manifest import MANIFEST, read_manifest
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.errors import UserError
from hcmoco.masking import masked
from hcmoco.storage import Folder, existing_parent, is_local
from hcmoco_ray.prepare.reader import PROGRAM, Source

WORK = "_parts"
REQUEST = f"{WORK}/request.json"
REFUSED = f"{WORK}/refused"
"""This file exists after a run that stopped because it rejected too many records."""
_PROBED = 4  # records
_OTHER_BYTES = 2000  # of a record beside its pictures


def request_of(source: Source, num_items: int) -> dict:
    """Return what decides the content of a data set: another request into its folder is refused."""
    rendered = {"raycaster": source.raycaster} if source.raycaster else {}
    return {"version": hcmoco.__version__, "records": num_items, **rendered, **source.arguments}


def is_prepared(folder: Folder, source: Source) -> bool:
    """Return whether the folder holds the complete data set of `source`.

    Raises:
        UserError: it holds another data set.
    """
    if not folder.exists(MANIFEST):
        return False
    provenance = read_manifest(folder).provenance
    if provenance.program != PROGRAM:
        raise UserError(
            f"{folder.uri} already holds a data set that {provenance.program} made; choose another --out or delete it"
        )
    stored = _with_options_of_today(upgrade(type(source.config), provenance.arguments), source, folder)
    _check_same(stored, source.arguments, folder, "already holds a data set")
    return True


def _with_options_of_today(stored: dict, source: Source, folder: Folder) -> dict:
    """Return arguments of a manifest, with those that its version had no option for: what it did without.

    Where that is another thing than today's default, and the option is not given, the same command still means the same
    data set: a line says what it holds.
    """
    cls = type(source.config)
    absent = {
        name: cls.first_defaults.get(name, field.get_default(call_default_factory=True))
        for name, field in cls.model_fields.items()
        if name not in stored and not field.is_required()
    }
    then = replace(source, config=source.config.model_copy(update=absent)).arguments
    now = source.arguments
    for name in absent:
        if then.get(name) == now.get(name) or name in source.config.model_fields_set:
            continue
        told = (
            f"{folder.uri} was prepared before there was --{name.replace('_', '-')}: it holds what "
            f"{then[name] or 'none'} means, and today's default is {now[name] or 'none'}; to have that, choose another "
            "--out"
        )
        print(masked(told), flush=True)
        then[name] = now[name]
    return {**stored, **{name: then[name] for name in absent if name in then}}


def check_request(folder: Folder, source: Source, num_items: int) -> None:
    """Check that a folder is empty, or holds parts of the same data set.

    Raises:
        UserError: it holds anything else.
    """
    if folder.exists(REQUEST):
        try:
            earlier = json.loads(folder.read(REQUEST))
        except ValueError:
            earlier = {}
        if source.raycaster and isinstance(earlier, dict):
            earlier.setdefault("raycaster", "embree")  # before there was a choice
        _check_same(
            upgrade(type(source.config), earlier),
            request_of(source, num_items),
            folder,
            "holds the beginning of a data set",
        )
    elif folder.sizes() or folder.folders():
        raise UserError(f"{folder.uri} is not empty and holds no data set; choose another --out")


def _check_same(stored: dict, requested: dict, folder: Folder, what: str) -> None:
    difference = first_difference(stored, requested, sort=False)
    if difference:
        key, value, needed = difference
        was = f"no {key}" if value is None and key not in stored else f"{key} = {value!r}"
        raise UserError(
            f"{folder.uri} {what} with {was}, not {needed!r} as requested; choose another --out or delete it"
        )


def check_disk(folder: Folder, source: Source, items: Sequence) -> None:
    """Check that a local disk has room for what is still to be written, by the size of a few records.

    Raises:
        UserError: it has not.
    """
    if not is_local(folder.uri):
        return
    sizes: list[int] = []
    for k in range(4 * _PROBED):
        outcomes = source.read(items[k * len(items) // (4 * _PROBED)])
        sizes += [_stored_bytes(record) for record in outcomes if not isinstance(record, Rejected | Skipped)]
        if len(sizes) >= _PROBED:
            break
    rows = len(items) * source.rows_per_item
    needed = int(1.05 * rows * sum(sizes) / max(1, len(sizes))) - sum(folder.sizes().values())
    place = existing_parent(folder.uri)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder.uri} will need about {needed / 1e9:.1f} GB, and {place} has {free / 1e9:.1f} GB free; "
            "make room, choose another --out or ask for less"
        )


def _stored_bytes(record: Person | Scene) -> int:
    pieces = [record, *getattr(record, "instances", ())]
    encoded = sum(len(value) for piece in pieces for value in vars(piece).values() if isinstance(value, bytes))
    return encoded + _OTHER_BYTES * len(pieces)
