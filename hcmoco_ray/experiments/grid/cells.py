"""The cells of a grid and their results as files.

RESULTS/cells/<cell>.json    a finished cell; whoever has it need not train it
RESULTS/<program>.json       the index: every cell of the grid with where it stands
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hcmoco.finetuning.label_subset import LabelsConfig
from hcmoco.storage import Folder
from hcmoco.tasks.registry import task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.experiments import results as result_files
from hcmoco_ray.experiments.grid.config import CellsConfig, GridConfig
from hcmoco_ray.experiments.pretrained import Origin, digest_of
from hcmoco_ray.experiments.results import MISSING, deciding, standing
from hcmoco_ray.prepare import ensure

BELOW = "cells"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning of a grid.

    Attributes:
        init: name of its start in the grid.
        config: everything about it; its `out` is a folder for its train states.
        key: digest of all that decides its result: config, weights that it starts from, data; "" while the weights are not known.
        refused: why it cannot be run, "" if it can.
    """

    task: str
    init: str
    config: FinetuneRecipe
    key: str
    refused: str = ""

    @property
    def labels(self) -> str:
        """How the table names its share of the labels."""
        return self.config.text

    @property
    def name(self) -> str:
        """Unique in a grid, and readable."""
        labels = self.labels.replace("%", "pc").replace(" ", "-")
        return f"{self.task}_{self.init}_{labels}_seed{self.config.seed}_{self.key[:10]}"


def cells_of(
    grid: GridConfig, origins: Mapping[str, Origin], overrides: Sequence[str], out: str, results: Folder
) -> list[Cell]:
    """All cells of a grid, in its order. UserError for the first that cannot be."""
    digests: dict[tuple[str, str], str | None] = {}
    cells = []
    for some, task, seed, origin in _combinations(grid, origins):
        config = _recipe_of(grid, some, task, origin, seed, overrides, out)
        modality = task_class(task).modality
        try:
            if (origin.name, modality) not in digests:
                digests[origin.name, modality] = digest_of(
                    origin, config.encoder, modality, config.imagenet_weights, results
                )
            digest = digests[origin.name, modality]
        except LookupError as reason:
            cells.append(Cell(task, origin.name, config, "", str(reason)))
            continue
        key = cell_key(config, digest) if digest is not None else ""
        cell = Cell(task, origin.name, config, key)
        cells.append(replace(cell, config=config.model_copy(update={"out": f"{out}/work/{cell.name}"})))
    return cells


def _combinations(grid: GridConfig, origins: Mapping[str, Origin]) -> Iterator[tuple[CellsConfig, str, int, Origin]]:
    for some in grid.cells:
        for task in some.tasks:
            for seed in some.seeds:
                for origin in origins.values():
                    yield some, task, seed, origin


def _recipe_of(
    grid: GridConfig, some: CellsConfig, task: str, origin: Origin, seed: int, overrides: Sequence[str], out: str
) -> FinetuneRecipe:
    own = [f"{key}={value}" for key, value in some.labels.items()] + [
        f"init={origin.init}",
        f"seed={seed}",
        f"out={out}",
    ]
    values = cli.task_values(task, grid.recipe, [*own, *overrides])
    return run_config.check(FinetuneRecipe, values, grid.recipe if "/" in grid.recipe else f"{task}/{grid.recipe}")


def cell_key(config: FinetuneRecipe, start_digest: str) -> str:
    """Digest of all that decides a cell's result."""
    labels = {name: getattr(config, name) for name in LabelsConfig.model_fields}
    data = [ensure.identity(source) for source in (config.data.train, config.data.test)]
    decided = [deciding(config), labels, start_digest, data]
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def write_index(
    folder: Folder,
    program: str,
    grid: GridConfig,
    cells: Sequence[Cell],
    results: Mapping[str, dict],
    failures: Mapping[str, str],
) -> None:
    """Keeps where every cell stands; `failures` by name of the cell."""
    entries = [
        {
            "task": cell.task,
            "init": cell.init,
            "labels": cell.labels,
            "seed": cell.config.seed,
            **standing(BELOW, cell, results, failures, cell.refused or MISSING),
        }
        for cell in cells
    ]
    inits = {name: each if isinstance(each, str) else each.model_dump(mode="json") for name, each in grid.inits.items()}
    result_files.write_index(
        folder, program, {"recipe": grid.recipe, "baseline": grid.baseline, "inits": inits, "cells": entries}
    )
