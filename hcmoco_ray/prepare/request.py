"""What must hold before anything of a data set is read: a folder that is its own, and room on the disk."""

import json
import shutil
from collections.abc import Sequence

import hcmoco
from hcmoco.config import upgrade
from hcmoco.data.schema import Person, Scene
from hcmoco.data.shards.manifest import MANIFEST, read_manifest
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.errors import UserError
from hcmoco.storage import Folder, existing_parent, is_local
from hcmoco_ray.prepare.reader import PROGRAM, Source

WORK = "_parts"
REQUEST = f"{WORK}/request.json"
REFUSED = f"{WORK}/refused"
"""There after a run that stopped because too much was broken."""
_PROBED = 4


def request(source: Source, records: int) -> dict:
    return {"version": hcmoco.__version__, "records": records, **source.arguments}


def already_there(folder: Folder, source: Source) -> bool:
    if not folder.exists(MANIFEST):
        return False
    provenance = read_manifest(folder).provenance
    if provenance.program != PROGRAM:
        raise UserError(
            f"{folder.uri} already holds a data set, made by {provenance.program}; choose another --out or delete it"
        )
    _same(upgrade(type(source.config), provenance.arguments), source.arguments, folder, "already holds a data set")
    return True


def check_request(folder: Folder, source: Source, records: int) -> None:
    if folder.exists(REQUEST):
        try:
            earlier = json.loads(folder.read(REQUEST))
        except ValueError:
            earlier = {}
        _same(
            upgrade(type(source.config), earlier), request(source, records), folder, "holds the beginning of a data set"
        )
    elif folder.sizes() or folder.folders():
        raise UserError(f"{folder.uri} is not empty and holds no data set; choose another --out")


def _same(earlier: dict, asked: dict, folder: Folder, what: str) -> None:
    for key in [*asked, *earlier]:
        if earlier.get(key) != asked.get(key):
            was = f"{key} = {earlier[key]!r}" if key in earlier else f"no {key}"
            raise UserError(
                f"{folder.uri} {what} with {was}, asked for is {asked.get(key)!r}; choose another --out or delete it"
            )


def check_disk(folder: Folder, source: Source, items: Sequence) -> None:
    """UserError if what is still to be written, by the size of a few records, does not fit on a local disk."""
    if not is_local(folder.uri):
        return
    sizes: list[int] = []
    for k in range(4 * _PROBED):
        outcomes = source.read(items[k * len(items) // (4 * _PROBED)])
        sizes += [_stored_bytes(each) for each in outcomes if not isinstance(each, Rejected | Skipped)]
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
    return sum(len(value) for each in pieces for value in vars(each).values() if isinstance(value, bytes)) + 2000 * len(
        pieces
    )
