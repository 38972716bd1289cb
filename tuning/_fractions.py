"""A grid of fine-tunings from its file to its table: the plan, the cells on whatever cluster there is, the record."""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

import hcmoco
from hcmoco.config import build, load_recipe
from hcmoco.errors import UserError
from hcmoco.shards.read import Shards
from hcmoco.shards.storage import Folder, first_line
from hcmoco.tasks.cell import run_cell
from hcmoco.tasks.initial import start
from hcmoco.tasks.tasks import TASKS, task_class
from pipelines import _arguments, _cluster, _data, _interrupts, _recipe
from pipelines._folder import alone_in, say
from pipelines._home import at_home, home
from pipelines._recipe import FinetuneRecipe
from pipelines._tracking import TrackingConfig, open_writer, start_run
from tuning._cells import Cell, CellsConfig, GridConfig, cell_key, read_results, table, write_result

# Keys that differ from cell to cell.
_OWN = ("init", "seed", "out", "fraction", "samples", "subset")
GRIDS = _arguments.RECIPES / "grids"


def run(grid: str, overrides: Sequence[str], *, plan_only: bool, cpus: float, gpus: float, threads: int) -> int:
    """Does what is missing of a grid; see fractions.py for the arguments. Returns the exit status: 1 where a cell failed."""
    config = build(GridConfig, load_recipe(grid if grid.endswith((".yaml", ".yml")) else GRIDS / f"{grid}.yaml"), f"grid {grid}")
    for name, value in (("--cpus", cpus), ("--threads", threads)):
        if not value > 0:
            raise UserError(f"{name} {value:g}: must be more than 0")
    if gpus < 0:
        raise UserError(f"--gpus {gpus:g}: must be 0 or more")
    taken = [each for each in overrides if each.partition("=")[0] in _OWN]
    if taken:
        raise UserError(f"{taken[0]}: the grid says what {', '.join(_OWN)} are; change them in its file")
    if config.baseline not in config.inits:
        raise UserError(f"grid {grid}: baseline = {config.baseline!r} is not among its inits: {', '.join(config.inits)}")
    out = at_home(config.out)
    with alone_in(out), _interrupts.heard():
        _cluster.start()
        cells, data = _cells(config, list(overrides), out, make=not plan_only)
        folder = Folder(out)
        results = read_results(folder, cells)
        missing = [cell for cell in cells if cell.name not in results]
        at_once = _at_once(cpus, gpus)
        _describe(cells, missing, results, at_once)
        failed = 0
        if missing and not plan_only:
            failed = _carry_out(missing, data, folder, out, cpus=cpus, gpus=gpus, threads=threads)
        results = read_results(folder, cells)
        text = table(cells, results, config.baseline)
        if plan_only:
            say(f"\n{text}")
            return 0
        folder.write("table.md", f"{text}\n".encode())
        say(f"\n{text}\n\ntable   {out}/table.md\ncells   {out}/cells ({len(results)} of {len(cells)})")
    return 1 if failed else 0


def _cells(config: GridConfig, overrides: list[str], out: str, *, make: bool) -> tuple[list[Cell], dict[str, tuple[Shards, Shards]]]:
    """All cells, and the data sets of each task, made where they are not there yet if `make` says so; without, cells on such a data set
    are all to do. UserError for the first that cannot be."""
    cells: list[Cell] = []
    data: dict[str, tuple[Shards, Shards]] = {}
    digests: dict[tuple[str, str], str] = {}
    for some in config.cells:
        for task in some.tasks:
            if task not in TASKS:
                raise UserError(f"tasks: {task!r} is not a task; allowed are {', '.join(TASKS)}")
            for seed in some.seeds:
                for name, init in config.inits.items():
                    each = _recipe_of(config, some, task, init, seed, overrides, out)
                    if task not in data and (make or all(_data.exists(source) for source in (each.data.train, each.data.test))):
                        kind = task_class(task).kind
                        data[task] = (
                            _data.open_data("train", each.data.train, kind=kind),
                            _data.open_data("test", each.data.test, kind=kind, split="test"),
                        )
                    modality = task_class(task).modality
                    if (init, modality) not in digests:
                        digests[init, modality] = start(each.init, each.encoder, modality, imagenet_weights=each.imagenet_weights).digest
                    contents = [shards.manifest.content for shards in data[task]] if task in data else ["", ""]
                    key = cell_key(each, digests[init, modality], *contents)
                    cell = Cell(task, name, each, key)
                    cells.append(Cell(task, name, each.model_copy(update={"out": f"{out}/work/{cell.name}"}), key))
    return cells, data


