"""Prepare a data set: turn raw files, or synthetic people, into shards that training reads.

    python pipelines/prepare.py people --out data/people --count 2000
    python pipelines/prepare.py people --out data/people-wild --count 2000 --domain wild
    python pipelines/prepare.py people --scenes --out data/people-scenes --count 500
    python pipelines/prepare.py folder --out data/mine --path ~/pictures
    python pipelines/prepare.py keypoints --images rgb --keypoints openpose-json --out data/mine
    python pipelines/prepare.py recording --out data/mine --path ~/realsense
    python pipelines/prepare.py folder --out data/found --path ~/pictures --detect keypoint-rcnn.pth
    python pipelines/prepare.py ntu --source downloads/NTU --check
    python pipelines/prepare.py ntu --source downloads/NTU --dataset 60 --out s3://bucket/ntu60-train
    python pipelines/prepare.py verify data/people
    python pipelines/prepare.py sheet data/people people.png

Relative paths of data sets are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against
~/hcmoco.
Downloads and pictures are searched for in the current folder.
The same command again resumes a killed one, and does nothing if the data set is complete.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hcmoco.datasets.base import Rejected
from hcmoco.datasets.detected import is_detected
from hcmoco.datasets.registry import REGISTRY
from hcmoco.errors import UserError
from hcmoco.unused_options import unused
from hcmoco_ray import cli
from hcmoco_ray.cluster.entrypoint import main_wrapper
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare.reader import Source, add_arguments, commands, description, from_arguments
from hcmoco_ray.tracking.progress import Progress

if TYPE_CHECKING:
    from hcmoco.data.shards.reader import Shards


@main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    arguments = parser().parse_args(argv)
    return arguments.run(arguments)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = cli.Parser(prog="prepare.py", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=cli.CommandParser)
    for kind in commands():
        command = subparsers.add_parser(
            kind,
            help=REGISTRY[kind].help,
            description=description(kind),
        )
        command.add_argument(
            "--output-dir",
            "--out",
            dest="output_dir",
            help="folder or URI of the data set, for example data/people or s3://bucket/people",
        )
        command.add_argument(
            "--max-broken",
            type=float,
            default=0.05,
            help="share of records that may be rejected; more stop (default 0.05)",
        )
        if not REGISTRY[kind].numbered:
            command.add_argument(
                "--check",
                action="store_true",
                help="only list what is missing or unreadable, and read a few records; nothing is written",
            )
        add_arguments(command, kind)
        if REGISTRY[kind].load().to_detect is not None:
            command.add_argument(
                "--gpus",
                type=float,
                default=0.0,
                help="GPUs that each process of --detect asks the cluster for (default 0: it computes on CPUs)",
            )
        command.set_defaults(run=_prepare, kind=kind)
    command = subparsers.add_parser("verify", help="check every byte of a prepared data set against its manifest")
    command.add_argument("uri")
    command.set_defaults(run=_verify)
    command = subparsers.add_parser("sheet", help="a picture of the first rows of a prepared data set")
    command.add_argument("uri")
    command.add_argument("png", help="file to write")
    command.add_argument("--count", type=int, default=8, help="rows shown (default 8)")
    command.set_defaults(run=_sheet)
    return parser


def _prepare(arguments: argparse.Namespace) -> int:
    source = from_arguments(arguments.kind, arguments)
    if getattr(arguments, "gpus", 0) and not is_detected(source.config):
        raise unused("--gpus", "--detect WEIGHTS")
    if not 0 <= getattr(arguments, "max_broken", 0) <= 1:
        raise UserError(f"--max-broken {arguments.max_broken}: must be a share from 0 to 1")
    if getattr(arguments, "check", False):
        return _check(_resolved(source))
    if not arguments.output_dir:
        raise UserError(
            "--out is missing; give the folder or URI of the data set, for example data/people or s3://bucket/people"
        )
    from hcmoco.data.shards.manifest import reason_kind
    from hcmoco_ray.prepare.run import prepare

    source = _resolved(source)
    manifest, made = prepare(
        source,
        resolve_path(arguments.output_dir),
        max_broken=arguments.max_broken,
        gpus=getattr(arguments, "gpus", 0.0),
    )
    size = sum(file.bytes for file in manifest.files)
    state = "prepared" if made else "already prepared"
    print(
        f"{arguments.output_dir}: {state}, {manifest.rows} rows in {len(manifest.files)} files, {size / 1e6:.1f} MB, "
        f"{manifest.rejected} rejected"
        + (f" (all of them in {manifest.rejected_file.name})" if manifest.rejected_file else "")
    )
    for kind, count in manifest.reasons.items():
        example = next((each for each in manifest.rejected_examples if reason_kind(each.reason) == kind), None)
        if example is None:
            print(f"  {count} x {kind}")
        else:
            # A record without its own id is named by its line, which the reason starts with.
            named = example.reason.startswith(example.id.partition("/")[2])
            # Of several that differ in names and numbers only, one is an example.
            one_of = "such as: " if count > 1 and example.reason != kind else ""
            print(f"  {count} x {one_of}{example.reason}" + ("" if named else f" ({example.id})"))
    for reason, count in manifest.skipped.items():
        print(f"  {count} skipped: {reason}")
    return 0


def _resolved(source: Source) -> Source:
    """Return the source with what its files decide, and print what that is."""
    source, lines = source.resolved()
    for line in lines:
        print(line)
    return source


def _check(source: Source) -> int:
    """Print what the source has, every file that it lacks, and what of a few records is rejected.

    Raises UserError if there is any.
    """
    found = source.inventory()
    print(f"{source.name}: " + ", ".join(f"{count:,} {what}" for what, count in found.counts.items()))
    for note in found.notes:
        print(f"  {note}")
    where = f"--{source.reader.root}"
    if not found.faults and not any(found.counts.values()):
        raise UserError(f"{source.name}: there is nothing to read; look at where {where} points")
    if found.faults:
        for fault in found.faults:
            _print_fault(fault.path, fault.reason)
        are = "is" if len(found.faults) == 1 else "are"
        raise UserError(
            f"{source.name}: {len(found.faults):,} of what is needed {are} missing or unreadable, as listed above; "
            f"download it again or fix it, or look at where {where} points"
        )
    print("  nothing is missing")
    num_read, rejected = 0, 0
    for outcome in source.read_few():
        num_read += 1
        if isinstance(outcome, Rejected):
            rejected += 1
            _print_fault(outcome.id, outcome.reason)
    if rejected:
        raise UserError(
            f"{source.name}: {rejected:,} of {num_read:,} records that were read to try it are rejected, as listed "
            "above; do what the lines say"
        )
    if not num_read:
        raise UserError(
            f"{source.name}: no record comes of its files, so there is nothing to prepare; do what the lines above "
            f"say, or look at where {where} points"
        )
    print(f"  {num_read:,} records were read to try it, and none is rejected")
    return 0


def _print_fault(what: str, reason: str) -> None:
    print(f"  {what}: {reason}".encode(errors="backslashreplace").decode())


def _verify(arguments: argparse.Namespace) -> int:
    from hcmoco.data.shards.reader import Shards
    from hcmoco.data.shards.verify import verify

    uri = resolve_path(arguments.uri)
    manifest = Shards.open(uri).manifest
    progress = Progress(f"verifying {uri}", len(manifest.files), "files")
    problems = verify(uri, progress=lambda _: progress.add(1))
    progress.close()
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        print("\n".join(f"  {problem}" for problem in problems), file=sys.stderr)
        files = len(manifest.files) + (manifest.rejected_file is not None)
        raise UserError(
            f"{uri}: {len(problems)} of {files} files are bad; copy them again or prepare the data set again"
        )
    print(f"{uri}: whole, {manifest.rows} rows in {len(manifest.files)} files")
    return 0


def _sheet(arguments: argparse.Namespace) -> int:
    from hcmoco.data.codecs import encode_png
    from hcmoco.data.schema import Scene
    from hcmoco.data.shards.reader import Shards
    from hcmoco.synthetic import contact_sheet, scene_sheet

    if not arguments.png.endswith(".png"):
        raise UserError(f"{arguments.png}: the picture is written as PNG; give a name that ends in .png")
    if arguments.count < 1:
        raise UserError(f"--count {arguments.count}: must be at least 1")
    uri = resolve_path(arguments.uri)
    shards = Shards.open(uri)
    records: list
    if shards.manifest.kind == "scene":
        records = [Scene.from_row(row) for row in itertools.islice(_rows(shards), arguments.count)]
        picture = scene_sheet(records)
    else:
        records = _first_persons(shards, arguments.count)
        picture = contact_sheet(records)
    Path(arguments.png).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.png).write_bytes(encode_png(picture))
    print(f"{arguments.png}: {len(records)} rows of {uri}")
    return 0


def _rows(shards: "Shards") -> Iterator[dict]:
    for group in range(len(shards.group_rows)):
        yield from shards.read_group(group).to_pylist()


def _first_persons(shards: "Shards", count: int) -> list:
    """Return the first `count` rows with a picture, in the joint set and depth codec that a contact sheet shows."""
    from hcmoco.data.codecs import decode_depth, encode_depth
    from hcmoco.data.schema import Person
    from hcmoco.data.skeletons import convert
    from hcmoco.synthetic import DEPTH_CODEC

    seen = (row for row in _rows(shards) if row["rgb"] is not None or row["depth"] is not None)
    persons: list[Person] = [Person.from_row(row) for row in itertools.islice(seen, count)]
    if not persons:
        raise UserError(f"{shards.uri} has no row with a picture to show")
    for person in persons:
        if person.keypoints is not None:
            person.keypoints = convert(person.keypoints, shards.manifest.joints, "people-31")
        if person.depth is not None:
            person.depth = encode_depth(decode_depth(person.depth, shards.manifest.depth_codec), DEPTH_CODEC)
    return persons
