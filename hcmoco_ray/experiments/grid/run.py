"""A grid of fine-tunings from its file to its table: the plan, what has to be pre-trained, the cells on whatever cluster there is."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch

from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.finetuning.run import run_cell
from hcmoco.storage import Folder
from hcmoco.tasks.registry import task_class
from hcmoco_ray.cluster import interrupts, session
from hcmoco_ray.cluster.resources import Asked
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.experiments import pretrained
from hcmoco_ray.experiments.grid.cells import BELOW, Cell, cells_of, write_index
from hcmoco_ray.experiments.grid.config import GridConfig, load_grid
from hcmoco_ray.experiments.parent_run import parent_run
from hcmoco_ray.experiments.pretrained import Origin
from hcmoco_ray.experiments.results import portable, read_results, write_result
from hcmoco_ray.experiments.runner import collect, record
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import TrackingConfig, open_writer
from hcmoco_ray.train.run_dir import lock_run_dir, recorded, say

# Keys that differ from cell to cell.
_OWN = ("init", "seed", "out", "fraction", "samples", "subset")
Table = Callable[[GridConfig, Sequence[Cell], Mapping[str, dict]], str]


def run(
    program: str, name: str, overrides: Sequence[str], asked: Asked, table: Table, *, plan_only: bool, seeds: int | None
) -> int:
    """Does what is missing of a grid.

    Args:
        program: whose index is written: RESULTS/<program>.json and <program>.md.
        name: of the grid.
        table: makes the closing table.
    Returns:
        The exit status: 1 where a pre-training or a cell failed.
    """
    grid = load_grid(name, seeds)
    taken = [each for each in overrides if each.partition("=")[0] in _OWN]
    if taken:
        raise UserError(f"{taken[0]}: the grid says what {', '.join(_OWN)} are; change them in its file")
    out = at_home(grid.out)
    folder = Folder(at_home(grid.results or grid.out))
    with nullcontext() if plan_only else lock_run_dir(out, "the out of its file"):
        session.start().refuse_local("out", out)
        origins = pretrained.origins(grid)

        def look() -> tuple[list[Cell], dict[str, dict]]:
            cells = cells_of(grid, origins, overrides, out, folder)
            return cells, read_results(folder, BELOW, cells)

        cells, results = look()
        first = _to_pretrain(origins, cells, results)
        _describe(grid, first, cells, results, asked, folder)
        failures: dict[str, str] = {}
        if not plan_only:
            failures = _pretrain_all(first, origins, folder)
            cells, results = look()
            failures = {
                cell.name: failures[cell.init] for cell in cells if cell.init in failures and cell.name not in results
            }
            missing = [cell for cell in cells if _open(cell, results) and cell.name not in failures]
            if missing:
                failures |= _carry_out(program, name, missing, folder, out, asked)
            results = read_results(folder, BELOW, cells)
            write_index(folder, program, grid, cells, results, failures)
        text = table(grid, cells, results)
        say(f"\n{text}")
        if plan_only:
            return 0
        folder.write(f"{program}.md", f"{text}\n".encode())
        say(f"\ntable   {folder.uri}/{program}.md\ncells   {folder.uri}/cells ({len(results)} of {len(cells)})")
    return 1 if failures else 0


def _open(cell: Cell, results: Mapping[str, dict]) -> bool:
    return cell.name not in results and not cell.refused


def _to_pretrain(origins: Mapping[str, Origin], cells: Sequence[Cell], results: Mapping[str, dict]) -> list[Origin]:
    """The pre-trainings that a missing cell waits for."""
    wanted = {cell.init for cell in cells if _open(cell, results)}
    return [origin for name, origin in origins.items() if name in wanted and not origin.there]


def _describe(
    grid: GridConfig,
    first: Sequence[Origin],
    cells: Sequence[Cell],
    results: Mapping[str, dict],
    asked: Asked,
    folder: Folder,
) -> None:
    """Prints what there is to do, with what, and how long it may take."""
    at_once = asked.at_once()
    missing = [cell for cell in cells if _open(cell, results)]
    refused = [cell for cell in cells if cell.refused]
    known: dict[str, list[float]] = {task: [seconds] for task, seconds in grid.seconds.items()}
    measured: dict[str, list[float]] = {}
    for cell in cells:
        if cell.name in results:
            measured.setdefault(cell.task, []).append(results[cell.name]["seconds"])
    known |= measured
    if first:
        each = f", about {known['pretrain'][0] / 60:.0f} minutes each" if "pretrain" in known else ""
        say(f"{len(first)} pre-trainings to do, one after another{each}: {', '.join(origin.name for origin in first)}")
    time_left = ""
    if missing and all(cell.task in known for cell in missing):
        seconds = sum(statistics.median(known[cell.task]) for cell in missing) / at_once
        time_left = f", about {seconds / 60:.0f} minutes"
    said = f", {len(refused)} {refused[0].refused}" if refused else ""
    done = len(cells) - len(missing) - len(refused)
    say(
        f"{len(cells)} cells, {done} done, {len(missing)} to do{said}, {at_once} at a time with {asked.text} each{time_left}"
    )
    for task in dict.fromkeys(cell.task for cell in missing):
        of_task = [cell for cell in missing if cell.task == task]
        shares = ", ".join(
            f"{labels} x {sum(cell.labels == labels for cell in of_task)}"
            for labels in dict.fromkeys(c.labels for c in of_task)
        )
        say(
            f"  {task}: {shares}, {of_task[0].config.steps or of_task[0].config.epochs} {'steps' if of_task[0].config.steps else 'epochs'}"
        )


def _pretrain_all(first: Sequence[Origin], origins: Mapping[str, Origin], folder: Folder) -> dict[str, str]:
    """Runs the pre-trainings, keeps a record of those that had ended before too, and returns why others failed, by name."""
    failures = {}
    for number, origin in enumerate(first, 1):
        interrupts.check()
        say(f"\npre-training {number} of {len(first)}: {origin.name}")
        try:
            pretrained.pretrain(origin, folder)
        except UserError as error:
            failures[origin.name] = f"pre-training: {error}"
            say(f"failed: {origin.name}: {error}")
    for origin in origins.values():
        if origin.made and origin.there and not pretrained.read_record(origin, folder):
            pretrained.write_record(origin, folder, None)
    return failures


def _carry_out(
    program: str, grid: str, missing: Sequence[Cell], folder: Folder, out: str, asked: Asked
) -> dict[str, str]:
    """Trains and scores the cells on the cluster, keeps each result as it comes, and returns why cells failed, by name."""
    import ray

    data = {cell.task: _data_of(cell.config, cell.task) for cell in {cell.task: cell for cell in missing}.values()}

    def work(config: FinetuneRecipe, train: Shards, test: Shards) -> dict:
        torch.set_num_threads(asked.threads)
        return run_cell(
            config, train, test, states=f"{config.out}/states", device="cuda" if asked.gpus else "cpu", threads=1
        )

    remote = ray.remote(work).options(num_cpus=asked.cpus, num_gpus=asked.gpus, max_retries=2)
    writer = open_writer(TrackingConfig(), out, actor=True)
    parent = parent_run(writer, program, grid.rpartition("/")[2], out)

    def keep(cell: Cell, outcome: dict) -> tuple[dict, str]:
        result = portable(outcome)
        write_result(folder, BELOW, cell, result, init=cell.init)
        tags = {"hcmoco.task": cell.task, "hcmoco.init": cell.init, "hcmoco.labels": cell.labels}
        record(writer, parent, cell, cell.config.model_dump(mode="json"), tags, result)
        return result, f"{cell.task}  {cell.labels}  {cell.init}  seed {cell.config.seed}"

    failures: dict[str, str] = {}
    with recorded(parent, failures):
        failures |= collect({remote.remote(cell.config, *data[cell.task]): cell for cell in missing}, keep, out)
    return failures


def _data_of(config: FinetuneRecipe, task: str) -> tuple[Shards, Shards]:
    """Training and test data of a task, made where they are to be made and are not there."""
    kind = task_class(task).kind
    return (
        ensure.open_data("train", config.data.train, kind=kind),
        ensure.open_data("test", config.data.test, kind=kind, split="test"),
    )
