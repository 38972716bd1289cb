"""Make the co-trainings of a versatility recipe, write their index, and format the paper's Tables 6 and 7."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from hcmoco import markdown
from hcmoco.config import canonical, fingerprint
from hcmoco.cotraining.config import (
    EXPERIMENTS,
    METHODS,
    CoTrainingConfig,
    CoTrainingData,
    CoTrainingSettings,
    Experiment,
    Method,
)
from hcmoco.storage import Folder, join
from hcmoco_ray.experiments import results as result_files
from hcmoco_ray.experiments.grid.config import PretrainedConfig, Seeds
from hcmoco_ray.experiments.results import deciding, mean_text, standing
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.config import TrackingConfig

PROGRAM = BELOW = "versatility"
START = "cmc"  # name of the common initialization in the record of pre-trainings
TITLES: dict[str, str] = {"none": "No Contrastive", "cmc": "CMC", "hcmoco": "HCMoCo"}
METRICS = ("mIoU", "mAcc", "aAcc")
TABLE_6 = (("RGB -> Depth", "rgb-to-depth", "depth"), ("Depth -> RGB", "depth-to-rgb", "rgb"))
TABLE_7 = (
    ("Only RGB", "missing-modality", "rgb"),
    ("Only Depth", "missing-modality", "depth"),
    ("Both", "missing-modality", "fused"),
)
"""Title of a group of columns, experiment, and the modality that the head is tested on."""


class VersatilityRecipe(CoTrainingSettings):
    """The co-trainings of every experiment with every method and every seed, from one initialization."""

    renamed: ClassVar = {"experiment": "experiments", "method": "methods", "seed": "seeds"}

    output_dir: str = Field(
        min_length=1,
        description="scratch folder or URI: checkpoints and the tracking store; safe to delete afterwards",
    )
    init: str | PretrainedConfig = Field(
        description="where all co-trainings start: as a co-training's init, or the sample-level pre-training that "
        "makes the encoders"
    )
    results: str | None = Field(
        None, description="folder or URI of the results, small files that can be shared; null: `output_dir`"
    )
    experiments: tuple[Experiment, ...] = Field(EXPERIMENTS, min_length=1, description="which experiments")
    methods: tuple[Method, ...] = Field(METHODS, min_length=1, description="which methods")
    seeds: Seeds = Field((0,), min_length=1, description="a co-training for each")
    seconds: float | None = Field(
        None, gt=0, description="seconds of one co-training, for the first estimate; finished ones replace it"
    )
    tracking: TrackingConfig = TrackingConfig()

    def with_absolute_paths(self) -> "VersatilityRecipe":
        """Return the recipe with its own paths made absolute."""
        return self.model_copy(
            update={
                "output_dir": resolve_path(self.output_dir),
                "results": resolve_path(self.results or self.output_dir),
            }
        )


@dataclass(frozen=True)
class CoTrainingExperiment:
    """One co-training.

    Attributes:
        config: of the co-training; its `output_dir` is a folder for its train states.
        key: digest of everything that decides its result: config, initial weights, data; "" while the pre-training that
            produces the weights has yet to run.
    """

    config: CoTrainingConfig
    key: str

    @property
    def name(self) -> str:
        """A readable name, unique in a recipe."""
        config = self.config
        return f"{config.experiment}_{config.method}_seed{config.seed}_{self.key[:10]}"


def make_experiments(recipe: VersatilityRecipe, init: str, start_digest: str | None) -> list[CoTrainingExperiment]:
    """Make all co-trainings of a recipe.

    Args:
        recipe: with absolute paths.
        init: where the encoders start.
        start_digest: digest of their weights; None while they are not known.
    """
    sources = [getattr(recipe.data, name) for name in CoTrainingData.model_fields]
    contents = [ensure.identity(source) if source else {} for source in sources]
    shared = {name: getattr(recipe, name) for name in CoTrainingSettings.model_fields}
    experiments = []
    for name, method, seed in itertools.product(
        *map(dict.fromkeys, (recipe.experiments, recipe.methods, recipe.seeds))
    ):
        own = {"init": init, "experiment": name, "method": method, "seed": seed}
        config = CoTrainingConfig(**{**shared, **own})
        decided = deciding(config)
        decided["weights"] = canonical(CoTrainingData, decided["weights"])
        key = fingerprint([decided, start_digest, contents]) if start_digest is not None else ""
        experiment = CoTrainingExperiment(config, key)
        config = config.model_copy(update={"output_dir": join(recipe.output_dir, "work", experiment.name)})
        experiments.append(CoTrainingExperiment(config, key))
    return experiments


def write_index(
    folder: Folder,
    recipe: VersatilityRecipe,
    experiments: Sequence[CoTrainingExperiment],
    results: Mapping[str, dict],
    failures: Mapping[str, str],
) -> None:
    """Write the status of every co-training.

    Args:
        folder: of the results.
        recipe: the recipe.
        experiments: all of the recipe.
        results: by name of the experiment.
        failures: reasons by name of the experiment.
    """
    entries = [
        {
            "experiment": experiment.config.experiment,
            "method": experiment.config.method,
            "seed": experiment.config.seed,
            **standing(BELOW, experiment, results, failures),
        }
        for experiment in experiments
    ]
    init = recipe.init if isinstance(recipe.init, str) else recipe.init.model_dump(mode="json")
    name = recipe.name.removeprefix(f"{PROGRAM}-")
    result_files.write_index(
        folder, PROGRAM, {"recipe": name, "baseline": "cmc", "inits": {START: init}, "experiments": entries}
    )


def tables(experiments: Sequence[CoTrainingExperiment], results: Mapping[str, dict]) -> str:
    """Format Tables 6 and 7 of the paper as Markdown: mean and standard deviation over seeds, in %.

    Args:
        experiments: all of the recipe.
        results: by name of the experiment.
    """
    parts = []
    for title, columns in (("Cross-modality supervision", TABLE_6), ("Missing-modality inference", TABLE_7)):
        run = {experiment.config.experiment for experiment in experiments}
        shown = tuple(column for column in columns if column[1] in run)
        if shown:
            parts.append(f"{title}, in %\n\n{_table(experiments, results, shown)}")
    return "\n\n".join(parts)


def _table(
    experiments: Sequence[CoTrainingExperiment], results: Mapping[str, dict], columns: Sequence[tuple[str, str, str]]
) -> str:
    head = ["Method", "seeds", *(f"{title}: {metric}" for title, _, _ in columns for metric in METRICS)]
    rows = []
    for method in dict.fromkeys(experiment.config.method for experiment in experiments):
        texts, seeds = [], 0
        for _, name, modality in columns:
            tests = [
                results[experiment.name]["test"]["metrics"]
                for experiment in experiments
                if (experiment.config.experiment, experiment.config.method) == (name, method)
                and experiment.name in results
            ]
            seeds = max(seeds, len(tests))
            texts += [mean_text([100 * test[f"{modality}/{metric}"] for test in tests]) for metric in METRICS]
        rows.append([TITLES[method], str(seeds), *texts])
    return markdown.table(head, rows, "l" + "r" * (len(head) - 1))
