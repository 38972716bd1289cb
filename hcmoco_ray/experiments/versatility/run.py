"""The versatility experiments from their recipe to their tables: the plan, the co-trainings on whatever cluster there is, the record."""

import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch

from hcmoco.config import load_recipe, merge, parse_overrides
from hcmoco.cotraining.config import CoTrainingData, VersatilityConfig
from hcmoco.cotraining.encoder_init import start_digest
from hcmoco.cotraining.resolve import set_up
from hcmoco.cotraining.run import Sources, run_cell, start_of
from hcmoco.data.codecs import encode_png
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import SCRATCH
from hcmoco.storage import Folder
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import session
from hcmoco_ray.cluster.resources import Asked
from hcmoco_ray.experiments import pretrained
from hcmoco_ray.experiments.grid.config import first_seeds
from hcmoco_ray.experiments.parent_run import parent_run
from hcmoco_ray.experiments.pretrained import Origin
from hcmoco_ray.experiments.results import portable, read_results, write_result
from hcmoco_ray.experiments.runner import collect, record
from hcmoco_ray.experiments.versatility.cells import (
    BELOW,
    PROGRAM,
    START,
    Cell,
    VersatilityRecipe,
    cells_of,
    tables,
    write_index,
)
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import open_writer
from hcmoco_ray.train.run_dir import lock_run_dir, recorded, say

# Keys that differ from cell to cell.
_OWN = {"experiment": "experiments", "method": "methods", "seed": "seeds"}


def run(recipe: str, overrides: Sequence[str], asked: Asked, *, seeds: int | None, plan_only: bool) -> int:
    """Does what is missing of a recipe; see versatility.py for the arguments. Returns the exit status: 1 where a co-training failed."""
    config = load(recipe, overrides, seeds)
    assert config.results is not None
    folder = Folder(config.results)
    with nullcontext() if plan_only else lock_run_dir(config.out):
        session.start().refuse_local("out", config.out)
        origin = pretrained.origin_of(START, config.init)
        cells = _cells(config, origin, folder)
        results = read_results(folder, BELOW, cells)
        missing = [cell for cell in cells if cell.name not in results]
        _describe(config, origin, cells, missing, results, asked)
        failures: dict[str, str] = {}
        if missing and not plan_only:
            if not origin.there:
                say(f"\npre-training {START}")
                pretrained.pretrain(origin, folder)
                cells = _cells(config, origin, folder)
                results = read_results(folder, BELOW, cells)
                missing = [cell for cell in cells if cell.name not in results]
            if missing:
                failures = _carry_out(config, missing, folder, asked)
            results = read_results(folder, BELOW, cells)
        text = tables(cells, results)
        say(f"\n{text}")
        if plan_only:
            return 0
        write_index(folder, config, cells, results, failures)
        folder.write(f"{PROGRAM}.md", f"{text}\n".encode())
        say(f"\ntables   {folder.uri}/{PROGRAM}.md\nresults  {folder.uri}/{BELOW} ({len(results)} of {len(cells)})")
    return 1 if failures else 0


def load(recipe: str, overrides: Sequence[str], seeds: int | None = None) -> VersatilityRecipe:
    """The checked recipe with its paths placed. UserError with one line for a recipe that is not there or a bad key or value."""
    taken = next((each for each in overrides if each.partition("=")[0] in _OWN), None)
    if taken:
        raise UserError(f"{taken}: every co-training has its own; set {_OWN[taken.partition('=')[0]]}=[...]")
    counted = None if seeds is None else list(first_seeds(seeds))
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else cli.RECIPES / PROGRAM / f"{recipe}.yaml"
    given = parse_overrides(list(overrides))
    values = load_recipe(path)
    if "init" in given:  # the whole of it: a folder does not merge with a pre-training
        values.pop("init", None)
    values = merge(values, given)
    if counted is not None:
        values["seeds"] = counted
    return run_config.check(VersatilityRecipe, values, recipe if "/" in recipe else f"{PROGRAM}/{recipe}")


