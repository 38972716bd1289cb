"""Find who is nearest between finished embeddings, and write and print what was found. Needs no cluster."""

import argparse
import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import hcmoco
from hcmoco import markdown
from hcmoco.data.codecs import encode_png
from hcmoco.data.schema import MODALITIES
from hcmoco.datasets.base import Rejected
from hcmoco.embedding.crops import Crop, Cropping, cut_out
from hcmoco.embedding.matches import Shown, matches_sheet, to_table
from hcmoco.embedding.nearest import Found, search
from hcmoco.embedding.sides import Side
from hcmoco.embedding.table import EmbeddingSet
from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, absolute, is_local, join
from hcmoco_ray.cluster.cpus import cpus_here
from hcmoco_ray.embed.data import reopen_people
from hcmoco_ray.paths import resolve_path

RESULTS, TABLE, PICTURE = "results.json", "matches.parquet", "matches.png"
FORMAT, FORMAT_VERSION = "hcmoco-matches", 1
RECALLS = (1, 5)
_FRAMING = "both sides are cut out of the same pictures alike, so how people lie in their crops tells them apart, too"


def run(given: argparse.Namespace) -> int:
    """Find who is nearest; returns the exit status.

    Raises:
        UserError: an argument is bad, embeddings are not finished or of another space, or the folder holds other files.
    """
    if given.top < 1:
        raise UserError(f"--top {given.top}: must be at least 1")
    sides = [_side(text) for text in given.nearest]
    out = absolute(resolve_path(given.output_dir))
    folder = Folder(out)
    _check_out(folder, given.output_dir)
    folder.check_writable()
    torch.set_num_threads(cpus_here())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = search(*sides, match=given.match, top=given.top, device=device)
    names = tuple(
        f"{side.modality} of {text.rpartition(':')[0]}" for side, text in zip(sides, given.nearest, strict=True)
    )
    alike = sides[0].embeddings.manifest.data["content"] == sides[1].embeddings.manifest.data["content"]
    scores = _scores(found)
    print(f"{names[0]} finds {names[1]}: {len(found.queries)} queries among {len(found.gallery)}, same {given.match}")
    if found.asked.any():
        print(f"{int(found.asked.sum())} queries have the same person in the gallery\n\n{_table(scores)}")
        if alike:
            print(_FRAMING)
    else:
        print(
            f"no {given.match} of the queries is in the gallery, so there is nothing to score; --match chooses what "
            "makes two rows the same person"
        )
    _write_table(folder, to_table(found))
    told = _draw(folder, found, sides)
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hcmoco": hcmoco.__version__,
        "query": _about(sides[0]),
        "gallery": _about(sides[1]),
        "weights": sides[0].embeddings.manifest.weights,
        "match": given.match,
        "queries": len(found.queries),
        "entries": len(found.gallery),
        "asked": int(found.asked.sum()),
        **scores,
        **({"note": _FRAMING} if alike and found.asked.any() else {}),
    }
    folder.write(RESULTS, json.dumps(facts, indent=1).encode())
    print(f"matches   {join(out, TABLE)}\nresults   {join(out, RESULTS)}")
    print(told or f"picture   {join(out, PICTURE)}")
    return 0


def _side(text: str) -> Side:
    """Open FOLDER:MODALITY."""
    uri, colon, modality = text.rpartition(":")
    if not colon or modality not in MODALITIES:
        raise UserError(
            f"--nearest {text!r}: must be a folder of embeddings, a colon and one of {', '.join(MODALITIES)}, for "
            "example embeddings/people:rgb"
        )
    return Side(EmbeddingSet.open(resolve_path(uri)), modality)


def _check_out(folder: Folder, given: str) -> None:
    """Raise UserError for a folder that holds files other than earlier matches."""
    if is_local(folder.uri) and folder.local_path.exists() and not folder.local_path.is_dir():
        raise UserError(f"--out {given} is a file; give a folder")
    if not (folder.sizes() or folder.folders()):
        return
    try:
        is_ours = json.loads(folder.read(RESULTS))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise UserError(f"--out {given} holds other files and no earlier matches; give an empty or a new folder")


def _scores(found: Found) -> dict[str, dict[str, float | None]]:
    values = {f"recall@{count}": (found.recall(count), found.chance_recall(count)) for count in RECALLS}
    values["median_rank"] = found.median_rank, found.chance_median_rank
    return {
        name: {key: None if math.isnan(value) else value for key, value in zip(("found", "chance"), pair, strict=True)}
        for name, pair in values.items()
    }


def _table(scores: dict[str, dict[str, float | None]]) -> str:
    def text(name: str, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:,.1f}" if name == "median_rank" else f"{100 * value:.2f} %"

    rows = [
        (name.replace("_", " "), text(name, pair["found"]), text(name, pair["chance"])) for name, pair in scores.items()
    ]
    return markdown.table(("", "found", "chance"), rows, "lrr")


def _about(side: Side) -> dict[str, Any]:
    return {"embeddings": side.embeddings.uri, "modality": side.modality, "data": side.embeddings.manifest.data}


def _write_table(folder: Folder, table: pa.Table) -> None:
    with folder.replacing(TABLE) as file:
        pq.write_table(table, pa.PythonFile(file, mode="w"), compression="zstd")


def _draw(folder: Folder, found: Found, sides: list[Side]) -> str:
    """Write the picture; returns why there is none, as a line, or "" """
    try:
        tables = (found.queries, found.gallery)
        query, gallery = (
            Shown(side.modality, side.embeddings.manifest.image_size, _reader(side, table))
            for side, table in zip(sides, tables, strict=True)
        )
        joints = sides[0].embeddings.manifest.joint_set
        folder.write(PICTURE, encode_png(matches_sheet(found, query, gallery, joints)))
    except (UserError, OSError, ValueError) as error:
        folder.delete(PICTURE)
        return f"no picture: {one_line(error, 400)}"
    return ""


def _reader(side: Side, keys: pa.Table) -> Callable[[int], Crop]:
    """Return what reads the crop of a person by their row in `keys`."""
    people, manifest = reopen_people(side.embeddings), side.embeddings.manifest
    how = Cropping(
        manifest.image_size, MODALITIES, people.joints, manifest.joint_set, people.depth_codec, masking_known=True
    )

    @lru_cache(maxsize=64)
    def read(row: int) -> Crop:
        index, id = keys["index"][row].as_py(), keys["id"][row].as_py()
        (person,) = people.read(index, index + 1)
        if isinstance(person, Rejected) or person["id"] != id:
            raise UserError(f"{id} cannot be read from {manifest.data['uri']} any more")
        return cut_out(person, how)

    return read
