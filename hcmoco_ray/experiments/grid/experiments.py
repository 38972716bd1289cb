"""Make the experiments of a grid, and write their index.

RESULTS/experiments/<experiment>.json  the result of a finished experiment, which need not be trained again
RESULTS/<program>.json                 the index: every experiment of the grid with its status
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hcmoco.config import fingerprint
from hcmoco.finetuning.encoder_init import check_input_sizes
from hcmoco.storage import Folder, join
from hcmoco.tasks.registry import task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.experiments import results as result_files
from hcmoco_ray.experiments.grid.config import ExperimentsConfig, GridConfig
from hcmoco_ray.experiments.pretrained import InitSpec, digest_of, with_fusion_of
from hcmoco_ray.experiments.results import MISSING, deciding, standing
from hcmoco_ray.prepare import ensure

BELOW = result_files.EXPERIMENTS
_LABELS = ("fraction", "samples", "subset", "labels_seed", "validation")  # canonical names


@dataclass(frozen=True)
class Experiment:
    """One fine-tuning of a grid.

    Attributes:
        task: name of the task.
        init: name of the initialization in the grid.
        config: of the fine-tuning; its `output_dir` is a folder for its train states.
        key: digest of everything that decides its result: config, initial weights, data; "" while the weights are not
            known.
        refused: why it cannot be run, "" if it can.
    """

    task: str
    init: str
    config: FinetuneRecipe
    key: str
    refused: str = ""

    @property
    def labels(self) -> str:
        """Its share of the labels, as tables name it."""
        return self.config.text

    @property
    def name(self) -> str:
        """A readable name, unique in a grid."""
        labels = self.labels.replace("%", "pc").replace(" ", "-")
        return f"{self.task}_{self.init}_{labels}_seed{self.config.seed}_{self.key[:10]}"


def make_experiments(
    grid: GridConfig, inits: Mapping[str, InitSpec], overrides: Sequence[str], out: str, results: Folder
) -> list[Experiment]:
    """Make all experiments of a grid, in its order.

    Args:
        grid: the grid.
        inits: the resolved initializations, by name.
        overrides: dotted keys of every experiment's recipe.
        out: scratch folder of the grid.
        results: folder of the results.

    Raises:
        UserError: an experiment's recipe does not exist or has a bad key or value.
    """
    digests: dict[tuple[str, str], str | None] = {}
    experiments = []
    for block, task, seed, spec in _combinations(grid, inits):
        config = _recipe_of(grid, block, task, spec, seed, overrides, out)
        modality = task_class(task).modality
        encoder = with_fusion_of(spec, config.encoder, modality, config.imagenet_weights)
        config = config.model_copy(update={"encoder": encoder})
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
            replace(experiment, config=config.model_copy(update={"output_dir": join(out, "work", experiment.name)}))
        )
    return experiments


def _combinations(
    grid: GridConfig, inits: Mapping[str, InitSpec]
) -> Iterator[tuple[ExperimentsConfig, str, int, InitSpec]]:
    for block in grid.experiments:
        for task in block.tasks:
            for seed in block.seeds:
                for spec in inits.values():
                    if not block.inits or spec.name in block.inits:
                        yield block, task, seed, spec


def _recipe_of(
    grid: GridConfig, block: ExperimentsConfig, task: str, spec: InitSpec, seed: int, overrides: Sequence[str], out: str
) -> FinetuneRecipe:
    labels = [f"{key}={value}" for key, value in block.labels.items()]
    own = [*labels, f"init={spec.init}", f"seed={seed}", f"output_dir={out}"]
    recipe = block.recipe or grid.recipe
    values = cli.task_values(task, recipe, overrides, below=[*own, *block.overrides])
    config = run_config.check(FinetuneRecipe, values, recipe if "/" in recipe else f"{task}/{recipe}")
    check_input_sizes(config.encoder, config.task)
    return config


def experiment_key(config: FinetuneRecipe, start_digest: str) -> str:
    """Return the digest of everything that decides an experiment's result.

    Args:
        config: of the fine-tuning.
        start_digest: of the initial weights.
    """
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
    """Write the status of every experiment.

    Args:
        folder: of the results.
        program: name of the program.
        grid: the grid.
        experiments: all of the grid.
        results: by name of the experiment.
        failures: reasons by name of the experiment.
    """
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
    inits = {name: init if isinstance(init, str) else init.model_dump(mode="json") for name, init in grid.inits.items()}
    result_files.write_index(
        folder, program, {"recipe": grid.recipe, "baseline": grid.baseline, "inits": inits, "experiments": entries}
    )
