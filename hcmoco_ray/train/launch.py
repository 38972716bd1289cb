"""Run a training under Ray: in this process for one CPU worker, else under a TorchTrainer."""

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import torch

from hcmoco.errors import UserError, one_line
from hcmoco.tasks.registry import REGISTRY, register_all
from hcmoco_ray import compat
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.cluster.entrypoint import find_user_error
from hcmoco_ray.paths import ray_storage
from hcmoco_ray.train.run_dir import RunConfig

# Read when Ray Train is imported, here and in its controller. The interval bounds how long a lost worker goes
# unnoticed.
TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class WorkerContext:
    """One worker of a run.

    Attributes:
        rank: 0 to `world` - 1.
        world: number of workers.
        device: as PyTorch names it.
        shards: its share of each of the job's datasets, by name.
    """

    rank: int
    world: int
    device: str
    shards: Mapping[str, Any]


class Job(Protocol):
    """Protocol of the work that every worker of a run does. It is pickled."""

    @property
    def config(self) -> RunConfig: ...

    def datasets(self) -> Mapping[str, Callable[[], Any]]:
        """Return a function that builds it for each Ray dataset, by name.

        The functions are called at each start of the workers. These resume from the newest state, so their datasets
        must start there, too.
        """

    def work(self, worker: WorkerContext) -> None:
        """Do the work of one worker."""


def train(job: Job) -> None:
    """Run or resume a training to its end.

    Raises:
        UserError: as the job's work does, or because workers are lost too often.
    """
    if in_this_process(job.config):
        _set_threads(job.config)
        job.work(WorkerContext(0, 1, "cpu", {name: make() for name, make in job.datasets().items()}))
    else:
        _with_trainer(job)


def in_this_process(config: RunConfig) -> bool:
    """Return whether the driver itself trains: a single worker on a CPU needs no Trainer."""
    return config.train.workers == 1 and not config.train.gpu


def _set_threads(config: RunConfig) -> None:
    torch.set_num_threads(config.train.threads_per_worker)
    cv2.setNumThreads(1)  # images are decoded in threads of the loader


def run_worker(settings: dict[str, Any]) -> None:
    """Run one worker of a TorchTrainer."""
    import ray
    import ray.train
    import ray.train.torch

    register_all(settings["tasks"])
    job: Job = ray.get(settings["job"])
    context = ray.train.get_context()
    _set_threads(job.config)
    device = ray.train.torch.get_device() if job.config.train.gpu else "cpu"
    shards = {name: ray.train.get_dataset_shard(name) for name in settings["datasets"]}
    job.work(WorkerContext(context.get_world_rank(), context.get_world_size(), str(device), shards))


def _with_trainer(job: Job) -> None:
    os.environ.update({name: value for name, value in TRAIN_ENV.items() if name not in os.environ})
    import ray
    import ray.data
    import ray.train
    import ray.train.torch

    class StopAtUserError(ray.train.UserCallback):
        """End the run at once at a user's mistake: workers that are started again would meet it again."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                mistake = find_user_error(error)
                if mistake:
                    raise mistake

    config = job.config
    train = config.train
    callbacks: list[Any] = [StopAtUserError()]  # typed as those of Ray Train's first version
    order = ray.data.ExecutionOptions(preserve_order=True)
    trainer = ray.train.torch.TorchTrainer(
        run_worker,
        # The job goes by reference: the controller opens this config, and has no use for the modules that a job
        # brings with it. The tasks travel along, so that a worker need not have registered them.
        train_loop_config={"job": ray.put(job), "datasets": list(job.datasets()), "tasks": dict(REGISTRY)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=train.workers, use_gpu=train.gpu, resources_per_worker=worker_resources(config)
        ),
        run_config=ray.train.RunConfig(
            name=f"{config.name}-{uuid.uuid4().hex[:8]}",
            **ray_storage(config.output_dir),
            failure_config=ray.train.FailureConfig(max_failures=config.max_restarts),
            callbacks=callbacks,
        ),
        datasets=dict(job.datasets()),
        dataset_config=ray.train.DataConfig(execution_options=order, enable_shard_locality=False),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if train.gpu else "gloo"),
    )
    try:
        with interrupts.kept():  # gives Ray Train's handler back
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        mistake = find_user_error(getattr(error, "controller_failure", None)) or find_user_error(error)
        if mistake:
            raise mistake from None
        failures = getattr(error, "worker_failures", {}).values()
        lost = [failure for failure in failures if compat.is_lost_worker(failure)]
        if lost:
            raise UserError(
                f"training workers were lost more often than max_restarts = {config.max_restarts} allows "
                f"({one_line(lost[0])}); the same command resumes from the newest train state; "
                "if memory ran out, lower train.batch_size_per_lane or train.workers"
            ) from None
        raise


def worker_resources(config: RunConfig) -> dict[str, float] | None:
    """Return the resources that each worker requests; None where this process trains."""
    if in_this_process(config):
        return None
    resources = {"CPU": config.train.cpus_per_worker}
    return {**resources, "GPU": 1} if config.train.gpu else resources
