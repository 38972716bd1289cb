"""Turns a source into a prepared data set with Ray tasks: one task per part, so that a kill costs the parts in flight and no more.

While it is being made, the folder also holds

    _parts/request.json      what was asked for; another request into the same folder is refused
    _parts/part-00000.json   one for each finished part, with its checksum; a part without it does not count

and neither remains beside the manifest. Row k of the result is a function of the source and the seed alone: items are shuffled
before they are read and dealt to parts in that order, whoever reads them.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import cv2

import hcmoco
from hcmoco.datasets.records import Rejected
from hcmoco.draws import generator
from hcmoco.errors import UserError
from hcmoco.shards.manifest import MANIFEST, Manifest, read_manifest
from hcmoco.shards.storage import Folder, absolute, is_local
from hcmoco.shards.write import PART_ROWS, Part, finish, group_sizes, renumber, write_part
from pipelines import _cluster
from pipelines._progress import Progress
from pipelines._sources import PROGRAM, Source

WORK = "_parts"
REQUEST = f"{WORK}/request.json"
# Enough parts to keep a small cluster busy and to show progress, and parts that are not tiny.
_PARTS_AIMED_AT, _SMALLEST_PART = 64, 64
_SHOWN_BROKEN = 30
_PROBED = 4


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
    if _already_there(folder, source):
        return read_manifest(folder), False
    about = source.about
    items = source.items()
    if not len(items):
        raise UserError(f"{source.name}: there is no record to read; check what the arguments point to")
    _check_request(folder, source, len(items))
    _check_disk(folder, source, items)
    cluster = _cluster.start()
    cluster.refuse_local("--out", folder.uri)
    folder.write(REQUEST, json.dumps(_request(source, len(items))).encode())

    made: dict[int, Part] = {}
    allowed = int(max_broken * len(items))
    progress = Progress(f"preparing {source.name}", len(items), "records")

    def collect(result: tuple[Part, int, bool]) -> None:
        part, read, was_there = result
        made[part.number] = part
        progress.add(read, free=was_there)
        broken = [record for each in made.values() for record in each.rejected]
        if len(broken) > allowed:
            progress.close()
            _list_broken(broken)
            raise UserError(
                f"{len(broken)} of the {len(items)} records of {source.name} are broken so far, --max-broken {max_broken} allows "
                f"{allowed}; mend them, or raise --max-broken to go on from the finished parts"
            )

    order = generator(source.seed, "write").permutation(len(items)).tolist()
    bounds = part_bounds(len(items))
    calls = [
        (source, folder, number, start, [items[k] for k in order[start:stop]]) for number, (start, stop) in enumerate(pairwise(bounds))
    ]
    _run(make_part, calls, cluster.cpus, collect, progress.show)
    parts = [made[number] for number in range(len(calls))]
    starts = [0, *accumulate(part.rows for part in parts)]
    moves = [(folder, source, part, start) for part, start in zip(parts, starts, strict=False) if part.first_index != start]
    _run(move_part, moves, cluster.cpus, lambda part: made.update({part.number: part}), progress.show)
    progress.close()
    manifest = finish(folder, about, [made[number] for number in range(len(calls))])
    folder.delete_folder(WORK)
    for name in folder.sizes():
        if ".writing-" in name:  # of a process that was killed
            folder.delete(name)
    return manifest, True


def part_bounds(records: int) -> list[int]:
    """Where the parts of `records` shuffled records begin, and the end of the last: a function of their number alone."""
    largest = min(PART_ROWS, max(_SMALLEST_PART, -(-records // _PARTS_AIMED_AT)))
    return [0, *accumulate(group_sizes(records, largest))]


# --- tasks


def make_part(source: Source, folder: Folder, number: int, first_index: int, items: Sequence) -> tuple[Part, int, bool]:
    """Reads `items` and writes them as one part; (part, items, False), or (part, items, True) where it was finished before.

    Its rows are numbered as if no record before it were broken; `move_part` corrects that where it is not so.
    """
    cv2.setNumThreads(1)
    stored = _finished_part(folder, number)
    if stored:
        return stored, len(items), True
    persons, rejected = [], []
    for item in items:
        record = source.read(item)
        if isinstance(record, Rejected):
            rejected.append((record.id, record.reason))
        else:
            persons.append(record)
    part = write_part(folder, number, source.about, persons, first_index=first_index, rejected=rejected)
    folder.write(_record_name(number), part.model_dump_json().encode())
    return part, len(items), False


def move_part(folder: Folder, source: Source, part: Part, first_index: int) -> Part:
    """`part` with its rows numbered from `first_index`, on disk and in its record."""
    moved = renumber(folder, part, source.about, first_index)
    folder.write(_record_name(part.number), moved.model_dump_json().encode())
    return moved


def _finished_part(folder: Folder, number: int) -> Part | None:
    """The part that an earlier run finished, if its file still has the checksum that its record says."""
    try:
        part = Part.model_validate_json(folder.read(_record_name(number)))
        if part.number == number and (part.file is None or folder.sha256(part.file.name) == part.file.sha256):
            return part
    except (OSError, ValueError):
        pass
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
    finally:
        for each in pending:
            ray.cancel(each)


# --- what must hold before anything is read


def _request(source: Source, records: int) -> dict:
    return {"version": hcmoco.__version__, "records": records, **source.arguments}


def _already_there(folder: Folder, source: Source) -> bool:
    if not folder.exists(MANIFEST):
        return False
    made_by = read_manifest(folder).made_by
    if made_by.program != PROGRAM:
        raise UserError(f"{folder.uri} already holds a data set, made by {made_by.program}; choose another --out or delete it")
    _same(made_by.arguments, source.arguments, folder, "already holds a data set")
    return True


def _check_request(folder: Folder, source: Source, records: int) -> None:
    if folder.exists(REQUEST):
        try:
            earlier = json.loads(folder.read(REQUEST))
        except ValueError:
            earlier = {}
        _same(earlier, _request(source, records), folder, "holds the beginning of a data set")
    elif folder.sizes() or folder.folders():
        raise UserError(f"{folder.uri} is not empty and holds no data set; choose another --out")


def _same(earlier: dict, asked: dict, folder: Folder, what: str) -> None:
    for key in [*asked, *earlier]:
        if earlier.get(key) != asked.get(key):
            was = f"{key} = {earlier[key]!r}" if key in earlier else f"no {key}"
            raise UserError(f"{folder.uri} {what} with {was}, asked for is {asked.get(key)!r}; choose another --out or delete it")


def _check_disk(folder: Folder, source: Source, items: Sequence) -> None:
    """UserError if what is still to be written, by the size of a few records, does not fit on a local disk."""
    if not is_local(folder.uri):
        return
    sizes: list[int] = []
    for k in range(4 * _PROBED):
        record = source.read(items[k * len(items) // (4 * _PROBED)])
        if not isinstance(record, Rejected):
            pieces = [record, *getattr(record, "instances", ())]
            sizes.append(
                sum(len(value) for each in pieces for value in vars(each).values() if isinstance(value, bytes)) + 2000 * len(pieces)
            )
        if len(sizes) == _PROBED:
            break
    needed = int(1.05 * len(items) * sum(sizes) / max(1, len(sizes))) - sum(folder.sizes().values())
    place = Path(folder.uri)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder.uri} will need about {needed / 1e9:.1f} GB, and {place} has {free / 1e9:.1f} GB free; "
            "make room, choose another --out or ask for less"
        )


def _list_broken(broken: Sequence) -> None:
    for record in broken[:_SHOWN_BROKEN]:
        print(f"  {record.id}: {record.reason}", file=sys.stderr)
    if len(broken) > _SHOWN_BROKEN:
        print(f"  ... and {len(broken) - _SHOWN_BROKEN} more", file=sys.stderr)