def _cells(config: VersatilityRecipe, origin: Origin, results: Folder) -> list[Cell]:
    """All cells. UserError where the weights that they start from are not there and cannot be made, or are of other encoders."""
    init = origin.init if origin.init == SCRATCH else at_home(origin.init)
    if origin.there:
        one = cells_of(config, init, "")[0]
        return cells_of(config, init, start_of(one.config)["digest"])
    record = pretrained.read_record(origin, results)
    return cells_of(config, init, start_digest(record["digests"]) if record else None)


def _describe(
    config: VersatilityRecipe,
    origin: Origin,
    cells: list[Cell],
    missing: list[Cell],
    results: dict[str, dict],
    asked: Asked,
) -> None:
    """Prints what there is to do, with what, and how long it may take."""
    at_once = asked.at_once()
    if missing and not origin.there:
        say(f"1 pre-training to do first: {START}")
    taken = [each["seconds"] for each in results.values()]
    each = statistics.median(taken) if taken else config.seconds
    time_left = f", about {len(missing) * each / at_once / 60:.0f} minutes" if each and missing else ""
    say(
        f"{len(cells)} co-trainings, {len(results)} done, {len(missing)} to do, {at_once} at a time with {asked.text} each{time_left}"
    )
    for experiment in dict.fromkeys(cell.config.experiment for cell in missing):
        methods = [cell.config.method for cell in missing if cell.config.experiment == experiment]
        say(
            f"  {experiment}: {', '.join(f'{method} x {methods.count(method)}' for method in dict.fromkeys(methods))}, {config.steps} steps"
        )


def _sources(config: VersatilityRecipe, cells: Sequence[Cell]) -> Sources:
    """The data sets, made where they are to be made and are not there. UserError where one lacks what an experiment needs."""
    named = {name: getattr(config.data, name) for name in CoTrainingData.model_fields}
    splits = {"test": "test", "validation": "held-out"}  # the pre-training's held-out people serve for the curve
    sources = Sources(
        **{name: ensure.open_data(name, each, split=splits.get(name, "train")) for name, each in named.items() if each}
    )
    for cell in {each.config.experiment: each for each in cells}.values():  # said before anything runs
        set_up(cell.config, sources.unlabeled, sources.labeled, sources.test, sources.validation)
    return sources


def _carry_out(recipe: VersatilityRecipe, missing: Sequence[Cell], folder: Folder, asked: Asked) -> dict[str, str]:
    """Trains and scores the cells on the cluster, keeps each result as it comes, and returns why those that failed did, by name."""
    import ray

    sources = _sources(recipe, missing)

    def work(config: VersatilityConfig, sources: Sources) -> tuple[dict, np.ndarray]:
        torch.set_num_threads(asked.threads)
        cv2.setNumThreads(1)
        return run_cell(
            config, sources, states=f"{config.out}/states", device="cuda" if asked.gpus else "cpu", threads=1
        )

    remote = ray.remote(work).options(num_cpus=asked.cpus, num_gpus=asked.gpus, max_retries=2)
    writer = open_writer(recipe.tracking, recipe.out, actor=True)
    parent = parent_run(writer, PROGRAM, recipe.name, recipe.out)

    def keep(cell: Cell, outcome: tuple[dict, np.ndarray]) -> tuple[dict, str]:
        result, png = portable(outcome[0]), encode_png(outcome[1])
        if cell.config.method == "hcmoco" and cell.config.seed == recipe.seeds[0]:
            folder.write(f"{BELOW}/{cell.config.experiment}.png", png)
        write_result(folder, BELOW, cell, result)
        tags = {"hcmoco.experiment": cell.config.experiment, "hcmoco.method": cell.config.method}
        record(writer, parent, cell, cell.config.model_dump(mode="json"), tags, result, png)
        return result, f"{cell.config.experiment}  {cell.config.method}  seed {cell.config.seed}"

    failures: dict[str, str] = {}
    with recorded(parent, failures):
        failures |= collect({remote.remote(cell.config, sources): cell for cell in missing}, keep, recipe.out)
    return failures
