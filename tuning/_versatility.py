"""The versatility experiments from their recipe to their tables: the plan, the co-trainings on whatever cluster there is, the record."""

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import hcmoco
from hcmoco.codecs import encode_png
from hcmoco.config import load_recipe, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.shards.storage import Folder, first_line
from hcmoco.versatility.cell import Sources, run_cell, start_of
from hcmoco.versatility.config import VersatilityConfig
from hcmoco.versatility.setup import set_up
from pipelines import _arguments, _cluster, _data, _interrupts, _recipe
from pipelines._commit import commit
from pipelines._folder import alone_in, say
from pipelines._home import home
from pipelines._tracking import open_writer, start_run
from tuning._versatility_cells import BELOW, Cell, VersatilityRecipe, cells_of, read_results, tables

PROGRAM, INDEX, TABLES = "versatility", "versatility.json", "versatility.md"
# Keys that differ from cell to cell.
_OWN = {"experiment": "experiments", "method": "methods", "seed": "seeds"}


def run(recipe: str, overrides: Sequence[str], *, seeds: int | None, plan_only: bool, cpus: float, gpus: float, threads: int) -> int:
    """Does what is missing of a recipe; see versatility.py for the arguments. Returns the exit status: 1 where a co-training failed."""
    for name, value in (("--cpus", cpus), ("--threads", threads)):
        if not value > 0:
            raise UserError(f"{name} {value:g}: must be more than 0")
    if gpus < 0:
        raise UserError(f"--gpus {gpus:g}: must be 0 or more")
    config = load(recipe, overrides, seeds)
    assert config.results is not None
    with alone_in(config.out), _interrupts.heard():
        _cluster.start()
        folder = Folder(config.results)
        cells, sources = _cells(config, make=not plan_only)
        results = read_results(folder, cells)
        missing = [cell for cell in cells if cell.name not in results]
        at_once = _at_once(cpus, gpus)
        _describe(config, cells, missing, results, at_once)
        if plan_only:
            say(f"\n{tables(cells, results)}")
            return 0
        failed: dict[str, str] = {}
        if missing:
            assert sources is not None
            failed = _carry_out(config, missing, sources, folder, cpus=cpus, gpus=gpus, threads=threads)
        results = read_results(folder, cells)
        folder.write(INDEX, json.dumps(_index(config, cells, results, failed), indent=1).encode())
        text = tables(cells, results)
        folder.write(TABLES, f"{text}\n".encode())
        say(f"\n{text}\n\ntables   {config.results}/{TABLES}\nresults  {config.results}/{BELOW} ({len(results)} of {len(cells)})")
    return 1 if failed else 0


def load(recipe: str, overrides: Sequence[str], seeds: int | None = None) -> VersatilityRecipe:
    """The checked recipe with its paths placed. UserError with one line for a recipe that is not there or a bad key or value."""
    taken = next((each for each in overrides if each.partition("=")[0] in _OWN), None)
    if taken:
        raise UserError(f"{taken}: every co-training has its own; set {_OWN[taken.partition('=')[0]]}=[...]")
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds {seeds}: must be at least 1")
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else _arguments.RECIPES / PROGRAM / f"{recipe}.yaml"
    values = merge(load_recipe(path), parse_overrides(list(overrides)))
    if seeds is not None:
        values["seeds"] = list(range(seeds))
    return _recipe.check(VersatilityRecipe, values, f"{PROGRAM}/{recipe}")


def _cells(config: VersatilityRecipe, *, make: bool) -> tuple[list[Cell], Sources | None]:
    """All cells, and the data sets, made where they are not there yet if `make` says so; without, all cells on such are to do."""
    digest = start_of(config)["digest"]
    named = {name: getattr(config.data, name) for name in ("unlabelled", "labelled", "test", "validation")}
    named = {name: source for name, source in named.items() if source}
    if not make and not all(_data.exists(source) for source in named.values()):
        return cells_of(config, digest, [""] * 4), None
    splits = {"test": "test"}
    opened = {name: _data.open_data(name, source, split=splits.get(name, "train")) for name, source in named.items()}
    sources = Sources(**opened)
    cells = cells_of(config, digest, [opened[name].manifest.content if name in opened else "" for name in
                                      ("unlabelled", "labelled", "test", "validation")])  # fmt: skip
    for cell in {each.config.experiment: each for each in cells}.values():  # a data set that lacks something is said before anything runs
        set_up(cell.config, sources.unlabelled, sources.labelled, sources.test, sources.validation)
    return cells, sources


