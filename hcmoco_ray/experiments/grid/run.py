"""Run a grid of fine-tunings: the pre-trainings that it needs, the missing experiments, and its table."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch

from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.finetuning.encoder_init import depth_masking_of_init
from hcmoco.finetuning.run import finetune_and_score
from hcmoco.storage import Folder, join
from hcmoco.tasks.registry import REGISTRY, register_all, task_class
from hcmoco_ray.cluster import interrupts, session
from hcmoco_ray.cluster.resources import ResourceRequest
from hcmoco_ray.config import FinetuneRecipe
from hcmoco_ray.experiments import pretrained
from hcmoco_ray.experiments.grid.config import GridConfig, load_grid
from hcmoco_ray.experiments.grid.experiments import BELOW, Experiment, make_experiments, write_index
from hcmoco_ray.experiments.parent_run import parent_run
from hcmoco_ray.experiments.pretrained import InitSpec
from hcmoco_ray.experiments.results import move_earlier_results, portable, read_results, write_result
from hcmoco_ray.experiments.runner import collect, record
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare import ensure
from hcmoco_ray.tracking.client import open_writer
from hcmoco_ray.tracking.config import TrackingConfig, described, store_uri
from hcmoco_ray.train.masking import masking_warnings
from hcmoco_ray.train.run_dir import lock_run_dir, log, tracked_run
from hcmoco_ray.train.same_data import same_data

# Keys that differ from experiment to experiment.
_OWN = ("init", "seed", "out", "output_dir", "fraction", "samples", "num_samples", "subset", "tracking")
Table = Callable[[GridConfig, Sequence[Experiment], Mapping[str, dict]], str]


def run(
    program: str,
    name: str,
    overrides: Sequence[str],
    resources: ResourceRequest,
    table: Table,
    *,
    plan_only: bool,
    seeds: int | None,
) -> int:
    """Run the missing experiments of a grid, then write its index and its table.

    Args:
        program: name of the program: the files are RESULTS/<program>.json and <program>.md.
        name: of the grid.
        overrides: dotted keys of every experiment's recipe.
        resources: what an experiment requests of the cluster.
        table: formats the table.
        plan_only: print what is missing, and change nothing.
        seeds: number of seeds of every experiment; None: the grid's own seeds.

    Returns:
        The exit status: 1 if a pre-training or an experiment failed.

    Raises:
        UserError: the grid or an override is bad, or the grid runs already.
    """
    grid = load_grid(name, seeds)
    own = [override for override in overrides if override.partition("=")[0].partition(".")[0] in _OWN]
    if own:
        raise UserError(f"{own[0]}: the grid says what {', '.join(_OWN)} are; change them in its file")
    out = resolve_path(grid.output_dir)
    folder = Folder(resolve_path(grid.results or grid.output_dir))
    store_uri(grid.tracking, out)
    with nullcontext() if plan_only else lock_run_dir(out, "the output_dir of its file"):
        if not plan_only:
            folder.check_writable()
            Folder(out).check_writable()
        session.connect().require_shared_storage(("output_dir", out))
        log(described(grid.tracking, out))
        inits = pretrained.resolve_inits(grid)

        def read_status() -> tuple[list[Experiment], dict[str, dict]]:
            experiments = make_experiments(grid, inits, overrides, out, folder)
            return experiments, read_results(folder, BELOW, experiments)

        experiments, results = read_status()
        first = _to_pretrain(inits, experiments, results)
        _describe(grid, first, experiments, results, resources, folder)
        failures: dict[str, str] = {}
        if not plan_only:
            failures = _pretrain_all(first, inits, folder)
            experiments, results = read_status()
            failures = {
                experiment.name: failures[experiment.init]
                for experiment in experiments
                if experiment.init in failures and experiment.name not in results
            }
            missing = [
                experiment
                for experiment in experiments
                if _open(experiment, results) and experiment.name not in failures
            ]
            if missing:
                failures |= _carry_out(program, name, grid.tracking, missing, folder, out, resources)
            results = read_results(folder, BELOW, experiments)
            move_earlier_results(folder, BELOW, results)
            write_index(folder, program, grid, experiments, results, failures)
        text = table(grid, experiments, results)
        log(f"\n{text}")
        if plan_only:
            return 0
        folder.write(f"{program}.md", f"{text}\n".encode())
        log(f"\ntable   {join(folder.uri, f'{program}.md')}")
        log(f"results {join(folder.uri, BELOW)} ({len(results)} of {len(experiments)})")
    return 1 if failures else 0


def _open(experiment: Experiment, results: Mapping[str, dict]) -> bool:
    return experiment.name not in results and not experiment.refused


def _to_pretrain(
    inits: Mapping[str, InitSpec], experiments: Sequence[Experiment], results: Mapping[str, dict]
) -> list[InitSpec]:
    """Return the pre-trainings that a missing experiment waits for."""
    wanted = {experiment.init for experiment in experiments if _open(experiment, results)}
    return [spec for name, spec in inits.items() if name in wanted and not spec.available]


def _describe(
    grid: GridConfig,
    first: Sequence[InitSpec],
    experiments: Sequence[Experiment],
    results: Mapping[str, dict],
    resources: ResourceRequest,
    folder: Folder,
) -> None:
    """Print what is missing, what it requests of the cluster, and an estimate of the time."""
    at_once = resources.at_once()
    missing = [experiment for experiment in experiments if _open(experiment, results)]
    refused = [experiment for experiment in experiments if experiment.refused]
    known: dict[str, list[float]] = {task: [seconds] for task, seconds in grid.seconds.items()}
    measured: dict[str, list[float]] = {}
    for experiment in experiments:
        if experiment.name in results:
            measured.setdefault(experiment.task, []).append(results[experiment.name]["seconds"])
    known |= measured
    if first:
        time_each = f", about {known['pretrain'][0] / 60:.0f} min each" if "pretrain" in known else ""
        log(f"{len(first)} pre-trainings to do, one after another{time_each}: {', '.join(spec.name for spec in first)}")
    time_left = ""
    if missing and all(experiment.task in known for experiment in missing):
        seconds = sum(statistics.median(known[experiment.task]) for experiment in missing) / at_once
        time_left = f", about {seconds / 60:.0f} min"
    not_run = f", {len(refused)} {refused[0].refused}" if refused else ""
    done = len(experiments) - len(missing) - len(refused)
    log(
        f"{len(experiments)} experiments, {done} done, {len(missing)} to do{not_run}, {at_once} at a time with "
        f"{resources.text} each{time_left}"
    )
    for task in dict.fromkeys(experiment.task for experiment in missing):
        of_task = [experiment for experiment in missing if experiment.task == task]
        counts = Counter(experiment.labels for experiment in of_task)
        shares = ", ".join(f"{labels} x {count}" for labels, count in counts.items())
        config = of_task[0].config
        log(f"  {task}: {shares}, {config.steps or config.epochs} {'steps' if config.steps else 'epochs'}")


def _pretrain_all(first: Sequence[InitSpec], inits: Mapping[str, InitSpec], folder: Folder) -> dict[str, str]:
    """Run the pre-trainings `first`, and write the missing records of all that are finished.

    Returns:
        The reasons of those that failed, by name of the initialization.
    """
    failures = {}
    for number, spec in enumerate(first, 1):
        interrupts.raise_if_interrupted()
        log(f"\npre-training {number} of {len(first)}: {spec.name}")
        try:
            pretrained.pretrain(spec, folder)
        except UserError as error:
            failures[spec.name] = f"pre-training: {error}"
            log(f"failed: {spec.name}: {error}")
    for spec in inits.values():
        if spec.pretraining and spec.available and not pretrained.read_record(spec, folder):
            pretrained.write_record(spec, folder, None)
    return failures


def _carry_out(
    program: str,
    grid: str,
    tracking: TrackingConfig,
    missing: Sequence[Experiment],
    folder: Folder,
    out: str,
    resources: ResourceRequest,
) -> dict[str, str]:
    """Train and score experiments on the cluster, and write each result as it comes.

    Returns:
        The reasons of those that failed, by name of the experiment.
    """
    import ray

    data = {
        experiment.task: _data_of(experiment.config, experiment.task)
        for experiment in {experiment.task: experiment for experiment in missing}.values()
    }
    for line in _data_warnings(missing, data):
        log(line)
    session.connect().require_shared_storage(
        data=[each.uri for opened in data.values() for each in opened],
        weights=[weights for experiment in missing for weights in experiment.config.initial_weights()],
    )
    tasks = dict(REGISTRY)

    def work(config: FinetuneRecipe, train: Shards, test: Shards) -> dict:
        register_all(tasks)
        torch.set_num_threads(resources.threads)
        states = join(config.output_dir, "states")
        return finetune_and_score(
            config, train, test, states=states, device="cuda" if resources.gpus else "cpu", threads=1
        )

    remote = ray.remote(work).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2)
    writer = open_writer(tracking, out, actor=True)
    parent = parent_run(writer, program, grid.rpartition("/")[2], out)

    def keep(experiment: Experiment, outcome: dict) -> tuple[dict, str]:
        result = portable(outcome, name=experiment.init)
        write_result(folder, BELOW, experiment, result)
        tags = {"hcmoco.task": experiment.task, "hcmoco.init": experiment.init, "hcmoco.labels": experiment.labels}
        record(writer, parent, experiment, experiment.config.model_dump(mode="json"), tags, result)
        return result, f"{experiment.task}  {experiment.labels}  {experiment.init}  seed {experiment.config.seed}"

    failures: dict[str, str] = {}
    with tracked_run(parent, failures):
        failures |= collect(
            {remote.remote(experiment.config, *data[experiment.task]): experiment for experiment in missing}, keep, out
        )
    return failures


def _data_warnings(missing: Sequence[Experiment], data: Mapping[str, tuple[Shards, Shards]]) -> list[str]:
    """Return lines on data that experiments may be misled by, each once for all of them."""
    lines: list[str] = []
    for task, (train, test) in data.items():
        of_task = [experiment.config for experiment in missing if experiment.task == task]
        modality = task_class(task).modality
        maskings = [depth_masking_of_init(init, modality) for init in dict.fromkeys(each.init for each in of_task)]
        lines.append(same_data({"data.train": train}, {"data.test": test}))
        lines += masking_warnings(of_task[0], train, test, maskings)
    return list(dict.fromkeys(filter(None, lines)))


def _data_of(config: FinetuneRecipe, task: str) -> tuple[Shards, Shards]:
    """Open the training and test data of a task, creating synthetic data that does not exist."""
    kind = task_class(task).kind
    return (
        ensure.open_data("train", config.data.train, kind=kind),
        ensure.open_data("test", config.data.test, kind=kind, split="test"),
    )
