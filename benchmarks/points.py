"""Measure a stage-2 step whose depth encoder reads points, beside one whose depth encoder reads pictures.

    python benchmarks/points.py                          # the recipe people-cpu: 96 pixels, 1,024 points
    python benchmarks/points.py augment.size=128

Time is of whole steps on one thread. Memory is of a network of points alone: each turn is a program of its own, which
takes the peak of its resident memory in a forward and a backward pass, less what it held before. Needs only hcmoco:
pixels are noise, which costs what pictures cost; points are those of people, since balls hold them.
"""

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks._results import ROOT
from benchmarks.step import SIZES, Bench, load_config
from hcmoco.models.points.pointnet2 import PointNet2MSG
from hcmoco.training.precision import native_bfloat16, settle

POINTS, PICTURES = "pointnet2_msg", "hrnet_w18_small"
COUNTS = (1024, 2048, 4096, 8192)
ROWS = 2
PERSON = (0.6, 1.7, 0.4)  # meters


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="64 pixels, 2 rounds, 256 and 512 points")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # what the benchmark calls itself with
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.memory is not None:
        return one_turn(given.memory)
    recipe, overrides = SIZES["people-cpu"]
    quick = ["augment.size=64", "train.batch_size_per_lane=4"] if given.quick else []

    def bench(name: str) -> Bench:
        own = [*overrides, *quick, f"model.depth.name={name}", *given.overrides]
        return Bench(settle(load_config(recipe, own), native_bfloat16("cpu"), None), torch.device("cpu"))

    benches = {name: bench(name) for name in (PICTURES, POINTS)}
    counts = (256, 512) if given.quick else COUNTS
    rounds = 2 if given.quick else given.rounds
    config = benches[POINTS].config
    settings = {
        "encoders": f"{config.model.rgb.name} and, of depth, {PICTURES} or {POINTS}",
        "pixels": config.augment.size,
        "points": config.model.depth.points_at(config.augment.size),
        "rows": f"{len(benches[POINTS].batch)} ({int(benches[POINTS].batch.has_depth.sum())} with depth)",
        "precision": config.train.precision,
        "threads": 1,
        "rows of the memory": ROWS,
    }
    table = Table("points-quick" if given.quick else "points", settings)
    steps = {name: lambda name=name: benches[name].timed(benches[name].step, 1) for name in benches}
    in_turns(steps, 1)
    timed = in_turns(steps, rounds)
    cpu = {name: [each[1] for each in values] for name, values in timed.items()}
    wall = {name: [each[0] for each in values] for name, values in timed.items()}

    def turn(count: int) -> int:
        command = [sys.executable, str(Path(__file__)), "--memory", str(count)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    peaks = in_turns({str(count): lambda count=count: turn(count) for count in counts}, min(3, rounds))
    table.add("stage-2 step on points / on pictures, CPU time", ratios(cpu[POINTS], cpu[PICTURES]), better="lower")
    table.add("stage-2 step on points / on pictures, wall time", ratios(wall[POINTS], wall[PICTURES]), better="lower")
    for name, what in ((POINTS, "points"), (PICTURES, "pictures")):
        table.add(f"stage-2 step on {what}, CPU time", [1e3 * each for each in cpu[name]], "ms")
    for fewer, more in pairwise(counts):
        found = ratios(peaks[str(more)], peaks[str(fewer)])
        table.add(f"peak memory of {more} points / of {fewer}", found, limit=2.2)
    for count in counts:
        table.add(f"peak memory of {count} points", [each / 1e6 for each in peaks[str(count)]], "MB")
    table.show()
    table.write(given.results)


def one_turn(count: int) -> None:
    """Print the bytes that a forward and a backward pass over a few rows of `count` points take."""
    torch.manual_seed(0)
    network = PointNet2MSG().train()
    cloud = (torch.rand(ROWS, count, 3) - 0.5) * torch.tensor(PERSON)
    network(cloud[:, :256]).sum().backward()  # libraries, tables and gradients are there
    before = psutil.Process().memory_info().rss
    network(cloud).sum().backward()
    # Not getrusage's peak, which begins with that of the program that started this one.
    status = Path("/proc/self/status").read_text()
    print(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) * 1024 - before))


if __name__ == "__main__":
    run(main)
