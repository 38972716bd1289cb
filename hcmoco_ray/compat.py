"""Use private surfaces of other libraries, and those that a library's documentation does not promise to keep.

A new release may change each of them, which is why pyproject.toml bounds Ray from above: raise the bound with the tests
of this module. Ray is imported inside functions, so importing this module is cheap. What the start of a Ray needs of
such surfaces is in `hcmoco_ray.cluster.ray_start`.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import ray.data
    import ray.train.torch
    import torch
    from ray.tune.schedulers import ASHAScheduler

AHEAD, REST_S = 2, 0.02
"""Blocks that Ray Data's scheduler holds ready before it rests, and seconds until it looks again."""

IMPORTS = "HCMOCO_IMPORTS"
"""Environment variable of training workers: the module that a process imports while it waits to become one."""

SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that `ray job submit` sets for the job's program, and that its tasks inherit."""


def in_submitted_job() -> bool:
    """Return whether this process belongs to a job of `ray job submit`, which runs a copy of the working directory."""
    return bool(os.environ.get(SUBMITTED_JOB))


def hold_back_executor(context: "ray.data.DataContext") -> None:
    """Let Ray Data's scheduler rest while its consumer has enough to take, in executions that start with `context`.

    While finished blocks wait for a consumer that is slower than the reading, as they should, the executor's loop never
    blocks. On two cores it took 37 % of a core from the training (sampled with py-spy). Resting bounds besides what is
    read in advance: `AHEAD` blocks, those that Ray Data's task holds ready, and one that is being taken.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Rest(ExecutionCallback):
        def on_execution_step(self, executor: Any) -> None:
            waiting = executor._output_node[1].output_queue
            while len(waiting) >= AHEAD and not executor._shutdown:
                time.sleep(REST_S)

    context.custom_execution_callback_classes = [Rest]


def one_task(stream: Callable[[pa.Table], Iterator[pa.Table]], group: Any) -> "ray.data.Dataset":
    """Return the dataset of the tables that a single task yields. If its process is lost, the dataset fails.

    Args:
        stream: yields the tables; its argument means nothing.
        group: the placement group that has the task's CPU; None: the task takes none, and runs on this node if it can.
    """
    import ray.data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    where = (
        NodeAffinitySchedulingStrategy(here, soft=True) if group is None else PlacementGroupSchedulingStrategy(group)
    )
    # Ray Data would run the task again by itself, from its first table on.
    how: dict[str, Any] = {"max_retries": 0, "scheduling_strategy": where, "num_cpus": 0 if group is None else 1}
    how["runtime_env"] = {"env_vars": {IMPORTS: ""}}  # a task inherits the worker's
    start = ray.data.from_items([0])  # unlike from_arrow, it needs no task
    with warnings.catch_warnings():  # such options are deprecated, and nothing has taken the place of max_retries
        warnings.simplefilter("ignore")
        return start.map_batches(stream, batch_size=None, batch_format="pyarrow", concurrency=1, **how)


def actor_pool(
    data: "ray.data.Dataset",
    kind: type,
    arguments: tuple,
    *,
    size: int,
    num_cpus: float,
    num_gpus: float,
    batch_size: int | None = 8,
    at_once: bool = False,
) -> "ray.data.Dataset":
    """Return the dataset of what a pool of actors makes of another one. If an actor is lost, the dataset fails.

    Args:
        data: of Arrow tables.
        kind: class of the actors, called with a table.
        arguments: of its constructor.
        size: number of actors at most.
        num_cpus, num_gpus: of each actor.
        batch_size: rows of a call; None: a block of `data`.
        at_once: start all actors at the beginning, and give each two calls at most: for calls that take seconds. By
            default actors are started as they are needed.
    """
    import ray.data

    more: dict[str, Any] = {"initial_size": size, "max_tasks_in_flight_per_actor": 2} if at_once else {}
    with warnings.catch_warnings():  # as in `one_task`
        warnings.simplefilter("ignore")
        return data.map_batches(
            kind,
            batch_size=batch_size,
            batch_format="pyarrow",
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size, **more),
            num_cpus=num_cpus,
            num_gpus=num_gpus or None,
            # Ray would start a lost actor again, and prints a warning about that at each start.
            max_restarts=0,
            max_task_retries=0,
        )


def is_lost_reader(failure: BaseException) -> bool:
    """Return whether reading failed because the task's process, its node, or what it had read is gone."""
    from ray import exceptions

    return isinstance(
        failure,
        exceptions.WorkerCrashedError
        | exceptions.NodeDiedError
        | exceptions.OutOfMemoryError
        | exceptions.ObjectLostError
        | exceptions.ObjectFetchTimedOutError,
    )


def is_lost_actor(failure: BaseException) -> bool:
    """Return whether Ray Data failed because an actor of its pool, or what was given to it, is gone."""
    from ray import exceptions

    return is_lost_reader(failure) or isinstance(failure, exceptions.RayActorError)


def hide_worker_messages() -> None:
    """Keep Ray from printing what its processes log about lost workers and nodes; the log files keep it.

    These are long paragraphs, printed where a program says in one line what was lost and how it goes on.
    """
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = False


def is_lost_worker(failure: BaseException) -> bool:
    """Return whether a worker's failure in Ray Train means that its process is gone, not that it raised an error."""
    import ray
    from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

    failure = getattr(failure, "health_check_failure", failure)
    return isinstance(failure, ray.exceptions.RayActorError | WorkerHealthCheckTimeoutError)


