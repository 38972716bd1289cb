"""The experiments of a grid and their results as files.

RESULTS/experiments/<experiment>.json    a finished experiment; whoever has it need not train it
RESULTS/<program>.json       the index: every experiment of the grid with where it stands
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hcmoco.config import fingerprint
from hcmoco.storage import Folder
from hcmoco.tasks.registry import task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.experiments import results as result_files
from hcmoco_ray.experiments.grid.config import ExperimentsConfig, GridConfig
from hcmoco_ray.experiments.pretrained import InitSpec, digest_of
from hcmoco_ray.experiments.results import MISSING, deciding, standing
from hcmoco_ray.prepare import ensure

BELOW = result_files.EXPERIMENTS
_LABELS = ("fraction", "samples", "subset", "labels_seed", "validation")  # canonical names


@dataclass(frozen=True)
class Experiment:
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


def make_experiments(
    grid: GridConfig, inits: Mapping[str, InitSpec], overrides: Sequence[str], out: str, results: Folder
) -> list[Experiment]:
    """All experiments of a grid, in its order. UserError for the first that cannot be."""
    digests: dict[tuple[str, str], str | None] = {}
    experiments = []
    for some, task, seed, spec in _combinations(grid, inits):
        config = _recipe_of(grid, some, task, spec, seed, overrides, out)
        modality = task_class(task).modality
        try:
            if (spec.name, modality) not in digests:
                digests[spec.name, modality] = digest_of(
                    spec, config.encoder, modality, config.imagenet_weights, results
                )
            digest = digests[spec.name, modality]
        except LookupError as reason:
            experiments.append(Experiment(task, spec.name, config, "", str(reason)))
            continue
        key = experiment_key(config, digest) if digest is not None else ""
        experiment = Experiment(task, spec.name, config, key)
        experiments.append(
            replace(experiment, config=config.model_copy(update={"output_dir": f"{out}/work/{experiment.name}"}))
        )
    return experiments


def _combinations(
    grid: GridConfig, inits: Mapping[str, InitSpec]
) -> Iterator[tuple[ExperimentsConfig, str, int, InitSpec]]:
    for some in grid.experiments:
        for task in some.tasks:
            for seed in some.seeds:
                for spec in inits.values():
                    yield some, task, seed, spec


def _recipe_of(
    grid: GridConfig, some: ExperimentsConfig, task: str, spec: InitSpec, seed: int, overrides: Sequence[str], out: str
) -> FinetuneRecipe:
    own = [f"{key}={value}" for key, value in some.labels.items()] + [
        f"init={spec.init}",
        f"seed={seed}",
        f"output_dir={out}",
    ]
    values = cli.task_values(task, grid.recipe, [*own, *overrides])
    return run_config.check(FinetuneRecipe, values, grid.recipe if "/" in grid.recipe else f"{task}/{grid.recipe}")


def experiment_key(config: FinetuneRecipe, start_digest: str) -> str:
    """Digest of all that decides an experiment's result."""
    decided = deciding(config)
    labels = {name: decided[name] for name in _LABELS}
    data = [ensure.identity(source) for source in (config.data.train, config.data.test)]
    return fingerprint([decided, labels, start_digest, data])


def write_index(
    folder: Folder,
    program: str,
    grid: GridConfig,
    experiments: Sequence[Experiment],
    results: Mapping[str, dict],
    failures: Mapping[str, str],
) -> None:
    """Keeps where every experiment stands; `failures` by name of the experiment."""
    entries = [
        {
            "task": experiment.task,
            "init": experiment.init,
            "labels": experiment.labels,
            "seed": experiment.config.seed,
            **standing(BELOW, experiment, results, failures, experiment.refused or MISSING),
        }
        for experiment in experiments
    ]
    inits = {name: each if isinstance(each, str) else each.model_dump(mode="json") for name, each in grid.inits.items()}
    result_files.write_index(
        folder, program, {"recipe": grid.recipe, "baseline": grid.baseline, "inits": inits, "experiments": entries}
    )
