"""Measure the records per second of `prepare` on Ray and of a plain loop on the same cores, for each data set.

    python benchmarks/prepare.py                       # every data set
    python benchmarks/prepare.py --only ntu mpii

The plain loop is a process per core (multiprocessing) that reads items and writes them as parts, as `prepare` does:
same readers, same parts, same order. It does not renumber rows and writes no manifest. The downloads are those that the
tests write. Both sides are warm: Ray runs, and its workers and the loop's processes have read once. Starting Ray or the
processes is not counted.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from hcmoco.config import build
from hcmoco.datasets.registry import REGISTRY
from hcmoco.rng import make_rng
from hcmoco.storage import Folder
from hcmoco_ray.cluster import session
from hcmoco_ray.prepare.parts import make_part, part_bounds
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.run import prepare


@dataclass(frozen=True)
class Download:
    """How a data set comes to be, as its release has it.

    Attributes:
        write: writes about `count` items below a folder; returns config values other than `source`.
        count, quick: how many, and how many for a smoke test.
    """

    write: Callable[[Path, int], dict]
    count: int
    quick: int


def _ntu(root: Path, count: int) -> dict:
    """Clips of 60 frames in full size; a few are written and copied under other names of the same camera."""
    from tests.helpers import ntu_files

    written = [ntu_files.Clip(f"S001C001P00{k}R001A001", frames=60, person=k) for k in range(1, 1 + min(count, 4))]
    ntu_files.write(root, written)
    for number in range(len(written), count):
        old, new = written[number % len(written)].tag, f"S001C001P{number // 40 + 10:03d}R001A{number % 40 + 1:03d}"
        for name in ("nturgb+d_rgb/{}_rgb.avi", "nturgb+d_skeletons/{}.skeleton", "nturgb+d_depth_masked/{}"):
            copy = shutil.copytree if name.endswith("masked/{}") else shutil.copy
            copy(root / name.format(old), root / name.format(new))
    return {}


def _mpii(root: Path, count: int) -> dict:
    """A person in each photograph of 480 pixels."""
    from tests.helpers import mpii_files

    written = mpii_files.write_mpii(root, min(count, 8), size=480)
    path = root / "annot" / "train.json"
    entries = json.loads(path.read_text())
    for number in range(len(written), count):
        entry = entries[number % len(written)]
        shutil.copy(root / "images" / entry["image"], root / "images" / f"{number}.jpg")
        entries.append({**entry, "image": f"{number}.jpg"})
    path.write_text(json.dumps(entries))
    return {}


def _coco(root: Path, count: int) -> dict:
    """A person in each photograph of 480 pixels."""
    from tests.helpers import coco_files

    coco_files.write_keypoints(root, 4, size=480)
    coco_files.repeat(root / "annotations" / "person_keypoints_train2014.json", root / "images" / "train2014", count)
    return {}


def _densepose_coco(root: Path, count: int) -> dict:
    """Two people in each photograph of 480 pixels."""
    from tests.helpers import coco_files

    coco_files.write_densepose(root, {"train": 4, "valminusminival": 1}, size=480)
    coco_files.repeat(root / "annotations" / "densepose_coco_2014_train.json", root / "images" / "train2014", count)
    return {}


def _ntu_parsing(root: Path, count: int) -> dict:
    """Frames in full size; a few are written and copied under other names."""
    from tests.helpers import ntu_parsing_files

    written = list(ntu_parsing_files.write_ntu_parsing(root, min(count, 8), 0))
    names = written + [
        f"S{number // 900 + 2:03d}C001P001R001A{number % 900 + 1:03d}F020" for number in range(len(written), count)
    ]
    for number, new in enumerate(names[len(written) :]):
        for name in ("images/{}.jpg", "depth/MDepth-{}.png", "png_annotation_v2/{}.png"):
            shutil.copy(root / name.format(written[number % len(written)]), root / name.format(new))
    (root / "train_v2.txt").write_text("".join(f"images/{name}.jpg\n" for name in names))
    return {}


def _itop(root: Path, count: int) -> dict:
    """Frames in full size, stored as they are; a few are made and repeated under other ids."""
    import numpy as np

    from tests.helpers import itop_files

    few = itop_files.frames(12)
    at = np.arange(count) % len(few.ids)
    ids = np.array([f"{number // 1000:02d}_{number:05d}" for number in range(count)], "S8")
    many = itop_files.Frames(
        ids, few.depth[at], np.ones(count, np.uint8), few.xy[at], few.world[at], few.visible[at], few.boxes
    )
    itop_files.write_split(root, "train", many)
    return {}


def _h36m_parsing(root: Path, count: int) -> dict:
    """Videos of 10 seconds in full size; two are written and copied under other names."""
    from tests.helpers import h36m_files

    for k in range(min(count, 2)):
        h36m_files.write_video(root, "S1", f"Walking.{k}", h36m_files.make_clip(k, 500, 1000, 1000 + 2 * k))
    for number in range(2, count):
        for name in ("Videos/Walking.{}.mp4", "MySegmentsMat/PartLabels/Walking.{}.mat"):
            shutil.copy(root / "S1" / name.format(number % 2), root / "S1" / name.format(number))
    return {"subjects": ["S1"]}


DOWNLOADS = {
    "ntu": Download(_ntu, 48, 4),
    "ntu-parsing": Download(_ntu_parsing, 800, 20),
    "mpii": Download(_mpii, 1500, 20),
    "coco": Download(_coco, 1500, 20),
    "densepose-coco": Download(_densepose_coco, 1500, 20),
    "h36m-parsing": Download(_h36m_parsing, 48, 2),
    "itop": Download(_itop, 6000, 40),
}


def through_ray(source: Source, out: Path) -> int:
    """Records that `prepare` read."""
    manifest, _ = prepare(source, str(out), max_broken=1)
    return manifest.rows + manifest.rejected + sum(manifest.skipped.values())


def plain(pool, source: Source, out: Path) -> int:
    """Records that a process per core read, each taking the next part when it is done with one."""
    out.mkdir()
    items = source.items()
    calibrations = source.calibrations(items)
    measured = dict(zip(calibrations, pool.map(source.calibrate, calibrations.values(), chunksize=1), strict=True))
    items = source.with_calibrations(items, measured)
    order = make_rng(source.seed, "write").permutation(len(items)).tolist()
    bounds = part_bounds(len(items), source.rows_per_item)
    folder = Folder(str(out))
    calls = [
        (source, folder, number, source.rows_per_item * start, [items[k] for k in order[start:stop]])
        for number, (start, stop) in enumerate(pairwise(bounds))
    ]
    parts = pool.imap_unordered(_make_part, calls)
    return sum(part.rows + len(part.rejected) + sum(part.skipped.values()) for part in parts)


def _make_part(call: tuple):
    return make_part(*call)[0]


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="a few items, 1 round")
    parser.add_argument(
        "--only", nargs="+", choices=DOWNLOADS, default=list(DOWNLOADS), help="data sets (default: all)"
    )
    parser.add_argument("--cores", type=int, default=2, help="cores that everything is pinned to")
    given = parser.parse_args()
    if given.quick:
        given.rounds = 1
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    with (
        tempfile.TemporaryDirectory(prefix="hb-") as temporary,
        multiprocessing.get_context("spawn").Pool(given.cores) as pool,
    ):
        session.connect(given.cores)
        measure(given, Path(temporary), pool)


def measure(given: argparse.Namespace, folder: Path, pool) -> None:
    """All data sets, one table."""
    counts = {name: DOWNLOADS[name].quick if given.quick else DOWNLOADS[name].count for name in given.only}
    table = Table("prepare-quick" if given.quick else "prepare", {"cores": given.cores, "items": counts})
    for name, count in counts.items():
        download = folder / name
        values = DOWNLOADS[name].write(download, count)
        source = Source(name, build(REGISTRY[name].load().config_class, {"source": str(download), **values}, name))
        out = folder / f"{name}-out"

        def rate(way: Callable[[], int], out: Path = out) -> float:
            begun = time.perf_counter()
            records = way()
            elapsed = time.perf_counter() - begun
            shutil.rmtree(out)
            return records / elapsed

        arms = {
            "Ray": lambda source=source, out=out: rate(lambda: through_ray(source, out)),
            "plain": lambda source=source, out=out: rate(lambda: plain(pool, source, out)),
        }
        for warm in arms.values():
            warm()
        rates = in_turns(arms, given.rounds)
        table.add(
            f"{name}: prepare / a plain loop on {given.cores} cores",
            ratios(rates["Ray"], rates["plain"]),
            limit=0.9,
            floor=True,
        )
        table.add(f"  {name}: prepare", rates["Ray"], "records/s")
        table.add(f"  {name}: plain loop", rates["plain"], "records/s")
        shutil.rmtree(download)
    table.show()
    table.write(given.results)


if __name__ == "__main__":
    run(main)
