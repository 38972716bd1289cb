"""Encoders as graphs: ONNX, and PyTorch's own exported programs (.pt2).

The graph of an image encoder takes a normalized image and returns its feature pyramid, the dense embeddings and the
pooled one; that of the skeleton encoder takes normalized keypoints. Numbers of rows are free, and sides are, where the
backbone's own code allows it.

Shapes: B rows, C channels, H, W pixels, J joints, D embedding.
"""

import contextlib
import copy
import importlib.util
import io
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.errors import UserError, one_line
from hcmoco.models.multimodal import MultiModalEncoders

Kind = Literal["onnx", "pt2"]
TOLERANCE = 1e-4
"""Largest difference of any output from PyTorch's."""

_MOST_ROWS, _MOST_STRIDES = 4096, 128
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class ImageGraph(nn.Module):
    """image [B, C, H, W] -> its maps, finest first, dense embeddings [B, D, H / 4, W / 4], pooled ones [B, D]."""

    def __init__(self, model: MultiModalEncoders, modality: Modality):
        super().__init__()
        self.model, self.modality = model, modality

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.encode_rgb(image) if self.modality == "rgb" else self.model.encode_depth(image)
        return (*maps, self.model.dense_map(self.modality, maps), self.model.global_embedding(self.modality, maps))


class SkeletonGraph(nn.Module):
    """keypoints [B, J, 2], visible [B, J] -> embeddings of joints [B, J, D], pooled ones [B, D]."""

    def __init__(self, model: MultiModalEncoders):
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.encode_keypoints(keypoints, visible)
        return self.model.joint_embedding(features), self.model.global_embedding("keypoints", features)


@dataclass(frozen=True)
class Written:
    """A graph that was written and compared.

    Attributes:
        data: bytes of the file.
        any_size: whether the sides of the image are free, as multiples of the largest stride.
        difference: largest difference of any output.
        sizes: of the inputs that were compared.
    """

    data: bytes
    any_size: bool
    difference: float
    sizes: tuple[tuple[int, ...], ...]


def write_graph(model: MultiModalEncoders, modality: Modality, kind: Kind, side: int) -> Written:
    """Export an encoder with its mappers, load the file anew, and compare its outputs at two sizes.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        modality: "rgb", "depth" or "keypoints".
        kind: of the file.
        side: pixels of the image, a multiple of the largest stride; where other sides are possible, the first.

    Raises:
        UserError: the encoder cannot be exported, the file computes something else, or a package is missing.
    """
    if kind == "onnx" and (missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]):
        raise UserError(f"onnx needs {', '.join(missing)}; run `pip install 'hcmoco[export]'`")
    model = _alone(model, modality)
    if modality == "keypoints":
        graph: nn.Module = SkeletonGraph(model)
        names = ["joints", "pooled"]
        joints = len(model.joint_set)
        inputs: list[tuple[Tensor, ...]] = [(torch.randn(B, joints, 2), torch.ones(B, joints)) for B in (2, 5)]
        rows = torch.export.Dim("rows", min=1, max=_MOST_ROWS)
        attempts: list[tuple[bool, Any]] = [(False, ({0: rows}, {0: rows}))]
    else:
        graph = ImageGraph(model, modality)
        encoder = getattr(model, modality)
        names = [*(f"map{stride}" for stride in encoder.strides), "dense", "pooled"]
        stride, channels = max(encoder.strides[-1], 32), encoder.config.in_chans
        inputs = [(torch.randn(2, channels, side, side),), (torch.randn(3, channels, side + stride, side),)]
        rows = torch.export.Dim("rows", min=1, max=_MOST_ROWS)
        high, wide = (torch.export.Dim(name, min=1, max=_MOST_STRIDES) for name in ("high", "wide"))
        attempts = [(True, ({0: rows, 2: stride * high, 3: stride * wide},)), (False, ({0: rows},))]
    graph = graph.eval()
    for any_size, shapes in attempts:
        compared = inputs if any_size or modality == "keypoints" else [inputs[0], (inputs[0][0][:1],)]
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(graph, compared[0], dynamic_shapes=shapes)
                data = _pt2(program) if kind == "pt2" else _onnx(program, compared[0], names)
            differences = [_difference(graph, data, kind, given) for given in compared]
        except UserError:
            raise
        except Exception as error:  # exporters raise whatever they like
            failure = error
            continue
        if max(differences) > TOLERANCE:
            raise UserError(
                f"the {kind} of the {modality} encoder differs from PyTorch by {max(differences):.2g}, more than "
                f"{TOLERANCE:g}; it was not written"
            )
        sizes = tuple(tuple(each[0].shape) for each in compared)
        return Written(data, any_size, max(differences), sizes)
    raise UserError(f"the {modality} encoder cannot be exported as {kind}: {one_line(failure)}")


def _alone(model: MultiModalEncoders, modality: Modality) -> MultiModalEncoders:
    """A copy without the other encoders, whose weights the file would hold too."""
    alone = copy.copy(model)
    alone._modules = dict(model._modules)
    for other in MODALITIES:
        if other != modality:
            del alone._modules[other]
    return alone


def _pt2(program: Any) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(program: Any, given: tuple[Tensor, ...], names: Sequence[str]) -> bytes:
    inputs = ["image"] if len(given) == 1 else ["keypoints", "visible"]
    written = torch.onnx.export(
        program, given, dynamo=True, input_names=inputs, output_names=list(names), verbose=False, external_data=False
    )
    assert written is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        written.save(path, external_data=False)
        return path.read_bytes()


def _difference(graph: nn.Module, data: bytes, kind: Kind, given: tuple[Tensor, ...]) -> float:
    """The largest difference between the outputs of a file and of the module."""
    with torch.no_grad():
        expected = graph(*given)
        if kind == "pt2":
            found = torch.export.load(io.BytesIO(data)).module()(*given)
        else:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            named = {each.name: value.numpy() for each, value in zip(session.get_inputs(), given, strict=True)}
            found = [torch.from_numpy(each) for each in session.run(None, named)]
    return max(float((one - other).abs().max()) for one, other in zip(expected, found, strict=True))


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