def _at_once(cpus: float, gpus: float) -> int:
    """Cells that the cluster's resources allow at a time. UserError if none."""
    import ray

    there = ray.cluster_resources()
    allowed = [int(there.get(name, 0) // each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    if min(allowed, default=1) < 1:
        raise UserError(
            f"a co-training asks for {cpus:g} CPUs and {gpus:g} GPUs, the cluster has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}; "
            "lower --cpus or --gpus"
        )
    return min(allowed, default=1)


def _describe(config: VersatilityRecipe, cells: list[Cell], missing: list[Cell], results: dict[str, dict], at_once: int) -> None:
    taken = [each["seconds"] for each in results.values()]
    each = statistics.median(taken) if taken else config.seconds
    time_left = f", about {len(missing) * each / at_once / 60:.0f} minutes" if each and missing else ""
    say(f"{len(cells)} co-trainings, {len(cells) - len(missing)} done, {len(missing)} to do, {at_once} at a time{time_left}")
    for experiment in dict.fromkeys(cell.config.experiment for cell in missing):
        methods = [cell.config.method for cell in missing if cell.config.experiment == experiment]
        say(
            f"  {experiment}: {', '.join(f'{method} x {methods.count(method)}' for method in dict.fromkeys(methods))}, {config.steps} steps"
        )


def _index(config: VersatilityRecipe, cells: list[Cell], results: dict[str, dict], failed: dict[str, str]) -> dict:
    """What the results folder says of itself: all that was asked for, and what became of it."""
    listed = [
        {
            "experiment": cell.config.experiment,
            "method": cell.config.method,
            "seed": cell.config.seed,
            "status": "done" if cell.name in results else f"failed: {failed[cell.name]}" if cell.name in failed else "missing",
            "cell": f"{BELOW}/{cell.name}.json" if cell.name in results else None,
        }
        for cell in cells
    ]
    return {
        "program": PROGRAM, "recipe": config.name, "hcmoco": hcmoco.__version__, "commit": commit(), "baseline": "cmc",
        "inits": {"cmc": _portable(config.init)}, "cells": listed,
    }  # fmt: skip


def _carry_out(
    recipe: VersatilityRecipe, missing: list[Cell], sources: Sources, folder: Folder, *, cpus: float, gpus: float, threads: int
) -> dict[str, str]:
    """Trains and scores the cells on the cluster, keeps each result as it comes, and returns why those that failed did, by name."""
    import ray

    def work(config: VersatilityConfig, sources: Sources) -> tuple[dict, np.ndarray]:
        torch.set_num_threads(threads)
        cv2.setNumThreads(1)
        return run_cell(config, sources, states=f"{config.out}/states", device="cuda" if gpus else "cpu", threads=1)

    remote = ray.remote(work).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
    waiting: dict[Any, Cell] = {remote.remote(cell.config, sources): cell for cell in missing}
    writer = open_writer(recipe.tracking, recipe.out, actor=True)
    failed: dict[str, str] = {}
    total, begun = len(missing), time.monotonic()
    while waiting:
        _interrupts.check()
        done, _ = ray.wait(list(waiting), timeout=1.0)
        for each in done:
            cell = waiting.pop(each)
            try:
                result, sheet = ray.get(each)
            except ray.exceptions.RayError as error:
                failed[cell.name] = str(_cluster.find_user_error(error) or first_line(error))
                say(f"failed: {cell.name}: {failed[cell.name]}")
                continue
            # Files that may be handed on say where a run lies under its home, and not on whose disk.
            result["start"]["text"] = _portable(result["start"]["text"])
            result |= {"key": cell.key, "hcmoco": hcmoco.__version__, "torch": torch.__version__, "commit": commit()}
            png = encode_png(sheet)
            if cell.config.method == "hcmoco" and cell.config.seed == recipe.seeds[0]:
                folder.write(f"{BELOW}/{cell.config.experiment}.png", png)
            folder.write(f"{BELOW}/{cell.name}.json", json.dumps(result, indent=1).encode())
            Folder(recipe.out).delete_folder(f"work/{cell.name}")
            _record(writer, cell, result, png)
            left = (time.monotonic() - begun) / (total - len(waiting)) * len(waiting)
            figure = 100 * result["test"]["figures"][result["main"]]
            say(
                f"{total - len(waiting)}/{total}  {cell.config.experiment}  {cell.config.method}  seed {cell.config.seed}:  "
                f"{result['main']} {figure:.1f} %  ({result['seconds']:.0f} s)  {int(left) // 60}:{int(left) % 60:02d} left"
            )
    return failed


def _portable(text: str) -> str:
    return text.replace(f"{home()}/", "")


def _record(writer: Any, cell: Cell, result: dict, png: bytes) -> None:
    """A finished co-training as a run of its own."""
    tags = {"hcmoco.experiment": cell.config.experiment, "hcmoco.method": cell.config.method, "hcmoco.key": cell.key}
    tracker = start_run(writer, name=cell.name, params=cell.config.model_dump(mode="json"), tags=tags)
    for step, figures in result["validations"]:
        tracker.metrics(step, {f"validation/{name}": value for name, value in figures.items()})
    tracker.metrics(result["steps"], {f"test/{name}": value for name, value in result["test"]["figures"].items()})
    tracker.text("result.json", json.dumps(result, indent=1))
    tracker.picture("pictures/test.png", png)
    tracker.finish()
