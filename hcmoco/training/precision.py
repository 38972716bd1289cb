"""In which precision the encoders compute: what `train.precision: auto` is on a processor, decided once and kept.

Autocast in bfloat16 gains where the processor has instructions that compute in it. Elsewhere every product is emulated,
at several times the cost of float32. The instructions that it names decide, never a stopwatch: the same machine always
decides alike.

On a GPU PyTorch by itself computes float32 convolutions in TF32: factors rounded to 10 bits, sums in float32
(https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices). Here float32
means float32, and `train.precision: tf32` is the other choice. Products of matrices, and so the losses, are float32 in
both.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import torch

from hcmoco.errors import UserError
from hcmoco.training import distributed
from hcmoco.training.config import TrainConfig

# As Linux and PyTorch both call them: AVX512-BF16 and AMX-BF16 of x86, and the extension of ARMv8.6.
_COMPUTING = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# Not the processor's but PyTorch's: its build has the kernels that use these instructions.
ONEDNN = "onednn"
_cudnn: Any = torch.backends.cudnn  # PyTorch replaces this module by an object, which type checkers do not see
_FIRST_WITH_TF32 = (8, 0)  # compute capability of Ampere


class Trained(Protocol):
    """A config with a training in it."""

    @property
    def train(self) -> TrainConfig: ...
    def model_copy(self, *, update: dict) -> Self: ...


C = TypeVar("C", bound=Trained)


def cpu_features() -> frozenset[str]:
    """Names of the instruction sets of this machine's processor, and ONEDNN if PyTorch has it; no names where the
    system tells none."""
    if hasattr(torch.cpu, "get_capabilities"):  # not in the oldest release that is allowed
        found = {name for name, there in torch.cpu.get_capabilities().items() if there is True}
    else:
        found = set(linux_features())
    return frozenset(found | ({ONEDNN} if torch.backends.mkldnn.is_available() else set()))


def linux_features(place: str = "/proc/cpuinfo") -> frozenset[str]:
    """What all cores have, as Linux lists it under "flags" (x86) or "Features" (ARM); empty on another system."""
    try:
        lines = [line.partition(":") for line in Path(place).read_text().splitlines()]
    except OSError:
        return frozenset()
    cores = [frozenset(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")]
    return frozenset.intersection(*cores) if cores else frozenset()


def computes_bfloat16(features: Collection[str]) -> bool:
    """Whether a processor with these features multiplies in bfloat16, rather than emulating it. See `cpu_features`."""
    return ONEDNN in features and not _COMPUTING.isdisjoint(features)


def native_bfloat16(device: str) -> bool:
    """Whether the device of this process, "cpu" or "cuda", computes in bfloat16 itself."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return computes_bfloat16(cpu_features())


def chosen(native: Sequence[bool]) -> Literal["float32", "bfloat16"]:
    """What auto is: bfloat16 where every rank's processor computes in it, else float32."""
    return "bfloat16" if native and all(native) else "float32"


def with_precision(config: C, precision: str) -> C:
    """`config` with another `train.precision`."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def settle(config: C, native: bool, begun: dict | None) -> C:
    """`config` with its precision decided: as given, else as the run was begun, else by the processors of all ranks.

    Every rank calls it before the first step, and every rank gets the same answer.

    Args:
        native: whether this rank's processor computes in bfloat16, see `native_bfloat16`.
        begun: the identity of the run that it goes on with, if it does.
    """
    if config.train.precision != "auto":
        return config
    kept = begun["train"]["precision"] if begun else None
    kept_W, native_W = zip(*distributed.gather_objects((kept, native)), strict=True)
    return with_precision(config, kept_W[0] or chosen(native_W))


def set_up(device: torch.device, precision: str, *, same_sizes: bool = True) -> None:
    """Set how this process computes convolutions on a GPU. On a CPU nothing changes.

    Args:
        device: that trains.
        precision: decided, see `settle`.
        same_sizes: whether the inputs of all steps are of one size. cuDNN then tries its algorithms on each number of
            rows that it meets, once, and keeps the fastest.

    Raises:
        UserError: the device has no such arithmetic.
    """
    if precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < _FIRST_WITH_TF32):
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise UserError(
            f"train.precision = tf32: {name} does not compute in it (NVIDIA's GPUs do from Ampere on); "
            "set train.precision=float32"
        )
    if device.type == "cuda":
        _cudnn.allow_tf32 = precision == "tf32"
        _cudnn.benchmark = same_sizes


@contextmanager
def float32() -> Iterator[None]:
    """A context in which convolutions on a GPU are float32, whatever the training's precision: that of scores."""
    # This switch sets all of cuDNN's. With convolutions' own one, torch.export and others who ask for this one fail.
    before = _cudnn.conv.fp32_precision == "tf32"
    _cudnn.allow_tf32 = False
    try:
        yield
    finally:
        _cudnn.allow_tf32 = before


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context of the encoders' arithmetic. RuntimeError for a precision that is not decided, see `settle`."""
    if precision == "auto":
        raise RuntimeError("train.precision is auto: settle() decides it before a training begins")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
