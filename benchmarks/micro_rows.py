"""Measure what `train.micro_rows` saves in memory, and what it costs in time, beside a step of the whole batch.

    python benchmarks/micro_rows.py                     # the recipe people-cpu-tables, all rows of a step on one worker
    python benchmarks/micro_rows.py augment.size=192    # larger crops

Each turn is a program of its own, which takes the peak of its resident memory in two stage-2 steps, less what it held
before them: activations, gradients and the terms. Needs only hcmoco: pixels are noise, which costs what pictures cost.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from benchmarks._measure import Table, arguments, in_turns, ratios, run
from benchmarks._results import ROOT
from benchmarks.step import load_config, make_batch, make_plan
from hcmoco.pretraining.trainer import Pretraining

LIMITS = (8, 4, 2, 1)
STEPS = 2


def main() -> None:
    parser = arguments(__doc__, rounds=5, quick="64 pixels, 2 rounds, micro-batches of 4 rows")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)  # what the benchmark calls itself with; 0: all
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    if given.rows is not None:
        return one_turn(given.rows, given.overrides)
    overrides = ["train.workers=1", "train.precision=float32", *given.overrides]
    if given.quick:
        overrides.append("augment.size=64")
    config = load_config("people-cpu-tables", overrides)
    limits = (4,) if given.quick else LIMITS

    def turn(rows: int) -> tuple[float, float]:
        command = [sys.executable, str(Path(__file__)), "--rows", str(rows), *overrides]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return tuple(json.loads(done.stdout))

    arms = {rows: lambda rows=rows: turn(rows) for rows in (0, *limits)}
    found = in_turns({str(rows): arm for rows, arm in arms.items()}, 2 if given.quick else given.rounds)
    settings = {
        "encoders": f"{config.model.rgb.name} and {config.model.depth.name}",
        "pixels": config.augment.size,
        "rows": config.train.lanes * config.train.batch_size_per_lane,
        "anchors": config.objective.num_anchors,
        "threads": 1,
    }
    table = Table("micro-rows-quick" if given.quick else "micro-rows", settings)
    peaks, seconds = ({name: [each[k] for each in turns] for name, turns in found.items()} for k in (0, 1))
    for rows in limits:
        table.add(f"peak memory of a step, {rows} rows at once / all", ratios(peaks[str(rows)], peaks["0"]))
    for rows in limits:
        table.add(f"CPU time of a step, {rows} rows at once / all", ratios(seconds[str(rows)], seconds["0"]))
    table.add("peak memory of a step of all rows", [each / 1e6 for each in peaks["0"]], "MB")
    table.add("CPU time of a step of all rows", [1e3 * each for each in seconds["0"]], "ms")
    table.show()
    table.write(given.results)


def one_turn(rows: int, overrides: list[str]) -> None:
    """Print the bytes and the CPU seconds of a step that encodes `rows` rows at once, all where it is 0."""
    torch.set_num_threads(1)
    config = load_config("people-cpu-tables", [*overrides, f"train.micro_rows={rows or 'null'}"])
    plan = make_plan(config)
    run = Pretraining(config, plan, torch.device("cpu"), plan.lanes)
    run.start_stage2()
    batch = make_batch(config, plan)
    before, begun = psutil.Process().memory_info().rss, time.process_time()
    for _ in range(STEPS):
        run.step = batch.step
        run.train_step(batch)
    spent = (time.process_time() - begun) / STEPS
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, spent]))


if __name__ == "__main__":
    run(main)
