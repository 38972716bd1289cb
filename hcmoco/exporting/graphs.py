"""Write a graph as ONNX or as PyTorch's own exported program (.pt2), load the file again, and compare its outputs.

Every graph takes what a camera, a file or a detector gives: pixels, millimeters, keypoints in pixels. Normalization is
inside, so a mean of another convention cannot be taken off. What each input and output is stands in the file: in
ONNX's metadata, and as `hcmoco.json` inside a .pt2.
"""

import contextlib
import copy
import importlib.util
import io
import json
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hcmoco import __version__
from hcmoco.errors import UserError, one_line

Kind = Literal["onnx", "pt2"]
TOLERANCE = 1e-4
"""Largest difference of any output from PyTorch's, in shares of the output's largest value where that exceeds 1."""
PT2_FACTS = "hcmoco.json"
"""Name of the facts inside a .pt2, an extra file of `torch.export.load`."""

_WHOLE_SHARE = 1e-3  # of labels, such as parts, that rounding may change
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Port:
    """One input or output of a graph.

    Attributes:
        name: in the file.
        type: of its numbers, as NumPy names it.
        shape: sizes, or names of those that are free.
        meaning: unit, range and order, for people.
    """

    name: str
    type: str
    shape: tuple[int | str, ...]
    meaning: str


class Graph(nn.Module, ABC):
    """A module that can be written.

    Attributes:
        inputs, outputs: of `forward`, in order.
        title: what is written, for messages.
        stride: that divides the sides of its pictures, pixels; 0: it reads none.
        facts: further facts for the file: name -> text or JSON values.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    title: str
    stride: int
    facts: Mapping[str, Any]

    @abstractmethod
    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        """Return two inputs of different sizes, to export and to compare with; equal on every call."""

    @abstractmethod
    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        """Return what to try in turn: whether the sides are free, and `dynamic_shapes` of torch.export."""


@dataclass(frozen=True)
class Written:
    """A graph that was written and compared.

    Attributes:
        data: bytes of the file.
        any_size: whether the sides of the image are free, as multiples of the largest stride.
        difference: largest difference of any output, see TOLERANCE.
        sizes: of the first inputs that were compared.
    """

    data: bytes
    any_size: bool
    difference: float
    sizes: tuple[tuple[int, ...], ...]


def write_graph(graph: Graph, kind: Kind) -> Written:
    """Write a graph, load the file again, and compare its outputs at two sizes.

    Args:
        graph: in evaluation mode, on the CPU, in float32.
        kind: of the file.

    Raises:
        UserError: the graph cannot be exported, the file computes something else, or a package is missing.
    """
    if kind == "onnx" and (missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]):
        raise UserError(f"onnx needs {', '.join(missing)}; run `pip install 'hcmoco[export]'`")
    failure: Exception = ValueError("nothing was tried")
    for any_size, shapes in graph.dynamic_shapes():
        compared = graph.examples(any_size)
        try:
            with _quiet(), torch.no_grad():
                # Before the export: constants that a module keeps must not be those of a trace.
                expected = [graph(*given) for given in compared]
                program = torch.export.export(graph, compared[0], dynamic_shapes=shapes, strict=False)
                data = _pt2(program, graph) if kind == "pt2" else _onnx(program, compared[0], graph)
                difference = max(
                    _difference(wanted, run_file(data, kind, given))
                    for wanted, given in zip(expected, compared, strict=True)
                )
        except Exception as error:  # exporters raise whatever they like
            failure = error
            continue
        if difference > TOLERANCE:
            raise UserError(
                f"the {kind} of {graph.title} differs from PyTorch by {difference:.2g}, more than {TOLERANCE:g}; it "
                "was not written"
            )
        return Written(data, any_size, difference, tuple(tuple(each[0].shape) for each in compared))
    raise UserError(f"{graph.title} cannot be exported as {kind}: {one_line(failure)}")


def without(module: nn.Module, names: Sequence[str]) -> Any:
    """Return a shallow copy of a module without some of its children, whose weights a file would hold too."""
    alone = copy.copy(module)
    alone._modules = {name: child for name, child in module._modules.items() if name not in names}
    return alone


def facts_of(graph: Graph) -> dict[str, Any]:
    """Return what a file says of itself, as JSON values."""

    def ports(each: Sequence[Port]) -> dict[str, Any]:
        return {port.name: {"type": port.type, "shape": list(port.shape), "meaning": port.meaning} for port in each}

    return {"hcmoco": __version__, "inputs": ports(graph.inputs), "outputs": ports(graph.outputs), **graph.facts}


@torch.no_grad()
def run_file(data: bytes, kind: Kind, given: Sequence[Tensor]) -> list[Tensor]:
    """Load a file in the program that it is for, and return its outputs."""
    if kind == "pt2":
        return list(torch.export.load(io.BytesIO(data)).module()(*given))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    named = {each.name: value.numpy() for each, value in zip(session.get_inputs(), given, strict=True)}
    return [torch.from_numpy(each) for each in session.run(None, named)]


def _pt2(program: Any, graph: Graph) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={PT2_FACTS: json.dumps(facts_of(graph), indent=1)})
    return buffer.getvalue()


def _onnx(program: Any, given: tuple[Tensor, ...], graph: Graph) -> bytes:
    import onnx

    written = torch.onnx.export(
        program,
        given,
        dynamo=True,
        input_names=[port.name for port in graph.inputs],
        output_names=[port.name for port in graph.outputs],
        verbose=False,
        external_data=False,
    )
    assert written is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        written.save(path, external_data=False)
        model = onnx.load(path)
    for name, value in facts_of(graph).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
    _name_sizes(model, graph)
    return model.SerializeToString()


def _name_sizes(model: Any, graph: Graph) -> None:
    """Give inputs and outputs their descriptions, and free sizes their names instead of the exporter's symbols."""
    names: dict[str, str] = {}
    for values, ports in ((model.graph.input, graph.inputs), (model.graph.output, graph.outputs)):
        for value, port in zip(values, ports, strict=True):
            value.doc_string = port.meaning
            for dim, size in zip(value.type.tensor_type.shape.dim, port.shape, strict=True):
                if dim.dim_param and isinstance(size, str):
                    names.setdefault(dim.dim_param, size)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest difference of any output, see TOLERANCE; infinite for another shape or too many labels."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if not one.numel():
            continue
        if not one.is_floating_point():
            worst = max(worst, 0.0 if float((one != other).float().mean()) <= _WHOLE_SHARE else float("inf"))
        else:
            worst = max(worst, float((one - other).abs().max() / one.abs().max().clamp(min=1)))
    return worst if worst == worst else float("inf")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print on the way."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
