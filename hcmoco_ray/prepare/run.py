"""Prepare a data set with Ray tasks, one per part, so that a kill costs no more than the parts in flight.

While the data set is prepared, its folder also holds

    _parts/request.json           the request; another request into the same folder is refused
    _parts/calibration-NAME.json  one per calibration that was measured before the reading
    _parts/detected-00000.json    who a detector found in the items whose number is the key
    _parts/people.json            which people these were, all told: another number of them makes other parts
    _parts/refused                after a run that rejected too many records: the next run reads these records again,
                                  which may have been fixed
    _parts/part-00000.json        one per finished part, with its checksum; a part without it does not count

and none of them remains beside the manifest. Row k of the result is a function of the source and the seed alone. Items
are shuffled before they are read and dealt to parts in that order. Where an item is a clip or a video, the rows of a
part are shuffled too.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from hcmoco.data.shards.manifest import Manifest, read_manifest
from hcmoco.data.shards.writer import Part, finish
from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.detected import is_detected, weights_of
from hcmoco.datasets.segmentation.request import files_of
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.storage import Folder, absolute, is_local
from hcmoco_ray.cluster import session
from hcmoco_ray.prepare.detect import find_all
from hcmoco_ray.prepare.parallel import run_tasks
from hcmoco_ray.prepare.parts import (
    calibrate,
    forget_parts_of_others,
    forget_rejected,
    make_part,
    move_part,
    part_bounds,
)
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.request import (
    REFUSED,
    REQUEST,
    WORK,
    check_disk,
    check_request,
    is_prepared,
    request_of,
)
from hcmoco_ray.tracking.progress import Progress

_MAX_LISTED = 30


def prepare(source: Source, out: str, *, max_broken: float = 0.05, gpus: float = 0.0) -> tuple[Manifest, bool]:
    """Prepare the data set of `source`, or resume its preparation.

    Args:
        out: folder or URI of the data set.
        max_broken: share of the records that may be rejected, 0 to 1.
        gpus: that each process of a detector asks the cluster for.

    Returns:
        The manifest, and whether anything was written; False where the data set was complete before.

    Raises:
        UserError: `out` holds anything else, the disk is too small, the source is unusable, or too many records are
            rejected. Finished parts stay for the next run.
    """
    if not 0 <= max_broken <= 1:
        raise UserError(f"--max-broken {max_broken}: must be a share from 0 to 1")
    folder = _folder(out)
    if is_prepared(folder, source):
        return read_manifest(folder), False
    folder.check_writable()
    about = source.about
    # Chosen here for every node, not by the tasks.
    provenance = about.provenance.model_copy(update={"raycaster": source.raycaster})
    about = about.model_copy(update={"provenance": provenance})
    items = source.items()
    if not len(items):
        raise UserError(f"{source.name}: there is no record to read; check what the arguments point to")
    check_request(folder, source, len(items))
    calibrations = source.calibrations(items)
    detects = is_detected(source.config)
    if not calibrations and not detects:
        check_disk(folder, source, items)
    cluster = session.connect()
    files = [("the files in", source.folder)] if source.folder else []
    files += [*weights_of(source.config), *files_of(source.config)]
    cluster.require_shared_storage(("--output-dir", folder.uri), *files)
    folder.write(REQUEST, json.dumps(request_of(source, len(items))).encode())
    if folder.exists(REFUSED):
        forget_rejected(folder, calibrated=bool(calibrations) or detects)
        folder.delete(REFUSED)
    if detects:
        items = find_all(source, folder, items, gpus)
        forget_parts_of_others(folder, [item.id for item in items])
        check_disk(folder, source, items)
    measured = _measure(source, folder, calibrations)
    if measured:
        try:
            items = source.with_calibrations(items, measured)
        except UserError:
            folder.write(REFUSED, b"")
            raise
        check_disk(folder, source, items)
    parts = _make_parts(source, folder, items, max_broken)
    manifest = finish(folder, about, parts, measured)
    folder.delete_folder(WORK)
    for name in folder.sizes():
        if ".writing-" in name:  # of a process that was killed
            folder.delete(name)
    return manifest, True


def _folder(out: str) -> Folder:
    """Return the folder of a data set. Raises UserError where several processes cannot write to it."""
    if out.startswith("memory://"):
        raise UserError(
            f"--out {out} lives in one process, and parts are written by several; "
            "give a path or a URI such as s3://bucket/folder"
        )
    folder = Folder(absolute(out))
    if is_local(out) and folder.local_path.exists() and not folder.local_path.is_dir():
        raise UserError(f"--out {out} is a file; give a folder that is empty or does not exist yet")
    return folder


def _measure(source: Source, folder: Folder, calibrations: Mapping[str, Any]) -> dict[str, dict]:
    """Return the measured values by name of the calibration, including those of an earlier run."""
    measured: dict[str, dict] = {}
    progress = Progress(f"measuring {source.name}", len(calibrations), "calibrations")

    def collect(result: tuple[str, dict, bool]) -> None:
        name, values, was_finished = result
        measured[name] = values
        progress.add(1, free=was_finished)

    calls = [(source, folder, name, calibration) for name, calibration in calibrations.items()]
    run_tasks(calibrate, calls, collect, progress.show)
    progress.close()
    return {name: measured[name] for name in calibrations}


def _make_parts(source: Source, folder: Folder, items: Sequence, max_broken: float) -> list[Part]:
    """Write all parts, and number their rows without gaps. Raises UserError if too many records are rejected."""
    parts: dict[int, Part] = {}
    expected = len(items) * source.rows_per_item
    num_read = 0
    progress = Progress(f"preparing {source.name}", len(items), source.unit)

    def collect(result: tuple[Part, int, bool]) -> None:
        nonlocal num_read
        part, num_items, was_finished = result
        parts[part.number] = part
        progress.add(num_items, free=was_finished)
        num_read += num_items
        guessed = source.rows_per_item > 1 and num_read < len(items)
        check_rejected(max(expected, _num_records(parts)), guessed=guessed)

    def check_rejected(num_records: int, *, guessed: bool = False) -> None:
        try:
            _check_rejected(source, parts, max_broken, num_records, len(items), guessed=guessed)
        except UserError:
            progress.close()
            folder.write(REFUSED, b"")
            _list_rejected(parts)
            raise

    run_tasks(make_part, _calls(source, folder, items), collect, progress.show)
    check_rejected(_num_records(parts))
    ordered = [parts[number] for number in sorted(parts)]
    starts = [0, *accumulate(part.rows for part in ordered)]
    moves = [
        (folder, source, part, start) for part, start in zip(ordered, starts, strict=False) if part.first_index != start
    ]
    run_tasks(move_part, moves, lambda part: parts.update({part.number: part}), progress.show)
    progress.close()
    return [parts[number] for number in sorted(parts)]


def _calls(source: Source, folder: Folder, items: Sequence) -> list[tuple]:
    """Return the arguments of `make_part` for each part."""
    order = make_rng(source.seed, "write").permutation(len(items)).tolist()
    bounds = part_bounds(len(items), source.rows_per_item)
    dealt = [[items[k] for k in order[start:stop]] for start, stop in pairwise(bounds)]
    # An item that is rejected or skipped already gives no row. Not counting it means that few parts are renumbered.
    expected_rows = [
        source.rows_per_item * sum(not isinstance(item, Rejected | Skipped) for item in part) for part in dealt
    ]
    firsts = accumulate(expected_rows, initial=0)
    return [
        (source, folder, number, first, part) for number, (first, part) in enumerate(zip(firsts, dealt, strict=False))
    ]


def _num_records(parts: Mapping[int, Part]) -> int:
    return sum(part.rows + len(part.rejected) for part in parts.values())


def _check_rejected(
    source: Source,
    parts: Mapping[int, Part],
    max_broken: float,
    num_records: int,
    num_items: int,
    *,
    guessed: bool = False,
) -> None:
    """Raise UserError if more than the share `max_broken` of the records is rejected, or of the items.

    Items count too, because it is not known how many records a video would have given that cannot be opened.

    Args:
        source: what is prepared.
        parts: that are finished.
        max_broken: the share.
        num_records: of the whole source.
        num_items: likewise.
        guessed: `num_records` is estimated, because videos or clips that are not read yet give several records each.
    """
    rejected = sum(len(part.rejected) for part in parts.values())
    rejected_items = sum(part.rejected_items for part in parts.values())
    for count, total, what, of in (
        (rejected, num_records, "records", "of about" if guessed else "of the"),
        (rejected_items, num_items, source.unit, "of the"),
    ):
        if count > (allowed := int(max_broken * total)):
            raise UserError(
                f"{count} {of} {total} {what} of {source.name} are rejected so far, --max-broken {max_broken} "
                f"allows {allowed}; fix them, or raise --max-broken to resume from the finished parts"
            )


def _list_rejected(parts: Mapping[int, Part]) -> None:
    rejected = [record for part in parts.values() for record in part.rejected]
    for record in rejected[:_MAX_LISTED]:
        print(f"  {record.id}: {record.reason}", file=sys.stderr)
    if len(rejected) > _MAX_LISTED:
        print(f"  ... and {len(rejected) - _MAX_LISTED} more", file=sys.stderr)
