"""What can be known to fail before anything starts: weights that are not there, a mixture without depth, a machine too small."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import make_model
from hcmoco.storage import is_local
from hcmoco_ray.cluster import session
from hcmoco_ray.cluster.memory_estimate import free_memory, needed_memory, shapes, state_bytes
from hcmoco_ray.train.run_dir import RunConfig, say

# A step without depth is accepted where it is rarer than this, by the share of rows with depth in each data set.
_RARE = 1e-6


def check_mixture(config: PretrainConfig, plan: Plan, sources: Sequence[Shards]) -> None:
    """UserError where some steps would hold no row with depth, though the objective compares depth with the other modalities."""
    shares = [each.manifest.modalities.get("depth", 0) / each.manifest.rows for each in sources]
    for step in range(min(plan.steps, plan.mixture_period)):
        missing = 1.0
        for count, share in zip(plan.composition(step), shares, strict=True):
            missing *= (1 - share) ** (count * plan.lanes)
        if missing > _RARE:
            names = ", ".join(f"{source.name} {share:.0%}" for source, share in zip(plan.sources, shares, strict=True))
            raise UserError(
                f"data.sources: step {step} would hold no depth with probability {missing:.2g} (rows with depth: {names}); "
                "add a data set with depth, raise its weight, or raise train.batch_size_per_lane"
            )
    for modality in ("rgb", "keypoints"):
        if not any(each.manifest.modalities.get(modality) for each in sources):
            raise UserError(f"data.sources: no data set has {modality}; the objective needs RGB, depth and keypoints")


def check_model(config: PretrainConfig, *, load: bool) -> None:
    """UserError where an encoder cannot be made, does not take crops of this size or, with `load`, its initial weights cannot be had."""
    fresh = load and any(each.init != "scratch" for each in (config.model.rgb, config.model.depth))
    model = make_model(config) if fresh else shapes(config)
    for encoder in (model.rgb, model.depth):
        encoder.check_size(config.augment.size, config.augment.size)


def _asked(config: RunConfig) -> list[dict[str, float]]:
    """What each worker asks the cluster for, and one CPU to read data."""
    train = config.train
    alone = train.workers == 1 and not train.gpu  # trains in the program's own process
    each = {"CPU": train.cpus_per_worker, **({"GPU": 1} if train.gpu else {})}
    return [{"CPU": 1}, *([] if alone else [each] * train.workers)]


def cluster_for(config: RunConfig) -> session.Cluster:
    """The cluster, after a wait for its nodes where the config has one. UserError where it does not share the run's folder."""
    cluster = session.start()
    if config.wait_for_nodes:
        say(
            f"waiting up to {config.wait_for_nodes} s for the cluster to have what {config.train.workers} workers ask for"
        )
        cluster = session.grow(_asked(config), config.wait_for_nodes)
    cluster.refuse_local("out", config.out)
    return cluster


def check_resources(config: RunConfig) -> None:
    """UserError where the cluster's CPUs do not leave one to read data, or its GPUs are too few."""
    import ray

    there, train = ray.cluster_resources(), config.train
    cpus = there.get("CPU", 0)
    asked = 0 if train.workers == 1 and not train.gpu else train.workers * train.cpus_per_worker
    if cpus - asked < 1:
        raise UserError(
            f"train.workers = {train.workers} with train.cpus_per_worker = {train.cpus_per_worker:g} leave {cpus - asked:g} of the "
            f"cluster's {cpus:g} CPUs to read data, which needs at least 1; lower train.cpus_per_worker or train.workers"
        )
    if train.gpu and there.get("GPU", 0) < train.workers:
        raise UserError(
            f"train.gpu with train.workers = {train.workers} needs as many GPUs, the cluster has {there.get('GPU', 0):g}; "
            "set train.gpu=false or lower train.workers"
        )


def check_machine(config: PretrainConfig, rows: int, nodes: int) -> None:
    """UserError where this machine's memory or disk is too small for a run over `rows` people. On several nodes, or with GPUs, memory is
    not checked."""
    if nodes == 1 and not config.train.gpu:
        needed, there = needed_memory(config, rows), free_memory()
        if needed > there:
            raise UserError(
                f"the run needs about {needed / 1e9:.1f} GB of memory, {there / 1e9:.1f} GB are free; "
                "lower train.batch_size_per_lane, augment.size or train.workers, or take a smaller model.rgb.name and model.depth.name"
            )
    if is_local(config.out):
        free = shutil.disk_usage(_existing(config.out)).free
        if (needed := state_bytes(config, rows) * (config.train.keep + 1)) > free:
            raise UserError(
                f"{config.out}: {config.train.keep} train states need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "choose another disk with out=..., or lower train.keep"
            )


def _existing(path: str) -> Path:
    here = Path(path)
    while not here.exists():
        here = here.parent
    return here
