"""The co-trainings of a versatility recipe, their results as files, and the paper's two tables over them."""

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from hcmoco.shards.storage import Folder
from hcmoco.tasks.initial import SCRATCH
from hcmoco.versatility.config import EXPERIMENTS, METHODS, Experiment, Method, VersatilityConfig
from pipelines._home import at_home
from pipelines._tracking import TrackingConfig

BELOW = "versatility"
TITLES: dict[str, str] = {"none": "No Contrastive", "cmc": "CMC", "hcmoco": "HCMoCo"}
FIGURES = ("mIoU", "mAcc", "aAcc")
TABLE_6 = (("RGB -> Depth", "rgb-to-depth", "depth"), ("Depth -> RGB", "depth-to-rgb", "rgb"))
TABLE_7 = (("Only RGB", "missing-modality", "rgb"), ("Only Depth", "missing-modality", "depth"), ("Both", "missing-modality", "fused"))
"""Title of a group of columns, experiment, and what the head is read on."""


class VersatilityRecipe(VersatilityConfig):
    """Some co-trainings: every experiment with every method and every seed; `experiment`, `method` and `seed` are each one's own."""

    out: str = Field(min_length=1, description="folder or URI of what is worth nothing afterwards: train states; and of the tracking store")
    results: str | None = Field(None, description="folder or URI of the results, small files that can be shared; null: `out`")
    experiments: tuple[Experiment, ...] = Field(EXPERIMENTS, min_length=1, description="which experiments")
    methods: tuple[Method, ...] = Field(METHODS, min_length=1, description="which methods")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="a co-training for each")
    seconds: float | None = Field(None, gt=0, description="what one takes, for the first estimate; what is done already tells better")
    tracking: TrackingConfig = TrackingConfig()

    def placed(self) -> "VersatilityRecipe":
        """The same with its own paths made absolute."""
        init = self.init if self.init == SCRATCH else at_home(self.init)
        return self.model_copy(update={"out": at_home(self.out), "results": at_home(self.results or self.out), "init": init})


@dataclass(frozen=True)
class Cell:
    """One co-training.

    Attributes:
        config: everything about it; its `out` is a folder for its train states.
        key: digest of all that decides its result: config, weights that it starts from, data.
    """

    config: VersatilityConfig
    key: str

    @property
    def name(self) -> str:
        """Unique in a recipe, and readable."""
        config = self.config
        return f"{config.experiment}_{config.method}_seed{config.seed}_{self.key[:10]}"


def cells_of(recipe: VersatilityRecipe, start_digest: str, contents: Sequence[str]) -> list[Cell]:
    """All co-trainings of a recipe.

    Args:
        start_digest: of the weights that all start from.
        contents: fingerprints of the data sets: unlabelled, labelled, test and validation ("" for none).
    """
    cells = []
    for experiment in dict.fromkeys(recipe.experiments):
        for method in dict.fromkeys(recipe.methods):
            for seed in dict.fromkeys(recipe.seeds):
                values = {name: getattr(recipe, name) for name in VersatilityConfig.model_fields}
                config = VersatilityConfig(**{**values, "experiment": experiment, "method": method, "seed": seed})
                decided = [config.identity(), start_digest, list(contents)]
                cell = Cell(config, hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest())
                cells.append(Cell(config.model_copy(update={"out": f"{recipe.out}/work/{cell.name}"}), cell.key))
    return cells


def read_results(folder: Folder, cells: Sequence[Cell]) -> dict[str, dict]:
    """The results that are there, by name of the cell."""
    there = folder.sizes(BELOW)
    return {cell.name: json.loads(folder.read(f"{BELOW}/{cell.name}.json")) for cell in cells if f"{cell.name}.json" in there}


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
            there = [c.name for c in cells if (c.config.experiment, c.config.method) == (experiment, method) and c.name in results]
            seeds = max(seeds, len(there))
            found += [_mean([100 * results[name]["test"]["figures"][f"{which}/{figure}"] for name in there]) for figure in FIGURES]
        lines.append(f"| {' | '.join([TITLES[method], str(seeds), *found])} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"
