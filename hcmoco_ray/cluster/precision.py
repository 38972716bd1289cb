"""`train.precision: auto` on a cluster: every node that could hold a worker says whether its processor computes in bfloat16."""

from collections.abc import Mapping, Sequence

from hcmoco.errors import UserError
from hcmoco.storage import first_line
from hcmoco.training.precision import C, native_bfloat16, settle
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.train.run_dir import say

# Of a GPU: enough to be allowed to look at it.
_A_LOOK = 0.01


def decide(config: C, resources: Mapping[str, float] | None, begun: dict | None) -> C:
    """`config` with its precision decided, see `settle`; says where bfloat16 will be slow.

    Args:
        resources: what each worker asks the cluster for, "CPU" and "GPU"; None where this process trains.
        begun: the identity of the run that it goes on with, if it does.
    Raises:
        UserError: a node does not answer.
    """
    if config.train.precision == "float32":
        return config
    native = [native_bfloat16("cpu")] if resources is None else ask_nodes(resources)
    config = settle(config, bool(native) and all(native), begun)
    if config.train.precision == "bfloat16" and not all(native):
        say(slow_line(native, begun=begun is not None))
    return config


def slow_line(native: Sequence[bool], *, begun: bool) -> str:
    """What is said of bfloat16 where not all processors compute in it."""
    where = (
        "this processor only emulates"
        if len(native) == 1
        else f"{native.count(False)} of {len(native)} nodes only emulate"
    )
    kept = (
        "the run was begun in it and keeps it; a new one, with another out=..., takes float32"
        if begun
        else "auto takes float32"
    )
    return f"train.precision is bfloat16, which {where}: steps take several times as long as in float32 ({kept})"


def ask_nodes(resources: Mapping[str, float]) -> list[bool]:
    """The answer of every node that is large enough for a worker; one task each, on the node itself."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {name: count for name, count in resources.items() if count}
    device = "cuda" if asked.get("GPU") else "cpu"
    nodes = [
        each
        for each in ray.nodes()
        if each["Alive"] and all(each["Resources"].get(name, 0) >= count for name, count in asked.items())
    ]
    here = ray.get_runtime_context().get_node_id()
    if device == "cpu" and [each["NodeID"] for each in nodes] == [here]:
        return [native_bfloat16(device)]  # no process need start for it
    look, gpus = ray.remote(native_bfloat16), _A_LOOK if device == "cuda" else 0
    tasks = {}
    for each in nodes:
        there = NodeAffinitySchedulingStrategy(each["NodeID"], soft=False)
        tasks[look.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=there).remote(device)] = each
    waiting = list(tasks)
    while waiting:
        interrupts.check()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
    answers = []
    for task, node in tasks.items():
        try:
            answers.append(ray.get(task))
        except ray.exceptions.RayError as error:
            raise UserError(
                f"train.precision: node {node['NodeManagerAddress']} does not say whether it computes in bfloat16 ({first_line(error)}); "
                "run the same command again, or set train.precision=float32"
            ) from None
    return answers
