"""What can be known to fail before anything starts: weights that are not there, a mixture without depth, a machine too small."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from hcmoco.errors import UserError
from hcmoco.models.hcmoco import HCMoCo
from hcmoco.shards.plan import Plan
from hcmoco.shards.read import Shards
from hcmoco.shards.storage import is_local
from hcmoco.training.config import PretrainConfig

# A step without depth is accepted where it is rarer than this, by the share of rows with depth in each data set.
_RARE = 1e-6
# Resident memory of a training process before it holds a model: the interpreter, PyTorch, Ray (measured, proportional set size).
_PROCESS_BYTES = 450 << 20
_CLUSTER_BYTES = 700 << 20


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
                "add a data set with depth, raise its weight, or raise train.rows_per_lane"
            )
    for modality in ("rgb", "keypoints"):
        if not any(each.manifest.modalities.get(modality) for each in sources):
            raise UserError(f"data.sources: no data set has {modality}; the objective needs RGB, depth and keypoints")


def check_model(config: PretrainConfig, *, load: bool) -> None:
    """UserError where an encoder cannot be made, does not take crops of this size or, with `load`, its initial weights cannot be had."""
    fresh = load and any(each.init != "scratch" for each in (config.model.rgb, config.model.depth))
    model = HCMoCo(config.model, seed=config.seed) if fresh else _model(config)
    for encoder in (model.rgb, model.depth):
        encoder.check_size(config.augment.size, config.augment.size)


def asked(config: PretrainConfig) -> list[dict[str, float]]:
    """What each worker asks the cluster for, and one CPU to read data."""
    train = config.train
    alone = train.workers == 1 and not train.gpu  # trains in the program's own process
    each = {"CPU": train.cpus_per_worker, **({"GPU": 1} if train.gpu else {})}
    return [{"CPU": 1}, *([] if alone else [each] * train.workers)]


def check_resources(config: PretrainConfig) -> None:
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


def needed_memory(config: PretrainConfig, rows: int) -> int:
    """Bytes that a run on this machine's memory will need, roughly: processes, weights with optimiser, banks, activations.

    Activations are estimated at 2.2 kB per input pixel and row for HRNet-W18-small in float32 and scaled with the parameters; measured
    runs need less.
    """
    parameters = _parameters(config)
    banks = 3 * rows * config.model.embedding * 4 if config.objective.needs_bank else 0
    batch = config.train.lanes * config.train.rows_per_lane
    activations = batch * 2 * config.augment.size**2 * 2200 * max(1.0, (parameters / 3.4e6) ** 0.5)
    return int(config.train.workers * (_PROCESS_BYTES + parameters * 20 + banks) + activations + _CLUSTER_BYTES)


def check_machine(config: PretrainConfig, rows: int, nodes: int) -> None:
    """UserError where this machine's memory or disk is too small for a run over `rows` people. On several nodes, or with GPUs, memory is
    not checked."""
    if nodes == 1 and not config.train.gpu:
        needed, there = needed_memory(config, rows), psutil.virtual_memory().available
        if needed > there:
            raise UserError(
                f"the run needs about {needed / 1e9:.1f} GB of memory, {there / 1e9:.1f} GB are free; "
                "lower train.rows_per_lane, augment.size or train.workers, or take a smaller model.rgb.name and model.depth.name"
            )
    if is_local(config.out):
        free = shutil.disk_usage(_existing(config.out)).free
        if (needed := state_bytes(config, rows) * (config.train.keep + 1)) > free:
            raise UserError(
                f"{config.out}: {config.train.keep} train states need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "choose another disk with out=..., or lower train.keep"
            )


def state_bytes(config: PretrainConfig, rows: int) -> int:
    """Bytes of one train state: weights, optimiser slots and banks in float32."""
    slots = 3 if config.optim.name == "adamw" else 2
    banks = 3 * rows * config.model.embedding if config.objective.needs_bank else 0
    return 4 * (slots * _parameters(config) + banks)


def _parameters(config: PretrainConfig) -> int:
    return sum(each.numel() for each in _model(config).parameters())


def _model(config: PretrainConfig) -> HCMoCo:
    """The model's shapes without their memory."""
    with torch.device("meta"):
        return HCMoCo(config.model, seed=0, load=False)


def _existing(path: str) -> Path:
    here = Path(path)
    while not here.exists():
        here = here.parent
    return here
