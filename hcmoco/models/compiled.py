"""Parts of a model that PyTorch compiles for training, and runs as they are in evaluation.

A part is compiled in place: its weights, their names and the states that hold them stay. It is compiled for the number
of rows of its first step, and if other numbers come, once more for any number; a single row is a case of its own. So
there are at most three compiled forms, whatever rows lack a modality, and no row is padded. Encoders of one make share
them. (`train.micro_rows` runs every row once without a gradient, which has forms of its own.)
"""

from typing import Any

import torch
from torch import nn

from hcmoco.errors import UserError, one_line
from hcmoco.models.lane_draws import drawing_layer

_MARK = "compiled_for_training"


def compile_for_training(part: nn.Module, name: str, backend: Any = "inductor", graphs: bool = False) -> None:
    """Have `call` compile a part of a model, when it first trains.

    Args:
        part: what is compiled as a whole.
        name: for messages.
        backend: as `torch.compile` takes it.
        graphs: replay it as CUDA graphs on a GPU; each step then begins with `begin_step`.

    Raises:
        UserError: a layer of it draws random numbers by lane, which a compiler cannot follow.
    """
    if layer := drawing_layer(part):
        raise UserError(
            f"train.compile: the layer {name}.{layer} draws random numbers for each row, which PyTorch cannot compile; "
            "leave drop_path_rate, drop_rate and proj_drop_rate out of the encoder's args, or set train.compile=false"
        )
    # As a whole or not at all: PyTorch would otherwise run what it cannot compile as it is, and not say so.
    part.compile(backend=backend, fullgraph=True, mode="reduce-overhead" if graphs else None)
    setattr(part, _MARK, True)


def begin_step() -> None:
    """Say that a step begins: what parts with CUDA graphs returned in the step before is not needed any more."""
    torch.compiler.cudagraph_mark_step_begin()


def call(part: nn.Module, x: torch.Tensor) -> Any:
    """Call a part of a model, compiled if it was asked for and the part trains.

    Raises:
        UserError: PyTorch cannot compile it.
    """
    if not getattr(part, _MARK, False):
        return part(x)
    if not part.training:
        return part.forward(x)
    from torch._dynamo.exc import TorchDynamoException  # takes a second, which others need not wait

    try:
        return part(x)
    except TorchDynamoException as error:
        raise UserError(
            f"train.compile: PyTorch cannot compile {type(part).__name__}: {one_line(error)}; set train.compile=false"
        ) from error
