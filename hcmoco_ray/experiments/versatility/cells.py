"""The co-trainings of a versatility recipe, their results as files, and the paper's two tables over them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from hcmoco.cotraining.config import EXPERIMENTS, METHODS, CoTrainingData, Experiment, Method, VersatilityConfig
from hcmoco.storage import Folder
from hcmoco_ray.experiments import results as result_files
from hcmoco_ray.experiments.grid.config import PretrainedConfig, Seeds
from hcmoco_ray.experiments.results import deciding, mean_text, standing
from hcmoco_ray.paths import at_home
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import TrackingConfig

PROGRAM = BELOW = "versatility"
START = "cmc"  # how the record of pre-trainings names where all methods start
TITLES: dict[str, str] = {"none": "No Contrastive", "cmc": "CMC", "hcmoco": "HCMoCo"}
FIGURES = ("mIoU", "mAcc", "aAcc")
TABLE_6 = (("RGB -> Depth", "rgb-to-depth", "depth"), ("Depth -> RGB", "depth-to-rgb", "rgb"))
TABLE_7 = (
    ("Only RGB", "missing-modality", "rgb"),
    ("Only Depth", "missing-modality", "depth"),
    ("Both", "missing-modality", "fused"),
)
"""Title of a group of columns, experiment, and what the head is read on."""


class VersatilityRecipe(VersatilityConfig):
    """Some co-trainings: every experiment with every method and every seed; `experiment`, `method` and `seed` are each one's own."""

    out: str = Field(
        min_length=1,
        description="folder or URI of what is worth nothing afterwards: train states; and of the tracking store",
    )
    init: str | PretrainedConfig = Field(  # type: ignore[assignment]
        description="as a co-training's, or the sample-level pre-training that makes it"
    )
    results: str | None = Field(
        None, description="folder or URI of the results, small files that can be shared; null: `out`"
    )
    experiments: tuple[Experiment, ...] = Field(EXPERIMENTS, min_length=1, description="which experiments")
    methods: tuple[Method, ...] = Field(METHODS, min_length=1, description="which methods")
    seeds: Seeds = Field((0,), min_length=1, description="a co-training for each")
    seconds: float | None = Field(
        None, gt=0, description="what one takes, for the first estimate; what is done already tells better"
    )
    tracking: TrackingConfig = TrackingConfig()

    def placed(self) -> "VersatilityRecipe":
        """The same with its own paths made absolute."""
        return self.model_copy(update={"out": at_home(self.out), "results": at_home(self.results or self.out)})


@dataclass(frozen=True)
class Cell:
    """One co-training.

    Attributes:
        config: everything about it; its `out` is a folder for its train states.
        key: digest of all that decides its result: config, weights that it starts from, data; "" while the pre-training that makes
            the weights has yet to run.
    """

    config: VersatilityConfig
    key: str

    @property
    def name(self) -> str:
        """Unique in a recipe, and readable."""
        config = self.config
        return f"{config.experiment}_{config.method}_seed{config.seed}_{self.key[:10]}"


def cells_of(recipe: VersatilityRecipe, init: str, start_digest: str | None) -> list[Cell]:
    """All co-trainings of a recipe.

    Args:
        init: where the encoders start.
        start_digest: of their weights; None where nobody knows yet.
    """
    sources = [getattr(recipe.data, name) for name in CoTrainingData.model_fields]
    contents = [ensure.identity(source) if source else {} for source in sources]
    cells = []
    for experiment in dict.fromkeys(recipe.experiments):
        for method in dict.fromkeys(recipe.methods):
            for seed in dict.fromkeys(recipe.seeds):
                values = {name: getattr(recipe, name) for name in VersatilityConfig.model_fields}
                config = VersatilityConfig(
                    **{**values, "init": init, "experiment": experiment, "method": method, "seed": seed}
                )
                decided = json.dumps([deciding(config), start_digest, contents], sort_keys=True)
                cell = Cell(config, hashlib.sha256(decided.encode()).hexdigest() if start_digest is not None else "")
                cells.append(Cell(config.model_copy(update={"out": f"{recipe.out}/work/{cell.name}"}), cell.key))
    return cells


def write_index(
    folder: Folder,
    recipe: VersatilityRecipe,
    cells: Sequence[Cell],
    results: Mapping[str, dict],
    failures: Mapping[str, str],
) -> None:
    """Keeps where every co-training stands; `failures` by name of the cell."""
    entries = [
        {
            "experiment": cell.config.experiment,
            "method": cell.config.method,
            "seed": cell.config.seed,
            **standing(BELOW, cell, results, failures),
        }
        for cell in cells
    ]
    init = recipe.init if isinstance(recipe.init, str) else recipe.init.model_dump(mode="json")
    name = recipe.name.removeprefix(f"{PROGRAM}-")
    result_files.write_index(
        folder, PROGRAM, {"recipe": name, "baseline": "cmc", "inits": {START: init}, "cells": entries}
    )


def tables(cells: Sequence[Cell], results: Mapping[str, dict]) -> str:
    """Markdown: Tables 6 and 7 in the paper's form, in %, with mean and standard deviation over seeds."""
    parts = []
    for title, columns in (("Cross-modality supervision", TABLE_6), ("Missing-modality inference", TABLE_7)):
        columns = tuple(each for each in columns if any(cell.config.experiment == each[1] for cell in cells))
        if columns:
            parts.append(f"{title}, in %\n\n{_table(cells, results, columns)}")
    return "\n\n".join(parts)


def _table(cells: Sequence[Cell], results: Mapping[str, dict], columns: Sequence[tuple[str, str, str]]) -> str:
    head = ["Method", "seeds", *(f"{title}: {figure}" for title, _, _ in columns for figure in FIGURES)]
    lines = [f"| {' | '.join(head)} |", "|---|--:|" + "--:|" * (len(head) - 2)]
    for method in dict.fromkeys(cell.config.method for cell in cells):
        found, seeds = [], 0
        for _, experiment, which in columns:
            there = [
                c.name
                for c in cells
                if (c.config.experiment, c.config.method) == (experiment, method) and c.name in results
            ]
            seeds = max(seeds, len(there))
            found += [
                mean_text([100 * results[name]["test"]["figures"][f"{which}/{figure}"] for name in there])
                for figure in FIGURES
            ]
        lines.append(f"| {' | '.join([TITLES[method], str(seeds), *found])} |")
    return "\n".join(lines)
