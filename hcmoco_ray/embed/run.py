"""Embed a set of people: check, embed the parts that are missing, close the folder with its manifest.

While the people are embedded, the folder also holds

    _parts/request.json      the request; another one into the same folder is refused
    _parts/part-00000.json   one per part that is written; a part without it does not count

and none of them remains beside the manifest.
"""

import argparse
import json
import math
import sys
from typing import Any

import hcmoco
from hcmoco.data.codecs import encode_png
from hcmoco.data.depth_masking import counted, warning
from hcmoco.data.schema import MODALITIES
from hcmoco.datasets.base import Rejected
from hcmoco.embedding.features import PEOPLE, draw_features
from hcmoco.embedding.pictures import PicturedPeople
from hcmoco.embedding.sources import People
from hcmoco.embedding.table import FEATURES, LINES, MANIFEST, REJECTED, File, Manifest, Pictures, read_manifest
from hcmoco.errors import UserError
from hcmoco.export import Export
from hcmoco.storage import Folder, absolute, is_local, join
from hcmoco_ray.cluster import session
from hcmoco_ray.embed.pool import Pool, embed_parts, finished_parts
from hcmoco_ray.embed.request import REQUEST, Embedding, check_request, is_finished, place_of, plan
from hcmoco_ray.embed.worker import WORK
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.tracking.progress import Progress

_SHOWN = 5


def run(given: argparse.Namespace) -> int:
    """Embed the people of a command line; returns the exit status.

    Raises:
        UserError: an argument, the weights or the people are bad, or the folder holds something else.
    """
    pool = _pool(given)
    out = absolute(resolve_path(given.output_dir))
    folder = _folder(given.output_dir, out)
    embedding = plan(given, out)
    job, people, request = embedding.job, embedding.job.people, embedding.request
    if is_finished(folder, request):
        manifest = read_manifest(folder)
        folder.delete_folder(WORK)  # of a process that was killed in its last moment
        print(f"{out}: already embedded, {manifest.rows} people in {len(manifest.files)} files")
        return 0
    check_request(folder, request)
    folder.check_writable()
    for line in embedding.lines:
        _say(line)
    _say(f"{given.weights} on {len(people)} people of {given.data}: {', '.join(job.cropping.modalities)}")
    cluster = session.connect()
    cluster.require_shared_storage(("DATA", place_of(given)), ("--out", out))
    pool.size(job.parts)  # before anything is written
    folder.write(REQUEST, json.dumps(request).encode())
    done = finished_parts(folder)
    progress = Progress(f"embedding {people.name}", len(people), "people")
    progress.add(sum(record["people"] for record in done.values()), free=True)
    try:
        embed_parts(job, pool, done, progress.add)
    except KeyboardInterrupt:
        progress.close()
        raise KeyboardInterrupt(f"{out} keeps what is written, the same command resumes") from None
    finally:
        progress.close()
    return _finish(given, embedding, folder, [done[number] for number in range(job.parts)])


