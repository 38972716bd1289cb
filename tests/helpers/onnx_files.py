"""ONNX pose models by hand, whose answer is known exactly: joint k is where the picture has color k.

Each of the joints has its own color, a corner of the color cube; a picture is black elsewhere. The first layers of all
models are the same: per pixel, the sum over channels of +-color, which is 1 for the joint's color and less for others.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], np.float32)
"""RGB of the joints; the models have 17, of which the others are never seen."""
J = 17


def picture(size: tuple[int, int], people: list[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3]: black, with each person's 7 joints (pixel indices x, y) as single pixels of their colors."""
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    for person in people:
        for (x, y), color in zip(person, COLORS, strict=True):
            rgb[int(y), int(x)] = 255 * color
    return rgb


def _weights() -> tuple[np.ndarray, np.ndarray]:
    """Convolution [J, 3, 1, 1] and bias [J]: 1 where the color is the joint's, at most 0 at another corner."""
    signs = np.zeros((J, 3, 1, 1), np.float32)
    bias = np.full(J, -1, np.float32)  # what no color makes visible
    for k, color in enumerate(COLORS):
        signs[k, :, 0, 0] = 2 * color - 1
        bias[k] = 1 - color.sum()
    return signs, bias


def _heatmap_nodes(x: str, channels_last: bool = False) -> list[onnx.NodeProto]:
    nodes = [helper.make_node("Transpose", [x], ["nchw"], perm=[0, 3, 1, 2])] if channels_last else []
    nodes += [
        helper.make_node("Conv", ["nchw" if channels_last else x, "weight", "bias"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["maps"]),
    ]
    return nodes


def _save(path: Path, nodes, shape, outputs, initializers=(), dtype=TensorProto.FLOAT, metadata=None, external=False):
    weight, bias = _weights()
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias"), *initializers]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, path, save_as_external_data=external, size_threshold=0, location=f"{path.name}.data")
    return path


def write_heatmaps(path: Path, size=(64, 64), batch="N", channels_last=False, gain=1.0, external=False) -> Path:
    """Heatmaps of the input's own size; `gain` makes confidences of 0 to 1 into others."""
    width, height = size
    nodes = [*_heatmap_nodes("image", channels_last), helper.make_node("Mul", ["maps", "gain"], ["scaled"])]
    if channels_last:
        nodes.append(helper.make_node("Transpose", ["scaled"], ["heatmaps"], perm=[0, 2, 3, 1]))
        shapes = [batch, height, width, 3], [batch, height, width, J]
    else:
        nodes.append(helper.make_node("Identity", ["scaled"], ["heatmaps"]))
        shapes = [batch, 3, height, width], [batch, J, height, width]
    constants = [numpy_helper.from_array(np.float32(gain), "gain")]
    return _save(path, nodes, shapes[0], [("heatmaps", shapes[1])], constants, external=external)


def write_simcc(path: Path, size=(48, 64), split: int = 2, names: tuple[str, str] = ("simcc_x", "simcc_y")) -> Path:
    """SimCC's vectors: a map's highest value of each column and row, each `split` times."""
    width, height = size
    repeat = {"x": np.arange(width).repeat(split), "y": np.arange(height).repeat(split)}
    constants = [numpy_helper.from_array(value, f"repeat_{name}") for name, value in repeat.items()]
    constants += [numpy_helper.from_array(np.array([axis]), f"axis_{name}") for name, axis in (("x", 2), ("y", 3))]
    nodes = _heatmap_nodes("image")
    for name in "xy":
        nodes.append(
            helper.make_node("ReduceMax", ["maps"], [f"best_{name}"], axes=[2 if name == "x" else 3], keepdims=0)
        )
        nodes.append(helper.make_node("Gather", [f"best_{name}", f"repeat_{name}"], [names["xy".index(name)]], axis=2))
    outputs = [(names[0], ["N", J, split * width]), (names[1], ["N", J, split * height])]
    return _save(path, nodes, ["N", 3, height, width], outputs, constants[:2])


def write_yolo(path: Path, people: list[np.ndarray], *, size=(96, 96), sorted_out=False, ultralytics=True) -> Path:
    """A YOLO export that always answers the same: rows of 4 + 1 + 3 J, or 4 + 2 + 3 J if boxes are sorted out."""
    rows = np.stack(people).astype(np.float32)
    values = rows[None] if sorted_out else np.pad(rows, ((0, 100 - len(rows)), (0, 0))).T[None]
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(values), "answer"),
        numpy_helper.from_array(np.float32(0), "nil"),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["bright"], keepdims=0),
        helper.make_node("Mul", ["bright", "nil"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["output0"]),
    ]
    meta = {"author": "Ultralytics", "task": "pose"} if ultralytics else None
    return _save(path, nodes, [1, 3, size[1], size[0]], [("output0", list(values.shape))], constants, metadata=meta)


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_three(path: Path) -> Path:
    """A model of three outputs, which no layout has."""
    nodes = [*_heatmap_nodes("image"), *(helper.make_node("Identity", ["maps"], [f"out{k}"]) for k in range(3))]
    return _save(path, nodes, ["N", 3, 64, 64], [(f"out{k}", ["N", J, 64, 64]) for k in range(3)])


def write_gray(path: Path) -> Path:
    """A model of gray pictures."""
    nodes = [helper.make_node("Identity", ["image"], ["out"])]
    return _save(path, nodes, ["N", 1, 64, 64], [("out", ["N", 1, 64, 64])])
