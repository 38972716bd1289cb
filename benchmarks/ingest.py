"""Measure the samples per second of the Ray Data path and of a torch DataLoader.

    python benchmarks/ingest.py                        # people of 128 and of 320 pixels, created in a temporary folder
    python benchmarks/ingest.py --data data/bench      # kept in this folder for the next time

Both use the same transforms and the same cores, and feed a step that costs nothing. The DataLoader's processes read the
same Parquet shards in whole windows and return their batches in shared memory. Those of a second DataLoader hold all
encoded records in memory before they start, as only a small data set can be.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import ray
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from hcmoco.data.collate import CollateConfig, SampleKey, SourceInfo, make_micro_batch
from hcmoco.data.loader import PretrainLoader
from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.data.shards.reader import Shards
from hcmoco.data.transforms import AugmentConfig
from hcmoco.datasets.synthetic import NumberedPeople
from hcmoco_ray.cluster import room, session
from hcmoco_ray.ingest import dataset as ingest_dataset
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.run import prepare

# Stored side -> side of the crop, as the two recipes of synthetic people have them.
SIZES = {128: 96, 320: 224}
DOMAINS = (("indoor", 1, 0.75), ("wild", 2, 0.25))
LANES, ROWS, WINDOW = 4, 8, 16
# What decodes best: threads of one process wait for each other's Python where pictures are small, and large decoded
# pictures are dear to move between processes.
BEST = {128: "tasks", 320: "worker"}
HOLDING = "Ray Data, decode: worker, reading holds a CPU"
STEPS = 6000  # more than any turn takes


def make_people(folder: Path, stored: int, count: int) -> None:
    """Three quarters of them with depth, as in the recipe people-cpu; made only where they are not there."""
    for domain, seed, share in DOMAINS:
        people = NumberedPeople(domain=domain, size=stored, seed=seed, count=round(share * count))
        prepare(Source("people", people, seed=seed), str(folder / f"people-{domain}-{stored}"))
    ray.shutdown()


def make_feed(folder: Path, stored: int, decode: str) -> PretrainLoader:
    """What carries out a plan over them that no turn ends."""
    shards = [Shards.open(str(folder / f"people-{domain}-{stored}")) for domain, _, _ in DOMAINS]
    sources = tuple(each.source_plan(domain, share) for each, (domain, _, share) in zip(shards, DOMAINS, strict=True))
    plan = Plan(0, sources, LANES, ROWS, WINDOW, STEPS)
    collate = CollateConfig(AugmentConfig(size=SIZES[stored]), "mpii-16", 100 if stored == 128 else 400)
    return PretrainLoader(plan, tuple(shards), collate, decode)


def mock_step(batch: Batch | dict) -> int:
    """Takes a batch as a GPU would, without arithmetic; returns its rows."""
    rgb = batch["rgb"] if isinstance(batch, dict) else batch.rgb
    return len(rgb)


def rate(batches: Iterator, warm: float, seconds: float) -> tuple[float, float]:
    """Return rows per second, and per CPU second of all processes, over `seconds`.

    The measurement starts after `warm` seconds and ends while batches are left, so that buffers count little.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < warm:
        mock_step(next(batches))
    rows, start, spent = 0, time.perf_counter(), cpu_seconds()
    while (elapsed := time.perf_counter() - start) < seconds:
        rows += mock_step(next(batches))
    return rows / elapsed, rows / (cpu_seconds() - spent)


