"""Run the trials of a sweep with Ray Tune.

A sweep is resumed from its records, not from Tune's own experiment state, which is pickled and some seconds older than
the trials.
"""

import os
import uuid
import warnings
from collections.abc import Callable
from typing import Any

from hcmoco.errors import one_line
from hcmoco_ray import compat
from hcmoco_ray.cluster import entrypoint, interrupts
from hcmoco_ray.experiments.sweep.config import Dimension, SweepConfig, Value
from hcmoco_ray.experiments.sweep.job import Job
from hcmoco_ray.experiments.sweep.records import FAILED, STOPPED, Records
from hcmoco_ray.experiments.sweep.suggest import choose, draw
from hcmoco_ray.experiments.sweep.trial import run_trial
from hcmoco_ray.experiments.sweep.trial_config import trial_config
from hcmoco_ray.paths import ray_storage
from hcmoco_ray.tracking.client import find_run, start_run
from hcmoco_ray.train.run_dir import log

# Read when Tune is imported or started. The program handles Ctrl-C itself; a trial stays in the program's folder.
TUNE_ENV = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "300",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class Queue:
    """The trials to run, in order: unfinished ones, then new ones up to the sweep's number of trials.

    Attributes:
        unfinished: (number, values) of each trial that was started.
        new: numbers of the trials that were not.
    """

    def __init__(self, config: SweepConfig, records: Records):
        self.config, self.records = config, records
        unfinished, finished = records.unfinished(), records.finished()
        self.unfinished = [(number, records.values_now(number, values)) for number, values in unfinished.items()]
        taken = {*unfinished, *finished}
        missing = max(0, config.num_trials - len(taken))
        self.new = [number for number in range(config.num_trials + len(taken)) if number not in taken][:missing]

    def __len__(self) -> int:
        return len(self.unfinished) + len(self.new)

    def take(self) -> dict | None:
        """Remove the next trial, record that it starts, and return its number and values; None after the last."""
        if self.unfinished:
            number, values = self.unfinished.pop(0)
            return {"number": number, **values}
        if not self.new:
            return None
        number = self.new.pop(0)
        values = self._values(number)
        self.records.begin(number, values)
        return {"number": number, **values}

    def _values(self, number: int) -> dict[str, Value]:
        config = self.config
        if config.method == "optuna":
            return choose(config.space, config.seed, number, self.records.tried(), config.num_random_trials)
        return draw(config.space, config.seed, number)


def run_trials(job: Job, *, max_restarts: int, on_finished: Callable[[dict], None]) -> list[str]:
    """Run all unfinished and new trials, as many at a time as the cluster has room for.

    A trial holds the places of all its workers from its start on, so trials cannot wait for each other. They are given
    back with the trial, however it ends.

    Args:
        job: the sweep's.
        max_restarts: how many times a trial whose process was lost is started again.
        on_finished: called with the record of each finished trial.

    Returns:
        A line for each trial that failed because of the machine, not because of its values.
    """
    os.environ.update({name: value for name, value in TUNE_ENV.items() if name not in os.environ})
    from ray import tune

    records, config = job.records, job.config
    for number, record in records.finished().items():
        # A kill may have come between the end of a trial and that of its tracking run.
        _close_run(job, number, "FAILED" if record["status"].startswith(FAILED) else "FINISHED")
        records.clear(number)
    records.folder.delete_folder("ray")
    queue = Queue(config, records)
    number_left = len(queue)
    if not number_left:
        return []
    watcher = _watcher(job, on_finished)
    exchange = job.exchange
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, job=job),
            # The trial's own process is the first worker, see `worker_group`.
            tune.PlacementGroupFactory([job.resources.bundle] * job.resources.workers, strategy=job.placement.upper()),
        ),
        param_space=_population_space(config) if exchange else {},
        tune_config=tune.TuneConfig(
            # The trials of a population take turns: all are started, and resources decide how many run.
            search_alg=_population(queue) if exchange else _searcher(queue, job),
            scheduler=_scheduler(job),
            num_samples=number_left,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            **ray_storage(records.out),
            stop={"last": 1},
            failure_config=tune.FailureConfig(max_failures=max_restarts),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4) if exchange else None,
            callbacks=[watcher],
            verbose=0,
        ),
    )
    with warnings.catch_warnings():
        # The advice is to reuse processes, but a trial's process cannot become another trial's.
        warnings.filterwarnings("ignore", message="Consider boosting PBT")
        _fit(tuner, job)
    records.folder.delete_folder("ray")
    return watcher.lost


def _fit(tuner: Any, job: Job) -> None:
    """Run the trials. A signal marks the tracking runs of unfinished trials KILLED; the next start resumes them."""

    def stop() -> None:
        for number in job.records.unfinished():
            _close_run(job, number, "KILLED")

    with interrupts.at_stop(stop):
        try:
            tuner.fit()
        except KeyboardInterrupt:
            stop()
            raise


def _close_run(job: Job, number: int, status: str, tags: dict[str, str] | None = None) -> None:
    """Close the tracking run of a trial whose process cannot do so itself."""
    if run_id := find_run(job.writer, job.run_key(number), running=True):
        start_run(job.writer, run_id=run_id, tags=tags).finish(status)


