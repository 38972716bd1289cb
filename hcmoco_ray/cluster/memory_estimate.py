"""Estimate how much memory a run will need, and measure how much is free.

The constants were measured as the peak of the proportional set size of the whole process tree, including Ray's own
processes. Tiny backbones need 1.8 GB with one worker and 3.2 GB with two, where another program shares the libraries'
pages.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from hcmoco.models.multimodal import DENSE_MODALITIES, HCMoCo, MultiModalEncoders
from hcmoco.models.points.encoder import PointCloud, PointEncoder
from hcmoco.pretraining.banks import bank_bytes
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.trainer import make_model
from hcmoco_ray.compat import storage_key

_MB = 1 << 20
# Python, PyTorch, timm and Ray in a process that trains; in the program itself.
_WORKER, _DRIVER = 800 * _MB, 600 * _MB
# The same, but that nothing is trained: pages of libraries are shared with the worker that it stands by.
_SPARE = 300 * _MB
# Ray's servers and actors, the MLflow writer and readers of data; Ray Train's controller and actors.
_CLUSTER, _TRAIN = 1300 * _MB, 500 * _MB
# Bytes per parameter: weights, gradients, two optimizer slots, the flat gradient.
_PER_PARAMETER = 20
# Copies of a term's logits that live at once, forward and backward.
_LOGITS = 20
# Factor on the bytes that autograd keeps, for work space and fragmentation. bfloat16 keeps some tensors twice, so it
# saves little.
_OVERHEAD = {"float32": 1.3, "tf32": 1.3, "bfloat16": 0.9}
_MARGIN = 1.1


def needed_memory(config: PretrainConfig, rows: int, *, spares: bool = False) -> int:
    """Estimate the bytes of memory that a run needs on one machine without a GPU; errs to the high side.

    Args:
        config: of the run.
        rows: number of people that are trained on.
        spares: whether a spare process stands by each of several workers.
    """
    train = config.train
    per_worker = _training(config, train.lanes // train.max_workers * train.batch_size_per_lane, rows)
    copied = _banks(config, rows)  # one worker writes a train state from a copy while the steps go on
    if train.max_workers == 1:
        return int(_MARGIN * (_WORKER + _CLUSTER + per_worker + copied + _views(config)))
    shared = _DRIVER + _CLUSTER + _TRAIN + copied + 2 * _views(config)
    return int(_MARGIN * (train.max_workers * (_WORKER + per_worker + spares * _SPARE) + shared))


def free_memory() -> int:
    """Return the bytes that this machine, or the container around this program, has for a run.

    These are the bytes that are free, and those that this program and the Ray that it started already hold.
    """
    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        cache = int((group / "memory.stat").read_text().partition("inactive_file ")[2].split()[0])
        free = free if limit == "max" else min(free, int(limit) - used + cache)
    except (OSError, ValueError, IndexError):
        pass  # no container, or one of another kind
    held = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            full = process.memory_full_info()
            held += getattr(full, "pss", full.uss)
        except psutil.Error:
            continue
    return free + held


def state_bytes(config: PretrainConfig, rows: int) -> int:
    """Return the bytes of one train state: weights and optimizer slots in float32, and banks."""
    slots = 2 if config.optim.name == "sgd" else 3
    return 4 * slots * _parameters(shapes(config)) + _banks(config, rows)


def shapes(config: PretrainConfig) -> MultiModalEncoders:
    """Build the model of a run on PyTorch's meta device, where it takes no memory.

    Raises:
        UserError: see `make_model`.
    """
    with torch.device("meta"):
        return make_model(config, load=False)


@dataclass(frozen=True)
class WorkerMemory:
    """The bytes that a worker holds on its device in a step of the second stage.

    Attributes:
        weights, gradients, optimizer: of all parameters, float32; the optimizer's are its slots.
        activations: what autograd keeps of the encoders, with work space.
        terms: logits of the objective, forward and backward.
        banks: the memory banks.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    terms: int
    banks: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.terms + self.banks


def worker_memory(config: PretrainConfig, rows: int) -> WorkerMemory:
    """Estimate what a worker needs on its GPU, without the driver's own and the libraries' memory there.

    Args:
        config: of the run.
        rows: number of people that are trained on.
    """
    train = config.train
    model = shapes(config)
    if isinstance(model, HCMoCo):
        with torch.device("meta"):
            model.add_dense_mappers()
    batch = train.lanes // train.max_workers * train.batch_size_per_lane
    encoded = min(batch, train.micro_rows or batch)
    numbers = 4 * _parameters(model)
    return WorkerMemory(
        weights=numbers,
        gradients=numbers,
        optimizer=numbers * (1 if config.optim.name == "sgd" else 2),
        activations=int(encoded * activation_bytes(model, config.augment.size) * _OVERHEAD[train.precision]),
        terms=_logits(config, batch, len(model.joint_set)),
        banks=_banks(config, rows),
    )


def activation_bytes(model: MultiModalEncoders, size: int) -> int:
    """Return the bytes that autograd keeps of one row's RGB and depth image for the backward pass, in float32.

    Counted by running the encoders on the device of `model`; on the meta device nothing is computed.

    Args:
        model: whose encoders are counted.
        size: side of the images in pixels.
    """
    own = {storage_key(parameter.untyped_storage()) for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage_key(storage)] = storage  # held, so that no other takes its place
        return tensor

    rows = 2  # batch norm in training mode wants more than one value per channel
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = [getattr(model, name)(_empty_input(model, name, rows, size)) for name in DENSE_MODALITIES]
    del outputs
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own) // rows


def _empty_input(model: MultiModalEncoders, name: str, rows: int, size: int) -> Tensor | PointCloud:
    """What an image encoder takes, on the device of `model`."""
    device, encoder = next(model.parameters()).device, getattr(model, name)
    if not isinstance(encoder, PointEncoder):
        return torch.empty(rows, 3, size, size, device=device)
    depth_BSS = torch.zeros(rows, size, size, dtype=torch.uint16, device=device)
    points_BN = torch.zeros(rows, encoder.config.points_at(size), dtype=torch.int64, device=device)
    return model.prepare_points(depth_BSS, points_BN, torch.zeros(rows, 2, 3, device=device))


def _training(config: PretrainConfig, batch: int, rows: int) -> float:
    """Bytes of a process's models, banks and steps of `batch` rows."""
    model = shapes(config)
    logits = _logits(config, batch, len(model.joint_set))
    encoded = min(batch, config.train.micro_rows or batch)
    step = encoded * activation_bytes(model, config.augment.size) * _OVERHEAD[config.train.precision] + logits
    # A probe holds four dense maps of each person of its batch, and about as much again to compare them; never during
    # a step.
    probe = (
        8 * 4 * config.probe.batch_size * model.dense_width * (config.augment.size // 4) ** 2
        if config.data.held_out
        else 0
    )
    # Before its first step a worker that resumes holds the banks of the train state beside its own.
    banks = _banks(config, rows)
    return _PER_PARAMETER * _parameters(model) + banks + max(step, probe, banks)


def _logits(config: PretrainConfig, batch: int, joints: int) -> int:
    return 4 * _LOGITS * ((batch * joints) ** 2 + batch * config.objective.num_anchors**2)


def _views(config: PretrainConfig) -> int:
    return 12 * config.augment.size**2 * config.probe.num_people if config.data.held_out else 0


def _banks(config: PretrainConfig, rows: int) -> int:
    return bank_bytes(config.objective, samples=rows, width=config.model.embedding)


def _parameters(model: MultiModalEncoders) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