def cpu_seconds() -> float:
    """CPU time of this process and all that it started: DataLoader processes, Ray's servers and workers."""
    here = psutil.Process()
    total = 0.0
    for each in [here, *here.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def through_ray(feed: PretrainLoader, threads: int, warm: float, seconds: float, *, hold: bool) -> tuple[float, float]:
    """The product's path with one worker: items from Ray Data, batches from the feed.

    `hold`: the task that reads holds a CPU, as tasks that decode do; else it requests none.
    """
    tasks = threads if feed.decode == "tasks" else 1
    with room.reading(tasks, tasks if hold else 0) as readers:
        items = ingest_dataset.plan_items(feed)
        items = ingest_dataset.read(items, items.of_worker(0, 1), readers)
        batches = feed.batches(items, rank=0, world=1, first_step=0, threads=threads, ahead=4 * threads)
        try:
            return rate(batches, warm, seconds)
        finally:
            batches.close()
            items.close()


class Windows(IterableDataset):
    """Each process takes every n-th window of the plan, reads its rows and makes its batches.

    Args:
        stored: read this many windows now, and give out no others.
    """

    def __init__(self, feed: PretrainLoader, stored: int = 0):
        self.feed = feed
        self.infos = [
            SourceInfo(each.manifest.joints, each.manifest.depth_codec, offset)
            for each, offset in zip(feed.sources, feed.plan.offsets, strict=False)
        ]
        self.stored = [self.steps(window) for window in range(stored)]

    def steps(self, window: int) -> list[list[dict]]:
        """The rows of each step of a window, still encoded."""
        tables = [self.feed.item(window, lane) for lane in range(LANES)]
        return [[row for table in tables for row in table.slice(t * ROWS, ROWS).to_pylist()] for t in range(WINDOW)]

    def __iter__(self) -> Iterator[dict]:
        cv2.setNumThreads(1)
        info = get_worker_info()
        feed = self.feed
        for window in range(info.id, feed.plan.windows, info.num_workers):
            steps = self.stored[window % len(self.stored)] if self.stored else self.steps(window)
            for t, rows in enumerate(steps):
                batch = make_micro_batch(
                    rows,
                    [row["source"] for row in rows],
                    self.infos,
                    feed.collate,
                    SampleKey(feed.plan.seed, window * WINDOW + t),
                )
                yield {
                    name: torch.from_numpy(value)
                    for name, value in vars(batch).items()
                    if isinstance(value, np.ndarray)
                }


def loader(dataset: IterableDataset, workers: int) -> Iterator[dict]:
    """Endless batches of a DataLoader with `workers` processes, which start now."""
    return iter(DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=4))


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="128 pixels, 64 people, 1 round of half a second each")
    parser.add_argument(
        "--data", type=Path, help="folder of the people; made where they are not there (default: a temporary folder)"
    )
    parser.add_argument("--count", type=int, default=600, help="people of each size (default 600)")
    parser.add_argument(
        "--cores", type=int, default=2, help="cores that everything is pinned to, and processes or threads that decode"
    )
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="measured in each turn (default 6), after half as long to warm up"
    )
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.count, given.seconds = 1, 64, 0.5
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        measure(given, given.data or Path(temporary))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """All sizes, one table."""
    cores = len(os.sched_getaffinity(0))
    settings = {
        "cores": cores,
        "people": given.count,
        "rows a step": LANES * ROWS,
        "window": WINDOW,
        "seconds a turn": given.seconds,
    }
    for stored in [128] if given.quick else SIZES:
        make_people(folder, stored, given.count)
    sizes = {128: SIZES[128]} if given.quick else SIZES
    # The DataLoaders' processes are forked before Ray has threads in this one, and wait with full queues while others
    # are measured.
    feeds = {stored: (make_feed(folder, stored, "worker"), make_feed(folder, stored, "tasks")) for stored in sizes}
    loaders = {
        stored: (loader(Windows(encoded), cores), loader(Windows(encoded, stored=4), cores))
        for stored, (encoded, _) in feeds.items()
    }
    for each in loaders.values():
        next(each[0]), next(each[1])
    session.connect(cores)
    table = Table("ingest-quick" if given.quick else "ingest", settings)
    for stored, side in sizes.items():
        measured = compare(feeds[stored], loaders[stored], cores, given.rounds, given.seconds)
        rates, thrift = ({name: [each[k] for each in values] for name, values in measured.items()} for k in (0, 1))
        what = f"{stored} to {side} px"
        for decode in ("worker", "tasks"):
            for other in ("same shards", "records in memory"):
                over, under = f"Ray Data, decode: {decode}", f"DataLoader, {other}"
                limit = 0.9 if (decode, other) == (BEST[stored], "same shards") else None
                name = f"{what}: {over} / {under}"
                floor = limit is not None
                table.add(name, ratios(rates[over], rates[under]), limit=limit, floor=floor, better="higher")
                # Where others use the cores too, what a core gives is the sturdier figure.
                table.add(f"  {name}, rows per CPU second", ratios(thrift[over], thrift[under]), better="higher")
        plain = "Ray Data, decode: worker"
        table.add(f"{what}: reading without a CPU / holding one", ratios(rates[plain], rates[HOLDING]))
        for name, values in rates.items():
            table.add(
                f"  {what}: {name}",
                values,
                "rows/s",
                note=f"{statistics.median(thrift[name]):,.0f} rows per CPU second",
            )
    table.show()
    table.write(given.results)


def compare(
    feeds: tuple, loaders: tuple, cores: int, rounds: int, seconds: float
) -> dict[str, list[tuple[float, float]]]:
    """Rows per second and per CPU second of all five, turn by turn."""
    (encoded, decoded), (shards, memory) = feeds, loaders
    turn = {"warm": seconds / 2, "seconds": seconds}
    arms = {
        "DataLoader, same shards": lambda: rate(shards, **turn),
        "DataLoader, records in memory": lambda: rate(memory, **turn),
        "Ray Data, decode: worker": lambda: through_ray(encoded, cores, **turn, hold=False),
        HOLDING: lambda: through_ray(encoded, cores, **turn, hold=True),
        "Ray Data, decode: tasks": lambda: through_ray(decoded, cores, **turn, hold=True),
    }
    return in_turns(arms, rounds)


if __name__ == "__main__":
    run(main)
