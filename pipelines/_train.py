"""The loop under Ray: in this process for one CPU worker, else under a TorchTrainer."""

import os
from dataclasses import dataclass
from typing import Any

import cv2
import torch

from hcmoco.errors import UserError
from hcmoco.probes.run import ProbeViews
from hcmoco.shards.storage import first_line
from hcmoco.training.feed import Feed
from hcmoco.training.loop import pretrain
from pipelines import _ingest, _interrupts
from pipelines._cluster import find_user_error
from pipelines._host import RayHost, states_of
from pipelines._recipe import PretrainRecipe
from pipelines._tracking import Tracker

# Read when Ray Train is imported, here and in its controller. The interval bounds how long a lost worker goes unnoticed.
TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class Job:
    """What every worker of a run is given."""

    config: PretrainRecipe
    feed: Feed
    held_out: Any  # object reference of ProbeViews, or None
    tracker: Tracker
    status: Any


def train(job: Job) -> None:
    """Runs or resumes the training to its end. UserError as `pretrain`, and where workers are lost too often."""
    if in_this_process(job.config):
        _in_this_process(job)
    else:
        _with_trainer(job)


def in_this_process(config: PretrainRecipe) -> bool:
    """Whether the driver itself trains: one worker on a CPU needs no Trainer."""
    return config.train.workers == 1 and not config.train.gpu


def _in_this_process(job: Job) -> None:
    _set_threads(job.config)
    dataset = _ingest.dataset(job.feed, states_of(job.config).newest_step)
    host = RayHost(job.config, job.feed, dataset, job.tracker, job.status, rank=0, world=1, device="cpu")
    pretrain(job.config, job.feed.plan, host, _views(job), job.tracker.run_id)


def _set_threads(config: PretrainRecipe) -> None:
    torch.set_num_threads(config.train.threads_per_worker)
    cv2.setNumThreads(1)  # pictures are decoded in threads of the feed


def _views(job: Job) -> ProbeViews | None:
    import ray

    return None if job.held_out is None else ray.get(job.held_out)


def worker(settings: dict) -> None:
    """One worker of a TorchTrainer."""
    import ray
    import ray.train
    import ray.train.torch

    job: Job = ray.get(settings["job"])
    context = ray.train.get_context()
    _set_threads(job.config)
    device = ray.train.torch.get_device() if job.config.train.gpu else "cpu"
    rank = context.get_world_rank()
    shard = ray.train.get_dataset_shard("train")
    host = RayHost(job.config, job.feed, shard, job.tracker, job.status, rank=rank, world=context.get_world_size(), device=str(device))
    pretrain(job.config, job.feed.plan, host, _views(job) if rank == 0 else None, job.tracker.run_id)


def _with_trainer(job: Job) -> None:
    os.environ.update({name: value for name, value in TRAIN_ENV.items() if name not in os.environ})
    import ray
    import ray.data
    import ray.train
    import ray.train.torch

    class StopAtUserError(ray.train.UserCallback):
        """A user's mistake ends the run at once: starting the workers anew would meet it again."""

        def after_exception(self, run_context, worker_exceptions):
            for error in worker_exceptions.values():
                mistake = find_user_error(error)
                if mistake:
                    raise mistake

    config = job.config
    train = config.train
    order = ray.data.ExecutionOptions(preserve_order=True)
    trainer = ray.train.torch.TorchTrainer(
        worker,
        # By reference: the controller opens this config, and has no use for the modules that a job brings with it.
        train_loop_config={"job": ray.put(job)},
        scaling_config=ray.train.ScalingConfig(num_workers=train.workers, use_gpu=train.gpu, resources_per_worker=_resources(config)),
        run_config=ray.train.RunConfig(
            name=f"{config.name}-{job.tracker.run_id[:8]}",
            storage_path=f"{config.out}/ray",
            failure_config=ray.train.FailureConfig(max_failures=config.restarts),
            callbacks=[StopAtUserError()],
        ),
        # Called at each start of the workers: they go on from the newest state, and so does what they read.
        datasets={"train": _ingest.newest_dataset(job.feed, f"{config.out}/states")},
        dataset_config=ray.train.DataConfig(execution_options=order, enable_shard_locality=False),
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if train.gpu else "gloo"),
    )
    try:
        with _interrupts.heard():  # gives Ray Train's handler back
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        mistake = find_user_error(getattr(error, "controller_failure", None)) or find_user_error(error)
        if mistake:
            raise mistake from None
        lost = [each for each in getattr(error, "worker_failures", {}).values() if _is_lost(each)]
        if lost:
            raise UserError(
                f"training workers were lost more often than restarts = {config.restarts} allows ({first_line(lost[0])}); the same command "
                "goes on from the newest train state; if memory ran out, lower train.rows_per_lane or train.workers"
            ) from None
        raise


def _is_lost(failure: BaseException) -> bool:
    """Whether a worker's process has gone, rather than raised."""
    import ray

    return isinstance(getattr(failure, "health_check_failure", failure), ray.exceptions.RayActorError)


def _resources(config: PretrainRecipe) -> dict[str, float]:
    resources = {"CPU": config.train.cpus_per_worker}
    return {**resources, "GPU": 1} if config.train.gpu else resources
