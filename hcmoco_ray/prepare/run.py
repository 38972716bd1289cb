"""Turns a source into a prepared data set with Ray tasks: one task per part, so that a kill costs the parts in flight and no more.

While it is being made, the folder also holds

    _parts/request.json      what was asked for; another request into the same folder is refused
    _parts/study-NAME.json   one for each measurement that came before the reading
    _parts/refused           after a run that found too much broken: the next one reads the broken records again, which may be mended
    _parts/part-00000.json   one for each finished part, with its checksum; a part without it does not count

and none remains beside the manifest. Row k of the result is a function of the source and the seed alone: items are shuffled before they
are read and dealt to parts in that order, whoever reads them; where an item is a clip or a video, the rows of a part are shuffled too.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise

import cv2

from hcmoco.data.shards.manifest import Manifest, read_manifest
from hcmoco.data.shards.writer import PART_ROWS, Part, finish, group_sizes, renumber, write_part
from hcmoco.datasets.person_crop import Rejected, Skipped
from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.storage import Folder, absolute, first_line, is_local
from hcmoco_ray.cluster import session
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.request import REFUSED, REQUEST, WORK, already_there, check_disk, check_request, request
from hcmoco_ray.tracking.progress import Progress

# Enough parts to keep a small cluster busy and to show progress, and parts that are not tiny.
_PARTS_AIMED_AT, _SMALLEST_PART = 64, 64
_SHOWN_BROKEN = 30
_SETTLE_S = 2.0


def prepare(source: Source, out: str, *, max_broken: float = 0.05) -> tuple[Manifest, bool]:
    """The data set of `source` at `out`, and whether it was made now (False: it was there already).

    Raises UserError where `out` holds anything else, the disk is too small, the source is unusable, or more than the share `max_broken`
    of its records is broken; what was finished stays for the next run.
    """
    if not 0 <= max_broken <= 1:
        raise UserError(f"--max-broken {max_broken}: must be a share from 0 to 1")
    if out.startswith("memory://"):
        raise UserError(
            f"--out {out} lives in one process, and parts are written by several; give a path or a URI such as s3://bucket/folder"
        )
    folder = Folder(absolute(out))
    if is_local(out) and folder.local_path.exists() and not folder.local_path.is_dir():
        raise UserError(f"--out {out} is a file; give a folder that is empty or not there yet")
    if already_there(folder, source):
        return read_manifest(folder), False
    about = source.about
    items = source.items()
    if not len(items):
        raise UserError(f"{source.name}: there is no record to read; check what the arguments point to")
    check_request(folder, source, len(items))
    studies = source.studies(items)
    if not studies:
        check_disk(folder, source, items)
    cluster = session.start()
    cluster.refuse_local("--out", folder.uri)
    folder.write(REQUEST, json.dumps(request(source, len(items))).encode())
    _forget_refused(folder, studies)
    measured = _measure(source, folder, studies, cluster.cpus)
    if measured:
        try:
            items = source.with_studies(items, measured)
        except UserError:
            folder.write(REFUSED, b"")
            raise
        check_disk(folder, source, items)

    made: dict[int, Part] = {}
    expected = len(items) * source.rows_per_item
    progress = Progress(f"preparing {source.name}", len(items), source.unit)

    def collect(result: tuple[Part, int, bool]) -> None:
        part, read, was_there = result
        made[part.number] = part
        progress.add(read, free=was_there)
        _refuse_broken(source, folder, made, max_broken, max(expected, _records(made)), len(items), progress)

    order = make_rng(source.seed, "write").permutation(len(items)).tolist()
    dealt = [
        [items[k] for k in order[start:stop]] for start, stop in pairwise(part_bounds(len(items), source.rows_per_item))
    ]
    # What is not going to be a row is not counted as one, so that few parts have to be numbered anew.
    expected_rows = [
        source.rows_per_item * sum(not isinstance(item, Rejected | Skipped) for item in each) for each in dealt
    ]
    firsts = accumulate(expected_rows, initial=0)
    calls = [
        (source, folder, number, first, each) for number, (first, each) in enumerate(zip(firsts, dealt, strict=False))
    ]
    _run(make_part, calls, cluster.cpus, collect, progress.show)
    _refuse_broken(source, folder, made, max_broken, _records(made), len(items), progress)
    parts = [made[number] for number in range(len(calls))]
    starts = [0, *accumulate(part.rows for part in parts)]
    moves = [
        (folder, source, part, start) for part, start in zip(parts, starts, strict=False) if part.first_index != start
    ]
    _run(move_part, moves, cluster.cpus, lambda part: made.update({part.number: part}), progress.show)
    progress.close()
    manifest = finish(folder, about, [made[number] for number in range(len(calls))], measured)
    folder.delete_folder(WORK)
    for name in folder.sizes():
        if ".writing-" in name:  # of a process that was killed
            folder.delete(name)
    return manifest, True


def _measure(source: Source, folder: Folder, studies: dict[str, object], cpus: int) -> dict[str, dict]:
    """The results of `studies` by name, those that an earlier run finished included."""
    measured: dict[str, dict] = {}
    progress = Progress(f"measuring {source.name}", len(studies), "studies")

    def collect(result: tuple[str, dict, bool]) -> None:
        name, values, was_there = result
        measured[name] = values
        progress.add(1, free=was_there)

    _run(make_study, [(source, folder, name, each) for name, each in studies.items()], cpus, collect, progress.show)
    progress.close()
    return {name: measured[name] for name in studies}


def _records(made: dict[int, Part]) -> int:
    return sum(part.rows + len(part.rejected) for part in made.values())


def _forget_refused(folder: Folder, studies: dict[str, object]) -> None:
    """After a run that was refused: forgets its parts with broken records, and everything where records depend on measurements."""
    if not folder.exists(REFUSED):
        return
    for name in folder.sizes(WORK):
        place = f"{WORK}/{name}"
        if name.startswith("study-") or (
            name.startswith("part-") and (studies or not (part := _stored(folder, place)) or part.rejected)
        ):
            folder.delete(place)
    folder.delete(REFUSED)


def _refuse_broken(
    source: Source,
    folder: Folder,
    made: dict[int, Part],
    max_broken: float,
    records: int,
    items: int,
    progress: Progress,
) -> None:
    """UserError with their list if more than the share `max_broken` of `records` is broken, or of `items` lost: how many records a video
    would have given that does not open is not known."""
    broken = [record for each in made.values() for record in each.rejected]
    lost = sum(each.lost for each in made.values())
    for count, total, what in ((len(broken), records, "records"), (lost, items, source.unit)):
        if count > (allowed := int(max_broken * total)):
            progress.close()
            folder.write(REFUSED, b"")
            _list_broken(broken)
            raise UserError(
                f"{count} of the {total} {what} of {source.name} are broken so far, --max-broken {max_broken} allows "
                f"{allowed}; mend them, or raise --max-broken to go on from the finished parts"
            )


def part_bounds(items: int, rows_per_item: int = 1) -> list[int]:
    """Where the parts of `items` shuffled items begin, and the end of the last: a function of their numbers alone."""
    largest = min(PART_ROWS, max(_SMALLEST_PART, -(-items * rows_per_item // _PARTS_AIMED_AT)))
    return [0, *accumulate(group_sizes(items, max(1, largest // rows_per_item)))]


# --- tasks


def make_part(source: Source, folder: Folder, number: int, first_index: int, items: Sequence) -> tuple[Part, int, bool]:
    """Reads `items` and writes them as one part; (part, items, False), or (part, items, True) where it was finished before.

    Its rows are numbered as if no record before it were broken; `move_part` corrects that where it is not so.
    """
    cv2.setNumThreads(1)
    stored = _finished_part(folder, number)
    if stored:
        return stored, len(items), True
    records, rejected, left_out, lost = [], [], Counter(), 0
    for item in items:
        outcomes = source.read(item)
        lost += source.rows_per_item > 1 and all(isinstance(each, Rejected) for each in outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Rejected):
                rejected.append((outcome.id, outcome.reason))
            elif isinstance(outcome, Skipped):
                left_out[outcome.reason] += 1
            else:
                records.append(outcome)
    if source.rows_per_item > 1:
        records = [records[k] for k in make_rng(source.seed, "write", number).permutation(len(records))]
    part = write_part(
        folder, number, source.about, records, first_index=first_index, rejected=rejected, left_out=left_out, lost=lost
    )
    folder.write(_record_name(number), part.model_dump_json().encode())
    return part, len(items), False


def make_study(source: Source, folder: Folder, name: str, each: object) -> tuple[str, dict, bool]:
    """(name, what was measured, False), or (name, what an earlier run measured, True)."""
    stored = f"{WORK}/study-{name}.json"
    try:
        return name, json.loads(folder.read(stored)), True
    except (OSError, ValueError):
        values = source.study(each)
    folder.write(stored, json.dumps(values).encode())
    return name, values, False


def move_part(folder: Folder, source: Source, part: Part, first_index: int) -> Part:
    """`part` with its rows numbered from `first_index`, on disk and in its record."""
    moved = renumber(folder, part, source.about, first_index)
    folder.write(_record_name(part.number), moved.model_dump_json().encode())
    return moved


def _finished_part(folder: Folder, number: int) -> Part | None:
    """The part that an earlier run finished, if its file still has the checksum that its record says."""
    part = _stored(folder, _record_name(number))
    try:
        if part and part.number == number and (part.file is None or folder.sha256(part.file.name) == part.file.sha256):
            return part
    except OSError:
        pass
    return None


def _stored(folder: Folder, name: str) -> Part | None:
    """The record of a part, None where it is missing or damaged."""
    try:
        return Part.model_validate_json(folder.read(name))
    except (OSError, ValueError):
        return None


def _record_name(number: int) -> str:
    return f"{WORK}/part-{number:05d}.json"


def _run(task: Callable, calls: Iterable[tuple], cpus: int, collect: Callable, idle: Callable[[], None]) -> None:
    """Calls `task` for each of `calls` on the cluster, two per CPU in flight, and `collect` with each result as it comes."""
    import ray

    remote = ray.remote(num_cpus=1)(task)
    waiting, pending = iter(calls), []
    try:
        while True:
            while len(pending) < 2 * cpus and (call := next(waiting, None)) is not None:
                pending.append(remote.remote(*call))
            if not pending:
                return
            done, pending = ray.wait(pending, num_returns=1, timeout=0.5)
            for result in ray.get(done):
                collect(result)
            idle()
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise UserError(
            f"a worker process died several times over the same files ({first_line(error)}); what was finished stays. Give it more memory, "
            "or look for a damaged file with --check"
        ) from None
    finally:
        # One that is writing would write over what the next run into this folder, which may begin at once, has put there.
        for force in (False, True):
            for each in pending:
                ray.cancel(each, force=force)
            if pending:
                _, pending = ray.wait(pending, num_returns=len(pending), timeout=_SETTLE_S)


def _list_broken(broken: Sequence) -> None:
    for record in broken[:_SHOWN_BROKEN]:
        print(f"  {record.id}: {record.reason}", file=sys.stderr)
    if len(broken) > _SHOWN_BROKEN:
        print(f"  ... and {len(broken) - _SHOWN_BROKEN} more", file=sys.stderr)
