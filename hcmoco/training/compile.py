"""`train.compile`: have PyTorch compile the encoders of a model that is trained."""

from typing import Any

import torch
from torch import nn

from hcmoco.errors import UserError, one_line
from hcmoco.models.compiled import compile_for_training
from hcmoco.models.encoders import Encoder
from hcmoco.models.semgcn import SemGCN


def compile_encoders(
    model: nn.Module, device: torch.device, backend: Any = "inductor", *, graphs: bool = False
) -> None:
    """Have the encoders of a model compiled in its first training steps; their state's names stay.

    Args:
        model: with image encoders and a skeleton encoder anywhere in it.
        device: of the model.
        backend: as `torch.compile` takes it.
        graphs: replay them as CUDA graphs on a GPU, see `compile_for_training`.

    Raises:
        UserError: nothing can be compiled for the device here, or an encoder cannot be.
    """
    check_compiler(device, backend)
    for name, module in model.named_modules():
        if isinstance(module, Encoder):
            compile_for_training(module.trunk, name, backend, graphs)
        elif isinstance(module, SemGCN):
            compile_for_training(module, name, backend, graphs)


def check_compiler(device: torch.device, backend: Any = "inductor") -> None:
    """Compile one small function.

    Raises:
        UserError: that fails.
    """
    try:
        torch.compile(_small, backend=backend)(torch.ones(64, device=device))
    except Exception as error:  # each compiler fails in its own way
        needs = (
            "PyTorch needs Triton there, and a C compiler with Python's headers (apt-get install gcc python3-dev)"
            if device.type == "cuda"
            else "PyTorch needs a C++ compiler there (apt-get install g++, or CXX=<its path>)"
        )
        raise UserError(
            f"train.compile: nothing can be compiled for {device.type} on this machine: {one_line(error)}; {needs}; "
            "or set train.compile=false"
        ) from error


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2 + 1
