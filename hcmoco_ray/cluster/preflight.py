"""Find what is bound to fail before anything starts: missing weights, a mixture without depth, a machine too small."""

import shutil
from collections.abc import Iterable, Sequence

from hcmoco.data.points import require_camera
from hcmoco.data.sampler import Plan
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.pretraining.banks import bank_bytes
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import make_model
from hcmoco.storage import Folder, existing_parent, is_local
from hcmoco.training.config import SourceConfig
from hcmoco_ray.cluster import room, session
from hcmoco_ray.cluster.memory_estimate import free_memory, needed_memory, shapes, state_bytes
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.prepare import ensure
from hcmoco_ray.train import spares
from hcmoco_ray.train.launch import worker_resources
from hcmoco_ray.train.run_dir import RunConfig, log

# The highest accepted probability of a step without depth, by the share of rows with depth in each data set.
_RARE = 1e-6


def check_storage(out: str, sources: Iterable[SourceConfig]) -> None:
    """Check the stores that are not local: with a small file where something will be written, else that they answer.

    Args:
        out: folder or URI of what the program writes.
        sources: data sets that it reads, or creates first.

    Raises:
        UserError: a URI is malformed, or no client knows its scheme.
        StorageError: a store does not answer, lacks the bucket or refuses the key.
    """
    Folder(out).check_writable()
    for source in sources:
        folder = Folder(resolve_path(source.path))
        if source.made and not ensure.exists(source):
            folder.check_writable()
        else:
            folder.check_readable()


def check_mixture(config: PretrainConfig, plan: Plan, sources: Sequence[Shards]) -> None:
    """Check that every step holds rows with depth, which the objective compares with the other modalities.

    Raises:
        UserError: some steps would hold none.
    """
    shares = [shards.manifest.modalities.get("depth", 0) / shards.manifest.rows for shards in sources]
    for step in range(min(plan.steps, plan.mixture_period)):
        missing = 1.0
        for count, share in zip(plan.composition(step), shares, strict=True):
            missing *= (1 - share) ** (count * plan.lanes)
        if missing > _RARE:
            names = ", ".join(f"{source.name} {share:.0%}" for source, share in zip(plan.sources, shares, strict=True))
            raise UserError(
                f"data.sources: step {step} would hold no depth with probability {missing:.2g} (rows with depth: "
                f"{names}); add a data set with depth, raise its weight, or raise train.batch_size_per_lane"
            )
    for modality in ("rgb", "keypoints"):
        if not any(shards.manifest.modalities.get(modality) for shards in sources):
            raise UserError(f"data.sources: no data set has {modality}; the objective needs RGB, depth and keypoints")


def check_cameras(config: PretrainConfig, sources: Iterable[Shards]) -> None:
    """Check, where depth is read as points, that the first row with depth of each data set has a camera.

    A data set has cameras or has none; a row that lacks one among others stops the run when it is read.

    Raises:
        UserError: it has none.
    """
    if not config.model.depth.is_points:
        return
    for shards in sources:
        if not shards.manifest.modalities.get("depth"):
            continue
        for group in range(len(shards.group_rows)):
            rows = shards.read_group(group, ("id", "depth", "camera")).to_pylist()
            if row := next((row for row in rows if row["depth"] is not None), None):
                require_camera(row)
                break


def check_model(config: PretrainConfig, *, load: bool) -> None:
    """Check that the encoders can be built and take crops of this size.

    Args:
        load: also check that their first weights can be loaded.
    Raises:
        UserError: they cannot.
    """
    encoders = config.model.rgb, config.model.depth
    fresh = load and (any(each.init != "scratch" for each in encoders) or bool(config.model.skeleton.init))
    model = make_model(config) if fresh else shapes(config)
    for modality, report in model.reports.items():
        log(f"the {modality} encoder starts from {report}")
    for encoder in (model.rgb, model.depth):
        encoder.check_size(config.augment.size, config.augment.size)


def connect_for(config: PretrainRecipe | FinetuneRecipe) -> session.Cluster:
    """Join the cluster, and wait for its nodes where the config says so.

    Raises:
        UserError: no cluster answers.
    """
    cluster = session.connect()
    if config.wait_for_nodes:
        log(
            f"waiting up to {config.wait_for_nodes} s for the cluster to have what {config.train.workers} workers ask "
            "for"
        )
        resources = worker_resources(config)
        workers = [resources] * config.train.max_workers if resources else []
        decoding = config.ingest.decoding_tasks(config.train.max_workers)
        cluster = session.wait_for_nodes([*workers, *[{"CPU": 1.0}] * decoding], config.wait_for_nodes)
    return cluster


def check_resources(config: RunConfig, decoding: int = 0) -> None:
    """Check that the cluster's nodes can hold the workers, and the tasks that decode.

    Args:
        config: of the run.
        decoding: tasks that decode, each of which holds a CPU.

    Raises:
        UserError: they cannot.
    """
    resources = worker_resources(config)
    room.check_room(resources or {"CPU": 1}, config.train.allowed_workers[-1] if resources else 0, decoding)


def check_machine(config: PretrainRecipe, rows: int, nodes: int) -> None:
    """Check the memory and disk of this machine. On several nodes, or with GPUs, memory is not checked.

    Args:
        rows: number of people that are trained on.
        nodes: number of machines of the cluster.
    Raises:
        UserError: one of them is too small.
    """
    if nodes == 1 and not config.train.gpu:
        needed = needed_memory(config, rows, spares=spares.wanted(config.spare_workers))
        free = free_memory()
        if needed > free:
            banks = bank_bytes(config.objective, samples=rows, width=config.model.embedding)
            bound = f"; its memory banks are {banks / 1e9:.1f} GB a worker: bound objective.bank_rows"
            raise UserError(
                f"the run needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
                "lower train.batch_size_per_lane, augment.size or train.workers, "
                f"or take a smaller model.rgb.name and model.depth.name{bound if banks > needed / 10 else ''}"
            )
    if is_local(config.output_dir):
        free = shutil.disk_usage(existing_parent(config.output_dir)).free
        count = config.train.num_checkpoints
        if (needed := state_bytes(config, rows) * (count + 1)) > free:
            raise UserError(
                f"{config.output_dir}: {count} train states need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
                "free; choose another disk with output_dir=..., or lower train.num_checkpoints"
            )
