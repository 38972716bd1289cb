"""Ray Tune over the trials of a sweep: which one next, how many at a time, which to stop, and what is noted when one ends.

Tune's own experiment state is not used to go on: it is older than the trials by some seconds, and it is pickled. The records are.
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
from hcmoco_ray.tracking.client import find_run, start_run
from hcmoco_ray.train.run_dir import log

# Read when Tune is imported or started. A Ctrl-C is the program's, not Tune's; a trial stays in the program's folder.
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
    """The trials that are to run, in order: those that were begun, then new ones up to the sweep's number."""

    def __init__(self, config: SweepConfig, records: Records):
        self.config, self.records = config, records
        begun, over = records.begun(), records.over()
        self.begun = [(number, records.values_now(number, values)) for number, values in begun.items()]
        taken = {*begun, *over}
        missing = max(0, config.num_trials - len(taken))
        self.new = [number for number in range(config.num_trials + len(taken)) if number not in taken][:missing]

    def __len__(self) -> int:
        return len(self.begun) + len(self.new)

    def take(self) -> dict | None:
        """The next trial's number and values, noted as begun; None after the last."""
        if self.begun:
            number, values = self.begun.pop(0)
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


def carry_out(job: Job, *, restarts: int, ended: Callable[[dict], None]) -> list[str]:
    """Runs all trials that are not over, as many at a time as the cluster has room for: each holds all that it needs from its start on, so
    they cannot wait for each other. Returns a line for each that the machine, rather than its values, brought down.

    Args:
        restarts: times that a trial whose process was lost is started again.
        ended: called with the record of each trial that is over.
    """
    os.environ.update({name: value for name, value in TUNE_ENV.items() if name not in os.environ})
    from ray import tune

    records, config = job.records, job.config
    for number, record in records.over().items():
        # A kill may have come between the end of a trial and that of its tracking run.
        _close(job, number, "FAILED" if record["status"].startswith(FAILED) else "FINISHED")
        records.clear(number)
    records.folder.delete_folder("ray")
    queue = Queue(config, records)
    number_left = len(queue)
    if not number_left:
        return []
    watcher = _watcher(job, ended)
    exchange = job.exchange
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run_trial, job=job), {"CPU": job.resources.cpus, "GPU": job.resources.gpus}
        ),
        param_space=_population_space(config) if exchange else {},
        tune_config=tune.TuneConfig(
            search_alg=_population(queue) if exchange else _searcher(queue),
            scheduler=_scheduler(job),
            num_samples=number_left,
            # A population takes turns: all of it is begun, and resources say how much runs.
            max_concurrent_trials=None if exchange else job.resources.at_once(),
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            storage_path=f"{records.out}/ray",
            stop={"last": 1},
            failure_config=tune.FailureConfig(max_failures=restarts),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4) if exchange else None,
            callbacks=[watcher],
            verbose=0,
        ),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Consider boosting PBT"
        )  # a trial's process cannot become another trial's
        _fit(tuner, job)
    records.folder.delete_folder("ray")
    return watcher.lost


def _fit(tuner: Any, job: Job) -> None:
    """Runs the trials. Those that a signal stops have their tracking runs marked KILLED; the next start goes on with them."""

    def stop() -> None:
        for number in job.records.begun():
            _close(job, number, "KILLED")

    with interrupts.at_stop(stop):
        try:
            tuner.fit()
        except KeyboardInterrupt:
            stop()
            raise


def _close(job: Job, number: int, status: str, tags: dict[str, str] | None = None) -> None:
    """Ends the tracking run of a trial that cannot do so itself."""
    if run_id := find_run(job.writer, job.run_key(number), running=True):
        start_run(job.writer, run_id=run_id, tags=tags).finish(status)


def _name(trial: Any) -> str:
    return f"{trial.config['number']:04d}"


def _searcher(queue: Queue) -> Any:
    from ray.tune.search import Searcher

    class Numbered(Searcher):
        """Hands out the queue. It needs no memory of its own."""

        def suggest(self, trial_id: str) -> Any:
            point = queue.take()
            return Searcher.FINISHED if point is None else point

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            pass

    return Numbered()


def _population(queue: Queue) -> Any:
    """PBT accepts no searcher: all first values are given to it."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return BasicVariantGenerator(points_to_evaluate=list(iter(queue.take, None)))


def _population_space(config: SweepConfig) -> dict:
    from ray import tune

    return {"number": tune.randint(0, 10**9), **{key: _domain(each) for key, each in config.space.items()}}


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
    figures: dict[str, Any] = {"time_attr": "step", "metric": "figure", "mode": "max"}
    if config.population:
        from ray.tune.schedulers import PopulationBasedTraining

        space, population = config.space, config.population
        mutations = {
            key: list(each.choice) if each.choice is not None else _domain(each) for key, each in space.items()
        }
        return PopulationBasedTraining(
            **figures,
            perturbation_interval=population.every,
            quantile_fraction=population.quantile,
            resample_probability=population.resample,
            hyperparam_mutations=mutations,
            custom_explore_fn=lambda point: {**point, **within(space, point)},
            log_config=False,
        )
    if config.early_stopping:
        return halving(job, figures)
    return None


def within(space: dict[str, Dimension], point: dict) -> dict[str, Value]:
    """The values of `point`, moved into the limits."""
    return {key: point[key] if each.choice is not None else each.tidy(float(point[key])) for key, each in space.items()}


def halving(job: Job, figures: dict) -> Any:
    """Asynchronous successive halving that has seen all reports of the trials before it."""
    from ray.tune.schedulers import ASHAScheduler

    assert job.config.early_stopping
    stopping = job.config.early_stopping
    records = job.records

    class Halving(ASHAScheduler):
        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            super().on_trial_add(tune_controller, trial)
            for step, figure in records.progress(int(_name(trial))).reports:
                super().on_trial_result(tune_controller, trial, {"step": step, "figure": figure})

    # The length of a trial bounds the rungs; the last report ends it anyway.
    longest = max(2, stopping.first, _steps(job))
    scheduler = Halving(**figures, grace_period=stopping.first, max_t=longest, reduction_factor=stopping.factor)
    for number, record in records.over().items():
        compat.replay_trial(scheduler, number, record["reports"])
    return scheduler


def _steps(job: Job) -> int:
    return trial_config(job.base, {}, job.records.out).stages.steps


def _watcher(job: Job, ended: Callable[[dict], None]) -> Any:
    from ray import tune

    class Watcher(tune.Callback):
        """Notes trials that Tune stopped, says what ended, and closes tracking runs that nobody else closes."""

        def __init__(self) -> None:
            self.lost: list[str] = []

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            number = int(str(trial))
            record = job.records.over().get(number)
            if record is None:
                reports = job.records.progress(number).reports
                step, figure = reports[-1] if reports else (0, None)
                score = figure if job.config.score.finetune is None else None
                record = job.records.end(number, STOPPED, score=score, steps=int(step))
                _close(job, number, "FINISHED", {"hcmoco.stopped": f"early, at step {int(step)}"})
            job.records.clear(number)
            ended(record)

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            number = int(str(trial))
            error = trial.get_error() if hasattr(trial, "get_error") else None
            line = str(entrypoint.find_user_error(error) or one_line(error) if error else "its process was lost")
            self.lost.append(f"{FAILED}: trial {number:04d}: {line}")
            log(self.lost[-1])
            _close(job, number, "FAILED")

    return Watcher()
