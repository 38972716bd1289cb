"""Decide `train.precision: auto` on a cluster.

Every node that could hold a worker is asked whether its processor computes in bfloat16.
"""

from collections.abc import Mapping, Sequence

from hcmoco.training.precision import C, native_bfloat16, settle
from hcmoco_ray.cluster.nodes import alive_nodes, ask_each
from hcmoco_ray.cluster.resources import count_fitting
from hcmoco_ray.train.run_dir import log

# Share of a GPU that a task requests so that it may see the GPU.
_GPU_SHARE = 0.01


def decide(config: C, resources: Mapping[str, float] | None, begun: dict | None) -> C:
    """Return `config` with its precision decided, see `settle`. Prints a line if bfloat16 will be slow.

    Args:
        config: of the run.
        resources: what each worker requests of the cluster, "CPU" and "GPU"; None where this process trains.
        begun: the identity of the run that is resumed; None for a new run.

    Raises:
        UserError: a node does not answer.
    """
    if config.train.precision in ("float32", "tf32"):
        return config
    native = [native_bfloat16("cpu")] if resources is None else ask_nodes(resources)
    config = settle(config, bool(native) and all(native), begun)
    if config.train.precision == "bfloat16" and not all(native):
        log(slow_line(native, begun=begun is not None))
    return config


def slow_line(native: Sequence[bool], *, begun: bool) -> str:
    """Return the warning that bfloat16 is slow.

    Args:
        native: for each node whether its processor computes in bfloat16.
        begun: whether a run is resumed.
    """
    where = (
        "this processor only emulates"
        if len(native) == 1
        else f"{native.count(False)} of {len(native)} nodes only emulate"
    )
    kept = (
        "the run was started in it and keeps it; a new one, with another output_dir=..., takes float32"
        if begun
        else "auto takes float32"
    )
    return f"train.precision is bfloat16, which {where}: steps take several times as long as in float32 ({kept})"


def ask_nodes(resources: Mapping[str, float]) -> list[bool]:
    """Ask every node that is large enough for a worker, by a task on the node itself.

    Args:
        resources: of one worker, "CPU" and "GPU".
    Returns:
        For each such node whether it computes in bfloat16.
    Raises:
        UserError: a node does not answer.
    """
    import ray

    needed = {name: count for name, count in resources.items() if count}
    device = "cuda" if needed.get("GPU") else "cpu"
    nodes = [node for node in alive_nodes() if count_fitting(node["Resources"], needed)]
    here = ray.get_runtime_context().get_node_id()
    if device == "cpu" and [node["NodeID"] for node in nodes] == [here]:
        return [native_bfloat16(device)]  # no process has to start for it
    return ask_each(
        nodes,
        native_bfloat16,
        device,
        whether="it computes in bfloat16",
        key="train.precision",
        otherwise="set train.precision=float32",
        num_gpus=_GPU_SHARE if device == "cuda" else 0,
    )