def _recipe_of(config: GridConfig, some: CellsConfig, task: str, init: str, seed: int, overrides: list[str], out: str) -> FinetuneRecipe:
    own = [f"{key}={value}" for key, value in some.labels.items()] + [f"init={init}", f"seed={seed}", f"out={out}"]
    values = _arguments.task_values(task, config.recipe, own + overrides)
    return _recipe.check(FinetuneRecipe, values, f"{task}/{config.recipe}")


def _at_once(cpus: float, gpus: float) -> int:
    """Cells that the cluster's resources allow at a time. UserError if none."""
    import ray

    there = ray.cluster_resources()
    allowed = [int(there.get(name, 0) // each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each]
    if min(allowed, default=1) < 1:
        raise UserError(
            f"a cell asks for {cpus:g} CPUs and {gpus:g} GPUs, the cluster has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}; "
            "lower --cpus or --gpus"
        )
    return min(allowed, default=1)


def _describe(cells: list[Cell], missing: list[Cell], results: dict[str, dict], at_once: int) -> None:
    seconds: dict[str, list[float]] = {}
    for cell in cells:
        if cell.name in results:
            seconds.setdefault(cell.task, []).append(results[cell.name]["seconds"])
    known = [statistics.median(seconds[cell.task]) for cell in missing if cell.task in seconds]
    time_left = ""
    if missing and len(known) == len(missing):
        time_left = f", about {sum(known) / at_once / 60:.0f} minutes from the cells that are done"
    say(f"{len(cells)} cells, {len(cells) - len(missing)} done, {len(missing)} to do, {at_once} at a time{time_left}")
    for task in dict.fromkeys(cell.task for cell in missing):
        of_task = [cell for cell in missing if cell.task == task]
        shares = ", ".join(
            f"{labels} x {sum(cell.labels == labels for cell in of_task)}" for labels in dict.fromkeys(c.labels for c in of_task)
        )
        say(f"  {task}: {shares}, {of_task[0].config.steps or of_task[0].config.epochs} {'steps' if of_task[0].config.steps else 'epochs'}")


def _carry_out(
    missing: list[Cell], data: dict[str, tuple[Shards, Shards]], folder: Folder, out: str, *, cpus: float, gpus: float, threads: int
) -> int:
    """Trains and scores the cells on the cluster, keeps each result as it comes, and returns how many failed."""
    import ray

    def work(config: FinetuneRecipe, train: Shards, test: Shards) -> dict:
        torch.set_num_threads(threads)
        return run_cell(config, train, test, states=f"{config.out}/states", device="cuda" if gpus else "cpu", threads=1)

    remote = ray.remote(work).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
    waiting: dict[Any, Cell] = {remote.remote(cell.config, *data[cell.task]): cell for cell in missing}
    writer = open_writer(TrackingConfig(), out, actor=True)
    failed, total, begun = 0, len(missing), time.monotonic()
    while waiting:
        _interrupts.check()
        done, _ = ray.wait(list(waiting), timeout=1.0)
        for each in done:
            cell = waiting.pop(each)
            try:
                result = ray.get(each)
            except ray.exceptions.RayError as error:
                failed += 1
                mistake = _cluster.find_user_error(error)
                say(f"failed: {cell.name}: {mistake or first_line(error)}")
                continue
            # Files that may be handed on say where a run lies under its home, and not on whose disk.
            result["start"]["text"] = result["start"]["text"].replace(f"{home()}/", "")
            write_result(folder, cell, {**result, "hcmoco": hcmoco.__version__, "torch": torch.__version__})
            folder.delete_folder(f"work/{cell.name}")
            _record(writer, cell, result)
            left = (time.monotonic() - begun) / (total - len(waiting)) * len(waiting)
            figure = 100 * result["test"]["figures"][result["main"]]
            say(
                f"{total - len(waiting)}/{total}  {cell.task}  {cell.labels}  {cell.init}  seed {cell.config.seed}:  "
                f"{result['main']} {figure:.1f} %  ({result['seconds']:.0f} s)  {int(left) // 60}:{int(left) % 60:02d} left"
            )
    return failed


def _record(writer: Any, cell: Cell, result: dict) -> None:
    """A finished cell as a run of its own."""
    tracker = start_run(
        writer,
        name=cell.name,
        params=cell.config.model_dump(mode="json"),
        tags={"hcmoco.task": cell.task, "hcmoco.init": cell.init, "hcmoco.labels": cell.labels, "hcmoco.key": cell.key},
    )
    for step, figures in result["validations"]:
        tracker.metrics(step, {f"validation/{name}": value for name, value in figures.items()})
    tracker.metrics(result["steps"], {f"test/{name}": value for name, value in result["test"]["figures"].items()})
    tracker.text("result.json", json.dumps(result, indent=1))
    tracker.finish()