def _name(trial: Any) -> str:
    return f"{trial.config['number']:04d}"


def _searcher(queue: Queue, job: Job) -> Any:
    from ray.tune.search import Searcher

    class Numbered(Searcher):
        """Suggest the trials of the queue, as many at a time as fit on the nodes that are there then.

        Tune's own limit is a number that is fixed at the start. Its state is the sweep's records.
        """

        def __init__(self) -> None:
            super().__init__()
            self._suggested: set[str] = set()  # and not complete

        def suggest(self, trial_id: str) -> Any:
            if len(self._suggested) >= max(1, job.resources.room()):
                return None  # Tune asks again
            point = queue.take()
            if point is None:
                return Searcher.FINISHED
            self._suggested.add(trial_id)
            return point

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            self._suggested.discard(trial_id)

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            pass

    return Numbered()


def _population(queue: Queue) -> Any:
    """Suggest the first values of all trials at once, since PBT accepts no searcher."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return BasicVariantGenerator(points_to_evaluate=list(iter(queue.take, None)))


def _population_space(config: SweepConfig) -> dict:
    from ray import tune

    return {"number": tune.randint(0, 10**9), **{key: _domain(dimension) for key, dimension in config.space.items()}}


def _domain(dimension: Dimension) -> Any:
    from ray import tune

    if dimension.choice is not None:
        return tune.choice(list(dimension.choice))
    if dimension.integers is not None:
        return tune.randint(dimension.integers[0], dimension.integers[1] + 1)
    assert dimension.limits is not None
    return (tune.loguniform if dimension.log else tune.uniform)(*dimension.limits)


def _scheduler(job: Job) -> Any:
    config = job.config
    compared: dict[str, Any] = {"time_attr": "step", "metric": "figure", "mode": "max"}
    if config.population:
        from ray.tune.schedulers import PopulationBasedTraining

        space, population = config.space, config.population
        mutations = {
            key: list(dimension.choice) if dimension.choice is not None else _domain(dimension)
            for key, dimension in space.items()
        }
        return PopulationBasedTraining(
            **compared,
            perturbation_interval=population.every,
            quantile_fraction=population.quantile,
            resample_probability=population.resample,
            hyperparam_mutations=mutations,
            custom_explore_fn=lambda point: {**point, **within(space, point)},
            log_config=False,
        )
    if config.early_stopping:
        return successive_halving(job, compared)
    return None


def within(space: dict[str, Dimension], point: dict) -> dict[str, Value]:
    """Return the values of `point`, moved into the limits of `space`."""
    return {
        key: point[key] if dimension.choice is not None else dimension.tidy(float(point[key]))
        for key, dimension in space.items()
    }


def successive_halving(job: Job, compared: dict[str, Any]) -> Any:
    """Build a scheduler of asynchronous successive halving that has seen all reports of earlier processes.

    Args:
        job: the sweep's.
        compared: names of the reported step and metric, as arguments of ASHAScheduler.
    """
    from ray.tune.schedulers import ASHAScheduler

    assert job.config.early_stopping
    stopping = job.config.early_stopping
    records = job.records

    class Halving(ASHAScheduler):
        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            super().on_trial_add(tune_controller, trial)
            for step, value in records.progress(int(_name(trial))).reports:
                super().on_trial_result(tune_controller, trial, {"step": step, "figure": value})

    # The length of a trial bounds the rungs; the last report ends it anyway.
    longest = max(2, stopping.first, _steps(job))
    scheduler = Halving(**compared, grace_period=stopping.first, max_t=longest, reduction_factor=stopping.factor)
    for number, record in records.finished().items():
        compat.replay_trial(scheduler, number, record["reports"])
    return scheduler


def _steps(job: Job) -> int:
    return trial_config(job.base, {}, job.records.out).stages.steps


def _watcher(job: Job, on_finished: Callable[[dict], None]) -> Any:
    from ray import tune

    class Watcher(tune.Callback):
        """Record trials that Tune stopped, and close tracking runs whose trial cannot do so.

        Attributes:
            lost: a line for each trial that failed because of the machine.
        """

        def __init__(self) -> None:
            self.lost: list[str] = []

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            number = int(str(trial))
            record = job.records.finished().get(number)
            if record is None:
                reports = job.records.progress(number).reports
                step, value = reports[-1] if reports else (0, None)
                score = value if job.config.score.finetune is None else None
                record = job.records.end(number, STOPPED, score=score, steps=int(step))
                _close_run(job, number, "FINISHED", {"hcmoco.stopped": f"early, at step {int(step)}"})
            job.records.clear(number)
            on_finished(record)

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            number = int(str(trial))
            error = trial.get_error() if hasattr(trial, "get_error") else None
            line = str(entrypoint.find_user_error(error) or one_line(error) if error else "its process was lost")
            self.lost.append(f"{FAILED}: trial {number:04d}: {line}")
            log(self.lost[-1])
            _close_run(job, number, "FAILED")

    return Watcher()
