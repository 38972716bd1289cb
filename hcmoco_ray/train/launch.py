"""Run a training under Ray: in this process for one CPU worker, else under a TorchTrainer.

Ray Train's controller imports this module: it must not import PyTorch.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from hcmoco.tasks.registry import REGISTRY, register_all
from hcmoco_ray import compat
from hcmoco_ray.cluster import idle_processes, interrupts
from hcmoco_ray.cluster.entrypoint import find_user_error
from hcmoco_ray.ingest.dataset import Items, Readers, read
from hcmoco_ray.paths import ray_storage
from hcmoco_ray.tracking.progress import Status
from hcmoco_ray.train import spares
from hcmoco_ray.train.pulse import Pulse

if TYPE_CHECKING:
    from hcmoco_ray.train.run_dir import RunConfig

# Read when Ray Train is imported, here and in its controller. The interval bounds how long a lost worker goes
# unnoticed.
TRAIN_ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
# Besides, where workers have GPUs: workers that hang inside NCCL are ended, where Ray would only log it.
GPU_ENV = {
    "RAY_TRAIN_ENABLE_NCCL_HANG_DETECTOR": "1",
    "RAY_TRAIN_NCCL_RAS_ACTION": "fail",
    "RAY_TRAIN_NCCL_RAS_CONFIRM_DURATION_S": "180",
}


@dataclass(frozen=True)
class Start:
    """What is decided once for a start of the workers: all of them go on from the same step.

    Attributes:
        workers: how many there are.
        step: of the train state to go on from; 0 for a new run.
        attempt: number of this start of the run, see `States.begin_attempt`; None where no states are written.
        readers: what the tasks that read for a worker request.
    """

    workers: int
    step: int = 0
    attempt: int | None = None
    readers: Readers = field(default_factory=Readers)


@dataclass(frozen=True)
class WorkerContext:
    """One worker of a run.

    Attributes:
        rank: 0 to `world` - 1.
        world: number of workers.
        device: as PyTorch names it.
        start: of this group of workers.
        pulse: tells the driver where this worker is.
        items: what the job reads, of all workers, by name.
        samples_node: address of its node, if this worker is the one that logs what the node does; "" for all others.
    """

    rank: int
    world: int
    device: str
    start: Start
    pulse: Pulse
    items: Mapping[str, Items]
    samples_node: str = ""

    def read(self, name: str, first: int = 0) -> Iterator[pa.Table]:
        """Yield this worker's share of the items of a name, one table each, in order.

        Args:
            name: as the job's `items` has it.
            first: number of the first item that is read, of all workers.

        Raises:
            UserError: an item could not be read.
        """
        items = self.items[name]
        numbers = items.of_worker(self.rank, self.world, first)
        return read(items, numbers, self.start.readers, self.pulse.tell)


class Job(Protocol):
    """Protocol of the work that every worker of a run does. It is pickled."""

    @property
    def config(self) -> "RunConfig": ...

    @property
    def status(self) -> Status: ...

    def decide_start(self, workers: int, readers: Readers) -> Start:
        """Decide from which step the next start of the workers goes on. Called once for each start, by the driver."""

    def items(self, start: Start) -> Mapping[str, Items]:
        """Return what the workers read, by name. Called once for each start, by the driver."""

    def work(self, worker: WorkerContext) -> None:
        """Do the work of one worker."""


def start_ahead(config: "RunConfig", module: str) -> None:
    """Have workers' processes start while the program prepares their work.

    Args:
        config: of the run.
        module: that defines the job.
    """
    if not in_this_process(config):
        variables = {name: os.environ.get(name, value) for name, value in TRAIN_ENV.items()}
        sent = {name: value for name, value in variables.items() if name in idle_processes.SENT_TO_WORKERS}
        spares.start_first(config.train.max_workers, module, sent | idle_processes.ADDED_TO_WORKERS)


def train(job: Job, *, reading_tasks: int = 1, decoding_tasks: int = 0) -> None:
    """Run or resume a training to its end.

    Args:
        job: what every worker does.
        reading_tasks: of each worker.
        decoding_tasks: of all workers, each of which holds a CPU; 0 if the tasks only read.

    Raises:
        UserError: as the job's work does, or because workers are lost too often.
    """
    from hcmoco.training.context import WorkersLeave
    from hcmoco_ray.cluster import room
    from hcmoco_ray.train import restarts

    with room.reading(reading_tasks, decoding_tasks) as readers:
        if in_this_process(job.config):
            _set_threads(job.config)
            start = job.decide_start(1, readers)
            try:
                with Pulse(job.status, 0) as pulse:
                    job.work(WorkerContext(0, 1, "cpu", start, pulse, job.items(start)))
            except WorkersLeave as left:
                raise interrupts.SavedAndStopped(str(left)) from None
        else:
            restarts.keep_training(job, readers, run_workers)


def in_this_process(config: "RunConfig") -> bool:
    """Return whether the driver itself trains: a single worker on a CPU needs no Trainer."""
    return config.train.max_workers == 1 and not config.train.gpu


def _set_threads(config: "RunConfig") -> None:
    import cv2
    import torch

    torch.set_num_threads(config.train.threads_per_worker)
    cv2.setNumThreads(1)  # images are decoded in threads of the loader


def run_worker(settings: dict[str, Any]) -> None:
    """Run one worker of a TorchTrainer."""
    import ray
    import ray.train
    import ray.train.collective
    import ray.util

    from hcmoco_ray.train.process_group import Meeting, joined, open_meeting

    register_all(settings["tasks"])
    job: Job = ray.get(settings["job"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    node = ray.util.get_node_ip_address()
    job.status.note(f"node/{rank}", node)
    samples = node != settings["driver"] and context.get_local_rank() == 0  # the driver samples its own node
    _set_threads(job.config)
    device = _own_gpu() if job.config.train.gpu else "cpu"
    store, meeting = open_meeting(world, gpu=job.config.train.gpu) if rank == 0 else (None, None)
    # Sent as plain values: the actor of Ray Train that passes it on would import PyTorch for the class.
    told = ray.train.collective.broadcast_from_rank_zero(meeting and asdict(meeting))
    place = node if samples else ""
    with (
        joined(Meeting(**told), rank, store),
        Pulse(job.status, rank) as pulse,
        spares.kept_ready(pulse, wanted=settings["spare"]),
    ):
        job.work(WorkerContext(rank, world, device, settings["start"], pulse, settings["items"], place))


def _own_gpu() -> str:
    """Return the GPU that Ray gives to this worker, and make it the one that PyTorch takes where none is named."""
    import ray.train.torch
    import torch

    device = ray.train.torch.get_device()
    torch.cuda.set_device(device)
    return str(device)


def run_workers(job: Job, start: Start) -> None:
    """Run one group of workers to the end of the training.

    Raises:
        ray.train.TrainingFailedError: a worker failed or was lost, or there was no room. Nothing is tried again here.
        ray.exceptions.RayActorError: Ray Train's controller was lost.
    """
    settings = {**TRAIN_ENV, **(GPU_ENV if job.config.train.gpu else {})}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    import ray
    import ray.train
    import ray.train.backend
    import ray.train.torch
    import ray.util

    class WithSharedGpus(ray.train.backend.Backend):
        """Sets nothing up, see `process_group`; NCCL needs to see all GPUs of the node."""

        share_cuda_visible_devices = True

    class OwnGroup(ray.train.backend.BackendConfig):
        """Ray Train's TorchConfig would have the controller import PyTorch."""

        backend = "nccl" if job.config.train.gpu else "gloo"
        backend_cls = WithSharedGpus

    class StopAtUserError(ray.train.UserCallback):
        """End the run at once at a user's mistake: workers that are started again would meet it again."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                mistake = find_user_error(error)
                if mistake:
                    raise mistake

    config = job.config
    train = config.train
    spare = spares.wanted(config.spare_workers)
    callbacks: list[Any] = [StopAtUserError()]  # typed as those of Ray Train's first version
    # Typed as that of Ray Train's first version.
    own_group: Any = OwnGroup()
    ahead: Any = {"worker_runtime_env": spares.environment(type(job).__module__)}
    no_retries: Any = {"max_failures": 0, "controller_failure_limit": 0, "max_preemption_failures": 0}
    trainer = compat.lean_trainer()(
        run_worker,
        # The job goes by reference: the controller opens this config, and has no use for the modules that a job
        # brings with it. The tasks travel along, so that a worker need not have registered them.
        train_loop_config={
            "job": ray.put(job),
            "start": start,
            "driver": ray.util.get_node_ip_address(),
            "items": dict(job.items(start)),
            "spare": spare,
            "tasks": dict(REGISTRY),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=start.workers,
            use_gpu=train.gpu,
            resources_per_worker=worker_resources(config),
            placement_strategy=train.placement.upper(),
        ),
        run_config=ray.train.RunConfig(
            name=f"{config.name}-{uuid.uuid4().hex[:8]}",
            **ray_storage(config.output_dir),
            # Every loss comes back to the caller, which knows more of the cluster than Ray's own loop, says what
            # happened, and bounds the waiting.
            failure_config=ray.train.FailureConfig(**no_retries),
            callbacks=callbacks,
            **ahead,
        ),
        torch_config=own_group,
    )
    with interrupts.kept():  # gives Ray Train's handler back
        trainer.fit()


def worker_resources(config: "RunConfig") -> dict[str, float] | None:
    """Return the resources that each worker requests; None where this process trains."""
    if in_this_process(config):
        return None
    resources = {"CPU": config.train.cpus_per_worker}
    return {**resources, "GPU": 1} if config.train.gpu else resources
