"""Estimate what the larger backbones need of a GPU's memory, and check the estimate's parts by what a CPU run holds.

    python benchmarks/memory.py                             # paper-w18, paper-w32, paper-w48; checked at 2 rows
    python benchmarks/memory.py --recipes paper-w32 --no-check

The estimate of a worker is `hcmoco_ray.cluster.memory_estimate.worker_memory`. It is checked twice, in programs of
their own: what autograd keeps, by the tensors that a real forward pass of both encoders saves; and all of it, by the
peak of resident memory over two real stage-2 steps less what was held before the model was built.
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from benchmarks._measure import Table, arguments, run
from benchmarks._results import ROOT
from benchmarks.step import load_config, make_batch, make_plan
from hcmoco.pretraining.trainer import Pretraining
from hcmoco_ray.cluster.memory_estimate import activation_bytes, shapes, worker_memory

RECIPES = ("paper-w18", "paper-w32", "paper-w48")
PEOPLE = 350_000  # of the paper's data, as paper-w18 assumes
CHECK_ROWS = 2
_SMALL = [
    "train.workers=1", "train.gpu=false", "train.lanes=1", f"train.batch_size_per_lane={CHECK_ROWS}",
    "model.rgb.init=scratch", "model.depth.init=scratch",
]  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, rounds=1, quick="people-cpu-tables at 64 pixels")
    parser.add_argument("--recipes", nargs="+", default=RECIPES, help=f"which (default {' '.join(RECIPES)})")
    parser.add_argument("--no-check", action="store_true", help="estimate alone, which computes nothing")
    parser.add_argument("--check", help=argparse.SUPPRESS)  # the recipe that a check of its own is for
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args()
    if given.check:
        return print(json.dumps(_check(given.check, given.overrides)))
    recipes = ("people-cpu-tables",) if given.quick else given.recipes
    overrides = [*given.overrides, *(["augment.size=64"] if given.quick else [])]
    table = Table("memory-quick" if given.quick else "memory", {"rows of the check": CHECK_ROWS, "people": PEOPLE})
    for recipe in recipes:
        config = load_config(recipe, overrides)
        estimate = worker_memory(config, PEOPLE)
        rows = config.train.lanes * config.train.batch_size_per_lane
        size = config.augment.size
        table.add(f"{recipe}: a GPU's {rows} rows of {size} px", estimate.total / 1e9, "GB")
        for part in ("weights", "gradients", "optimizer", "activations", "terms", "banks"):
            table.add(f"  {recipe}: {part}", getattr(estimate, part) / 1e9, "GB")
        if given.no_check:
            continue
        command = [sys.executable, str(Path(__file__)), "--check", recipe, *overrides]
        turns = []
        for _ in range(given.rounds):
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            turns.append(json.loads(done.stdout))
        for what in turns[0]:
            table.add(f"{recipe}: {what}", [turn[what] for turn in turns])
    table.show()
    table.write(given.results)


def _check(recipe: str, overrides: list[str]) -> dict[str, float]:
    """Return estimate / measured of two quantities, of a run of few rows on this CPU."""
    torch.set_num_threads(1)
    given = {override.partition("=")[0] for override in _SMALL}
    config = load_config(recipe, [*(each for each in overrides if each.partition("=")[0] not in given), *_SMALL])
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": "float32"})})
    before = psutil.Process().memory_info().rss
    plan = make_plan(config)
    training = Pretraining(config, plan, torch.device("cpu"), plan.lanes)
    training.start_stage2()
    batch = replace(make_batch(config, plan), step=config.stages.stage1_steps)
    for _ in range(2):
        training.step = batch.step
        training.train_step(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    people = sum(source.rows for source in plan.sources)
    counted, kept = (activation_bytes(model, config.augment.size) for model in (shapes(config), training.model))
    return {
        "kept for the backward pass, counted on the meta device / saved by a real pass": counted / kept,
        f"peak of {CHECK_ROWS} rows, estimate / measured": worker_memory(config, people).total / peak,
        f"  peak of {CHECK_ROWS} rows, measured, GB": peak / 1e9,
    }


if __name__ == "__main__":
    run(main)
