"""Run the co-trainings of a versatility recipe on the cluster, and write their tables."""

import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import cv2
import numpy as np
import torch

from hcmoco.config import load_recipe, parse_overrides
from hcmoco.cotraining.config import CoTrainingConfig, CoTrainingData
from hcmoco.cotraining.encoder_init import start_digest
from hcmoco.cotraining.resolve import resolve
from hcmoco.cotraining.run import Sources, cotrain_and_score, init_of
from hcmoco.data.codecs import encode_png
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import depth_masking_of_init
from hcmoco.models.encoders import check_sizes
from hcmoco.models.multimodal import DENSE_MODALITIES
from hcmoco.storage import Folder, join
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import session
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.experiments import pretrained
from hcmoco_ray.experiments.grid.config import first_seeds
from hcmoco_ray.experiments.parent_run import parent_run
from hcmoco_ray.experiments.pretrained import InitSpec
from hcmoco_ray.experiments.results import portable, read_results, write_result
from hcmoco_ray.experiments.runner import collect, record
from hcmoco_ray.experiments.versatility.experiments import (
    BELOW,
    PROGRAM,
    START,
    CoTrainingExperiment,
    VersatilityRecipe,
    make_experiments,
    tables,
    write_index,
)
from hcmoco_ray.paths import resolve_start
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import open_writer
from hcmoco_ray.tracking.config import described, store_uri
from hcmoco_ray.train.masking import cotraining_warnings
from hcmoco_ray.train.run_dir import lock_run_dir, log, tracked_run
from hcmoco_ray.train.same_data import same_data

# Keys that differ from experiment to experiment.
_OWN = {"experiment": "experiments", "method": "methods", "seed": "seeds"}


def run(
    recipe: str, overrides: Sequence[str], resources: ResourceRequest, *, seeds: int | None, plan_only: bool
) -> int:
    """Run the missing co-trainings of a recipe, then write its index and its tables.

    Args:
        recipe: name in recipes/versatility/, or the path of a YAML file.
        overrides: dotted keys of the recipe.
        resources: what a co-training requests of the cluster.
        seeds: number of seeds of every co-training; None: the recipe's own seeds.
        plan_only: print what is missing, and change nothing.

    Returns:
        The exit status: 1 if a co-training failed.

    Raises:
        UserError: the recipe or an override is bad, or the recipe runs already.
    """
    config = load(recipe, overrides, seeds)
    assert config.results is not None
    folder = Folder(config.results)
    store_uri(config.tracking, config.output_dir)
    with nullcontext() if plan_only else lock_run_dir(config.output_dir):
        if not plan_only:
            folder.check_writable()
            Folder(config.output_dir).check_writable()
        session.connect().require_shared_storage(("output_dir", config.output_dir))
        log(described(config.tracking, config.output_dir))
        spec = pretrained.resolve_init(START, config.init, config.tracking)
        experiments = _experiments(config, spec, folder)
        results = read_results(folder, BELOW, experiments)
        missing = [experiment for experiment in experiments if experiment.name not in results]
        _describe(config, spec, experiments, missing, results, resources)
        failures: dict[str, str] = {}
        if missing and not plan_only:
            if not spec.available:
                log(f"\npre-training {START}")
                pretrained.pretrain(spec, folder)
                experiments = _experiments(config, spec, folder)
                results = read_results(folder, BELOW, experiments)
                missing = [experiment for experiment in experiments if experiment.name not in results]
            if missing:
                failures = _carry_out(config, missing, folder, resources)
            results = read_results(folder, BELOW, experiments)
        text = tables(experiments, results)
        log(f"\n{text}")
        if plan_only:
            return 0
        write_index(folder, config, experiments, results, failures)
        folder.write(f"{PROGRAM}.md", f"{text}\n".encode())
        log(
            f"\ntables   {join(folder.uri, f'{PROGRAM}.md')}\nresults  {join(folder.uri, BELOW)} ({len(results)} of "
            f"{len(experiments)})"
        )
    return 1 if failures else 0