def is_failed_start(failure: BaseException | None) -> bool:
    """Return whether a controller of Ray Train failed because its workers found no room, or were lost as they started.

    Args:
        failure: `controller_failure` of its error.
    """
    from ray.train.v2._internal import exceptions

    return isinstance(
        failure,
        exceptions.WorkerGroupStartupTimeoutError
        | exceptions.WorkerGroupStartupFailedError
        | exceptions.InsufficientClusterResourcesError,
    )


def lean_trainer() -> "type[ray.train.torch.TorchTrainer]":
    """Return Ray Train's TorchTrainer without a process that it starts for each group of workers.

    It deals out datasets, and ours are given none. It costs three seconds of CPU time.
    """
    import ray.train.torch
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback

    trainer: Any = ray.train.torch.TorchTrainer  # typed as that of Ray Train's first version

    class Lean(trainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [each for each in super()._create_default_callbacks() if not isinstance(each, DatasetsCallback)]

    return Lean


def draining_nodes() -> dict[str, int]:
    """Return the nodes that are about to be taken away: node id -> the time, in ms since 1970; 0 if it is not known."""
    from ray._private.state import state

    return state.get_draining_nodes() or {}


def free_resources() -> dict[str, dict[str, float]]:
    """Return what every alive node has to give at this moment: CPUs, GPUs and more by name, by node id."""
    from ray._private.state import available_resources_per_node

    return available_resources_per_node()


def node_memory() -> tuple[int, int]:
    """Return the bytes of memory that are used on this node, and all of them, as Ray counts before it ends workers.

    In a container these are the container's.
    """
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    return int(get_used_memory()), int(get_system_memory())


class Gpus:
    """The NVIDIA GPUs of this machine, as the library of their driver reports them; none where there is no driver.

    Ray carries the Python interface to that library (NVML), which its own agents use.
    """

    def __init__(self) -> None:
        import ray._private.thirdparty.pynvml as nvml

        self._nvml: Any = nvml
        self._count = 0
        with suppress(nvml.NVMLError):
            nvml.nvmlInit()
            self._count = nvml.nvmlDeviceGetCount()

    def usage(self) -> list[tuple[float | None, int | None, int | None]]:
        """Return for each GPU in % how long it has computed lately, its used bytes of memory, and all of them.

        None is what the driver does not tell, such as how long a GPU has computed that is split into parts (MIG).
        """
        found = []
        for number in range(self._count):
            busy, used, total = None, None, None
            with suppress(self._nvml.NVMLError):
                handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
                busy = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            with suppress(self._nvml.NVMLError):
                memory = self._nvml.nvmlDeviceGetMemoryInfo(self._nvml.nvmlDeviceGetHandleByIndex(number))
                used, total = int(memory.used), int(memory.total)
            found.append((busy, used, total))
        return found


def system_config() -> dict[str, Any]:
    """Return what `ray start --head --system-config` was given; what variables of the environment say is not in it."""
    from ray._private.state import state

    return state.get_system_config() or {}


def reported_disks(nodes: Iterable[str], seconds: float) -> dict[str, dict[str, tuple[int, int]]]:
    """Return what the agents of nodes report of their disks every few seconds. They live on where tasks cannot start.

    Args:
        nodes: ids of the nodes to wait for.
        seconds: to wait at most; with Ray's settings a node reports every 5 seconds.

    Returns:
        By node id and path of a folder, "/" and Ray's folder for temporary files: bytes that are free, and all bytes.
        A node that reported nothing is missing.
    """
    import asyncio
    import json

    import ray
    from ray._private.gcs_pubsub import GcsAioResourceUsageSubscriber

    missing, found = set(nodes), {}

    async def listen() -> None:
        subscriber = GcsAioResourceUsageSubscriber(address=ray.get_runtime_context().gcs_address)
        await subscriber.subscribe()
        while missing:
            key, text = await subscriber.poll()
            node = str(key or "").rpartition(":")[2]
            if node in missing:
                disks = json.loads(text)["disk"].items()
                found[node] = {path: (disk["free"], disk["free"] + disk["used"]) for path, disk in disks}
                missing.remove(node)

    async def in_time() -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(listen(), seconds)

    asyncio.run(in_time())
    return found


@dataclass
class FinishedTrial:
    """The two attributes of a `ray.tune.experiment.Trial` that ASHAScheduler reads, for one of an earlier process."""

    trial_id: str
    config: dict[str, Any]


def replay_trial(scheduler: "ASHAScheduler", number: int, reports: Iterable[tuple[float, float]]) -> None:
    """Show a scheduler what a trial of an earlier process reported.

    Args:
        scheduler: its methods are called as ASHAScheduler defines them, not as a subclass overrides them.
        number: of the trial.
        reports: (step, metric) in order.
    """
    from ray.tune.schedulers import ASHAScheduler

    trial: Any = FinishedTrial(f"over-{number}", {"number": number})
    controller: Any = None
    ASHAScheduler.on_trial_add(scheduler, controller, trial)
    for step, value in reports:
        ASHAScheduler.on_trial_result(scheduler, controller, trial, {"step": step, "figure": value})


def storage_key(storage: "torch.UntypedStorage") -> int:
    """Return a key of a tensor's memory that is unique while the tensor is held.

    On the meta device too, where tensors have no memory.
    """
    return storage._cdata
