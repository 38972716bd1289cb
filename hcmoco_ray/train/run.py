"""Run, resume or report a training: the steps that pre-training and fine-tuning share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Generic

from hcmoco.data.sampler import Plan
from hcmoco.training.checkpoint import check_resumes
from hcmoco.training.config import SourceConfig
from hcmoco_ray import config as run_config
from hcmoco_ray.cluster import interrupts, precision, preflight
from hcmoco_ray.cluster.shared_disk import check_store
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe, RecipeT
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.tracking import system_metrics
from hcmoco_ray.tracking.client import Tracker, open_writer, start_run
from hcmoco_ray.tracking.config import described, store_uri
from hcmoco_ray.tracking.progress import Status, shown
from hcmoco_ray.tracking.records import DataSet
from hcmoco_ray.train.launch import Job, in_this_process, start_ahead, train, worker_resources
from hcmoco_ray.train.run_dir import (
    OUT,
    load_saved_config,
    lock_run_dir,
    log,
    own_run_id,
    save_config,
    saved_run_id,
    states_of,
    tracked_run,
)


class PlannedRun(ABC):
    """A run whose data are open and whose steps are decided.

    Attributes:
        plan: which row is read in which step.
        identity: what decides the result; a resumed run must have the same.
        tags: of the tracking run.
        data_sets: that are trained on and scored on, as inputs of the tracking run.
    """

    plan: Plan
    identity: dict[str, Any]
    tags: dict[str, str]
    data_sets: tuple[DataSet, ...]

    @abstractmethod
    def job(self, tracker: Tracker, status: Status) -> Job:
        """Return what the training workers are given."""

    @abstractmethod
    def close(self, tracker: Tracker) -> dict[str, Any]:
        """Export and score the trained model; a second call leaves the same files.

        Returns:
            The results, for `mark_finished`.
        """

    @abstractmethod
    def mark_finished(self, results: dict[str, Any]) -> None:
        """Write the mark that `Run.finished` looks for. Nothing is written after it."""


class Run(ABC, Generic[RecipeT]):
    """One kind of training, for `execute`, which calls the methods in the order of their definitions.

    Attributes:
        config: the run's config. `execute` replaces `train.precision: auto` in it by the saved precision of a resumed
            run, or by the one that it decides.
    """

    def __init__(self, config: RecipeT):
        self.config: RecipeT = config

    @abstractmethod
    def finished(self) -> bool:
        """Whether the output directory holds everything that a finished run leaves."""

    @abstractmethod
    def report(self) -> None:
        """Print the results of a finished run, and what to do next."""

    @abstractmethod
    def check_config(self, *, resumed: bool) -> None:
        """Find mistakes that show without a cluster.

        Args:
            resumed: whether a train state exists, so first weights are not needed.

        Raises:
            UserError: the encoder cannot be built, or its first weights cannot be had.
        """

    @abstractmethod
    def sources(self) -> Mapping[str, SourceConfig]:
        """Return the data sets of the run, by their key in messages."""

    @abstractmethod
    def check_machine(self, nodes: int) -> None:
        """Check what the run needs beyond the CPUs and GPUs of its workers, once the config is printed.

        Args:
            nodes: number of machines of the cluster.

        Raises:
            UserError: too little memory or disk.
        """

    @abstractmethod
    def open_data(self, saved_step: int | None) -> PlannedRun:
        """Open the data sets, creating synthetic ones, and plan the steps.

        Args:
            saved_step: steps of the train state that the run is resumed from, None if it starts from the beginning.
        Raises:
            UserError: a data set is missing, or does not fit.
        """


def execute(run: Run) -> int:
    """Run a training from its config to its report, resume it, or report it where it is finished.

    Returns:
        The exit status of the program.
    Raises:
        UserError: a mistake in the config, the data, the weights, the cluster or the tracking store.
    """
    out = run.config.output_dir
    store = store_uri(run.config.tracking, out)
    with lock_run_dir(out):
        run.config, earlier = load_saved_config(run.config)
        if earlier == run.config and run.finished():
            log(f"{out} is finished")
            run.report()
            return 0
        preflight.check_storage(out, run.sources().values())
        saved = states_of(run.config).newest()
        run.config, lines = run.config.with_settled_fusions()
        for line in lines:
            log(line)
        run.check_config(resumed=saved is not None)
        cluster = preflight.connect_for(run.config)
        check_store(store, cluster.nodes)
        sources = [(f"data set {key}:", resolve_path(source.path)) for key, source in run.sources().items()]
        weights = run.config.initial_weights() if saved is None else ()  # the workers read them
        cluster.require_shared_storage(("output_dir", out), *sources, weights=weights)
        preflight.check_resources(run.config, run.config.ingest.decoding_tasks(run.config.train.max_workers))
        run.config = precision.decide(run.config, worker_resources(run.config), saved.identity if saved else None)
        log(described(run.config.tracking, out))
        log(run_config.as_yaml(run.config))
        run.check_machine(cluster.nodes)
        start_ahead(run.config, type(run).__module__)
        # Its process starts while that of the writer does.
        status = Status(_beginning(run.config), here=in_this_process(run.config))
        writer = open_writer(run.config.tracking, out, actor=True)

        planned = run.open_data(saved.step if saved else None)
        steps = planned.plan.steps
        if saved:
            check_resumes(run.config, saved, planned.identity, out)
            log(f"resuming from step {saved.step} of {steps}")

        run_id = own_run_id(writer, run.config, saved_run_id(run.config, saved, earlier))
        if run_id and earlier and earlier.tracking.uri != run.config.tracking.uri:
            log(f"this run has logged to {store_uri(earlier.tracking, earlier.output_dir)} so far")
        tracker = start_run(
            writer,
            run_id=run_id,
            name=run.config.tracking.run_name or run.config.name,
            params=run.config.model_dump(mode="json"),
            tags={OUT: out, **planned.tags},
        )
        save_config(run.config, tracker)
        tracker.inputs(planned.data_sets)
        with tracked_run(tracker), _sampled(tracker, run.config.tracking.system_metrics_interval):
            if saved is None or saved.step < steps:
                del saved  # the workers read it again, perhaps on another machine
                _train(run.config, planned.job(tracker, status), status)
            results = planned.close(tracker)
        planned.mark_finished(results)
        run.report()
    return 0


def _sampled(tracker: Tracker, interval: int) -> AbstractContextManager[None]:
    import ray.util

    return system_metrics.logged(tracker, ray.util.get_node_ip_address(), interval)


def _beginning(config: PretrainRecipe | FinetuneRecipe) -> str:
    workers = config.train.max_workers
    return "starting the training" if workers == 1 else f"starting {workers} workers"


def _train(config: PretrainRecipe | FinetuneRecipe, job: Job, status: Status) -> None:
    with shown(status):
        interrupts.raise_if_interrupted()
        decoding = config.ingest.decoding_tasks(config.train.max_workers)
        train(job, reading_tasks=config.ingest.num_tasks, decoding_tasks=decoding)