def _finish(given: argparse.Namespace, embedding: Embedding, folder: Folder, records: list[dict[str, Any]]) -> int:
    """Write what concerns all parts, the manifest last, and print what became of the people."""
    job, model = embedding.job, embedding.model
    people, export = job.people, job.export
    files = tuple(File(**record["file"]) for record in records if record["file"])
    rejected = [Rejected(id, reason) for record in records for id, reason in record["rejected"]]
    counts = {name: sum(record["modalities"][name] for record in records) for name in MODALITIES}
    if not files:
        raise UserError(f"none of {len(people)} people could be read; {_text(rejected[0].id)}: {rejected[0].reason}")
    told = _masking_warning(given, export, people, counts["depth"], sum(record["unmasked"] for record in records))
    if rejected:
        text = "".join(json.dumps({"id": each.id, "reason": each.reason}) + "\n" for each in rejected)
        folder.write(REJECTED, text.encode())
    picture = draw_features(model, people, job.cropping, given.people_shown) if given.people_shown else None
    if picture is not None:
        folder.write(FEATURES, encode_png(picture))
    pictures = None
    if isinstance(people, PicturedPeople):
        folder.write(LINES, people.to_lines())
        config = people.config.model_dump(mode="json", exclude_defaults=True)
        pictures = Pictures(config=config, whole=people.whole)
    manifest = Manifest(
        hcmoco=hcmoco.__version__,
        request=embedding.request,
        weights={"name": given.weights, "sha256": export.digest},
        data={"uri": place_of(given), "name": people.name, "content": people.content, "people": len(people)},
        pictures=pictures,
        embedding_size=model.embedding_size,
        image_size=job.cropping.size,
        joint_set=model.joint_set,
        joints=model.joints,
        shapes=job.columns,
        rows=sum(file.rows for file in files),
        modalities=counts,
        rejected=len(rejected),
        warning=told,
        files=files,
    )
    folder.write(MANIFEST, manifest.model_dump_json(indent=1).encode())
    folder.delete_folder(WORK)
    for name in folder.sizes():
        if ".writing-" in name:  # of a process that was killed
            folder.delete(name)
    for each in rejected[:_SHOWN]:
        print(f"rejected {_text(each.id)}: {each.reason}", file=sys.stderr)
    if len(rejected) > _SHOWN:
        print(f"rejected {len(rejected) - _SHOWN} more; {join(job.out, REJECTED)} says why", file=sys.stderr)
    if told:
        _say(told)
    size = sum(file.bytes for file in files)
    named = ", ".join(f"{counts[name]} with {name}" for name in job.cropping.modalities)
    more = f", {len(rejected)} rejected" if rejected else ""
    _say(f"{manifest.rows} people ({named}) in {len(files)} files, {size / 1e6:.1f} MB{more}")
    _say(f"embeddings {job.out}")
    if picture is not None:
        _say(f"picture    {join(job.out, FEATURES)}")
    return 0


def _pool(given: argparse.Namespace) -> Pool:
    """The actors that the options ask for. Raises UserError for a value out of range."""
    counts = (("--workers", given.workers), ("--threads", given.threads), ("--batch", given.batch))
    for name, value in counts:
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    if not 0 < given.cpus < math.inf:
        raise UserError(f"--cpus {given.cpus:g}: must be more than 0")
    if not 0 <= given.gpus < math.inf:
        raise UserError(f"--gpus {given.gpus:g}: must be 0 or more")
    if not 0 <= given.people_shown <= PEOPLE:
        raise UserError(f"--people-shown {given.people_shown}: must be from 0 to {PEOPLE}")
    threads = given.threads if given.threads is not None else max(1, int(given.cpus))
    return Pool(given.workers, given.cpus, given.gpus, threads)


def _folder(given: str, out: str) -> Folder:
    if out.startswith("memory://"):
        raise UserError(
            f"--out {given} lives in one process, and parts are written by several; give a path or a URI such as "
            "s3://bucket/folder"
        )
    folder = Folder(out)
    if is_local(out) and folder.local_path.exists() and not folder.local_path.is_dir():
        raise UserError(f"--out {given} is a file; give a folder that is empty or does not exist yet")
    return folder


def _masking_warning(given: argparse.Namespace, export: Export, people: People, with_depth: int, unmasked: int) -> str:
    """A line where depth shows more, or less, than that of the training."""
    if not with_depth:
        return ""
    trained = str(export.training.get("depth_masking", ""))
    shown = people.depth_masking or counted(with_depth, unmasked)
    advice = "give --mask rows, or prepare the data set with --segment (docs/data/masks.md)"
    return warning(f"the encoder of {given.weights}", trained, given.data, shown, advice)


def _text(name: str) -> str:
    return " ".join(name.split()).encode(errors="backslashreplace").decode()


def _say(text: str) -> None:
    print(text.encode(errors="backslashreplace").decode(), flush=True)
