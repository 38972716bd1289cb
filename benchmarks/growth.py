"""Measure how reading through Ray Data grows: with reading processes, with work items, and from a late step.

    python benchmarks/growth.py --data data/bench     # people as in `ingest.py`; without --data in a temporary folder

People of 128 pixels, whose items are decoded where they are read. On fewer cores than processes these take turns.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks.ingest import LANES, ROWS, WINDOW, make_feed, make_people, rate
from hcmoco.data.loader import PretrainLoader
from hcmoco_ray.cluster import room, session
from hcmoco_ray.ingest import dataset as ingest_dataset

PROCESSES = (1, 2, 4)
ITEMS = (1_000, 1_000_000)
PAPER_STEPS, PAPER_LANES = 312_600, 8
_LATE = PAPER_STEPS - 1_000


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="64 people, 1 round of half a second each")
    parser.add_argument("--data", type=Path, help="folder of the people; made where they are not there")
    parser.add_argument("--count", type=int, default=600, help="people (default 600)")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured in each turn (default 6)")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.count, given.seconds = 1, 64, 0.5
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        measure(given, given.data or Path(temporary))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """The whole benchmark."""
    make_people(folder, 128, given.count)
    session.connect(max(PROCESSES))
    settings = {"cores": len(os.sched_getaffinity(0)), "people": given.count, "rows a step": LANES * ROWS}
    table = Table("growth-quick" if given.quick else "growth", {**settings, "window": WINDOW})
    feed = make_feed(folder, 128, "tasks")
    by_items = {f"{count:,} items": with_items(feed, count) for count in ITEMS}
    turn = {"warm": given.seconds / 2, "seconds": given.seconds}
    arms = {
        **{f"{count} reading": lambda count=count: rows_per_second(feed, count, turn) for count in PROCESSES},
        **{name: lambda grown=grown: rows_per_second(grown, 2, turn) for name, grown in by_items.items()},
    }
    rates = in_turns(arms, given.rounds)
    for count in PROCESSES[1:]:
        table.add(
            f"rows/s, {count} reading processes / 1",
            ratios(rates[f"{count} reading"], rates["1 reading"]),
            better="higher",
        )
    few, many = by_items
    table.add(f"rows/s, {many} / {few}", ratios(rates[many], rates[few]), limit=0.9, floor=True)
    for name, values in rates.items():
        table.add(f"  {name}", values, "rows/s")

    paper = replace(feed, plan=replace(feed.plan, lanes=PAPER_LANES, steps=PAPER_STEPS))
    starts = in_turns(
        {str(step): lambda step=step: first_item_after(paper, step) for step in (0, _LATE)}, max(3, given.rounds)
    )
    first, late = starts["0"], starts[str(_LATE)]
    table.add(f"first item of the paper's schedule from step {_LATE:,} / from step 0", ratios(late, first), limit=1.5)
    table.add("  from step 0", first, "s")
    table.add(f"  from step {_LATE:,}", late, "s")
    table.show()
    table.write(given.results)


def with_items(feed: PretrainLoader, count: int) -> PretrainLoader:
    """The same plan with as many work items."""
    return replace(feed, plan=replace(feed.plan, steps=count // LANES * WINDOW))


def rows_per_second(feed: PretrainLoader, tasks: int, turn: dict[str, float]) -> float:
    """Rows per second of one worker whose items `tasks` processes read and decode."""
    with room.reading(tasks, tasks) as readers:
        items = ingest_dataset.plan_items(feed)
        read = ingest_dataset.read(items, items.of_worker(0, 1), readers)
        batches = feed.batches(read, rank=0, world=1, first_step=0, threads=1, ahead=8)
        try:
            return rate(batches, **turn)[0]
        finally:
            batches.close()
            read.close()


def first_item_after(feed: PretrainLoader, step: int) -> float:
    """Seconds from the start of reading at a step until its first item."""
    with room.reading(1, 1) as readers:
        begun = time.perf_counter()
        items = ingest_dataset.plan_items(feed)
        read = ingest_dataset.read(items, items.of_worker(0, 1, ingest_dataset.first_item(feed.plan, step)), readers)
        next(read)
        took = time.perf_counter() - begun
        read.close()
    return took


if __name__ == "__main__":
    run(main)
