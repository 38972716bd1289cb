"""The cells of a grid, their results as files, and the table over them."""

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from hcmoco.config import Config
from hcmoco.shards.storage import Folder
from hcmoco.tasks.labels import LabelsConfig
from pipelines._recipe import FinetuneRecipe


class CellsConfig(Config):
    """Some cells: every task with every start and every seed."""

    tasks: tuple[str, ...] = Field(min_length=1, description="names of tasks")
    labels: dict[str, float | int | str] = Field(description="fraction, samples or subset, as in a fine-tuning's recipe")
    seeds: tuple[int, ...] = Field(min_length=1, description="a training for each")


class GridConfig(Config):
    """A grid of fine-tunings."""

    recipe: str = Field(description="the tasks' recipe: recipes/<task>/<recipe>.yaml")
    out: str = Field(min_length=1, description="folder or URI of the results")
    baseline: str = Field(description="the start that the others are compared with")
    inits: dict[str, str] = Field(min_length=1, description="name -> where the encoder starts, as a fine-tuning's init")
    cells: tuple[CellsConfig, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Cell:
    """One fine-tuning of a grid.

    Attributes:
        init: name of its start in the grid.
        config: everything about it; its `out` is a folder for its train states.
        key: digest of all that decides its result: config, weights that it starts from, data.
    """

    task: str
    init: str
    config: FinetuneRecipe
    key: str

    @property
    def labels(self) -> str:
        """How the table names its share of the labels."""
        return self.config.text

    @property
    def name(self) -> str:
        """Unique in a grid, and readable."""
        labels = self.labels.replace("%", "pc").replace(" ", "-")
        return f"{self.task}_{self.init}_{labels}_seed{self.config.seed}_{self.key[:10]}"


def cell_key(config: FinetuneRecipe, start_digest: str, train_content: str, test_content: str) -> str:
    """Digest of all that decides a cell's result."""
    labels = {name: getattr(config, name) for name in LabelsConfig.model_fields}
    decided = [config.identity(), labels, start_digest, train_content, test_content]
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def read_results(folder: Folder, cells: Sequence[Cell]) -> dict[str, dict]:
    """The results that are there, by name of the cell."""
    there = folder.sizes("cells")
    return {cell.name: json.loads(folder.read(f"cells/{cell.name}.json")) for cell in cells if f"{cell.name}.json" in there}


def write_result(folder: Folder, cell: Cell, result: Mapping) -> None:
    """Keeps the result of a finished cell."""
    folder.write(f"cells/{cell.name}.json", json.dumps({**result, "init": cell.init, "key": cell.key}, indent=1).encode())


def table(cells: Sequence[Cell], results: Mapping[str, dict], baseline: str) -> str:
    """Markdown: a row per task and share of the labels, a column per start with mean and standard deviation over seeds, in %, and for each
    other start the mean paired difference to the baseline with its standard error, over the seeds that both have."""
    inits = list(dict.fromkeys(cell.init for cell in cells))
    others = [init for init in inits if init != baseline]
    rows = list(dict.fromkeys((cell.task, cell.labels) for cell in cells))
    head = ["task", "labels", "figure", "seeds", *inits, *(f"{init} - {baseline}" for init in others)]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|--:|" + "--:|" * (len(head) - 4)]
    for task, labels in rows:
        scores: dict[str, dict[int, float]] = {init: {} for init in inits}
        main, count = "", 0
        for cell in cells:
            result = results.get(cell.name)
            if (cell.task, cell.labels) == (task, labels) and result:
                main, count = result["main"], result["labels"]["rows"]
                scores[cell.init][cell.config.seed] = 100 * result["test"]["figures"][main]
        texts = [_mean(list(scores[init].values())) for init in inits]
        differences = []
        for init in others:
            shared = sorted(scores[init].keys() & scores[baseline].keys())
            differences.append(_difference([scores[init][seed] - scores[baseline][seed] for seed in shared]))
        seeds = max((len(each) for each in scores.values()), default=0)
        lines.append(f"| {' | '.join([task, f'{labels} ({count})', main, str(seeds), *texts, *differences])} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _difference(values: list[float]) -> str:
    if not values:
        return "-"
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.1f}{error}"