def load(recipe: str, overrides: Sequence[str], seeds: int | None = None) -> VersatilityRecipe:
    """Load a recipe with overrides, with absolute paths.

    Args:
        recipe: name in recipes/versatility/, or the path of a YAML file.
        overrides: dotted keys of the recipe.
        seeds: number of seeds of every co-training; None: the recipe's own seeds.

    Raises:
        UserError: the recipe does not exist, or a key or value is bad.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key in _OWN:
            raise UserError(f"{override}: every co-training has its own; set {_OWN[key]}=[...]")
    own_seeds = None if seeds is None else list(first_seeds(seeds))
    given = parse_overrides(list(overrides))
    values = load_recipe(cli.recipe_file(recipe, cli.RECIPES / PROGRAM))
    if "init" in given:  # the whole of it: a folder does not merge with a pre-training
        values.pop("init", None)
    values = cli.with_overrides(values, overrides)
    if own_seeds is not None:
        values["seeds"] = own_seeds
    config = run_config.check(VersatilityRecipe, values, recipe if "/" in recipe else f"{PROGRAM}/{recipe}")
    for encoder in (config.model.rgb, config.model.depth):
        check_sizes(encoder, [(config.augment.size, config.augment.size)])
    return config


def _experiments(config: VersatilityRecipe, spec: InitSpec, results: Folder) -> list[CoTrainingExperiment]:
    """Make all experiments. Raises UserError where their initial weights do not exist or are of other encoders."""
    init = resolve_start(spec.init)
    fusions = {
        name: pretrained.with_fusion_of(spec, getattr(config.model, name), name, None) for name in DENSE_MODALITIES
    }
    config = config.model_copy(update={"model": config.model.model_copy(update=fusions)})
    if spec.available:
        first = make_experiments(config, init, "")[0]
        return make_experiments(config, init, init_of(first.config)["digest"])
    record = pretrained.read_record(spec, results)
    return make_experiments(config, init, start_digest(record["digests"]) if record else None)


def _describe(
    config: VersatilityRecipe,
    spec: InitSpec,
    experiments: list[CoTrainingExperiment],
    missing: list[CoTrainingExperiment],
    results: dict[str, dict],
    resources: ResourceRequest,
) -> None:
    """Print what is missing, what it requests of the cluster, and an estimate of the time."""
    at_once = resources.at_once()
    if missing and not spec.available:
        log(f"1 pre-training to do first: {START}")
    measured = [result["seconds"] for result in results.values()]
    seconds = statistics.median(measured) if measured else config.seconds
    time_left = f", about {len(missing) * seconds / at_once / 60:.0f} min" if seconds and missing else ""
    log(
        f"{len(experiments)} co-trainings, {len(results)} done, {len(missing)} to do, {at_once} at a time with "
        f"{resources.text} each{time_left}"
    )
    for name in dict.fromkeys(experiment.config.experiment for experiment in missing):
        methods = Counter(experiment.config.method for experiment in missing if experiment.config.experiment == name)
        counts = ", ".join(f"{method} x {count}" for method, count in methods.items())
        log(f"  {name}: {counts}, {config.steps} steps")


def _sources(config: VersatilityRecipe, experiments: Sequence[CoTrainingExperiment]) -> Sources:
    """Open the data sets, creating synthetic ones that do not exist.

    Raises:
        UserError: a data set lacks what an experiment needs.
    """
    named = {name: getattr(config.data, name) for name in CoTrainingData.model_fields}
    splits = {"test": "test", "validation": "held-out"}  # the pre-training's held-out people serve for the curve
    sources = Sources(
        **{
            name: ensure.open_data(name, source, split=splits.get(name, "train"))
            for name, source in named.items()
            if source
        }
    )
    trained = {"data.unlabeled": sources.unlabeled, "data.labeled": sources.labeled}
    tested = {"data.test": sources.test, "data.validation": sources.validation}
    masking = depth_masking_of_init(experiments[0].config.init, "depth")
    for line in (same_data(trained, tested), *cotraining_warnings(sources, masking)):
        if line:
            log(line)
    # Mistakes are found before anything runs.
    for experiment in {experiment.config.experiment: experiment for experiment in experiments}.values():
        resolve(experiment.config, sources.unlabeled, sources.labeled, sources.test, sources.validation)
    return sources


def _carry_out(
    recipe: VersatilityRecipe, missing: Sequence[CoTrainingExperiment], folder: Folder, resources: ResourceRequest
) -> dict[str, str]:
    """Train and score experiments on the cluster, and write each result as it comes.

    Returns:
        The reasons of those that failed, by name of the experiment.
    """
    import ray

    sources = _sources(recipe, missing)
    session.connect().require_shared_storage(
        data=[each.uri for each in vars(sources).values() if each],
        weights=[experiment.config.init for experiment in missing],
    )

    def work(config: CoTrainingConfig, sources: Sources) -> tuple[dict, np.ndarray]:
        torch.set_num_threads(resources.threads)
        cv2.setNumThreads(1)
        return cotrain_and_score(
            config,
            sources,
            states=join(config.output_dir, "states"),
            device="cuda" if resources.gpus else "cpu",
            threads=1,
        )

    remote = ray.remote(work).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2)
    writer = open_writer(recipe.tracking, recipe.output_dir, actor=True)
    parent = parent_run(writer, PROGRAM, recipe.name, recipe.output_dir)

    def keep(experiment: CoTrainingExperiment, outcome: tuple[dict, np.ndarray]) -> tuple[dict, str]:
        result, png = portable(outcome[0]), encode_png(outcome[1])
        if experiment.config.method == "hcmoco" and experiment.config.seed == recipe.seeds[0]:
            folder.write(f"{BELOW}/{experiment.config.experiment}.png", png)
        write_result(folder, BELOW, experiment, result)
        tags = {"hcmoco.experiment": experiment.config.experiment, "hcmoco.method": experiment.config.method}
        record(writer, parent, experiment, experiment.config.model_dump(mode="json"), tags, result, png)
        return result, f"{experiment.config.experiment}  {experiment.config.method}  seed {experiment.config.seed}"

    failures: dict[str, str] = {}
    with tracked_run(parent, failures):
        failures |= collect(
            {remote.remote(experiment.config, sources): experiment for experiment in missing}, keep, recipe.output_dir
        )
    return failures
